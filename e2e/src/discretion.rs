//! What no process may say, wherever it says it: a secret of the lab, what a record holds; and that it panicked.

use anyhow::{Result, bail};

use crate::servers::kafka::secured::SASL_USER;
use crate::servers::s3::SECRET_KEY;

/// Stands in every customer's name of [`orders`](crate::orders).
pub const RECORD_MARKER: &str = "buyer~";

/// Fails when a log, a page or a command's output tells a secret, the content of a record, or of a panic.
pub fn ensure_discreet(what: &str, text: &str) -> Result<()> {
    let forbidden = [
        ("a secret", SECRET_KEY),
        ("a secret", SASL_USER.1),
        ("a record's content", RECORD_MARKER),
        ("of a panic", "panicked at"),
    ];
    for line in text.lines() {
        for (kind, part) in forbidden {
            if line.contains(part) {
                bail!("{what} tells {kind}: {line}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_records_and_panics_are_heard() {
        assert!(ensure_discreet("a log", "committed\nassigned").is_ok());
        for part in [
            "key tidewater-secret given",
            "\"password\":\"alice-secret\"",
            "no number: buyer~amelie.groß-1",
            "thread 'x' panicked at src/y.rs:1:1",
        ] {
            let said = format!("committed\n{part}\nassigned");
            assert!(ensure_discreet("a log", &said).is_err(), "{part}");
        }
    }
}
