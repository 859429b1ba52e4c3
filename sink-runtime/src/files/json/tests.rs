#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use std::io::Read;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    MapBuilder, StringArray, StringBuilder, Time64MicrosecondArray,
};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::files::Format;
use crate::files::samples::orders;
use crate::plan::OutputFormat;

fn text_of(batch: &RecordBatch, compression: JsonCompression) -> String {
    let format = Format::new(OutputFormat::JsonLines { compression }, 1 << 10);
    let mut file = format.open(batch.schema_ref());
    let mut parts = Vec::new();
    for start in (0..batch.num_rows()).step_by(100) {
        file.write(&batch.slice(start, 100.min(batch.num_rows() - start)))
            .unwrap();
        parts.extend(file.drain());
    }
    let finished = file.finish(Vec::new()).unwrap();
    parts.extend(finished.rest);
    let bytes = parts.concat();
    assert_eq!(finished.size, bytes.len() as u64);
    let mut text = String::new();
    match compression {
        JsonCompression::None => text = String::from_utf8(bytes).unwrap(),
        JsonCompression::Gzip => {
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .unwrap();
        }
        JsonCompression::Zstd { .. } => {
            zstd::stream::read::Decoder::new(&bytes[..])
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
        }
    }
    text
}

#[test]
fn every_compression_holds_the_same_lines() {
    let batch = orders(0, 30_000);
    let plain = text_of(&batch, JsonCompression::None);
    assert_eq!(plain.lines().count(), 30_000);
    assert_eq!(text_of(&batch, JsonCompression::Gzip), plain);
    assert_eq!(text_of(&batch, JsonCompression::Zstd { level: 3 }), plain);
    assert!(
        plain.contains(r#""created_at":"2025-11-21T04:40:00Z""#),
        "{}",
        &plain[..400]
    );
}

#[test]
fn values_are_spelt_as_the_decoder_reads_them() {
    let timestamps = |tz: Option<&str>| -> ArrayRef {
        let values = TimestampMicrosecondArray::from(vec![Some(1_763_715_600_123_456), Some(-1)]);
        match tz {
            Some(tz) => Arc::new(values.with_timezone(tz)),
            None => Arc::new(values),
        }
    };
    let uuid = uuid::Uuid::from_u128(0x0190_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![-5, 12_345_678_901_234_567_890_123])
                    .with_data_type(DataType::Decimal128(30, 3)),
            ),
        ),
        (
            "uuid",
            Arc::new(
                FixedSizeBinaryArray::try_from_iter([uuid.as_bytes(), &[0; 16]].into_iter())
                    .unwrap(),
            ),
        ),
        (
            "binary",
            Arc::new(BinaryArray::from_vec(vec![b"\x00\xff\x01", b""])),
        ),
        ("date", Arc::new(Date32Array::from(vec![20_778, -1]))),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![3_600_000_001, 0])),
        ),
        ("local", timestamps(None)),
        ("instant", timestamps(Some("+00:00"))),
        ("utc", timestamps(Some("UTC"))),
        ("double", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("a\"\n☃"), None])),
        ),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let text = text_of(&batch, JsonCompression::None);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        concat!(
            r#"{"decimal":-0.005,"uuid":"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","binary":"AP8B","#,
            r#""date":"2026-11-21","time":"01:00:00.000001","local":"2025-11-21T09:00:00.123456","#,
            r#""instant":"2025-11-21T09:00:00.123456Z","utc":"2025-11-21T09:00:00.123456Z","#,
            r#""double":0.1,"text":"a\"\n☃"}"#
        )
    );
    assert_eq!(
        lines.next().unwrap(),
        concat!(
            r#"{"decimal":12345678901234567890.123,"uuid":"00000000-0000-0000-0000-000000000000","binary":"","#,
            r#""date":"1969-12-31","time":"00:00:00","local":"1969-12-31T23:59:59.999999","#,
            r#""instant":"1969-12-31T23:59:59.999999Z","utc":"1969-12-31T23:59:59.999999Z","double":null}"#
        )
    );
}

#[test]
fn maps_keep_keys_without_a_value() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let schema = Schema::new(vec![Field::new("m", map.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![map]).unwrap();
    assert_eq!(
        text_of(&batch, JsonCompression::None),
        "{\"m\":{\"k\":null}}\n"
    );
}
