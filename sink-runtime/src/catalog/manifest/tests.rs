#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use iceberg::spec::{
    DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, NestedField, Struct, Transform, Type,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const SNAPSHOT: i64 = 77;

/// A table of these columns, partitioned by each of them as it is.
fn table(columns: &[(&str, PrimitiveType)]) -> (Schema, PartitionSpec) {
    let fields = columns.iter().zip(1..).map(|((name, ty), id)| {
        NestedField::optional(id, *name, Type::Primitive(ty.clone())).into()
    });
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let mut spec = PartitionSpec::builder(schema.clone()).with_spec_id(3);
    for (name, _) in columns {
        spec = spec
            .add_partition_field(name, *name, Transform::Identity)
            .unwrap();
    }
    let spec = spec.build().unwrap();
    (schema, spec)
}

fn file(name: &str, tuple: Vec<Option<Literal>>, rows: u64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(name.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter(tuple))
        .partition_spec_id(3)
        .record_count(rows)
        .file_size_in_bytes(1000 + rows)
        .column_sizes([(1, 11), (2, 22)].into())
        .value_counts([(1, rows)].into())
        .null_value_counts([(1, 3)].into())
        .lower_bounds([(1, Datum::long(-5)), (2, Datum::string("a"))].into())
        .upper_bounds([(1, Datum::long(9)), (2, Datum::string("zz"))].into())
        .split_offsets(Some(vec![4, 900]))
        .sort_order_id(2)
        .build()
        .unwrap()
}

fn write(form: &Form<'_>, entries: &[Entry]) -> (Vec<u8>, ManifestFile) {
    let mut writer = Writer::new(form).unwrap();
    for entry in entries {
        writer.add(entry).unwrap();
    }
    writer.finish("m.avro".to_owned(), SNAPSHOT).unwrap()
}

fn read(bytes: &[u8], form: &Form<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let manifest = Manifest::open(bytes).unwrap();
    manifest
        .entries(Some(form), |entry| {
            entries.push(entry);
            Ok::<_, ManifestError>(())
        })
        .unwrap();
    entries
}

/// The schema in the file's header.
fn avro_schema(bytes: &[u8]) -> Json {
    let key = b"avro.schema";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    let text = &bytes[at..];
    let open = text.iter().position(|b| *b == b'{').unwrap();
    let json = serde_json::Deserializer::from_slice(&text[open..]).into_iter::<Json>();
    json.into_iter().next().unwrap().unwrap()
}

/// Fields of the partition's record: name, name of its type, Iceberg's name.
fn partition_names(bytes: &[u8]) -> Vec<(String, Json, Json)> {
    let schema = avro_schema(bytes);
    let by_id = |fields: &Json, id: i32| {
        let found = fields.as_array().unwrap().iter();
        found.clone().find(|f| f["field-id"] == id).unwrap().clone()
    };
    let file = by_id(&schema["fields"], 2);
    let tuple = by_id(&file["type"]["fields"], 102);
    let fields = tuple["type"]["fields"].as_array().unwrap();
    fields
        .iter()
        .map(|f| {
            let name = f["name"].as_str().unwrap().to_owned();
            (
                name,
                f["type"][1]["name"].clone(),
                f["iceberg-field-name"].clone(),
            )
        })
        .collect()
}

/// Every type by which rows may be partitioned, with two values that name their column.
fn every_type() -> Vec<(&'static str, PrimitiveType, Literal, Literal)> {
    use PrimitiveType as P;
    let decimal = |precision| P::Decimal {
        precision,
        scale: 2,
    };
    let uuid = |n: u128| Literal::uuid(uuid::Uuid::from_u128(n));
    vec![
        ("a", P::Boolean, Literal::bool(false), Literal::bool(true)),
        ("b", P::Int, Literal::int(-7), Literal::int(1_000_000)),
        ("c", P::Long, Literal::long(i64::MIN), Literal::long(8)),
        ("d", P::Float, Literal::float(-1.5), Literal::float(2.25)),
        (
            "e",
            P::Double,
            Literal::double(-3.5),
            Literal::double(1e300),
        ),
        (
            "f",
            decimal(4),
            Literal::decimal(-129),
            Literal::decimal(128),
        ),
        (
            "g",
            decimal(38),
            Literal::decimal(-1),
            Literal::decimal(10_i128.pow(37)),
        ),
        ("h", P::Date, Literal::date(-1), Literal::date(20_000)),
        (
            "i",
            P::Time,
            Literal::time(0),
            Literal::time(86_399_999_999),
        ),
        (
            "j",
            P::Timestamp,
            Literal::timestamp(-1),
            Literal::timestamp(5),
        ),
        (
            "k",
            P::Timestamptz,
            Literal::timestamptz(6),
            Literal::timestamptz(7),
        ),
        ("l", P::TimestampNs, Literal::long(8), Literal::long(9)),
        ("m", P::TimestamptzNs, Literal::long(10), Literal::long(11)),
        ("n", P::String, Literal::string(""), Literal::string("é☃")),
        ("o", P::Uuid, uuid(5), uuid(1 << 126)),
        (
            "p",
            P::Fixed(3),
            Literal::fixed(*b"\0\0\0"),
            Literal::fixed(*b"\xff\0\x01"),
        ),
        (
            "q",
            P::Binary,
            Literal::binary(vec![]),
            Literal::binary(vec![0xff, 0]),
        ),
        // Of the same types once more.
        ("r", decimal(4), Literal::decimal(1), Literal::decimal(2)),
        ("s", P::Uuid, uuid(1), uuid(2)),
        (
            "t",
            P::Fixed(3),
            Literal::fixed(*b"abc"),
            Literal::fixed(*b"abd"),
        ),
    ]
}

#[test]
fn values_of_every_partition_type_come_back_as_they_were() {
    let types = every_type();
    let columns: Vec<_> = types.iter().map(|(n, ty, ..)| (*n, ty.clone())).collect();
    let (schema, spec) = table(&columns);
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let form = Form::new(version, &schema, &spec).unwrap();
        let low = types
            .iter()
            .map(|(_, _, low, _)| Some(low.clone()))
            .collect();
        let high = types.iter().map(|(.., high)| Some(high.clone())).collect();
        let none = types.iter().map(|_| None).collect();
        let files = [file("l", low, 5), file("h", high, 6), file("n", none, 7)];
        let entries = files.map(|f| Entry::added(&f, SNAPSHOT).unwrap());
        let (bytes, listed) = write(&form, &entries);
        assert_eq!(read(&bytes, &form), entries);
        assert_eq!(listed.manifest_length, i64::try_from(bytes.len()).unwrap());
        assert_eq!(
            (listed.added_files_count, listed.added_rows_count),
            (Some(3), Some(18))
        );
        for (summary, (name, ty, low, high)) in listed.partitions.unwrap().iter().zip(&types) {
            let bound = |bytes: &Option<_>| {
                let bytes: &iceberg::spec::ByteBuf = bytes.as_ref().unwrap();
                Literal::from(Datum::try_from_bytes(bytes, ty.clone()).unwrap())
            };
            assert!(summary.contains_null, "{name}");
            assert_eq!(bound(&summary.lower_bound), *low, "{name}");
            assert_eq!(bound(&summary.upper_bound), *high, "{name}");
        }
    }
}

#[test]
fn no_named_type_is_defined_twice() {
    let types = every_type();
    let columns: Vec<_> = types.iter().map(|(n, ty, ..)| (*n, ty.clone())).collect();
    let (schema, spec) = table(&columns);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let (bytes, _) = write(&form, &[]);
    let text = avro_schema(&bytes).to_string();
    let names: Vec<&str> = text
        .split(r#""name":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| {
            ["decimal", "uuid", "fixed"]
                .iter()
                .any(|k| name.starts_with(k))
        })
        .collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (7, 7), "{names:?}");
}

#[test]
fn names_that_avro_does_not_allow_are_spelt_out_in_manifests_and_kept_beside() {
    let (schema, spec) = table(&[
        ("@timestamp", PrimitiveType::Date),
        ("created-at", PrimitiveType::Uuid),
        ("2fa", PrimitiveType::Boolean),
        ("país", PrimitiveType::String),
        ("plain", PrimitiveType::Uuid),
    ]);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let values = vec![
        Some(Literal::date(3)),
        Some(Literal::uuid(uuid::Uuid::from_u128(9))),
        Some(Literal::bool(true)),
        Some(Literal::string("PE")),
        None,
    ];
    let entry = Entry::added(&file("f", values, 1), SNAPSHOT).unwrap();
    let (bytes, _) = write(&form, std::slice::from_ref(&entry));
    let name = |n: &str, ty: Json, real: Json| (n.to_owned(), ty, real);
    assert_eq!(
        partition_names(&bytes),
        [
            name("_x40timestamp", Json::Null, json!("@timestamp")),
            name("created_x2Dat", json!("uuid_fixed"), json!("created-at")),
            name("_2fa", Json::Null, json!("2fa")),
            name("pa_xEDs", Json::Null, json!("país")),
            name("plain", json!("uuid_fixed_1004"), Json::Null),
        ]
    );
    assert_eq!(read(&bytes, &form), [entry]);
    // The spec beside it keeps the real names.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(
        text.contains(r#""name":"created-at","transform":"identity""#),
        "{text}"
    );
}

#[test]
fn values_from_before_a_column_was_widened_stand_beside_those_from_after() {
    let columns = [("n", PrimitiveType::Long), ("d", PrimitiveType::Double)];
    let (schema, spec) = table(&columns);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let mut writer = Writer::new(&form).unwrap();
    let before = vec![Some(Literal::int(-7)), Some(Literal::float(1.5))];
    let after = vec![
        Some(Literal::long(3_000_000_000_i64)),
        Some(Literal::double(2.5)),
    ];
    for (name, tuple) in [("before", before), ("after", after)] {
        let entry = Entry::added(&file(name, tuple, 1), SNAPSHOT).unwrap();
        writer.add(&writer.widened(entry)).unwrap();
    }
    let (bytes, _) = writer.finish("m".into(), SNAPSHOT).unwrap();
    let tuples: Vec<_> = read(&bytes, &form)
        .into_iter()
        .map(|entry| entry.partition)
        .collect();
    assert_eq!(
        tuples,
        [
            [
                Some(PrimitiveLiteral::Long(-7)),
                Some(PrimitiveLiteral::Double(1.5.into())),
            ],
            [
                Some(PrimitiveLiteral::Long(3_000_000_000)),
                Some(PrimitiveLiteral::Double(2.5.into())),
            ],
        ]
    );
}

#[test]
fn a_value_that_its_type_does_not_hold_is_named_and_nothing_of_it_is_written() {
    let decimal = PrimitiveType::Decimal {
        precision: 2,
        scale: 0,
    };
    let (schema, spec) = table(&[("a", decimal), ("b", PrimitiveType::Fixed(2))]);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let mut writer = Writer::new(&form).unwrap();
    for (tuple, wanted) in [
        (
            vec![Some(Literal::decimal(128)), None],
            "partition field \"a\" is of type decimal(2, 0), and the value of \"f\" is not",
        ),
        (
            vec![None, Some(Literal::fixed(*b"abc"))],
            "partition field \"b\" is of type fixed(2), and the value of \"f\" is not",
        ),
        (
            vec![Some(Literal::int(1)), None],
            "partition field \"a\" is of type decimal(2, 0), and the value of \"f\" is not",
        ),
        (
            vec![None],
            "\"f\" has 1 partition values, and the spec 2 fields",
        ),
    ] {
        let entry = Entry::added(&file("f", tuple, 1), SNAPSHOT).unwrap();
        assert_eq!(writer.add(&entry).unwrap_err().to_string(), wanted);
    }
    let (bytes, listed) = writer.finish("m".into(), SNAPSHOT).unwrap();
    assert_eq!(
        (read(&bytes, &form), listed.added_files_count),
        (vec![], Some(0))
    );
}

#[test]
fn what_the_crate_writes_is_read_and_what_is_written_here_the_crate_reads() {
    let (schema, spec) = table(&[("n", PrimitiveType::Long), ("s", PrimitiveType::String)]);
    let schema = std::sync::Arc::new(schema);
    let files: Vec<_> = (0..500)
        .map(|n: i64| {
            let tuple = vec![
                Some(Literal::long(n - 9)),
                Some(Literal::string(format!("s{n}"))),
            ];
            file(&format!("f{n}"), tuple, n.cast_unsigned() + 1)
        })
        .collect();
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let io = iceberg::io::FileIO::new_with_memory();
        let builder = iceberg::spec::ManifestWriterBuilder::new(
            io.new_output("memory:///theirs.avro").unwrap(),
            Some(SNAPSHOT),
            schema.clone(),
            spec.clone(),
        );
        let mut theirs = match version {
            FormatVersion::V1 => builder.build_v1(),
            FormatVersion::V2 => builder.build_v2_data(),
            FormatVersion::V3 => builder.build_v3_data(),
        };
        for file in &files {
            theirs.add_file(file.clone(), -1).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bytes = runtime.block_on(async {
            theirs.write_manifest_file().await.unwrap();
            let input = io.new_input("memory:///theirs.avro").unwrap();
            input.read().await.unwrap()
        });
        let form = Form::new(version, &schema, &spec).unwrap();
        let entries: Vec<_> = files
            .iter()
            .map(|f| Entry::added(f, SNAPSHOT).unwrap())
            .collect();
        let read_back = read(&bytes, &form);
        assert!(Manifest::open(&bytes).unwrap().is_known_whole(&form));
        for (found, wanted) in read_back.iter().zip(&entries) {
            // The crate writes empty maps where there is nothing.
            let mut found = found.clone();
            for map in &mut found.counts {
                *map = map.take().filter(|entries| !entries.is_empty());
                if let Some(entries) = map {
                    entries.sort_unstable();
                }
            }
            for entries in found.bounds.iter_mut().flatten() {
                entries.sort_unstable();
            }
            assert_eq!(found, *wanted);
        }
        assert_eq!(read_back.len(), entries.len());

        let (ours, _) = write(&form, &entries);
        assert!(
            ours.len() < bytes.len() / 2,
            "{} of {}",
            ours.len(),
            bytes.len()
        );
        let parsed = iceberg::spec::Manifest::parse_avro(&ours).unwrap();
        let parsed: Vec<_> = parsed
            .entries()
            .iter()
            .map(|e| e.data_file().clone())
            .collect();
        assert_eq!(parsed, files);
    }
}

#[test]
fn a_manifest_with_fields_that_would_be_lost_is_told_from_one_without() {
    let (schema, spec) = table(&[("n", PrimitiveType::Long)]);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let (bytes, _) = write(&form, &[]);
    assert!(Manifest::open(&bytes).unwrap().is_known_whole(&form));
    // An entry of another spec, and a map of the same length as one that is known.
    for (from, to) in [
        (&br#""field-id":1000"#[..], &br#""field-id":1001"#[..]),
        (br#""field-id":137"#, br#""field-id":111"#),
    ] {
        let mut other = bytes.clone();
        let mut found = 0;
        for at in 0..other.len() - from.len() {
            if other[at..].starts_with(from) {
                other[at..at + to.len()].copy_from_slice(to);
                found += 1;
            }
        }
        assert!(found > 0);
        assert!(!Manifest::open(&other).unwrap().is_known_whole(&form));
    }
}

#[test]
fn bounds_of_uuids_that_java_orders_otherwise_are_left_out() {
    let (schema, spec) = table(&[("a", PrimitiveType::Uuid), ("b", PrimitiveType::Uuid)]);
    let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
    let uuid = |n: u128| uuid::Uuid::from_u128(n);
    let top = 1 << 127;
    for (low, high, hold) in [
        (5, 6, true),
        (top + 1, u128::MAX, true),
        (5, top, false),
        (1 << 63, (1 << 64) + 1, true),
        (1, 1 << 63, false),
    ] {
        let with = |n| vec![Some(Literal::uuid(uuid(n))), Some(Literal::uuid(uuid(7)))];
        let entry = |n| Entry::added(&file("f", with(n), 1), SNAPSHOT).unwrap();
        let (_, listed) = write(&form, &[entry(low), entry(high)]);
        assert_eq!(listed.partitions.is_some(), hold, "{low:x} to {high:x}");

        let columns = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path("f".to_owned())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter(with(low)))
            .record_count(2)
            .file_size_in_bytes(9)
            .lower_bounds([(1, Datum::uuid(uuid(low))), (2, Datum::uuid(uuid(7)))].into())
            .upper_bounds([(1, Datum::uuid(uuid(high))), (2, Datum::uuid(uuid(7)))].into())
            .build()
            .unwrap();
        let entry = Entry::added(&columns, SNAPSHOT).unwrap();
        for bounds in entry.bounds {
            let bounded: Vec<_> = bounds.unwrap().iter().map(|bound| bound.0).collect();
            assert_eq!(bounded, if hold { vec![1, 2] } else { vec![2] });
        }
    }
}

proptest! {
    #[test]
    fn bytes_that_are_no_manifest_are_refused_without_harm(
        cut in 0usize..2000, at in 0usize..2000, with in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (schema, spec) = table(&[("n", PrimitiveType::Long), ("u", PrimitiveType::Uuid)]);
        let form = Form::new(FormatVersion::V3, &schema, &spec).unwrap();
        let tuple = vec![Some(Literal::long(5)), None];
        let entry = Entry::added(&file("f", tuple, 1), SNAPSHOT).unwrap();
        let (bytes, _) = write(&form, &[entry]);
        let mut broken = bytes.clone();
        let at = at % broken.len();
        broken[at] = with;
        broken.truncate(broken.len() - cut % broken.len());
        for bytes in [broken.as_slice(), &noise, &[b"Obj\x01".as_slice(), &noise].concat()] {
            if let Ok(manifest) = Manifest::open(bytes) {
                let _ = manifest.entries(Some(&form), |_| Ok::<_, ManifestError>(()));
            }
        }
    }

    #[test]
    fn decimals_of_any_size_are_written_in_their_width(
        precision in 1u32..=38, digits in any::<i128>(),
    ) {
        let value = digits % 10i128.pow(precision);
        let (schema, spec) = table(&[("d", PrimitiveType::Decimal { precision, scale: 0 })]);
        let form = Form::new(FormatVersion::V2, &schema, &spec).unwrap();
        let entry = Entry::added(&file("f", vec![Some(Literal::decimal(value))], 1), SNAPSHOT).unwrap();
        let (bytes, listed) = write(&form, std::slice::from_ref(&entry));
        prop_assert_eq!(read(&bytes, &form), [entry]);
        let bound = listed.partitions.unwrap()[0].lower_bound.clone().unwrap();
        let mut wide = if bound[0] & 0x80 == 0 { [0; 16] } else { [0xff; 16] };
        wide[16 - bound.len()..].copy_from_slice(&bound);
        prop_assert_eq!(i128::from_be_bytes(wide), value);
        let fewest = (1..16).find(|n| value.unsigned_abs().leading_zeros() as usize > 128 - n * 8);
        prop_assert!(bound.len() <= fewest.unwrap_or(16), "{:?}", bound);
    }
}
