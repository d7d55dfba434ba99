//! A bare HTTP/1.1 client for the lab: a request, and the whole answer, until its length or the server closes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, with its head unparsed but for the status.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything before the empty line.
    pub head: String,
    /// Everything after it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// Sends one request and reads the answer to its end.
///
/// # Errors
/// What the socket reports, and `InvalidData` for what is not an HTTP answer.
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let (mut raw, mut part) = (Vec::new(), [0; 4096]);
    // Some servers keep the connection, whatever they are asked for.
    while !is_whole(&raw) {
        match stream.read(&mut part)? {
            0 => break,
            len => raw.extend_from_slice(&part[..len]),
        }
    }
    parse(&raw).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// Whether an answer that says its length is there.
fn is_whole(raw: &[u8]) -> bool {
    parse(raw).is_some_and(|answer| {
        let len = answer.header("Content-Length");
        len.and_then(|len| len.parse().ok()) == Some(answer.body.len())
    })
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: raw[end + 4..].to_vec(),
    })
}

/// `bytes`, percent-encoded throughout.
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("%{b:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_parts() {
        let answer = parse(b"HTTP/1.1 409 Conflict\r\nX-Id: abc\r\n\r\nbody").expect("an answer");
        assert_eq!(
            (answer.status, answer.header("x-id"), answer.body.as_slice()),
            (409, Some("abc"), &b"body"[..])
        );
        assert!(parse(b"HTTP/1.1 200").is_none());
    }

    #[test]
    fn an_answer_that_says_its_length_ends_there() {
        assert!(is_whole(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
        ));
        assert!(!is_whole(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody"
        ));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\nbody"));
    }

    #[test]
    fn percent_encodes_every_byte() {
        assert_eq!(percent(&[0, b'a', 255]), "%00%61%FF");
    }
}
