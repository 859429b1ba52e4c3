//! Names that Avro allows: letters of ASCII, digits and underscores, no digit first.

use std::collections::BTreeSet;
use std::fmt::Write;

/// As the reference implementation spells what Avro does not allow, UTF-16 unit by unit: `2fa` is `_2fa`, `created-at`
/// is `created_x2Dat`. Letters of other alphabets, which it leaves as they are, are spelt out here as well: readers that
/// take Avro by the letter refuse them.
fn legal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (at, unit) in name.encode_utf16().enumerate() {
        match char::from_u32(u32::from(unit)) {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => text.push(c),
            Some(c) if c.is_ascii_digit() => {
                if at == 0 {
                    text.push('_');
                }
                text.push(c);
            }
            _ => {
                // Writing into a string does not fail.
                let _ = write!(text, "_x{unit:X}");
            }
        }
    }
    if text.is_empty() {
        text.push('_');
    }
    text
}

/// Hands out names that are legal and not given out before.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: BTreeSet<String>,
}

impl Names {
    /// `name` as Avro takes it; with `id` at its end where another one is spelt alike.
    pub(super) fn take(&mut self, name: &str, id: i32) -> String {
        let mut legal = legal(name);
        while !self.given.insert(legal.clone()) {
            // An id is given out once, so this ends after as many names as there are fields.
            let _ = write!(legal, "_{id}");
        }
        legal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_avro_does_not_allow_are_spelt_as_the_reference_implementation_does() {
        for (name, spelt) in [
            ("country", "country"),
            ("_a1", "_a1"),
            ("2fa", "_2fa"),
            ("created-at", "created_x2Dat"),
            ("@timestamp_day", "_x40timestamp_day"),
            ("a.b c", "a_x2Eb_x20c"),
            ("país", "pa_xEDs"),
            ("☃", "_x2603"),
            ("😎", "_xD83D_xDE0E"),
            ("", "_"),
        ] {
            assert_eq!(legal(name), spelt);
        }
    }

    #[test]
    fn two_names_that_are_spelt_alike_stay_two() {
        let mut names = Names::default();
        assert_eq!(names.take("a-b", 1000), "a_x2Db");
        assert_eq!(names.take("a_x2Db", 1001), "a_x2Db_1001");
        assert_eq!(names.take("a_x2Db_1001", 1002), "a_x2Db_1001_1002");
    }
}
