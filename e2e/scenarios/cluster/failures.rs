//! What happens to pods when the cluster around them fails: on a cluster of their own.

use std::process::Command;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use tidewater_e2e::{Cluster, Lab, await_until};

use super::{WITHIN, address, container, nothing, page, process, web, web_pods};

#[tokio::test]
async fn pods_outlive_the_api_server_and_what_they_did_meanwhile_is_told_later() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(Cluster::start(&lab.scratch()?)).await?;
    let namespace = cluster.namespace().await?;
    namespace.apply(&web(1, nothing()).to_string()).await?;
    namespace
        .await_condition("deployment/web", "Available", WITHIN)
        .await?;
    let pod = web_pods(&namespace).await?.remove(0);
    let address = address(&pod).unwrap();

    cluster.control_plane()?.kill_api_server();
    assert_eq!(page(address, "").await?.0, 200);
    let killed = Command::new("kill")
        .args(["-9", &process(&pod)?.to_string()])
        .status()?;
    assert!(killed.success());
    await_until(WITHIN, "it is started again", async || {
        Ok(page(address, "").await?.0 == 200)
    })
    .await?;

    Box::pin(cluster.control_plane()?.restart_api_server()).await?;
    let told = |pod: &Pod| container(pod).is_some_and(|c| c.ready && c.restart_count == 1);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let after = namespace
        .await_that::<Pod>(&name, "tells its restart", WITHIN, told)
        .await?;
    assert_eq!(after.metadata.uid, pod.metadata.uid);
    namespace
        .kubectl(&["scale", "deployment/web", "--replicas=2"])
        .await?;
    namespace
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])
        .await?;
    Ok(())
}
