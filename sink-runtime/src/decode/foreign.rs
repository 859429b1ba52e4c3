//! What a value that is no JSON most likely is, and what its producer should do. For messages alone: nothing is decoded
//! by it. Pure.

macro_rules! compressed {
    ($with:literal) => {
        concat!(
            "compressed with ",
            $with,
            " by its producer: write plain JSON, and leave compression to the Kafka client (compression.type)"
        )
    };
}

/// Words for a record that the parser left at `at`; `None` where they would be a guess.
#[cold]
pub(super) fn explain(record: &[u8], at: usize) -> Option<String> {
    whole(record).or_else(|| literal(record, at))
}

/// By how the record begins.
#[cold]
pub(super) fn whole(record: &[u8]) -> Option<String> {
    let said = match record {
        [0xef, 0xbb, 0xbf, ..] => "begins with a byte-order mark: write UTF-8 without one",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', 0, ..] => {
            "UTF-16: write the text as UTF-8"
        }
        [0, id @ ..] => {
            let id = u32::from_be_bytes(*id.first_chunk()?);
            return Some(format!(
                "begins with the five-byte header of a schema registry's serializer (schema id {id}): write plain JSON, \
                 with a serializer that uses no registry"
            ));
        }
        [0x1f, 0x8b, ..] => compressed!("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed!("zstd"),
        [0x04, 0x22, 0x4d, 0x18, ..] => compressed!("LZ4"),
        _ => return None,
    };
    Some(said.to_owned())
}

/// Words that JavaScript and Python know for numbers, and JSON does not.
fn literal(record: &[u8], at: usize) -> Option<String> {
    let rest = record.get(at..)?;
    let minus = at > 0 && record[at - 1] == b'-';
    let word = match rest {
        [b'N', b'a', b'N', ..] => "NaN",
        [b'I', ..] if rest.starts_with(b"Infinity") && minus => "-Infinity",
        [b'I', ..] if rest.starts_with(b"Infinity") => "Infinity",
        _ => return None,
    };
    Some(format!("{word} is no JSON: write null instead"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_named_for_what_they_are() {
        for (record, words) in [
            (&b"\0\0\0\0\x07{\"id\":1}"[..], "schema registry"),
            (b"\0\0\0\0\x07\x02avro", "schema id 7"),
            (b"\xef\xbb\xbf{}", "byte-order mark"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"{\0\"\0", "UTF-16"),
            (b"\0{\0\"\0a", "UTF-16"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x28\xb5\x2f\xfd\x04", "zstd"),
            (b"\x04\x22\x4d\x18", "LZ4"),
        ] {
            let said = whole(record).unwrap_or_default();
            assert!(said.contains(words), "{record:?}: {said}");
        }
        for record in [&b""[..], b"\0", b"\0\0\0\0", b"{", b"hello", b"\x80abc"] {
            assert_eq!(whole(record), None, "{record:?}");
        }
    }

    #[test]
    fn words_for_numbers_are_named_where_they_stand() {
        for (record, at, word) in [
            ("{\"v\":NaN}", 5, Some("NaN is no JSON")),
            ("{\"v\":Infinity}", 5, Some("Infinity is no JSON")),
            ("{\"v\":-Infinity}", 6, Some("-Infinity is no JSON")),
            ("{\"v\":Nan}", 5, None),
            ("NaN", 3, None),
            ("NaN", 9, None),
        ] {
            let said = literal(record.as_bytes(), at);
            let begins = |word| said.as_ref().is_some_and(|said| said.starts_with(word));
            assert!(word.map_or(said.is_none(), begins), "{record}: {said:?}");
        }
    }
}
