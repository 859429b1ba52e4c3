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

/// The text that [`escape`] made this of; `None` for a `%` without two digits behind it, or bytes that are no text.
pub fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digits = after
            .get(..2)
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_escaped_is_read_back(text in "\\PC{0,40}|[%/=:a-c\u{0}-\u{20}]{0,20}") {
            let mut name = String::new();
            escape(&text, &mut name);
            prop_assert!(!name.contains(['/', '=']));
            prop_assert_eq!(unescape(&name), Some(text));
        }
    }

    #[test]
    fn a_name_that_was_not_escaped_is_not_read() {
        for name in ["100%", "%4", "%+1", "%zz", "%FF"] {
            assert_eq!(unescape(name), None, "{name}");
        }
    }
}
