//! The lab itself: each server does the one thing the other scenarios rely on, and each reader reads.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_glue::types::{DatabaseInput, TableInput};
use aws_sdk_s3::primitives::ByteStream;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use tidewater_e2e::{
    IcebergCatalog, IcebergRest, IcebergRestOptions, KafkaServer, Lab, Outcome, Record, S3Server,
    SASL_USER, SecuredKafka, Topic, await_until, orders,
};

#[tokio::test]
async fn kafka_gives_back_what_was_produced_but_for_aborted_transactions() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 3).await?;
    let hand_made = Record::new(1, "v")
        .key("k")
        .timestamp(1_700_000_000_000)
        .header("h", "x");
    topic.produce([hand_made.clone()]).await?;
    topic.transaction(orders(50, 1), Outcome::Abort).await?;
    topic.transaction(orders(30, 2), Outcome::Commit).await?;

    let found = topic.read_all().await?;
    assert_eq!(found.len(), 31);
    assert_eq!(
        found
            .iter()
            .find(|c| c.record.partition == 1 && c.offset == 0)
            .map(|c| &c.record),
        Some(&hand_made)
    );
    Ok(())
}

#[tokio::test]
async fn topics_grow_lose_their_oldest_records_and_are_recreated() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    topic.delete_records(0, 40).await?;
    assert_eq!(topic.offsets(0).await?, (40, 100));
    topic.add_partitions(2).await?;
    assert_eq!(topic.offsets(1).await?, (0, 0));
    topic.delete().await?;
    Topic::create(lab.kafka(), topic.name(), 1).await?;
    assert_eq!(topic.offsets(0).await?, (0, 0));
    assert_eq!(topic.committed("nobody", 0).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_its_records() -> Result<()> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let kafka = Box::pin(KafkaServer::start_with(&folder, KafkaServer::SOON_MISSED)).await?;
    let topic = Topic::create(kafka.bootstrap(), "orders", 1).await?;
    topic.produce(orders(10, 1)).await?;
    kafka.kill();
    Box::pin(kafka.restart()).await?;
    assert_eq!(topic.read_all().await?.len(), 10);
    Ok(())
}

#[tokio::test]
async fn s3_refuses_conditional_puts_whose_condition_fails() -> Result<()> {
    let lab = Lab::shared().await?;
    let (s3, bucket) = (lab.s3_client(), lab.bucket().await?);
    let put = |body: &'static str| {
        s3.put_object()
            .bucket(&bucket)
            .key("k")
            .body(ByteStream::from_static(body.as_bytes()))
    };

    let first = put("1").if_none_match("*").send().await?;
    let refused = put("2").if_none_match("*").send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 412);
    put("2").if_match(first.e_tag().unwrap()).send().await?;
    let stale = put("3")
        .if_match(first.e_tag().unwrap())
        .send()
        .await
        .unwrap_err();
    assert_eq!(stale.raw_response().unwrap().status().as_u16(), 412);
    Ok(())
}

#[tokio::test]
async fn a_killed_s3_server_comes_back_with_its_open_uploads() -> Result<()> {
    let lab = Lab::shared().await?;
    let server = S3Server::start(&lab.scratch()?).await?;
    let s3 = server.access().client();
    s3.create_bucket().bucket("bucket").send().await?;
    let upload = s3
        .create_multipart_upload()
        .bucket("bucket")
        .key("k")
        .send()
        .await?;
    server.kill();
    server.restart().await?;
    let open = server
        .access()
        .client()
        .list_multipart_uploads()
        .bucket("bucket")
        .send()
        .await?;
    assert_eq!(open.uploads()[0].upload_id(), upload.upload_id());
    Ok(())
}

#[tokio::test]
async fn glue_refuses_an_update_of_a_version_that_has_been_replaced() -> Result<()> {
    let lab = Lab::shared().await?;
    let (glue, database) = (lab.glue_client(), lab.unique("db"));
    glue.create_database()
        .database_input(DatabaseInput::builder().name(&database).build()?)
        .send()
        .await?;
    let input = |note: &str| TableInput::builder().name("t").description(note).build();
    glue.create_table()
        .database_name(&database)
        .table_input(input("made")?)
        .send()
        .await?;
    let table = glue
        .get_table()
        .database_name(&database)
        .name("t")
        .send()
        .await?;
    let version = table
        .table()
        .and_then(|table| table.version_id())
        .unwrap()
        .to_owned();

    let update = |note| {
        let request = glue
            .update_table()
            .database_name(&database)
            .version_id(&version);
        anyhow::Ok(request.table_input(input(note)?))
    };
    update("first")?.send().await?;
    let stale = update("second")?
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(stale.is_concurrent_modification_exception(), "{stale:?}");
    Ok(())
}

#[tokio::test]
async fn the_rest_catalog_can_do_what_it_was_asked_and_say_it_failed() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = lab.unique("ns");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let namespaces = format!("{}/v1/namespaces", lab.iceberg_rest());
    client
        .post(&namespaces)
        .json(&json!({"namespace": [namespace]}))
        .send()
        .await?
        .error_for_status()?;
    let tables = format!("{namespaces}/{namespace}/tables");
    let create = json!({
        "name": "t",
        "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": true}]},
    });

    let path = format!("/{namespace}/tables");
    lab.fault("500-after", 1, &path).await?;
    let answer = client.post(&tables).json(&create).send().await?;
    assert_eq!(answer.status().as_u16(), 500);
    assert_eq!(
        lab.fault("500-after", 0, &path).await?,
        1,
        "one request spoilt"
    );
    let there = client.get(format!("{tables}/t")).send().await?;
    assert_eq!(
        there.status().as_u16(),
        200,
        "the table was made all the same"
    );
    Ok(())
}

#[tokio::test]
async fn duckdb_reads_parquet_on_s3_and_pyarrow_its_footer() -> Result<()> {
    let lab = Lab::shared().await?;
    let (duckdb, bucket) = (lab.duckdb().await?, lab.bucket().await?);
    let file = format!("s3://{bucket}/day=01/a.parquet");
    duckdb
        .query(&format!(
            "COPY (SELECT range AS i, 'x' AS s FROM range(1000)) TO '{file}' (FORMAT parquet)"
        ))
        .await?;
    let sql = format!(
        "SELECT sum(i)::BIGINT, min(day) FROM read_parquet('s3://{bucket}/**/*.parquet', hive_types_autocast=false)"
    );
    assert_eq!(duckdb.query(&sql).await?, [[json!(499_500), json!("01")]]);

    let meta = lab.pyiceberg().await?.parquet_meta(&file).await?;
    assert_eq!(meta["rows"], 1000);
    assert_eq!(meta["row_groups"][0]["columns"][0]["max"], 999);
    Ok(())
}

#[tokio::test]
async fn pyiceberg_and_duckdb_read_the_same_table_through_the_rest_catalog() -> Result<()> {
    let lab = Lab::shared().await?;
    let pyiceberg = lab.pyiceberg().await?;
    let table = format!("{}.orders", lab.unique("ns"));
    let code = "
import pyarrow as pa
rest = catalog({'kind': 'rest'})
rest.create_namespace(args.split('.')[0])
rows = pa.table({'id': pa.array([1, 2, 3], pa.int64()), 'name': ['a', 'b', 'c']})
table = rest.create_table(args, schema=rows.schema)
table.append(rows)
result = table.metadata_location
";
    let metadata = pyiceberg.run(code, json!(table)).await?;
    let rows = pyiceberg.scan(&IcebergCatalog::Rest, &table).await?;
    assert_eq!(rows[2], json!({"id": 3, "name": "c"}));
    assert_eq!(
        pyiceberg
            .scan(&IcebergCatalog::Metadata, metadata.as_str().unwrap())
            .await?,
        rows
    );
    assert_eq!(
        pyiceberg.describe(&IcebergCatalog::Rest, &table).await?["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let duckdb = lab.duckdb().await?;
    assert_eq!(
        duckdb
            .value(&format!(
                "SELECT string_agg(name ORDER BY id) FROM ice.{table}"
            ))
            .await?,
        json!("a,b,c")
    );
    Ok(())
}

#[tokio::test]
async fn pyiceberg_reads_through_glue() -> Result<()> {
    let lab = Lab::shared().await?;
    let bucket = lab.bucket().await?;
    let table = format!("{}.orders", lab.unique("db"));
    let code = "
import pyarrow as pa
glue = catalog({'kind': 'glue'})
glue.create_namespace(args['table'].split('.')[0])
rows = pa.table({'id': pa.array([1, 2], pa.int64())})
glue.create_table(args['table'], schema=rows.schema, location=f\"s3://{args['bucket']}/t\").append(rows)
";
    let pyiceberg = lab.pyiceberg().await?;
    pyiceberg
        .run(code, json!({"table": table, "bucket": bucket}))
        .await?;
    assert_eq!(
        pyiceberg.scan(&IcebergCatalog::Glue, &table).await?.len(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_cuts_and_restores_the_way_to_s3() -> Result<()> {
    let lab = Lab::shared().await?;
    let proxy = lab.proxy(&lab.s3().endpoint).await?;
    let health = format!("{}/healthz", proxy.endpoint());
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    client.get(&health).send().await?.error_for_status()?;
    proxy.disable().await?;
    assert!(client.get(&health).send().await.is_err());
    proxy.enable().await?;
    await_until(
        Duration::from_secs(10),
        "the proxy is open again",
        async || Ok(client.get(&health).send().await?.status().is_success()),
    )
    .await?;
    proxy
        .toxic("lost", "timeout", "downstream", json!({"timeout": 50}))
        .await?;
    assert!(client.get(&health).send().await.is_err());
    proxy.remove_toxic("lost").await?;
    proxy.remove().await
}

#[tokio::test]
async fn a_secured_broker_lets_in_who_proves_who_they_are_and_nobody_else() -> Result<()> {
    let lab = Lab::shared().await?;
    let kafka = Box::pin(SecuredKafka::start(&lab.scratch()?)).await?;
    let authority = kafka.authority().display().to_string();
    let stranger = kafka.strange_authority().display().to_string();
    let (certificate, key) = kafka.client_certificate();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let (user, password) = SASL_USER;
    // How long a refusal has to last to count, and how long an admission may take.
    let (refusal, patience) = (Duration::from_secs(3), Duration::from_secs(30));
    let admitted = async |bootstrap: String, settings: &[(&str, &str)], within: Duration| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            anyhow::Ok(consumer.fetch_metadata(None, within).is_ok())
        })
        .await?
    };
    let tls = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", &*authority),
    ];
    let strange = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", &*stranger),
    ];
    let client = [
        ("ssl.certificate.location", &*certificate),
        ("ssl.key.location", &*key),
    ];
    assert!(admitted(kafka.tls(), &tls, patience).await?);
    assert!(admitted(kafka.mutual_tls(), &[tls, client].concat(), patience).await?);
    let mut wrong = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let sasl = [
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ];
        let plaintext = [&[("security.protocol", "sasl_plaintext")], &sasl[..]].concat();
        let encrypted = [
            &[
                ("security.protocol", "sasl_ssl"),
                ("ssl.ca.location", &*authority),
            ],
            &sasl[..],
        ]
        .concat();
        assert!(
            admitted(kafka.sasl(), &plaintext, patience).await?,
            "{mechanism}"
        );
        assert!(
            admitted(kafka.sasl_tls(), &encrypted, patience).await?,
            "{mechanism} over TLS"
        );
        wrong.push([&plaintext[..], &[("sasl.password", "wrong")]].concat());
    }
    let refused = tokio::try_join!(
        admitted(kafka.tls(), &strange, refusal),
        admitted(kafka.mutual_tls(), &tls, refusal),
        admitted(kafka.sasl(), &wrong[0], refusal),
        admitted(kafka.sasl(), &wrong[1], refusal),
        admitted(kafka.sasl(), &wrong[2], refusal),
    )?;
    assert_eq!(refused, (false, false, false, false, false));
    Ok(())
}

#[tokio::test]
async fn a_guarded_catalog_wants_a_token_and_hands_out_s3_keys() -> Result<()> {
    let lab = Lab::shared().await?;
    let options = IcebergRestOptions {
        token: Some("let-me-in".to_owned()),
        vend_credentials: true,
    };
    let warehouse = format!("s3://{}/tables", lab.bucket().await?);
    let catalog = IcebergRest::start(&lab.scratch()?, &warehouse, lab.s3(), &options).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let config = client.get(format!("{}/v1/config", catalog.uri()));
    assert_eq!(config.send().await?.status().as_u16(), 401);

    let form = "grant_type=client_credentials&client_id=id&client_secret=secret&scope=catalog";
    let request = client
        .post(format!("{}/v1/oauth/tokens", catalog.uri()))
        .body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let granted: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    for token in ["let-me-in", granted["access_token"].as_str().unwrap()] {
        let namespaces = client
            .get(format!("{}/v1/namespaces", catalog.uri()))
            .bearer_auth(token);
        namespaces.send().await?.error_for_status()?;
    }

    let namespaces = format!("{}/v1/namespaces", catalog.uri());
    let namespace = client
        .post(&namespaces)
        .bearer_auth("let-me-in")
        .json(&json!({"namespace": ["ns"]}));
    namespace.send().await?.error_for_status()?;
    let create = json!({"name": "t", "schema": {"type": "struct", "fields": []}});
    let table = client
        .post(format!("{namespaces}/ns/tables"))
        .bearer_auth("let-me-in")
        .json(&create);
    let table: serde_json::Value = table.send().await?.error_for_status()?.json().await?;
    assert_eq!(table["config"]["s3.endpoint"], json!(lab.s3().endpoint));
    assert_eq!(
        table["config"]["s3.secret-access-key"],
        json!(lab.s3().secret_key),
        "{table}"
    );
    Ok(())
}
