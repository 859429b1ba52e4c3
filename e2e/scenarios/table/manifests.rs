//! Manifests that every reader opens: DuckDB, PyIceberg and Iceberg's own Java code, each of which is strict about
//! something else.

use super::*;
use tidewater_e2e::{DuckDb, java_data_files};

/// Partition field, its source's name, type and encoding, the values of three records, and how Iceberg's Java code
/// writes them. Each value names its column.
#[allow(clippy::type_complexity, reason = "a table of cases")]
const FIELDS: [(&str, &str, &str, &str, [&str; 3], [&str; 3]); 20] = [
    (
        "day(@timestamp)",
        "@timestamp",
        "timestamptz",
        "EpochMillis",
        ["86400000", "172800000", "-1"],
        ["1", "2", "-1"],
    ),
    (
        "created-at",
        "created-at",
        "date",
        "EpochDays",
        ["11", "12", "-13"],
        ["11", "12", "-13"],
    ),
    (
        "2fa",
        "2fa",
        "boolean",
        "",
        ["true", "false", "true"],
        ["true", "false", "true"],
    ),
    (
        "country as my-country",
        "country",
        "string",
        "",
        [r#""DE""#, r#""""#, r#""F R/""#],
        ["DE", "", "F R/"],
    ),
    (
        "país",
        "país",
        "string",
        "",
        [r#""ñ""#, r#""b""#, r#""c""#],
        ["ñ", "b", "c"],
    ),
    (
        "u1",
        "u1",
        "uuid",
        "",
        [
            r#""00000000-0000-0000-0000-000000000001""#,
            r#""f79c3e09-677c-4bbd-a479-3f349cb785e7""#,
            r#""80000000-0000-0000-0000-000000000000""#,
        ],
        [
            "00000000-0000-0000-0000-000000000001",
            "f79c3e09-677c-4bbd-a479-3f349cb785e7",
            "80000000-0000-0000-0000-000000000000",
        ],
    ),
    (
        "u2",
        "u2",
        "uuid",
        "",
        [
            r#""00000000-0000-0000-0000-000000000021""#,
            r#""00000000-0000-0000-0000-000000000022""#,
            r#""ffffffff-ffff-ffff-ffff-ffffffffffff""#,
        ],
        [
            "00000000-0000-0000-0000-000000000021",
            "00000000-0000-0000-0000-000000000022",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    (
        "d1",
        "d1",
        "decimal(9,2)",
        "",
        ["1.25", "-0.01", "9999999.99"],
        ["1.25", "-0.01", "9999999.99"],
    ),
    (
        "d2",
        "d2",
        "decimal(9,2)",
        "",
        ["2.25", "-2.50", "0"],
        ["2.25", "-2.50", "0.00"],
    ),
    (
        "truncate(100, d1)",
        "d1",
        "",
        "",
        ["", "", ""],
        ["1.00", "-1.00", "9999999.00"],
    ),
    (
        "wide",
        "wide",
        "decimal(38,3)",
        "",
        [
            r#""12345678901234567890123456789012345.678""#,
            "-1",
            "0.001",
        ],
        ["12345678901234567890123456789012345.678", "-1.000", "0.001"],
    ),
    (
        "i",
        "i",
        "int",
        "",
        ["31", "32", "-2147483648"],
        ["31", "32", "-2147483648"],
    ),
    (
        "l",
        "l",
        "long",
        "",
        ["41", "42", "9223372036854775807"],
        ["41", "42", "9223372036854775807"],
    ),
    (
        "f",
        "f",
        "float",
        "",
        ["0.5", "-51.25", "53"],
        ["0.5", "-51.25", "53.0"],
    ),
    (
        "d",
        "d",
        "double",
        "",
        ["0.1", "-61.5", "63"],
        ["0.1", "-61.5", "63.0"],
    ),
    (
        "t",
        "t",
        "time",
        "EpochMicros",
        ["71", "72", "86399999999"],
        ["71", "72", "86399999999"],
    ),
    (
        "ts",
        "ts",
        "timestamp",
        "EpochMicros",
        ["81", "-82", "1767225600000001"],
        ["81", "-82", "1767225600000001"],
    ),
    (
        "tz",
        "tz",
        "timestamptz",
        "EpochMicros",
        ["91", "-92", "1767225600000003"],
        ["91", "-92", "1767225600000003"],
    ),
    (
        "bin",
        "bin",
        "binary",
        "Hex",
        [r#""00ff""#, r#""""#, r#""b1b2b3""#],
        ["00ff", "", "b1b2b3"],
    ),
    (
        "bucket(8, l) as 8th",
        "l",
        "",
        "",
        ["", "", ""],
        ["", "", ""],
    ),
];

/// The record `i`, or one of nulls.
fn record(i: usize) -> String {
    let columns = FIELDS.iter().filter(|(_, _, ty, ..)| !ty.is_empty());
    let value = |values: &[&'static str; 3]| values.get(i).copied().unwrap_or("null");
    let fields = columns.map(|(_, name, _, _, values, _)| format!("{name:?}: {}", value(values)));
    let fields: Vec<_> = fields.chain([format!("\"id\": {i}")]).collect();
    format!("{{{}}}", fields.join(", "))
}

/// The name that Iceberg gives a partition field of ours.
fn field_name(expression: &str) -> String {
    match expression {
        "day(@timestamp)" => "@timestamp_day".to_owned(),
        "truncate(100, d1)" => "d1_trunc_100".to_owned(),
        other => other.rsplit(" as ").next().unwrap_or(other).to_owned(),
    }
}

/// What makes a file's line comparable: `i` tells which record it holds.
fn by_record(files: &[Value], i: usize) -> Result<&Value> {
    let (_, _, _, _, _, texts) = FIELDS.iter().find(|field| field.0 == "i").context("i")?;
    let wanted = texts.get(i).map_or(Value::Null, |text| json!(text));
    let found = files.iter().find(|file| file["partition"]["i"] == wanted);
    found.with_context(|| format!("no file of record {i}: {files:?}"))
}

#[tokio::test]
async fn partitions_of_every_type_and_name_are_read_by_duckdb_pyiceberg_and_java() -> Result<()> {
    // PyIceberg's own tables of files and partitions cannot hold a uuid: they are asked of a table without one.
    for (version, uuids) in [(2, true), (3, true), (2, false)] {
        let fields = FIELDS.iter().filter(|field| uuids || !is_uuid(field.1));
        let columns = fields.clone().filter(|field| !field.2.is_empty());
        let columns = columns.map(|(_, name, ty, encoding, ..)| match *encoding {
            "" => json!({"name": name, "type": ty}),
            encoding => json!({"name": name, "type": ty, "encoding": encoding}),
        });
        let columns: Vec<_> = columns
            .chain([json!({"name": "id", "type": "int"})])
            .collect();
        let expressions: Vec<_> = fields.map(|field| field.0).collect();
        let sink = TableSink::new(Catalog::Local, 1)
            .await?
            .set("/schema/fields", json!(columns))
            .set("/partitionBy", json!(expressions))
            .set("/formatVersion", json!(version));
        let records: Vec<_> = (0..4).map(|i| Record::new(0, record(i))).collect();
        sink.topic.produce(records).await?;
        sink.catch_up().await?;
        sink.assert_rows_once().await?;

        by_pyiceberg(&sink, uuids).await.context("PyIceberg")?;
        if uuids {
            by_java(&sink, version).await.context("Java")?;
            by_duckdb(&sink).await.context("DuckDB")?;
        }
    }
    Ok(())
}

fn is_uuid(field: &str) -> bool {
    matches!(field, "u1" | "u2")
}

async fn by_java(sink: &TableSink, version: i32) -> Result<()> {
    let files = java_data_files(Path::new(&sink.named()?)).await?;
    ensure!(files.len() == 4, "{files:?}");
    for i in 0..4 {
        let file = by_record(&files, i)?;
        assert_eq!(file["rows"], 1);
        assert_eq!(file["first_row_id"].is_null(), version < 3, "{file}");
        for (expression, name, ty, .., texts) in FIELDS {
            let field = field_name(expression);
            let found = &file["partition"][&field];
            if field == "8th" {
                ensure!(found.is_null() == (i == 3), "{file}");
                continue;
            }
            let wanted = texts.get(i).map_or(Value::Null, |text| json!(text));
            ensure!(*found == wanted, "{field} of record {i}: {found}");
            if !ty.is_empty() && !expression.contains('(') && i < 3 {
                let alike = texts.iter().filter(|text| Some(**text) == found.as_str());
                assert_eq!(file["planned"][&field], alike.count(), "{field}, {name}");
            }
        }
    }
    Ok(())
}

async fn by_pyiceberg(sink: &TableSink, uuids: bool) -> Result<()> {
    let code = "
def text(value):
    return None if value is None else value.hex() if isinstance(value, bytes) else str(value)
def row(partition):
    return {name: text(value) for name, value in partition.items()}
names = [field.name for field in table.spec().fields]
tuples = [task.file.partition for task in table.scan().plan_files()]
planned_all = [row({name: tuple[at] for at, name in enumerate(names)}) for tuple in tuples]
files = partitions = planned_all
if 'u1' not in names:
    files = [row(f['partition']) for f in table.inspect.files().to_pylist()]
    partitions = [row(p['partition']) for p in table.inspect.partitions().to_pylist()]
planned = [table.scan(row_filter=f'i = {i}').plan_files() for i in (31, 32, -2147483648)]
result = {
    'files': files, 'partitions': partitions,
    'planned': [len(list(files)) for files in planned],
    'rows': [[row['id'], text(row.get('u2')), text(row['d2']), row['2fa'], row['created-at']]
             for row in sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row['id'])],
}
";
    let read = sink.python(code).await?;
    assert_eq!(read["planned"], json!([1, 1, 1]));
    let u2 = FIELDS.iter().find(|field| field.0 == "u2").context("u2")?.5;
    let uuid = |i: usize| uuids.then(|| u2[i].replace('-', ""));
    let found = read["rows"].as_array().context("rows")?;
    let wanted = [
        json!([0, uuid(0), "2.25", true, "1970-01-12"]),
        json!([1, uuid(1), "-2.50", false, "1970-01-13"]),
        json!([2, uuid(2), "0.00", true, "1969-12-19"]),
        json!([3, null, null, null, null]),
    ];
    for (row, wanted) in found.iter().zip(&wanted) {
        let mut row = row.clone();
        // A uuid of its own type or its bytes, by version.
        if let Some(text) = row[1].as_str() {
            row[1] = json!(text.replace('-', ""));
        }
        assert_eq!(row, *wanted);
    }
    assert_eq!(found.len(), wanted.len());
    for place in ["files", "partitions"] {
        let partitions = read[place].as_array().context("partitions")?;
        assert_eq!(partitions.len(), 4, "{place}");
        for i in 0..4 {
            let (.., texts) = FIELDS.iter().find(|field| field.0 == "i").context("i")?;
            let wanted = texts.get(i).map_or(Value::Null, |text| json!(text));
            let found = partitions.iter().find(|p| p["i"] == wanted);
            let found = found.with_context(|| format!("{place}: {partitions:?}"))?;
            for name in [
                "my-country",
                "país",
                "l",
                "d1",
                "d2",
                "wide",
                "d1_trunc_100",
                "bin",
            ] {
                let mut fields = FIELDS.iter();
                let field = fields.find(|field| field_name(field.0) == name);
                let (.., texts) = field.context(name)?;
                let wanted = texts.get(i).map_or(Value::Null, |text| json!(text));
                ensure!(
                    found[name] == wanted,
                    "{place}, {name} of record {i}: {found}"
                );
            }
            let by_uuid = [("u1", FIELDS[5].5), ("u2", FIELDS[6].5)];
            for (name, text) in by_uuid.into_iter().filter(|_| uuids) {
                let found = found[name].as_str().map(|text| text.replace('-', ""));
                let wanted = text.get(i).map(|text| text.replace('-', ""));
                ensure!(found == wanted, "{place}, {name} of record {i}: {found:?}");
            }
        }
    }
    Ok(())
}

async fn by_duckdb(sink: &TableSink) -> Result<()> {
    // A process of its own: a manifest that it does not like ends it.
    let duckdb = DuckDb::start(sink.lab.s3(), None).await?;
    let table = sink.relation().await?;
    let all = "id, \"2fa\", country, \"país\", u1::VARCHAR, u2::VARCHAR, d1::VARCHAR, d2::VARCHAR, wide::VARCHAR, \
               i, l, f, d, epoch_us(tz), epoch_us(ts), hex(bin), \"created-at\"::VARCHAR, epoch_ms(\"@timestamp\")";
    let rows = duckdb
        .query(&format!("SELECT {all} FROM {table} ORDER BY id"))
        .await?;
    let (u1, u2) = (FIELDS[5].5, FIELDS[6].5);
    let wanted = json!([
        [
            0,
            true,
            "DE",
            "ñ",
            u1[0],
            u2[0],
            "1.25",
            "2.25",
            "12345678901234567890123456789012345.678",
            31,
            41,
            0.5,
            0.1,
            91,
            81,
            "00FF",
            "1970-01-12",
            86_400_000
        ],
        [
            1,
            false,
            "",
            "b",
            u1[1],
            u2[1],
            "-0.01",
            "-2.50",
            "-1.000",
            32,
            42,
            -51.25,
            -61.5,
            -92,
            -82,
            "",
            "1970-01-13",
            172_800_000
        ],
        [
            2,
            true,
            "F R/",
            "c",
            u1[2],
            u2[2],
            "9999999.99",
            "0.00",
            "0.001",
            i32::MIN,
            i64::MAX,
            53.0,
            63.0,
            1_767_225_600_000_003_i64,
            1_767_225_600_000_001_i64,
            "B1B2B3",
            "1969-12-19",
            -1
        ],
        [
            3, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
            null, null, null
        ],
    ]);
    assert_eq!(json!(rows), wanted);
    // By partition, in each type: a value that is misread leaves its row out.
    for (condition, id) in [
        ("\"2fa\" = false", 1),
        ("country = 'F R/'", 2),
        ("\"país\" = 'ñ'", 0),
        ("u1 = 'f79c3e09-677c-4bbd-a479-3f349cb785e7'::UUID", 1),
        ("u1 = '00000000-0000-0000-0000-000000000001'::UUID", 0),
        ("u1 = '80000000-0000-0000-0000-000000000000'::UUID", 2),
        ("u2 = 'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID", 2),
        // DuckDB truncates no negative decimal, and `d1` is truncated in a partition field.
        ("d1 = 1.25", 0),
        ("d2 = -2.5", 1),
        ("wide = 0.001", 2),
        ("i = 32", 1),
        ("l = 41", 0),
        ("f = 53", 2),
        ("d = 0.1", 0),
        ("bin = '\\xB1\\xB2\\xB3'::BLOB", 2),
        ("\"created-at\" = DATE '1970-01-13'", 1),
        ("\"@timestamp\" < TIMESTAMPTZ '1970-01-01 00:00:00+00'", 2),
        ("t = TIME '00:00:00.000072'", 1),
        ("epoch_us(ts) = 81", 0),
        ("u1 IS NULL AND d1 IS NULL", 3),
    ] {
        let found = duckdb
            .query(&format!("SELECT id FROM {table} WHERE {condition}"))
            .await?;
        assert_eq!(json!(found), json!([[id]]), "{condition}");
    }
    Ok(())
}
