//! The blocking driver's example with the clients people run, both ways; and with the tokio
//! driver, whose session folder it shares.

use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::peers::{Client, Crypto};
use dunlin_tests::scene::{Announce, Scene};

/// The scenes each client plays with the example, in both roles.
macro_rules! matrix {
    ($($name:ident: $scene:expr;)*) => { $(mod $name {
        use super::*;

        #[test]
        fn from_transmission() {
            $scene.run(&Lab::new(), Client::Transmission, Client::DunlinMio);
        }

        #[test]
        fn to_transmission() {
            $scene.run(&Lab::new(), Client::DunlinMio, Client::Transmission);
        }

        #[test]
        fn from_rtorrent() {
            $scene.run(&Lab::new(), Client::Rtorrent, Client::DunlinMio);
        }

        #[test]
        fn to_rtorrent() {
            $scene.run(&Lab::new(), Client::DunlinMio, Client::Rtorrent);
        }
    })* };
}

matrix! {
    tree_http: Scene::tree();
    magnet_udp_encrypted: Scene::tree().magnet().announce(Announce::Udp).crypto(Crypto::Required);
    ipv6: Scene::tree().family(Family::V6);
}
