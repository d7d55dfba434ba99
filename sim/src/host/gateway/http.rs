//! The web server of a gateway: descriptions, and control.

use std::{fmt::Write, net::SocketAddr};

use dunlin_core::http::request;

use super::{
    Gateway, Quirk, description,
    soap::{self, Fault, Style},
};
use crate::host::{HostCx, stack::Reply};

/// The longest body of a request in bytes.
const MAX_BODY: usize = 16 << 10;
/// The longest head of a request in bytes.
const MAX_HEAD: usize = 8 << 10;
const XML: &str = "text/xml; charset=\"utf-8\"";
const HTML: &str = "text/html";

/// The head of a message, read tolerantly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    text: &'a str,
    /// Its length with the empty line.
    len: usize,
}

impl<'a> Head<'a> {
    /// Returns `None` when the head is not complete, too long, or not text.
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let window = &data[..data.len().min(MAX_HEAD)];
        let end = window.windows(4).position(|w| w == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&window[..end]).ok()?;
        Some(Self { text, len: end + 4 })
    }

    /// The first line.
    pub(super) fn first(&self) -> &'a str {
        self.text.split("\r\n").next().unwrap_or_default()
    }

    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.text.split("\r\n").skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim())
        })
    }
}

/// A request, as far as the server cares.
struct Asked<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
    action: Option<&'a str>,
    body: &'a [u8],
}

impl Gateway {
    /// Runs the web server.
    pub(super) fn serve(&mut self, cx: &mut HostCx<'_>) {
        let Some(mut web) = self.web.take() else {
            return;
        };
        web.run(cx, |cx, from, bytes| self.request(cx, from, bytes));
        self.web = Some(web);
    }

    fn request(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, bytes: &[u8]) -> Reply {
        let reply = match self.profile.is_lax() {
            true => self.request_lax(cx, from, bytes),
            false => self.request_strict(cx, from, bytes),
        };
        if let Reply::Close(_) = reply {
            self.stats.requests += 1;
        }
        reply
    }

    /// Reads a request as RFC 9112 says.
    fn request_strict(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, bytes: &[u8]) -> Reply {
        let plain = |status: u16, text: &str| {
            Reply::Close(self.page(status, "HTTP/1.1", "text/plain", text))
        };
        let request = match request::parse(bytes) {
            Ok(Some(request)) => request,
            Ok(None) => return Reply::More,
            Err(bad) => return plain(bad.status(), &bad.to_string()),
        };
        let head = &bytes[..request.head_len];
        let is_10 = head
            .split(|b| *b == b'\n')
            .next()
            .is_some_and(|line| line.trim_ascii_end().ends_with(b"HTTP/1.0"));
        if self.profile.has(Quirk::Http10Only) && !is_10 {
            return plain(505, "this server speaks HTTP/1.0");
        }
        if request.body_len > MAX_BODY as u64 {
            return plain(413, "the body is too long");
        }
        let body = &bytes[request.head_len..];
        let whole = body.len() as u64 >= request.body_len;
        if !whole && !self.profile.has(Quirk::OneSegment) {
            return Reply::More;
        }
        let body = &body[..body.len().min(request.body_len as usize)];
        let action = request.header("SOAPAction");
        let asked = Asked {
            method: request.method,
            target: request.target,
            version: if is_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            action: action.and_then(|a| std::str::from_utf8(a).ok()),
            body,
        };
        Reply::Close(self.respond(cx, from, &asked))
    }

    /// Reads a request as miniupnpd does.
    fn request_lax(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, bytes: &[u8]) -> Reply {
        let Some(head) = Head::read(bytes) else {
            if bytes.len() >= MAX_HEAD {
                return Reply::Close(self.page(400, "HTTP/1.1", HTML, &html(400)));
            }
            return Reply::More;
        };
        let mut words = head.first().split(' ').filter(|w| !w.is_empty());
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let length = head.field("Content-Length").and_then(|n| n.parse().ok());
        let length: usize = length.unwrap_or(0);
        if length > MAX_BODY {
            return Reply::Close(self.page(413, version, HTML, &html(413)));
        }
        let body = &bytes[head.len..];
        if body.len() < length && !self.profile.has(Quirk::OneSegment) {
            return Reply::More;
        }
        // It refuses names, against DNS rebinding.
        let host = head.field("Host").unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let named = !host.is_empty() && host.parse::<std::net::Ipv4Addr>().is_err();
        if named && matches!(method, "GET" | "HEAD" | "POST") {
            return Reply::Close(self.page(404, version, HTML, &html(404)));
        }
        let asked = Asked {
            method,
            target,
            version,
            action: head.field("SOAPAction"),
            body: &body[..body.len().min(length)],
        };
        Reply::Close(self.respond(cx, from, &asked))
    }

    fn respond(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, asked: &Asked<'_>) -> Vec<u8> {
        let lax = self.profile.is_lax();
        let error = |status| self.page(status, asked.version, HTML, &html(status));
        match asked.method {
            "GET" => match description::page(self, asked.target) {
                Some(text) => self.page(200, asked.version, XML, &text),
                None => error(404),
            },
            "POST" | "M-POST" => self.control(cx, from, asked),
            "SUBSCRIBE" | "UNSUBSCRIBE" => error(501),
            _ if lax => error(501),
            _ => error(405),
        }
    }

    /// Carries out an action.
    fn control(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, asked: &Asked<'_>) -> Vec<u8> {
        let lax = self.profile.is_lax();
        let named = asked.action.map(|a| a.trim_matches('"'));
        let Some((service, action)) = named.and_then(|a| a.split_once('#')) else {
            let text = "<html><body>Bad request</body></html>";
            return self.page(400, asked.version, HTML, text);
        };
        let services = description::services(&self.profile);
        let at = services.iter().find(|s| s.control == asked.target);
        if at.is_none() && !lax {
            return self.page(404, asked.version, HTML, &html(404));
        }
        let (called, args) = soap::parse(asked.body);
        let known = at.is_some_and(|s| s.serves(service)) && called == action;
        let style = Style::of(&self.profile);
        let result = if lax {
            // It looks at the name of the action alone.
            let kind = match action {
                _ if action.contains("Pinhole") || action == "GetFirewallStatus" => {
                    description::Kind::Firewall
                }
                "GetCommonLinkProperties" => description::Kind::Common,
                _ => description::Kind::Connection,
            };
            self.act(cx, from, (kind, true, 2), action, &args)
        } else {
            match at.filter(|_| known) {
                Some(at) => {
                    let place = (at.kind, at.connected, at.version);
                    self.act(cx, from, place, action, &args)
                }
                None => Err(Fault(401)),
            }
        };
        match result {
            Ok(fields) => {
                let text = soap::answer(style, service, action, &fields);
                self.page(200, asked.version, XML, &text)
            }
            Err(fault) => {
                let status = match self.profile.has(Quirk::ErrorsAreOk) {
                    true => 200,
                    false => 500,
                };
                let text = soap::refusal(style, fault);
                self.page(status, asked.version, XML, &text)
            }
        }
    }

    /// A response.
    fn page(&self, status: u16, version: &str, content: &str, body: &str) -> Vec<u8> {
        let old = self.profile.has(Quirk::Http10Only);
        let version = if old { "HTTP/1.0" } else { version };
        let mut text = format!("{version} {status} {}\r\n", reason(status));
        let mut field = |name: &str, value: &str| {
            let name = match self.profile.has(Quirk::LowerCaseHeaders) {
                true => name.to_lowercase(),
                false => name.to_owned(),
            };
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        };
        match content {
            XML if self.profile.has(Quirk::NoContentType) => {}
            XML if self.profile.has(Quirk::SoapContentType) => {
                field("Content-Type", "application/soap+xml; charset=\"utf-8\"");
            }
            other => field("Content-Type", other),
        }
        if !old {
            field("Connection", "close");
            field("Content-Length", &body.len().to_string());
        }
        field("Server", description::SERVER);
        field("Ext", "");
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    }
}

fn html(status: u16) -> String {
    let why = reason(status);
    format!(
        "<HTML><HEAD><TITLE>{status} {why}</TITLE></HEAD><BODY><H1>{why}</H1></BODY></HTML>\r\n"
    )
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
