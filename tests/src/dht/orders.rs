//! Orders to a script in the lab: one JSON object in a line of a unix socket, answered by one.

use std::io::{BufRead, BufReader, Error, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Carries an order to the script that listens on `socket`.
///
/// # Panics
/// When there is no answer within `patience`.
pub(super) fn carry(socket: &Path, order: &Value, patience: Duration) -> Value {
    let carry = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        writeln!(stream, "{order}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(Error::from)
    };
    carry().unwrap_or_else(|e| panic!("asked {order}: {e}"))
}
