//! A REST catalog hands out the keys for a table's files: metadata, data and dead letters are written with them and
//! nothing else, also when they end while the sink runs.

use std::time::SystemTime;

use super::*;
use tidewater_e2e::{DuckDb, IcebergRest, IcebergRestOptions, S3Server};

/// Nothing of it leads to a store.
const USELESS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "nobody"),
    ("AWS_SECRET_ACCESS_KEY", "nothing"),
    ("AWS_REGION", "mars-north-1"),
    ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// A catalog with its own store, and a sink whose resource names no store at all.
struct Guarded {
    s3: S3Server,
    catalog: IcebergRest,
    duckdb: DuckDb,
    sink: TableSink,
}

impl Guarded {
    async fn new() -> Result<Guarded> {
        let mut sink = TableSink::new(Catalog::Rest, 2).await?;
        let s3 = S3Server::start(&sink.folder.join("store")).await?;
        s3.let_in(&[("early", "early-secret")])?;
        let create = s3.access().client().create_bucket().bucket("lake");
        create.send().await?;
        let options = IcebergRestOptions {
            token: None,
            vend_credentials: true,
        };
        let folder = sink.folder.join("catalog");
        let catalog =
            IcebergRest::start(&folder, "s3://lake/tables", s3.access(), &options).await?;
        let duckdb = DuckDb::start(s3.access(), None).await?;
        sink.spec.as_object_mut().unwrap().remove("storage");
        sink.change("/catalog/rest", json!({"uri": catalog.uri()}));
        Ok(Guarded {
            s3,
            catalog,
            duckdb,
            sink,
        })
    }

    /// What the catalog hands out from now on.
    async fn vend(&self, key: &str, secret: &str, ends: SystemTime) -> Result<()> {
        let ends = ends.duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        self.catalog
            .configure_tables(&[
                ("s3.access-key-id", key),
                ("s3.secret-access-key", secret),
                ("s3.session-token-expires-at-ms", &ends.to_string()),
            ])
            .await
    }

    /// Rows, and different offsets among them, read with the store's own keys.
    async fn rows(&self) -> Result<Vec<Vec<Value>>> {
        let code = "result = catalog({'kind': 'rest', 'uri': args[0]}).load_table(args[1]).metadata_location";
        let args = json!([self.catalog.uri(), self.sink.table()]);
        let metadata = self.sink.lab.pyiceberg().await?.run(code, args).await?;
        let metadata = metadata.as_str().context("a location")?;
        let offsets = "count(*), count(DISTINCT (kafka_partition, kafka_offset))";
        let sql = format!("SELECT {offsets} FROM iceberg_scan('{metadata}')");
        self.duckdb.query(&sql).await
    }

    async fn await_rows(&self, n: u64) -> Result<()> {
        await_until(PATIENCE, &format!("{n} rows"), async || {
            Ok(self.rows().await? == [[json!(n), json!(n)]])
        })
        .await
    }
}

#[tokio::test]
async fn a_table_is_written_with_the_keys_its_catalog_vends_whatever_the_environment_says()
-> Result<()> {
    let mut guarded = Guarded::new().await?;
    let day = SystemTime::now() + Duration::from_secs(24 * 3600);
    guarded.vend("early", "early-secret", day).await?;
    let sink = &mut guarded.sink;
    sink.change("/deadLetter", json!({"prefix": "_dead"}));
    sink.change("/onError", json!("DeadLetter"));
    sink.produce(200, 1).await?;
    sink.topic.produce([Record::new(0, "{")]).await?;

    let running = sink.start_in(&USELESS)?;
    guarded.await_rows(200).await?;
    let s3 = guarded.s3.access().client();
    let letters = format!("tables/{}/_dead/", guarded.sink.namespace);
    let listing = s3.list_objects_v2().bucket("lake").prefix(letters);
    await_until(PATIENCE, "the dead letter", async || {
        Ok(listing.clone().send().await?.contents().len() == 1)
    })
    .await?;
    end(&running).await?;

    // These keys and no others: without them nothing is written, and the sink says why it ends.
    guarded.s3.let_in(&[])?;
    guarded.sink.produce(10, 2).await?;
    let running = guarded.sink.start_in(&USELESS)?;
    let refused = guarded.sink.end_in_failure(&running).await?;
    ensure!(refused.contains("InvalidAccessKeyId"), "{refused}");
    assert_eq!(guarded.rows().await?, [[json!(200), json!(200)]]);
    guarded.s3.let_in(&[("early", "early-secret")])?;
    let running = guarded.sink.start_in(&USELESS)?;
    guarded.await_rows(210).await?;
    end(&running).await
}

#[tokio::test]
async fn a_running_sink_gets_new_keys_when_those_of_the_catalog_end() -> Result<()> {
    let guarded = Guarded::new().await?;
    let end_of_life = SystemTime::now() + Duration::from_secs(1);
    guarded.vend("early", "early-secret", end_of_life).await?;
    guarded.sink.produce(100, 1).await?;
    let running = guarded.sink.start_in(&USELESS)?;
    guarded.await_rows(100).await?;

    let day = SystemTime::now() + Duration::from_secs(24 * 3600);
    guarded.vend("late", "late-secret", day).await?;
    guarded.s3.let_in(&[("late", "late-secret")])?;
    await_until(PATIENCE, "the end of the first keys", async || {
        Ok(SystemTime::now() > end_of_life)
    })
    .await?;
    guarded.sink.produce(100, 2).await?;
    guarded.await_rows(200).await?;
    end(&running).await
}
