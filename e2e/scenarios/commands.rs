//! What the command line says when something is wrong.

use anyhow::Result;
use serde_json::json;
use tidewater_e2e::{Lab, orders};

use crate::dataset_sink::DatasetSink;

#[tokio::test]
async fn a_bad_resource_is_refused_with_one_line_for_each_problem() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "source": {"topics": ["no spaces, please"], "properties": {"auto.offset.reset": "latest"}},
        "rotation": {"maxOpen": "soon"},
        "partitioning": [{"column": "no_such_column"}],
    }));
    for verb in ["validate", "run", "verify", "status"] {
        let answer = sink.command(verb).await?;
        assert_eq!(answer.code, Some(1), "{verb}: {}", answer.stderr);
        let lines: Vec<&str> = answer.stderr.lines().collect();
        for field in [
            "spec.source.topics[0]",
            "spec.source.properties[\"auto.offset.reset\"]",
            "spec.rotation.maxOpen",
            "spec.partitioning[0]",
        ] {
            let about = lines.iter().filter(|line| line.contains(field)).count();
            assert_eq!(about, 1, "{verb}: {field}\n{}", answer.stderr);
        }
        assert_eq!(lines.len(), 4, "{verb}:\n{}", answer.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_bucket_or_a_wrong_key_ends_the_process_and_says_so() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(10, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"destination": {"s3": {"bucket": "no-such-bucket"}}}));
    let ended = sink.run_to_the_end(&[]).await?;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.log.contains("spec.destination.s3.bucket"),
        "{}",
        ended.log
    );

    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"destination": {"s3": {"credentials": {
        "accessKeyId": {"secretKeyRef": {"name": "lake", "key": "secretAccessKey"}},
    }}}}));
    let ended = sink.run_to_the_end(&[]).await?;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("credentials"), "{}", ended.log);
    Ok(())
}
