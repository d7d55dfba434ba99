//! Connecting through a SOCKS5 proxy.

use std::{io, net::SocketAddr};

use dunlin_core::http::Host;
use dunlin_std::{
    config::Proxy,
    net::{
        proxy::Watch,
        socks::{Handshake, Target},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Asks the proxy at the other end of `stream` to connect to a host, whose name the proxy resolves.
///
/// # Errors
/// The error of the proxy or of the system.
pub(super) async fn connect(
    proxy: &Proxy,
    watch: &Watch,
    mut stream: TcpStream,
    host: Host<'_>,
    port: u16,
) -> io::Result<TcpStream> {
    let target = match host {
        Host::Ip(ip) => Target::Address(SocketAddr::new(ip, port)),
        Host::Name(name) => Target::Name(name.to_owned(), port),
    };
    let mut handshake = Handshake::new(proxy, target)?;
    match greet(&mut stream, &mut handshake).await {
        Err(error) if !handshake.is_about_target() => Err(io::Error::other(watch.fails(&error))),
        greeted => {
            watch.works();
            greeted.map(|()| stream)
        }
    }
}

async fn greet(stream: &mut TcpStream, handshake: &mut Handshake) -> io::Result<()> {
    let mut buf = [0; 512];
    loop {
        stream.write_all(handshake.output()).await?;
        handshake.sent(handshake.output().len());
        let want = handshake.wanted().min(buf.len());
        let len = stream.read(&mut buf[..want]).await?;
        if len == 0 {
            let reason = "it hung up";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        if handshake.input(&buf[..len])? {
            return Ok(());
        }
    }
}
