//! A Service's address leads to its pods, and to those only that are ready.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until};

use super::{WITHIN, nothing, page, web};

#[tokio::test]
async fn a_services_address_leads_to_pods_that_are_ready_and_to_none_when_there_are_none()
-> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 8080, "targetPort": "http"}],
        },
    });
    namespace.apply(&service.to_string()).await?;
    namespace.apply(&web(1, nothing()).to_string()).await?;
    let address = ["get", "service/web", "--output=jsonpath={.spec.clusterIP}"];
    let address = namespace.kubectl(&address).await?;
    assert!(address.starts_with("127.96."), "{address}");
    await_until(WITHIN, "the Service answers", async || {
        Ok(page(&address, "").await.is_ok_and(|(code, _)| code == 200))
    })
    .await?;
    let slices = [
        "get",
        "endpointslices",
        "--selector=kubernetes.io/service-name=web",
        "--output=json",
    ];
    let slices: Value = serde_json::from_str(&namespace.kubectl(&slices).await?)?;
    let behind = slices["items"].as_array().context("no slices")?;
    let ready = behind
        .iter()
        .any(|slice| slice["endpoints"][0]["conditions"]["ready"] == json!(true));
    assert!(ready, "{slices:#}");

    namespace
        .kubectl(&["scale", "deployment/web", "--replicas=0"])
        .await?;
    await_until(WITHIN, "nobody answers", async || {
        Ok(page(&address, "").await.is_err())
    })
    .await
}
