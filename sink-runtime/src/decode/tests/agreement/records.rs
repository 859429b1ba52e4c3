//! Records for the decoders to agree on: of every type, mostly following a few shapes, and now and then broken.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::schema::{Encoding, Field, Type};

/// A column of every type; nested ones of all of them. `required`: the first.
pub(super) fn fields(required: bool) -> Vec<Field> {
    let mut fields = vec![Field {
        required,
        ..Field::optional("id", Type::Long)
    }];
    fields.extend(scalars());
    let list = |element: Field| Type::List(Box::new(element));
    let map = |value: Field| Type::Map(Box::new(value));
    fields.extend([
        Field::optional("point", point()),
        Field::optional("points", list(Field::optional("element", point()))),
        Field::optional("wide", Type::Struct(scalars())),
        Field::optional("tags", list(Field::optional("element", Type::String))),
        Field::optional("ratios", list(Field::required("element", Type::Float))),
        Field::optional(
            "grid",
            list(Field::optional(
                "element",
                list(Field::optional("element", Type::Int)),
            )),
        ),
        Field::optional("map", map(Field::optional("value", Type::Int))),
        Field::optional("places", map(Field::required("value", point()))),
    ]);
    fields
}

fn scalars() -> Vec<Field> {
    let encoded = |name: &str, ty: Type, encoding: Encoding| Field {
        encoding: Some(encoding),
        ..Field::optional(name, ty)
    };
    let price = Type::Decimal {
        precision: 12,
        scale: 2,
    };
    vec![
        Field::optional("name", Type::String),
        Field::optional("amount", Type::Double),
        Field::optional("price", price),
        Field::optional("ok", Type::Boolean),
        Field::optional("at", Type::Timestamptz),
        Field::optional("local", Type::Timestamp),
        encoded("since", Type::Timestamptz, Encoding::EpochMicros),
        encoded("when", Type::Timestamptz, Encoding::Iso8601),
        Field::optional("ratio", Type::Float),
        Field::optional("day", Type::Date),
        encoded("days", Type::Date, Encoding::EpochDays),
        Field::optional("clock", Type::Time),
        encoded("nanos", Type::Time, Encoding::EpochNanos),
        Field::optional("uuid", Type::Uuid),
        encoded("blob", Type::Binary, Encoding::Hex),
        Field::optional("base", Type::Binary),
        encoded("bytes", Type::Binary, Encoding::Utf8),
        Field::optional(LONG_NAME, Type::Int),
    ]
}

fn point() -> Type {
    Type::Struct(vec![
        Field::required("x", Type::Long),
        Field::optional("y", Type::String),
        Field::optional(
            "z",
            Type::Struct(vec![
                Field::optional("day", Type::Date),
                Field::optional("uuid", Type::Uuid),
            ]),
        ),
    ])
}

pub(super) const LONG_NAME: &str = "a longer name than two words of eight bytes";

const KEYS: [&str; 31] = [
    "id",
    "name",
    "amount",
    "price",
    "ok",
    "at",
    "local",
    "since",
    "when",
    "ratio",
    "day",
    "days",
    "clock",
    "nanos",
    "uuid",
    "blob",
    "base",
    "bytes",
    "point",
    "points",
    "wide",
    "tags",
    "ratios",
    "grid",
    "map",
    "places",
    LONG_NAME,
    "unknown",
    "na\\u006de",
    "",
    "ключ",
];

const NUMBERS: [&str; 45] = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "7",
    "-12",
    "12345678",
    "123456789",
    "16777217",
    "33554433.5",
    "2147483648",
    "1760000000000",
    "253402300799999",
    "253402300800000",
    "-62167219200001",
    "2932897",
    "-719528",
    "86399999",
    "86400000",
    "123456789012345678",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "0.5",
    "817.31",
    "-0.01",
    "817.310",
    "1.005",
    "3.141592653589793238",
    "1e3",
    "1E-2",
    "1.5e+2",
    "2e0",
    "1e400",
    "-1e400",
    "1e-400",
    "5e-324",
    "9007199254740993",
    "9007199254740993.0",
    "0.000000000000000001",
    "12345678.12345678",
];

const STRINGS: [&str; 45] = [
    "",
    "a",
    "katya.horvat-07475",
    "exactly8",
    "exactly sixteen.",
    "żółć 🦆 żółć 🦆",
    "tab\\tnewline\\n",
    "\\\"quoted\\\"",
    "\\u00e9\\ud83e\\udd86",
    "\\u0000",
    "\\ud83e",
    "\\udd86",
    "\\x",
    "2025-10-09T08:53:20.000Z",
    "2025-10-09T08:53:20Z",
    "2025-10-09T10:53:20.123456789+02:00",
    "2025-02-30T00:00:00Z",
    "2025-10-09T08:53:20.1234567890Z",
    "2016-12-31T23:59:60Z",
    "9999-12-31T23:59:59-01:00",
    "0000-01-01T00:00:00Z",
    "1970-01-01t00:00:00z",
    "2025-10-09",
    "2024-02-29",
    "2025-02-29",
    "2025-10-09Z",
    "08:53:20",
    "08:53",
    "08:53:20.123456789",
    "08:53:20.",
    "23:59:60",
    "24:00:00",
    "deadbeef",
    "DEADBEE",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "67E55044-10B1-426F-9247-BB680E5FE0C8",
    "67e5504410b1426f9247bb680e5fe0c8",
    "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
    "67e55044-10b1-426f-9247-bb680e5fe0cg",
    "67e5504-410b1-426f-9247-bb680e5fe0c8",
    "3q2+7w==",
    "3q2-7w",
    "3q2+7x==",
    "817.31",
    "\u{1}",
];

const BROKEN: [&str; 15] = [
    "01", "1.", ".5", "-", "+1", "1e", "tru", "nul", "NaN", "'a'", "\"open", "\u{a0}", "[1,", "{",
    "[1 2]",
];

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        2 => Just("null".to_owned()),
        2 => select(vec!["true".to_owned(), "false".to_owned()]),
        6 => select(NUMBERS.to_vec()).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        2 => any::<f64>()
            .prop_filter("JSON has no such numbers", |n| n.is_finite())
            .prop_map(|n| format!("{n:?}")),
        2 => (0u64..1_000_000, 0usize..6).prop_map(|(n, digits)| format!("{n}.{n:0digits$}")),
        6 => select(STRINGS.to_vec()).prop_map(|s| format!("\"{s}\"")),
        1 => (0usize..300).prop_map(|n| format!("\"{}\"", "x".repeat(n))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let keys = select(vec!["x", "y", "z", "day", "k"]);
        prop_oneof![
            list(vec(inner.clone(), 0..3)),
            (vec((keys, inner), 0..3), space())
                .prop_map(|(members, space)| object(&members, &space)),
        ]
    })
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(""),
        1 => Just(" "),
        1 => Just("\r\n\t"),
    ]
    .prop_map(str::to_owned)
}

fn list(items: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = String> {
    (items, space())
        .prop_map(|(items, space)| format!("[{space}{}]", items.join(&format!("{space},{space}"))))
}

fn object(members: &[(&str, String)], space: &str) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{space}\"{key}\":{space}{value}{space}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The members in this order, each with a fitting value most of the time.
fn shape(keys: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let members: Vec<_> = keys
        .iter()
        .map(|key| {
            let key = *key;
            prop_oneof![40 => fitting(key), 1 => value(), 1 => Just("null".to_owned())]
                .prop_map(move |value| (key, value))
        })
        .collect();
    (members, space()).prop_map(|(members, space)| object(&members, &space))
}

/// A value that fits the column, most of the time.
fn fitting(key: &'static str) -> BoxedStrategy<String> {
    let number = || select(NUMBERS.to_vec()).prop_map(str::to_owned);
    let string = || select(STRINGS.to_vec()).prop_map(|s| format!("\"{s}\""));
    let texts = |texts: &[&'static str]| {
        let texts: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        select(texts)
    };
    let date = || {
        (1900..2100_i32, 1..13_u8, 1..29_u8).prop_map(|(y, m, d)| format!("\"{y}-{m:02}-{d:02}\""))
    };
    let uuid = || any::<u128>().prop_map(|n| format!("\"{}\"", uuid::Uuid::from_u128(n)));
    let instant = || {
        texts(&[
            "2025-10-09T08:53:20.000Z",
            "2025-10-10T08:53:20",
            "2025-10-10T08:53:20.5+02:00",
        ])
    };
    match key {
        "id" | "x" => any::<i64>().prop_map(|n| n.to_string()).boxed(),
        "name" | "y" | "bytes" => string().boxed(),
        "amount" | "ratio" => prop_oneof![
            number(),
            any::<f32>()
                .prop_filter("JSON has no such numbers", |n| n.is_finite())
                .prop_map(|n| format!("{n:?}")),
            (any::<u32>(), any::<u16>()).prop_map(|(whole, rest)| format!("{whole}.{rest}")),
        ]
        .boxed(),
        "price" => (0..99_999_999_i64, any::<bool>())
            .prop_map(|(n, quoted)| {
                let quote = if quoted { "\"" } else { "" };
                format!("{quote}{}.{:02}{quote}", n / 100, n % 100)
            })
            .boxed(),
        "ok" => select(vec!["true", "false"])
            .prop_map(str::to_owned)
            .boxed(),
        "at" | "local" => prop_oneof![
            (0..4_000_000_000_000_i64).prop_map(|n| n.to_string()),
            instant(),
        ]
        .boxed(),
        "since" => (0..4_000_000_000_000_000_i64)
            .prop_map(|n| n.to_string())
            .boxed(),
        "when" => instant().boxed(),
        "day" => prop_oneof![
            date(),
            (-800_000..3_000_000_i32).prop_map(|n| n.to_string())
        ]
        .boxed(),
        "days" => (-800_000..3_000_000_i32)
            .prop_map(|n| n.to_string())
            .boxed(),
        "clock" => prop_oneof![
            texts(&["08:53:20", "08:53", "23:59:59.999999999", "00:00:00.1"]),
            (0..90_000_000_i32).prop_map(|n| n.to_string()),
        ]
        .boxed(),
        "nanos" => (0..90_000_000_000_000_i64)
            .prop_map(|n| n.to_string())
            .boxed(),
        "uuid" => uuid().boxed(),
        "blob" => texts(&["00ff", "DEADbeef", ""]).boxed(),
        "base" => texts(&["3q2+7w==", "3q2+7w", "AAAA", ""]).boxed(),
        LONG_NAME => (-3_000_000_000..3_000_000_000_i64)
            .prop_map(|n| n.to_string())
            .boxed(),
        "z" => prop_oneof![4 => shape(&["day", "uuid"]), 1 => shape(&["uuid", "k"])].boxed(),
        "point" => points().boxed(),
        "points" => list(vec(points(), 0..4)).boxed(),
        "wide" => prop_oneof![
            4 => shape(&["name", "price", "day", "clock", "uuid", "base"]),
            2 => shape(&["since", "ratio", "blob", "when", "bytes", LONG_NAME]),
            1 => shape(&["day", "day"]),
        ]
        .boxed(),
        "tags" => list(vec(string(), 0..4)).boxed(),
        "ratios" => list(vec(number(), 0..4)).boxed(),
        "grid" => {
            let row = list(vec((-99..99_i32).prop_map(|n| n.to_string()), 0..3));
            list(vec(row, 0..3)).boxed()
        }
        "map" => entries((0..99_i32).prop_map(|n| n.to_string()).boxed()),
        "places" => entries(points().boxed()),
        _ => value().boxed(),
    }
}

fn points() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => shape(&["x", "y", "z"]),
        4 => shape(&["x", "y"]),
        1 => shape(&["y", "x"]),
        1 => shape(&["x", "k", "z"]),
        1 => shape(&["y", "z"]),
        1 => Just("null".to_owned()),
    ]
}

/// Of a map; now and then with a key twice.
fn entries(value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let keys = select(vec!["a", "b", "c", "d", "e", "żółć", "f\\u0067", "h", "i"]);
    (vec((keys, value), 0..4), space())
        .prop_map(|(members, space)| object(&members, &space))
        .boxed()
}

fn member() -> impl Strategy<Value = (&'static str, String)> {
    select(KEYS.to_vec()).prop_flat_map(|key| {
        prop_oneof![8 => fitting(key), 1 => value(), 1 => select(BROKEN.to_vec()).prop_map(str::to_owned)]
            .prop_map(move |value| (key, value))
    })
}

/// Records that mostly follow one of a few shapes.
fn shaped() -> impl Strategy<Value = String> {
    select(vec![
        vec!["id", "name", "amount", "at"],
        vec!["id", "at", "name", "amount"],
        vec!["id", "price", "ok", "point", "map"],
        vec!["id", "unknown", "points", "blob"],
        vec!["id", LONG_NAME, "name"],
        vec!["id", "uuid", "day", "clock", "base", "wide", "tags"],
        vec![
            "id", "ratio", "days", "nanos", "local", "since", "when", "bytes",
        ],
        vec!["id", "ratios", "grid", "places", "point"],
    ])
    .prop_flat_map(|keys| shape(&keys))
}

pub(super) fn record() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        8 => shaped(),
        4 => (vec(member(), 0..8), space()).prop_map(|(members, space)| object(&members, &space)),
        1 => value(),
    ];
    let change = prop_oneof![
        12 => Just(None),
        1 => (any::<Index>(), any::<u8>(), 0u8..4).prop_map(Some),
    ];
    (text, change).prop_map(|(text, change)| {
        let mut bytes = text.into_bytes();
        if let Some((index, byte, how)) = change {
            let at = index.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.extend_from_slice(b" \n"),
            }
        }
        bytes
    })
}
