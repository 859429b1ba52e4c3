//! Directory names as Hive writes them. Pure.

use std::fmt::Write;

/// The directory of null and of the empty string.
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Hive's own list (and NUL, which no object key may hold).
fn is_escaped(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x1f'
            | '\x7f'
            | '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '['
            | ']'
            | '^'
    )
}

/// Appends `text` with every unsafe character as `%XX`.
pub fn escape(text: &str, path: &mut String) {
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{:02X}", u32::from(c));
        } else {
            path.push(c);
        }
    }
}

/// One directory, or several for an unlabelled text with slashes; and the value as a catalog wants it.
pub(super) fn directory(label: Option<&str>, value: Option<&str>) -> (String, String) {
    let value = match value {
        None | Some("") => DEFAULT_PARTITION,
        Some(value) => value,
    };
    let mut path = String::with_capacity(label.map_or(0, str::len) + value.len() + 1);
    match label {
        Some(label) => {
            escape(label, &mut path);
            path.push('=');
            escape(value, &mut path);
        }
        None => {
            for (n, piece) in value.split('/').enumerate() {
                if n > 0 {
                    path.push('/');
                }
                escape(piece, &mut path);
            }
        }
    }
    (path, value.to_owned())
}
