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
