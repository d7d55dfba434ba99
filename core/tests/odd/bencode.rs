//! A bencode writer that writes whatever it is told to.

/// A value.
#[derive(Clone)]
pub(super) enum B {
    /// An integer, as its digits are written.
    Int(&'static str),
    Num(u64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    /// Pairs in the order given.
    Dict(Vec<(&'static str, Self)>),
    /// Bytes as they are.
    Raw(&'static [u8]),
}

impl B {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(digits) => out.extend(format!("i{digits}e").bytes()),
            Self::Num(n) => out.extend(format!("i{n}e").bytes()),
            Self::Bytes(bytes) => {
                out.extend(format!("{}:", bytes.len()).bytes());
                out.extend(bytes);
            }
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|v| v.write(out));
                out.push(b'e');
            }
            Self::Dict(pairs) => {
                out.push(b'd');
                for (key, value) in pairs {
                    s(key).write(out);
                    value.write(out);
                }
                out.push(b'e');
            }
            Self::Raw(bytes) => out.extend(*bytes),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// A string.
pub(super) fn s(text: impl AsRef<[u8]>) -> B {
    B::Bytes(text.as_ref().to_vec())
}

/// A list of strings.
pub(super) fn l(texts: &[&[u8]]) -> B {
    B::List(texts.iter().map(s).collect())
}
