//! A value is found under its own name, whoever adds, renames or drops columns while a sink runs.

use super::*;

impl TableSink {
    async fn produce_to(&self, partition: i32, values: &[Value]) -> Result<()> {
        let records: Vec<_> = values
            .iter()
            .map(|value| Record::new(partition, value.to_string()))
            .collect();
        self.topic.produce(records).await
    }
}

// Every value names its column, and all columns are of one type.
#[tokio::test]
async fn columns_that_two_processes_and_another_engine_add_apart_hold_their_own_values()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?.inferred();
    let second = sink.twin()?;
    let (a, b) = (sink.start()?, second.start()?);
    TableSink::await_assigned(&a).await?;
    TableSink::await_assigned(&b).await?;
    sink.produce_to(0, &[json!({"id": 1})]).await?;
    sink.produce_to(1, &[json!({"id": 2})]).await?;
    sink.await_rows(2).await?;

    // One process meets x, somebody adds a column, the other process meets y.
    sink.produce_to(0, &[json!({"id": 3, "x": "x"})]).await?;
    sink.await_rows(3).await?;
    sink.python(
        "from pyiceberg.types import StringType\n\
         with table.update_schema() as update: update.add_column('comment', StringType())\n\
         result = None",
    )
    .await?;
    sink.produce_to(1, &[json!({"id": 4, "y": "y"})]).await?;
    sink.await_rows(4).await?;
    sink.produce_to(0, &[json!({"id": 5, "note": "note", "place": {"p": "p"}})])
        .await?;
    sink.produce_to(1, &[json!({"id": 6, "place": {"q": "q"}})])
        .await?;
    sink.await_rows(6).await?;
    sink.produce_to(0, &[json!({"id": 7, "y": "y", "place": {"q": "q"}})])
        .await?;
    sink.produce_to(
        1,
        &[json!({"id": 8, "x": "x", "note": "note", "place": {"p": "p"}})],
    )
    .await?;
    sink.await_rows(8).await?;

    let rows = sink
        .select("id, x, y, note, comment, place.p, place.q WHERE true ORDER BY id")
        .await?;
    let none = || vec![Value::Null; 6];
    let of = |id: i64, values: &[(usize, &str)]| {
        let mut row = none();
        for (at, value) in values {
            row[*at] = json!(value);
        }
        row.insert(0, json!(id));
        row
    };
    assert_eq!(
        rows,
        [
            of(1, &[]),
            of(2, &[]),
            of(3, &[(0, "x")]),
            of(4, &[(1, "y")]),
            of(5, &[(2, "note"), (4, "p")]),
            of(6, &[(5, "q")]),
            of(7, &[(1, "y"), (5, "q")]),
            of(8, &[(0, "x"), (2, "note"), (4, "p")]),
        ]
    );
    end(&a).await?;
    end(&b).await?;
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_partition_field_that_somebody_adds_while_a_sink_runs_costs_the_records_that_have_its_name()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    let letters = sink.lab.topic("letters", 1).await?;
    let sink = sink.set("/deadLetter", json!({"topic": letters.name()}));
    let running = sink.start()?;
    sink.produce_to(0, &[json!({"id": 1})]).await?;
    sink.await_rows(1).await?;
    sink.python(
        "from pyiceberg.transforms import BucketTransform\n\
         with table.update_spec() as update: update.add_field('id', BucketTransform(4), 'shard')\n\
         result = None",
    )
    .await?;
    sink.produce_to(
        0,
        &[
            json!({"id": 2, "shard": "x"}),
            json!({"id": 3, "other": "other"}),
        ],
    )
    .await?;
    sink.await_rows(2).await?;
    end(&running).await?;
    assert_eq!(
        sink.select("id, other WHERE true ORDER BY id").await?,
        [[json!(1), Value::Null], [json!(3), json!("other")]]
    );
    let refused = letters.read_all().await?;
    let told: Vec<_> = refused
        .iter()
        .flat_map(|letter| &letter.record.headers)
        .filter(|(name, _)| name == "tidewater.error.message")
        .filter_map(|(_, value)| Some(String::from_utf8_lossy(value.as_deref()?).into_owned()))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("`shard`"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_column_that_somebody_renamed_while_a_sink_runs_is_made_again_only_by_leave() -> Result<()>
{
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    let letters = sink.lab.topic("letters", 1).await?;
    let mut sink = sink
        .set("/deadLetter", json!({"topic": letters.name()}))
        .set("/onError", json!("DeadLetter"));
    let running = sink.start()?;
    sink.produce_to(0, &[json!({"id": 1, "note": "note"})])
        .await?;
    sink.await_rows(1).await?;
    sink.python(
        "with table.update_schema() as update: update.rename_column('note', 'remark')\n\
         result = None",
    )
    .await?;
    sink.produce_to(
        0,
        &[
            json!({"id": 2, "note": "note"}),
            json!({"id": 3, "other": "other"}),
        ],
    )
    .await?;
    sink.await_rows(2).await?;
    end(&running).await?;
    assert_eq!(
        sink.select("id, remark, other WHERE true ORDER BY id")
            .await?,
        [
            [json!(1), json!("note"), Value::Null],
            [json!(3), Value::Null, json!("other")],
        ]
    );
    let refused = letters.read_all().await?;
    let told: Vec<_> = refused
        .iter()
        .flat_map(|letter| &letter.record.headers)
        .filter(|(name, _)| name == "tidewater.error.message")
        .filter_map(|(_, value)| Some(String::from_utf8_lossy(value.as_deref()?).into_owned()))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("renamed to \"remark\""), "{told:?}");

    sink.change("/evolution", json!({"recreateColumns": true}));
    sink.produce_to(0, &[json!({"id": 4, "note": "again"})])
        .await?;
    sink.catch_up().await?;
    assert_eq!(
        sink.select("id, remark, note WHERE id = 4").await?,
        [[json!(4), Value::Null, json!("again")]]
    );
    Ok(())
}
