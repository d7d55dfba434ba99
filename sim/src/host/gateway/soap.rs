//! SOAP over HTTP, as UPnP control uses it (UPnP Device Architecture 1.1 §3.2).

use std::{fmt::Write, str::FromStr};

use quick_xml::{Reader, events::Event};

use super::{GatewayProfile, Quirk};

/// The most arguments that are read.
const MAX_ARGS: usize = 32;
/// The most elements, one in another.
const MAX_DEPTH: usize = 16;

/// An error of UPnP control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) u16);

impl Fault {
    /// The text that goes with the code.
    pub(super) const fn text(self) -> &'static str {
        match self.0 {
            401 => "Invalid Action",
            402 => "Invalid Args",
            501 => "Action Failed",
            605 => "String Argument Too Long",
            606 => "Action not authorized",
            701 => "PinholeSpaceExhausted",
            704 => "NoSuchEntry",
            705 => "ProtocolNotSupported",
            706 => "InternalPortWildcardingNotAllowed",
            707 => "ProtocolWildcardingNotAllowed",
            708 => "WildCardNotPermittedInSrcIP",
            713 => "SpecifiedArrayIndexInvalid",
            714 => "NoSuchEntryInArray",
            715 => "WildCardNotPermittedInSrcIP",
            716 => "WildCardNotPermittedInExtPort",
            718 => "ConflictInMappingEntry",
            724 => "SamePortValuesRequired",
            725 => "OnlyPermanentLeasesSupported",
            726 => "RemoteHostOnlySupportsWildcard",
            727 => "ExternalPortOnlySupportsWildcard",
            728 => "NoPortMapsAvailable",
            729 => "ConflictWithOtherMechanisms",
            730 => "PortMappingNotFound",
            732 => "WildCardNotPermittedInIntPort",
            733 => "InconsistentParameter",
            _ => "Error",
        }
    }
}

/// The arguments of an answer, in order.
pub(super) type Fields = Vec<(&'static str, String)>;

/// The arguments of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Args(Vec<(String, String)>);

impl Args {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or(Fault(402))
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<T, Fault> {
        let text = self.need(name)?.trim();
        // A sign is not a digit.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or(Fault(402))
    }
}

/// Reads the call in a body: the name of its action, and the arguments. Whatever cannot be read is
/// left out; an empty name means that there is no action.
pub(super) fn parse(body: &[u8]) -> (String, Args) {
    let text = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&text);
    let (mut action, mut args) = (String::new(), Args::default());
    let mut path: Vec<String> = Vec::new();
    // The depth of the action: that of a child of Body.
    let mut within = None;
    // An error of the reader ends the document.
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(tag) => {
                let name = tag.local_name().into_inner().to_owned();
                if path.len() >= MAX_DEPTH {
                    break;
                }
                if within.is_none() && path.last().is_some_and(|n| n == "Body") {
                    action.clone_from(&name);
                    within = Some(path.len());
                } else if within.is_some_and(|depth| path.len() == depth + 1) {
                    if args.0.len() >= MAX_ARGS {
                        break;
                    }
                    args.0.push((name.clone(), String::new()));
                }
                path.push(name);
            }
            Event::Empty(tag) => {
                let name = tag.local_name().into_inner().to_owned();
                if within.is_none() && path.last().is_some_and(|n| n == "Body") {
                    return (name, args);
                }
                if within.is_some_and(|depth| path.len() == depth + 1) && args.0.len() < MAX_ARGS {
                    args.0.push((name, String::new()));
                }
            }
            Event::End(_) => {
                path.pop();
                if within == Some(path.len()) {
                    break;
                }
            }
            other => {
                let in_argument = within.is_some_and(|depth| path.len() == depth + 2);
                let Some((_, value)) = args.0.last_mut().filter(|_| in_argument) else {
                    if matches!(other, Event::Eof) {
                        break;
                    }
                    continue;
                };
                match other {
                    Event::Text(text) => value.push_str(&text),
                    Event::CData(text) => value.push_str(&text),
                    Event::GeneralRef(name) => value.extend(entity(&name)),
                    Event::Eof => break,
                    _ => {}
                }
            }
        }
    }
    (action, args)
}

fn entity(name: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    match &**name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => name.resolve_char_ref().ok().flatten(),
    }
}

/// Text as the content of an element.
pub(super) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// Writes elements in the style of a gateway's quirks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    prefixed: bool,
    cdata: bool,
    upper: bool,
}

impl Style {
    pub(super) const fn of(profile: &GatewayProfile) -> Self {
        Self {
            prefixed: profile.quirks.has(Quirk::NamespacePrefixes),
            cdata: profile.quirks.has(Quirk::CdataValues),
            upper: profile.quirks.has(Quirk::UpperCaseTags),
        }
    }

    /// An element's name in a document whose own namespace is bound to `prefix`.
    pub(super) fn name(self, prefix: &str, name: &str) -> String {
        let name = match self.upper {
            true => name.to_uppercase(),
            false => name.to_owned(),
        };
        if self.prefixed {
            format!("{prefix}:{name}")
        } else {
            name
        }
    }

    /// The declaration of the namespace of a document.
    pub(super) fn namespace(self, prefix: &str, urn: &str) -> String {
        if self.prefixed {
            format!("xmlns:{prefix}=\"{urn}\"")
        } else {
            format!("xmlns=\"{urn}\"")
        }
    }

    /// An element with text in it.
    pub(super) fn value(self, prefix: &str, name: &str, text: &str) -> String {
        let name = self.name(prefix, name);
        let text = match self.cdata {
            // The end of a section cannot be in it.
            true => format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>")),
            false => escaped(text),
        };
        format!("<{name}>{text}</{name}>")
    }
}

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const ENCODING: &str = "http://schemas.xmlsoap.org/soap/encoding/";

fn enveloped(style: Style, body: &str) -> String {
    let s = if style.prefixed { "SOAP-ENV" } else { "s" };
    let up = |name: &str| match style.upper {
        true => name.to_uppercase(),
        false => name.to_owned(),
    };
    let (envelope, inner) = (up("Envelope"), up("Body"));
    format!(
        "<?xml version=\"1.0\"?>\r\n<{s}:{envelope} xmlns:{s}=\"{ENVELOPE}\" \
         {s}:encodingStyle=\"{ENCODING}\"><{s}:{inner}>{body}</{s}:{inner}></{s}:{envelope}>\r\n"
    )
}

/// The answer to an action.
pub(super) fn answer(style: Style, service: &str, action: &str, fields: &Fields) -> String {
    let u = if style.prefixed { "ns1" } else { "u" };
    let name = match style.upper {
        true => format!("{action}Response").to_uppercase(),
        false => format!("{action}Response"),
    };
    let mut body = format!("<{u}:{name} xmlns:{u}=\"{}\">", escaped(service));
    for (field, value) in fields {
        // Arguments have no namespace, and so no prefix.
        let plain = Style {
            prefixed: false,
            ..style
        };
        body.push_str(&plain.value("", field, value));
    }
    // Writing to a string cannot fail.
    let _ = write!(body, "</{u}:{name}>");
    enveloped(style, &body)
}

/// The refusal of an action.
pub(super) fn refusal(style: Style, fault: Fault) -> String {
    let (code, text) = (fault.0.to_string(), fault.text());
    let error = [
        style.value("e", "errorCode", &code),
        style.value("e", "errorDescription", text),
    ];
    let s = if style.prefixed { "SOAP-ENV" } else { "s" };
    let upnp_error = style.name("e", "UPnPError");
    let namespace = style.namespace("e", "urn:schemas-upnp-org:control-1-0");
    let up = |name: &str| match style.upper {
        true => name.to_uppercase(),
        false => name.to_owned(),
    };
    let (fault, faultcode) = (up("Fault"), up("faultcode"));
    let (faultstring, detail) = (up("faultstring"), up("detail"));
    let body = format!(
        "<{s}:{fault}><{faultcode}>{s}:Client</{faultcode}><{faultstring}>UPnPError</{faultstring}>\
         <{detail}><{upnp_error} {namespace}>{}</{upnp_error}></{detail}></{s}:{fault}>",
        error.concat()
    );
    enveloped(style, &body)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn args(of: &[(&str, &str)]) -> Args {
        let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        Args(of.iter().map(owned).collect())
    }

    #[test]
    fn calls_are_read_whatever_their_prefixes_sections_and_entities() {
        let expected = args(&[("A", "x<&>"), ("B", ""), ("C", "")]);
        for body in [
            "<s:Envelope><s:Body><u:Do xmlns:u='x'><A>x&lt;&amp;&#62;</A><B></B><C/></u:Do></s:Body></s:Envelope>",
            "<?xml version='1.0'?><Envelope><Header><A>no</A></Header><Body> <Do> <A>x<![CDATA[<&>]]></A> <B/><C></C> </Do><Do2><D/></Do2></Body></Envelope>",
        ] {
            assert_eq!(parse(body.as_bytes()), ("Do".into(), expected.clone()));
        }
        assert_eq!(parse(b"junk").0, "");
        let none = parse(b"<E><Body><Do/></Body></E>");
        assert_eq!(none, ("Do".into(), Args::default()));
    }

    #[test]
    fn hostile_documents_are_bounded() {
        let deep = format!("<Body>{}", "<a>".repeat(100_000));
        assert!(parse(deep.as_bytes()).1.0.len() <= MAX_ARGS);
        let wide = format!("<Body><Do>{}</Do></Body>", "<a>1</a>".repeat(1_000));
        assert_eq!(parse(wide.as_bytes()).1.0.len(), MAX_ARGS);
    }

    quickcheck! {
        fn any_bytes_are_survived(bytes: Vec<u8>, inside: Vec<u8>) -> bool {
            let body = [b"<E><Body><Do><A>".as_slice(), &inside, b"</A></Do></Body></E>"].concat();
            let _ = (parse(&bytes), parse(&body));
            true
        }
    }
}
