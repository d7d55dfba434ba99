//! The client's side of SOCKS5 (RFC 1928) with user name and password (RFC 1929), without I/O of its own:
//! bytes out, bytes in.
//!
//! ```text
//!  Methods ──▶ (Login ──▶) Head ──▶ Address ──▶ done
//! ```
//!
//! Never asks for a byte beyond the handshake: what follows belongs to the peer.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use crate::config::Proxy;

/// What the proxy has to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address and a port.
    Address(SocketAddr),
    /// A name, which the proxy resolves, and a port.
    Name(String, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Methods,
    Login,
    Head,
    /// The length byte of a bound name.
    NameLen,
    Address,
    Done,
}

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake {
    step: Step,
    output: Vec<u8>,
    input: Vec<u8>,
    /// The bytes that the current step reads.
    wanted: usize,
    login: Option<(String, String)>,
    target: Target,
    /// The proxy answered that it could not reach the target.
    unreached: bool,
}

/// The longest field: lengths are one byte (RFC 1929).
const MAX_FIELD: usize = 255;

impl Handshake {
    /// Begins; [`Handshake::output`] holds the first bytes.
    ///
    /// # Errors
    /// `InvalidInput`: a name, user or password is longer than 255 bytes.
    pub fn new(proxy: &Proxy, target: Target) -> io::Result<Self> {
        let mut fields: Vec<&str> = Vec::new();
        if let Some((user, password)) = &proxy.login {
            fields.extend([user.as_str(), password]);
        }
        if let Target::Name(name, _) = &target {
            fields.push(name);
        }
        if fields.iter().any(|field| field.len() > MAX_FIELD) {
            let what = "the proxy takes names, users and passwords of 255 bytes at most";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        // Version, number of methods, the method: 0 without, 2 with user and password.
        let method = if proxy.login.is_some() { 2 } else { 0 };
        Ok(Self {
            step: Step::Methods,
            output: vec![5, 1, method],
            input: Vec::new(),
            wanted: 2,
            login: proxy.login.clone(),
            target,
            unreached: false,
        })
    }

    /// What is to be sent now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// `len` bytes of it were sent.
    pub fn sent(&mut self, len: usize) {
        self.output.drain(..len.min(self.output.len()));
    }

    /// How many bytes to read now; 0 when the proxy has connected.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted - self.input.len()
    }

    /// Takes bytes, [`Handshake::wanted`] at most; whether the proxy has connected.
    ///
    /// # Errors
    /// The proxy refuses, or what it says is not SOCKS5.
    pub fn input(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let take = bytes.len().min(self.wanted());
        self.input.extend_from_slice(&bytes[..take]);
        while self.step != Step::Done && self.input.len() == self.wanted {
            let input = std::mem::take(&mut self.input);
            (self.step, self.wanted) = self.next(&input)?;
        }
        Ok(self.step == Step::Done)
    }

    /// Whether the last error says something of the target, and nothing of the proxy.
    #[must_use]
    pub const fn is_about_target(&self) -> bool {
        self.unreached
    }

    fn next(&mut self, input: &[u8]) -> io::Result<(Step, usize)> {
        match (self.step, input) {
            (Step::Methods, [5, 0]) => Ok(self.ask()),
            (Step::Methods, [5, 2]) if self.login.is_some() => {
                let (user, password) = self.login.take().unwrap_or_default();
                self.output.push(1);
                for field in [user, password] {
                    self.output.extend(counted(&field));
                }
                Ok((Step::Login, 2))
            }
            (Step::Methods, [5, 0xff]) => Err(refused("it accepts none of our ways to log in")),
            (Step::Login, [_, 0]) => Ok(self.ask()),
            (Step::Login, _) => Err(refused("it rejects the user or the password")),
            // Version, reply, reserved, address type.
            (Step::Head, [5, 0, _, 1]) => Ok((Step::Address, 4 + 2)),
            (Step::Head, [5, 0, _, 4]) => Ok((Step::Address, 16 + 2)),
            (Step::Head, [5, 0, _, 3]) => Ok((Step::NameLen, 1)),
            (Step::Head, [5, reply, ..]) if *reply != 0 => {
                // All but a command that it does not know, and what the RFC does not list.
                self.unreached = matches!(reply, 1..=6 | 8);
                Err(reply_error(*reply))
            }
            (Step::NameLen, [len]) => Ok((Step::Address, usize::from(*len) + 2)),
            (Step::Address, _) => Ok((Step::Done, 0)),
            _ => {
                let what = "the proxy does not speak SOCKS5";
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
        }
    }

    /// RFC 1928 §4: version, CONNECT, reserved, address type, address, port.
    fn ask(&mut self) -> (Step, usize) {
        self.output.extend([5, 1, 0]);
        let port = match &self.target {
            Target::Address(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        self.output.push(1);
                        self.output.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        self.output.push(4);
                        self.output.extend(ip.octets());
                    }
                }
                address.port()
            }
            Target::Name(name, port) => {
                self.output.push(3);
                self.output.extend(counted(name));
                *port
            }
        };
        self.output.extend(port.to_be_bytes());
        (Step::Head, 4)
    }
}

/// A field of at most [`MAX_FIELD`] bytes behind its length.
fn counted(field: &str) -> impl Iterator<Item = u8> + '_ {
    let len = u8::try_from(field.len()).unwrap_or(u8::MAX);
    std::iter::once(len).chain(field.bytes().take(MAX_FIELD))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the proxy refuses: {why}"),
    )
}

/// RFC 1928 §6.
fn reply_error(reply: u8) -> io::Error {
    use io::ErrorKind as Kind;
    let (kind, why) = match reply {
        2 => (Kind::PermissionDenied, "its rules forbid it"),
        3 => (Kind::NetworkUnreachable, "network unreachable"),
        4 => (Kind::HostUnreachable, "host unreachable"),
        5 => (Kind::ConnectionRefused, "connection refused"),
        6 => (Kind::TimedOut, "no answer in time"),
        7 | 8 => (Kind::Unsupported, "it does not know how"),
        _ => (Kind::Other, "it failed"),
    };
    io::Error::new(kind, format!("the proxy could not connect: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    /// Plays a proxy that says `answers` one byte at a time; returns what it was told, and how
    /// it ended.
    fn play(handshake: &mut Handshake, answers: &[u8]) -> (Vec<u8>, io::Result<bool>) {
        let mut told = Vec::new();
        let mut take = |handshake: &mut Handshake| {
            told.extend_from_slice(handshake.output());
            handshake.sent(handshake.output().len());
        };
        take(handshake);
        let mut end = Ok(false);
        for byte in answers {
            assert!(handshake.wanted() > 0, "asked for a byte too few");
            end = handshake.input(&[*byte]);
            take(handshake);
            if end.is_err() {
                break;
            }
        }
        (told, end)
    }

    #[test]
    fn an_address_is_asked_for_without_a_login() {
        let target = Target::Address("[2001:db8::1]:6881".parse().unwrap());
        let mut h = Handshake::new(&proxy("socks5://127.0.0.1:1080"), target).unwrap();
        let (told, end) = play(&mut h, &[5, 0, 5, 0, 0, 1, 10, 0, 0, 1, 0, 80]);
        assert!(end.unwrap());
        assert_eq!(told[..7], [5, 1, 0, 5, 1, 0, 4]);
        assert_eq!(told[7..9], [0x20, 0x01]);
        assert_eq!(told[23..], 6881u16.to_be_bytes());
        assert_eq!(h.wanted(), 0);
    }

    #[test]
    fn a_login_and_a_name_go_out_and_a_bound_name_comes_back() {
        let target = Target::Name("tracker.example".into(), 80);
        let mut h = Handshake::new(&proxy("socks5://me:p%40ss@127.0.0.1:1080"), target).unwrap();
        let (told, end) = play(&mut h, &[5, 2, 1, 0, 5, 0, 0, 3, 2, b'a', b'b', 0, 80]);
        assert!(end.unwrap());
        let login = b"\x01\x02me\x04p@ss";
        assert_eq!(told[..3], [5, 1, 2]);
        assert_eq!(&told[3..3 + login.len()], login);
        assert!(told.ends_with(b"\x0ftracker.example\0\x50"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let target = || Target::Address("127.0.0.1:1".parse().unwrap());
        let kind = |text: &str, answers: &[u8]| {
            let mut h = Handshake::new(&proxy(text), target()).unwrap();
            play(&mut h, answers).1.unwrap_err().kind()
        };
        let (open, login) = ("socks5://127.0.0.1:1", "socks5://a:b@127.0.0.1:1");
        use io::ErrorKind as Kind;
        assert_eq!(kind(open, &[5, 0xff]), Kind::PermissionDenied);
        assert_eq!(kind(open, &[5, 2]), Kind::InvalidData);
        assert_eq!(kind(login, &[5, 2, 1, 1]), Kind::PermissionDenied);
        assert_eq!(kind(open, &[5, 0, 5, 5, 0, 1]), Kind::ConnectionRefused);
        assert_eq!(kind(open, &[5, 0, 5, 4, 0, 1]), Kind::HostUnreachable);
        assert_eq!(kind(open, b"SS"), Kind::InvalidData);
        assert_eq!(kind(open, &[5, 0, 5, 0, 0, 9]), Kind::InvalidData);
        let long = Target::Name("x".repeat(256), 1);
        let error = Handshake::new(&proxy(open), long).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput);
    }

    #[test]
    fn what_is_said_of_the_target_is_told_from_what_is_said_of_the_proxy() {
        let about_target = |bytes: &[u8]| {
            let target = Target::Name("name".into(), 1);
            let mut h = Handshake::new(&proxy("socks5://127.0.0.1:1"), target).unwrap();
            let failed = bytes.iter().any(|byte| h.input(&[*byte]).is_err());
            assert!(failed, "{bytes:?}");
            h.is_about_target()
        };
        for reply in 1..=u8::MAX {
            let expected = matches!(reply, 1..=6 | 8);
            assert_eq!(about_target(&[5, 0, 5, reply, 0, 1]), expected, "{reply}");
        }
        assert!(!about_target(&[5, 0xff]) && !about_target(b"HTTP"));
    }

    #[test]
    fn no_bytes_from_a_proxy_panic() {
        fn holds(bytes: Vec<u8>, login: bool) -> bool {
            let text = ["socks5://127.0.0.1:1", "socks5://a:b@127.0.0.1:1"][usize::from(login)];
            let target = Target::Name("name".into(), 1);
            let mut h = Handshake::new(&proxy(text), target).unwrap();
            for byte in bytes {
                match h.input(&[byte]) {
                    Ok(false) => assert!(h.wanted() > 0),
                    _ => break,
                }
            }
            true
        }
        quickcheck::quickcheck(holds as fn(Vec<u8>, bool) -> bool);
    }
}
