//! The servers. Each binds to 127.0.0.1 on a port picked at run time, keeps port and data over a restart, and dies with
//! the process that started it.

pub(crate) mod forwarder;
pub(crate) mod iceberg_rest;
pub(crate) mod kafka;
pub(crate) mod kubernetes;
pub(crate) mod ministack;
pub(crate) mod process;
pub(crate) mod s3;
pub(crate) mod spoiler;
pub(crate) mod toxiproxy;

use std::time::Duration;

use anyhow::Result;

use process::Process;

/// Waits until `url` answers with success.
async fn await_http(process: &Process, url: &str) -> Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    process
        .await_ready(Duration::from_secs(90), async || {
            Ok(client.get(url).send().await?.status().is_success())
        })
        .await
}
