//! A SOCKS5 proxy (RFC 1928, RFC 1929) that says what it was asked for.

use std::{
    io::{Read, Write, copy},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use crate::config::Proxy;

/// What a client asked the proxy for.
#[derive(Debug)]
pub struct Asked {
    /// User and password.
    pub login: Option<(String, String)>,
    /// Address or name, and port.
    pub target: String,
    /// Where the client connected from.
    pub from: IpAddr,
}

fn take<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn counted(stream: &mut TcpStream) -> Vec<u8> {
    let [len] = take(stream);
    let mut bytes = vec![0; len.into()];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn text(stream: &mut TcpStream) -> String {
    String::from_utf8(counted(stream)).unwrap()
}

/// One client; names lead to `named`.
fn serve(mut stream: TcpStream, named: SocketAddr, asked: &Sender<Asked>) {
    assert_eq!(take(&mut stream), [5]);
    let method = if counted(&mut stream).contains(&2) {
        2
    } else {
        0
    };
    stream.write_all(&[5, method]).unwrap();
    let login = (method == 2).then(|| {
        assert_eq!(take(&mut stream), [1]);
        let login = (text(&mut stream), text(&mut stream));
        stream.write_all(&[1, 0]).unwrap();
        login
    });
    let head: [u8; 4] = take(&mut stream);
    assert_eq!(head[..3], [5, 1, 0]);
    let (target, to) = match head[3] {
        1 => {
            let ip = Ipv4Addr::from(take::<4>(&mut stream));
            let to = SocketAddr::from((ip, u16::from_be_bytes(take(&mut stream))));
            (to.to_string(), to)
        }
        3 => {
            let name = text(&mut stream);
            let port = u16::from_be_bytes(take(&mut stream));
            (format!("{name}:{port}"), named)
        }
        other => panic!("address type {other}"),
    };
    let from = stream.peer_addr().unwrap().ip();
    let whole = Asked {
        login,
        target,
        from,
    };
    // A test that has seen enough no longer listens.
    let _ = asked.send(whole);
    let mut far = TcpStream::connect(to).unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    let (mut back, mut to_client) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
    thread::spawn(move || {
        // Either side may hang up as it likes.
        let _ = copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let _ = copy(&mut stream, &mut far);
    let _ = far.shutdown(Shutdown::Write);
}

/// A proxy that takes any login, such as `user:password@`; names lead to `named`.
#[must_use]
pub fn proxy(named: SocketAddr, login: &str) -> (Proxy, Receiver<Asked>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            thread::spawn(move || serve(stream, named, &tell));
        }
    });
    // By name, which may have addresses that the proxy does not listen on.
    let proxy = format!("socks5://{login}localhost:{port}");
    (proxy.parse().unwrap(), asked)
}
