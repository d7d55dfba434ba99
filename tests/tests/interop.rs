//! Dunlin with the clients people run, both ways: every transfer goes through a real tracker or, over IPv6, the lab's own,
//! and every file is compared.

use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::peers::{Client, Crypto};
use dunlin_tests::scene::{Announce, Scene};

/// The scenes each client plays with Dunlin, in both roles.
macro_rules! matrix {
    ($($name:ident: $scene:expr;)*) => { $(mod $name {
        use super::*;

        #[test]
        fn from_rtorrent() {
            $scene.run(&Lab::new(), Client::Rtorrent, Client::Dunlin);
        }

        #[test]
        fn from_transmission() {
            $scene.run(&Lab::new(), Client::Transmission, Client::Dunlin);
        }

        #[test]
        fn from_libtorrent() {
            $scene.run(&Lab::new(), Client::Libtorrent, Client::Dunlin);
        }

        #[test]
        fn to_rtorrent() {
            $scene.run(&Lab::new(), Client::Dunlin, Client::Rtorrent);
        }

        #[test]
        fn to_transmission() {
            $scene.run(&Lab::new(), Client::Dunlin, Client::Transmission);
        }

        #[test]
        fn to_libtorrent() {
            $scene.run(&Lab::new(), Client::Dunlin, Client::Libtorrent);
        }
    })* };
}

matrix! {
    tree_http: Scene::tree();
    tree_udp: Scene::tree().announce(Announce::Udp);
    magnet_http: Scene::tree().magnet();
    magnet_udp_encrypted: Scene::tree().magnet().announce(Announce::Udp).crypto(Crypto::Required);
    encrypted: Scene::tree().crypto(Crypto::Required);
    encrypted_handshake: Scene::tree().crypto(Crypto::Preferred);
    ipv6: Scene::tree().family(Family::V6);
}

mod ipv6_magnet_udp {
    use super::*;

    /// UDP trackers over IPv6 (BEP 15): of the three clients libtorrent alone asks them.
    fn scene() -> Scene {
        Scene::tree()
            .family(Family::V6)
            .announce(Announce::Udp)
            .magnet()
    }

    #[test]
    fn from_libtorrent() {
        scene().run(&Lab::new(), Client::Libtorrent, Client::Dunlin);
    }

    #[test]
    fn to_libtorrent() {
        scene().run(&Lab::new(), Client::Dunlin, Client::Libtorrent);
    }
}

/// Clients that play one scene, in both roles: from its torrent file, in plaintext, by an HTTP tracker.
macro_rules! pairs {
    ($($name:ident: $client:expr;)*) => { $(mod $name {
        use super::*;

        #[test]
        fn seeds() {
            Scene::tree().run(&Lab::new(), $client, Client::Dunlin);
        }

        #[test]
        fn downloads() {
            Scene::tree().run(&Lab::new(), Client::Dunlin, $client);
        }
    })* };
}

pairs! {
    aria2: Client::Aria2;
    qbittorrent: Client::Qbittorrent;
    webtorrent: Client::Webtorrent;
}
