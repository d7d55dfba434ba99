//! `get`, `put` and `keygen`: items (BEP 44).

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use dunlin_tokio::{
    DhtNode,
    dht::Answer,
    dunlin_core::{
        NodeId,
        dht::{FoundItem, Goal, LookupReport, item},
    },
};
use serde_json::{Value, json};

use super::{json as lines, one_shot, say::Voice};
use crate::{
    args::dht::{self as args, Wanted},
    exit::Exit,
    output::{complain, fail, say, say_json},
};

/// The longest value in bytes, as bencode (BEP 44).
const MAX_VALUE: usize = 1000;

/// Runs `dunlin dht get`.
pub(super) async fn get(args: args::Get) -> Exit {
    let salt = args.salt.0.clone();
    let (goal, target, key) = match args.wanted {
        Wanted::Immutable(target) => (Goal::Immutable(target), target, None),
        Wanted::Mutable(key) => {
            let target = item::mutable_target(&key, &salt);
            let salt = salt.clone();
            (Goal::Mutable { key, salt }, target, Some(key))
        }
    };
    one_shot(&args.common, args.patience.timeout, async |node, voice| {
        let Some((found, report)) = search(node, voice, goal).await else {
            return Exit::Failed;
        };
        if let Some(found) = &found {
            match args.raw {
                true => return raw(&found.value),
                false => show(voice, target, key, &salt, found),
            }
        }
        voice.finished(&target.to_string(), &report);
        match (&found, &report.failure) {
            (Some(_), _) => Exit::Complete,
            (None, Some(_)) => Exit::Failed,
            (None, None) => {
                voice.error(&target.to_string(), &format!("{target}: no node has it"));
                Exit::Incomplete
            }
        }
    })
    .await
}

/// Runs `dunlin dht put`.
pub(super) async fn put(args: args::Put) -> Exit {
    let voice = Voice::new(args.common.view);
    let usage = |message: &str| {
        voice.error("put", message);
        Exit::Usage
    };
    let value = match args.bencode {
        true => args.value.clone().into_bytes(),
        false => text_value(&args.value),
    };
    if value.len() > MAX_VALUE {
        let message = format!(
            "the value has {} bytes as bencode, and nodes take {MAX_VALUE} (BEP 44)",
            value.len()
        );
        return usage(&message);
    }
    if args.bencode && !dunlin_tokio::dunlin_core::wire::krpc::is_canonical(&value) {
        return usage(
            "the value is not canonical bencode: keys sorted, no zeros in front, nothing behind",
        );
    }
    let secret = match args.key.as_deref().map(read_key).transpose() {
        Ok(secret) => secret,
        Err(message) => return usage(&message),
    };
    let salt = args.salt.0.clone();
    one_shot(&args.common, args.patience.timeout, async |node, voice| {
        let Some(secret) = secret else {
            let target = item::immutable_target(&value);
            return store(node, voice, Goal::PutImmutable(value), target, &json!({})).await;
        };
        let key = item::public_key(&secret);
        let target = item::mutable_target(&key, &salt);
        let seq = match args.seq {
            Some(seq) => seq,
            None => {
                let goal = Goal::Mutable {
                    key,
                    salt: salt.clone(),
                };
                let Some((found, _)) = search(node, voice, goal).await else {
                    return Exit::Failed;
                };
                let last = found.and_then(|found| found.version).map(|(seq, _)| seq);
                last.map_or(1, |seq| seq.saturating_add(1))
            }
        };
        let sig = match item::sign(&secret, &salt, seq, &value) {
            Ok(sig) => sig,
            Err(refusal) => {
                voice.error("put", &format!("it cannot be signed: {refusal}"));
                return Exit::Usage;
            }
        };
        let more = json!({ "key": lines::hex(&key), "salt": lines::hex(&salt), "seq": seq });
        let goal = Goal::PutMutable {
            value,
            key,
            salt,
            seq,
            cas: args.cas,
            sig,
        };
        store(node, voice, goal, target, &more).await
    })
    .await
}

/// Stores an item, and reports the result.
async fn store(node: &DhtNode, voice: &Voice, goal: Goal, target: NodeId, more: &Value) -> Exit {
    let Some((_, report)) = search(node, voice, goal).await else {
        return Exit::Failed;
    };
    if report.stored > 0 {
        let name = more["key"]
            .as_str()
            .map_or_else(|| target.to_string(), str::to_owned);
        voice.result(
            || {
                let mut stored = json!({ "type": "stored", "target": target.to_string() });
                if let (Value::Object(stored), Value::Object(more)) = (&mut stored, more.clone()) {
                    stored.extend(more);
                }
                stored
            },
            || name,
        );
    }
    voice.finished(&target.to_string(), &report);
    match (report.stored, &report.failure) {
        (0, None) => {
            voice.error(
                &target.to_string(),
                "no node stored it: it may have a newer version, or none takes items",
            );
            Exit::Failed
        }
        (0, Some(_)) => Exit::Failed,
        _ => Exit::Complete,
    }
}

/// Searches for an item. Returns the newest one found and the report; `None` if the node stopped.
pub(super) async fn search(
    node: &DhtNode,
    voice: &Voice,
    goal: Goal,
) -> Option<(Option<FoundItem>, LookupReport)> {
    let mut search = node.search(goal);
    let mut newest: Option<FoundItem> = None;
    while let Some(answer) = search.next().await {
        match answer {
            Answer::Item(item) => {
                let version = |i: &FoundItem| i.version.map(|(seq, _)| seq);
                if newest
                    .as_ref()
                    .is_none_or(|old| version(old) < version(&item))
                {
                    newest = Some(item);
                }
            }
            Answer::Done(report) => return Some((newest, *report)),
            Answer::Full => {
                voice.error("search", "too many searches are under way");
                return None;
            }
            _ => {}
        }
    }
    None
}

/// A string as bencode.
fn text_value(text: &str) -> Vec<u8> {
    let mut value = format!("{}:", text.len()).into_bytes();
    value.extend_from_slice(text.as_bytes());
    value
}

/// The bytes of a bencoded string, if it is one.
fn string_of(value: &[u8]) -> Option<&[u8]> {
    let colon = value.iter().position(|b| *b == b':')?;
    let len: usize = str::from_utf8(&value[..colon]).ok()?.parse().ok()?;
    let bytes = &value[colon + 1..];
    (bytes.len() == len).then_some(bytes)
}

/// Prints an item.
fn show(voice: &Voice, target: NodeId, key: Option<[u8; 32]>, salt: &[u8], found: &FoundItem) {
    let text = string_of(&found.value).and_then(|bytes| str::from_utf8(bytes).ok());
    let (seq, sig) = found.version.unzip();
    voice.result(
        || {
            json!({
                "type": "item",
                "target": target.to_string(),
                "key": key.map(|key| lines::hex(&key)),
                "salt": lines::hex(salt),
                "seq": seq,
                "sig": sig.map(|sig| lines::hex(&sig)),
                "bencode": lines::hex(&found.value),
                "text": text,
            })
        },
        // Bytes that are not UTF-8 are replaced.
        || text.map_or_else(|| String::from_utf8_lossy(&found.value).into(), Into::into),
    );
}

/// Prints the content of a bencoded string, or else the bencode, unchanged.
fn raw(value: &[u8]) -> Exit {
    let bytes = string_of(value).unwrap_or(value);
    match io::stdout().write_all(bytes) {
        Ok(()) => Exit::Complete,
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Exit::Failed
        }
    }
}

/// Runs `dunlin dht keygen`.
pub(super) fn keygen(args: &args::Keygen) -> Exit {
    let mut secret = [0; 32];
    if let Err(error) = getrandom::fill(&mut secret) {
        fail("keygen", &format!("no random numbers: {error}"));
        return Exit::Failed;
    }
    if let Err(error) = write_key(&args.file, &secret) {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "; a key is never overwritten",
            _ => "",
        };
        let file = args.file.display().to_string();
        fail(&file, &format!("{file}: {error}{hint}"));
        return Exit::Failed;
    }
    let key = lines::hex(&item::public_key(&secret));
    match args.json {
        true => say_json(&json!({
            "type": "key",
            "key": key,
            "file": args.file.display().to_string(),
        })),
        false => say(&key),
    }
    Exit::Complete
}

/// Writes a secret key to a new file that only its owner can read.
fn write_key(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", lines::hex(secret))?;
    file.sync_all()
}

fn read_key(path: &Path) -> Result<[u8; 32], String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    args::hex(text.trim()).ok_or_else(|| {
        format!("{name}: no key: it has 64 hexadecimal digits; `dunlin dht keygen` makes one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_strings_in_bencode() {
        assert_eq!(text_value("Hello World!"), b"12:Hello World!");
        assert_eq!(string_of(b"12:Hello World!"), Some(&b"Hello World!"[..]));
        for other in [&b"i5e"[..], b"3:abcd", b"9:a", b"-1:", b"x:", b""] {
            assert_eq!(string_of(other), None);
        }
    }

    #[test]
    fn a_key_is_kept_read_back_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_key(&path, &[0x5a; 32]).unwrap();
        assert_eq!(read_key(&path), Ok([0x5a; 32]));
        assert!(write_key(&path, &[1; 32]).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&path, "5a").unwrap();
        assert!(read_key(&path).unwrap_err().contains("keygen"));
    }
}
