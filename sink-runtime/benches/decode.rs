//! CPU time (not wall time: other work on the machine does not count) of decoding 200-byte orders into nine columns, and
//! wide orders into columns of the other types, nested ones too; `arrow-json` is the control. Time is per batch: the throughput line gives records per second. Linux only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "benchmark"
)]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use arrow::json::ReaderBuilder;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidewater_runtime::decode::{Decoder, decoder, general_decoder};
use tidewater_runtime::plan::{
    DecodePlan, Inference, MetadataColumns, OnConflict, OnError, Tombstones, UnknownFields,
    ValueSchema,
};
use tidewater_runtime::record::{Arena, AssignmentEpoch, RawBatch, TimestampType, TopicPartition};
use tidewater_runtime::schema::{Encoding, Field, Schema, Type};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: usize = 8192;

const CURRENCIES: [&str; 4] = ["SEK", "EUR", "USD", "GBP"];
const STATUSES: [&str; 5] = ["packed", "created", "shipped", "delivered", "cancelled"];
const COUNTRIES: [&str; 4] = ["ES", "SE", "DE", "FR"];
const NAMES: [&str; 5] = [
    "katya.horvat",
    "li.wei",
    "maria.gonzalez",
    "ola.nordmann",
    "j.smith",
];

fn millis(i: usize) -> i64 {
    1_760_000_000_000 + i as i64 * 37
}

/// RFC 3339 with milliseconds, of a day in October 2025.
fn iso(i: usize) -> String {
    let ms = millis(i) - 1_759_968_000_000;
    let (s, ms) = (ms / 1000, ms % 1000);
    let (h, m, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
    format!("2025-10-09T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// In what order a record holds its keys.
#[derive(Clone, Copy)]
enum Shape {
    First,
    Second,
    Random,
}

fn order(out: &mut String, i: usize, shape: Shape) {
    let customer = format!("{}-{:05}", NAMES[i % 5], i * 7919 % 100_000);
    let mut members = [
        format!("\"order_id\":{}", 1_000_000_000 + i),
        format!("\"customer\":\"{customer}\""),
        format!("\"amount\":{}.{:02}", i * 31 % 1999 + 1, i * 17 % 100),
        format!("\"currency\":\"{}\"", CURRENCIES[i % 4]),
        format!("\"status\":\"{}\"", STATUSES[i % 5]),
        format!("\"country\":\"{}\"", COUNTRIES[i / 3 % 4]),
        format!("\"created_at\":{}", millis(i)),
        format!("\"updated_at\":\"{}\"", iso(i)),
        format!("\"quantity\":{}", i % 9 + 1),
    ];
    object(out, i, shape, &mut members);
}

fn object(out: &mut String, i: usize, shape: Shape, members: &mut [String]) {
    match shape {
        Shape::First => {}
        Shape::Second => {
            for pair in members.chunks_mut(2) {
                pair.reverse();
            }
        }
        Shape::Random => {
            for at in (1..members.len()).rev() {
                members.swap(at, scatter(i * 16 + at) % (at + 1));
            }
        }
    }
    write!(out, "{{{}}}", members.join(",")).unwrap();
}

/// Of 300 bytes. Its customer is in the same order of keys as the whole.
fn wide(out: &mut String, i: usize, shape: Shape) {
    let mut customer = String::new();
    let mut members = [
        format!("\"name\":\"{}\"", NAMES[i % 5]),
        format!("\"born\":\"19{:02}-0{}-1{}\"", i % 100, i % 9 + 1, i % 10),
        format!("\"country\":\"{}\"", COUNTRIES[i / 3 % 4]),
        format!("\"points\":{}", i * 13 % 5000),
    ];
    object(&mut customer, i, shape, &mut members);
    let id = (scatter(i) as u128) << 64 | scatter(i + RECORDS) as u128;
    let mut members = [
        format!("\"id\":\"{}\"", uuid::Uuid::from_u128(id)),
        format!("\"day\":\"2025-10-{:02}\"", i / 1000 + 1),
        format!("\"clock\":\"{}\"", &iso(i)[11..23]),
        format!("\"weight\":{}.{:03}", i % 40, i * 7 % 1000),
        format!("\"customer\":{customer}"),
        format!("\"token\":\"{:032x}\"", id.rotate_left(7)),
        format!(
            "\"tags\":[\"{}\",\"{}\"]",
            STATUSES[i % 5],
            CURRENCIES[i % 4]
        ),
        format!("\"parts\":[{},{},{}]", i, i * 3, i % 7),
    ];
    object(out, i, shape, &mut members);
}

/// Without visible pattern.
fn scatter(i: usize) -> usize {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 29)) as usize
}

fn batch(record: fn(&mut String, usize, Shape), shape: impl Fn(usize) -> Shape) -> RawBatch {
    let mut values = Arena::default();
    let mut text = String::new();
    for i in 0..RECORDS {
        text.clear();
        record(&mut text, i, shape(i));
        values.push(Some(text.as_bytes()));
    }
    RawBatch {
        tp: TopicPartition::new("orders", 0),
        epoch: AssignmentEpoch(0),
        values,
        offsets: (0..RECORDS as i64).collect(),
        timestamps: vec![1_760_000_000_000; RECORDS],
        timestamp_type: TimestampType::CreateTime,
        keys: None,
        headers: None,
        leader_epoch: None,
    }
}

fn schema(amount: Type) -> Schema {
    Schema {
        fields: vec![
            Field::required("order_id", Type::Long),
            Field::optional("customer", Type::String),
            Field::optional("amount", amount),
            Field::optional("currency", Type::String),
            Field::optional("status", Type::String),
            Field::optional("country", Type::String),
            Field {
                encoding: Some(Encoding::EpochMillis),
                ..Field::optional("created_at", Type::Timestamptz)
            },
            Field {
                encoding: Some(Encoding::Iso8601),
                ..Field::optional("updated_at", Type::Timestamptz)
            },
            Field::optional("quantity", Type::Int),
        ],
    }
}

fn wide_schema() -> Schema {
    let customer = vec![
        Field::optional("name", Type::String),
        Field::optional("born", Type::Date),
        Field::optional("country", Type::String),
        Field::optional("points", Type::Int),
    ];
    let list = |element| Type::List(Box::new(Field::optional("element", element)));
    Schema {
        fields: vec![
            Field::required("id", Type::Uuid),
            Field::optional("day", Type::Date),
            Field::optional("clock", Type::Time),
            Field::optional("weight", Type::Float),
            Field::optional("customer", Type::Struct(customer)),
            Field {
                encoding: Some(Encoding::Hex),
                ..Field::optional("token", Type::Binary)
            },
            Field::optional("tags", list(Type::String)),
            Field::optional("parts", list(Type::Long)),
        ],
    }
}

fn plan(value: ValueSchema) -> Arc<DecodePlan> {
    Arc::new(DecodePlan {
        value,
        on_error: OnError::Fail,
        tombstones: Tombstones::Skip,
        metadata: MetadataColumns::default(),
    })
}

fn declared(schema: Schema) -> Arc<DecodePlan> {
    plan(ValueSchema::Declared {
        schema,
        unknown: UnknownFields::Ignore,
    })
}

fn order_fields() -> Vec<ArrowField> {
    let timestamp = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
    let fields = [
        ("order_id", DataType::Int64),
        ("customer", DataType::Utf8),
        ("amount", DataType::Decimal128(12, 2)),
        ("currency", DataType::Utf8),
        ("status", DataType::Utf8),
        ("country", DataType::Utf8),
        ("created_at", timestamp(TimeUnit::Millisecond)),
        ("updated_at", timestamp(TimeUnit::Microsecond)),
        ("quantity", DataType::Int32),
    ];
    nullable(fields).collect()
}

/// The identifier stays text: `arrow-json` has no type for it.
fn wide_fields() -> Vec<ArrowField> {
    let customer = [
        ("name", DataType::Utf8),
        ("born", DataType::Date32),
        ("country", DataType::Utf8),
        ("points", DataType::Int32),
    ];
    let list = |element| DataType::new_list(element, true);
    let fields = [
        ("id", DataType::Utf8),
        ("day", DataType::Date32),
        ("clock", DataType::Time64(TimeUnit::Microsecond)),
        ("weight", DataType::Float32),
        ("customer", DataType::Struct(nullable(customer).collect())),
        ("token", DataType::LargeBinary),
        ("tags", list(DataType::Utf8)),
        ("parts", list(DataType::Int64)),
    ];
    nullable(fields).collect()
}

fn nullable<const N: usize>(
    fields: [(&str, DataType); N],
) -> impl Iterator<Item = ArrowField> + use<N> {
    fields
        .map(|(name, ty)| ArrowField::new(name, ty, true))
        .into_iter()
}

fn control(raw: &RawBatch, fields: Vec<ArrowField>) -> usize {
    let mut decoder = ReaderBuilder::new(Arc::new(ArrowSchema::new(fields)))
        .with_batch_size(RECORDS)
        .build_decoder()
        .unwrap();
    let mut rest = raw.values.bytes.as_slice();
    while !rest.is_empty() {
        let taken = decoder.decode(rest).unwrap();
        rest = &rest[taken..];
    }
    decoder.flush().unwrap().unwrap().num_rows()
}

/// Nanoseconds that this thread was on a CPU, as the scheduler counts them.
struct CpuTime;

fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        on_cpu()
    }

    fn end(&self, start: u64) -> u64 {
        on_cpu() - start
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("decode");
    group.sampling_mode(criterion::SamplingMode::Flat);
    group.throughput(Throughput::Elements(RECORDS as u64));
    let steady = |_| Shape::First;
    let alternating = |i| [Shape::First, Shape::Second][i % 2];
    let mixed = |i| [Shape::First, Shape::Second][scatter(i) % 2];
    let random = |_| Shape::Random;
    let decimal = declared(schema(Type::Decimal {
        precision: 12,
        scale: 2,
    }));
    let double = declared(schema(Type::Double));
    let wide_typed = declared(wide_schema());
    let inferred = plan(ValueSchema::Inferred(Inference::new(
        1000,
        OnConflict::String,
    )));
    let mut run = |name: &str, mut decoder: Box<dyn Decoder>, raw: &RawBatch| {
        assert_eq!(decoder.decode(raw).rows.len(), RECORDS);
        group.bench_function(name, |b| b.iter(|| decoder.decode(black_box(raw)).batch));
    };
    let orders = batch(order, steady);
    run("predicting", decoder(&decimal), &orders);
    run("predicting, double", decoder(&double), &orders);
    run("predicting, inferred", decoder(&inferred), &orders);
    run("general", general_decoder(&decimal), &orders);
    run("general, double", general_decoder(&double), &orders);
    let wides = batch(wide, steady);
    run("predicting, wide", decoder(&wide_typed), &wides);
    run("general, wide", general_decoder(&wide_typed), &wides);
    for (name, orders, wides) in [
        (
            "alternating shapes",
            batch(order, alternating),
            batch(wide, alternating),
        ),
        ("mixed shapes", batch(order, mixed), batch(wide, mixed)),
        ("random order", batch(order, random), batch(wide, random)),
    ] {
        for (kind, plan, raw) in [("", &decimal, orders), ("wide, ", &wide_typed, wides)] {
            run(&format!("predicting, {kind}{name}"), decoder(plan), &raw);
            run(
                &format!("general, {kind}{name}"),
                general_decoder(plan),
                &raw,
            );
        }
    }
    for (name, raw, fields) in [
        ("arrow-json", orders, order_fields()),
        ("arrow-json, wide", wides, wide_fields()),
    ] {
        assert_eq!(control(&raw, fields.clone()), RECORDS);
        group.bench_function(name, |b| {
            b.iter(|| control(black_box(&raw), fields.clone()))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // The scheduler counts in ticks of some milliseconds: samples must be much longer.
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .measurement_time(std::time::Duration::from_secs(6));
    targets = decode
}
criterion_main!(benches);
