//! Toxiproxy: TCP proxies that cut, delay and swallow. S3 signatures pass when the client's endpoint is the proxy's
//! address, since the signed Host header is forwarded as it is.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use super::process::{Launch, Process};
use crate::{Installation, free_port};

/// The proxy server.
#[derive(Debug)]
pub struct ToxiproxyServer {
    process: Process,
    api: String,
}

impl ToxiproxyServer {
    /// Starts a server without proxies and waits until it serves.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = Installation::find()
            .await?
            .folder("go-tools")?
            .join("toxiproxy-server");
        let port = free_port()?;
        let process = Launch::new("toxiproxy", program, folder)
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .start()?;
        let server = ToxiproxyServer {
            process,
            api: format!("http://127.0.0.1:{port}"),
        };
        super::await_http(&server.process, &format!("{}/version", server.api)).await?;
        Ok(server)
    }

    /// The API's address.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// A client of it.
    pub fn client(&self) -> Toxiproxy {
        Toxiproxy::at(&self.api)
    }

    /// A clean stop.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(5)).await
    }
}

/// A client of a toxiproxy server.
#[derive(Debug, Clone)]
pub struct Toxiproxy {
    api: String,
}

impl Toxiproxy {
    /// A client of the API at this address.
    pub fn at(api: &str) -> Self {
        Toxiproxy {
            api: api.to_owned(),
        }
    }

    /// Puts a proxy in front of `upstream` (`host:port`, or an `http://` endpoint).
    pub async fn proxy(&self, name: &str, upstream: &str) -> Result<Proxy> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let upstream = upstream.trim_start_matches("http://");
        let body = json!({"name": name, "listen": address, "upstream": upstream, "enabled": true});
        call(Method::POST, format!("{}/proxies", self.api), Some(body)).await?;
        Ok(Proxy {
            url: format!("{}/proxies/{name}", self.api),
            address,
        })
    }
}

/// A proxy in front of one address.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    address: String,
}

impl Proxy {
    /// `host:port` of the proxy.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://host:port` of the proxy.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection and refuses new ones.
    pub async fn disable(&self) -> Result<()> {
        self.set_enabled(false).await
    }

    /// Lets connections through again.
    pub async fn enable(&self) -> Result<()> {
        self.set_enabled(true).await
    }

    async fn set_enabled(&self, enabled: bool) -> Result<()> {
        call(
            Method::POST,
            self.url.clone(),
            Some(json!({"enabled": enabled})),
        )
        .await
    }

    /// Adds a toxic, e.g. `toxic("lost-answer", "timeout", "downstream", json!({"timeout": 0}))`. Kinds: `latency`,
    /// `bandwidth`, `slow_close`, `timeout`, `reset_peer`, `slicer`, `limit_data`. A `timeout` downstream is a request
    /// that is carried out and never answered.
    pub async fn toxic(
        &self,
        name: &str,
        kind: &str,
        stream: &str,
        attributes: Value,
    ) -> Result<()> {
        let body = json!({"name": name, "type": kind, "stream": stream, "attributes": attributes});
        call(Method::POST, format!("{}/toxics", self.url), Some(body)).await
    }

    /// Removes a toxic.
    pub async fn remove_toxic(&self, name: &str) -> Result<()> {
        call(Method::DELETE, format!("{}/toxics/{name}", self.url), None).await
    }

    /// Removes the proxy.
    pub async fn remove(self) -> Result<()> {
        call(Method::DELETE, self.url, None).await
    }
}

async fn call(method: Method, url: String, body: Option<Value>) -> Result<()> {
    let mut request = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .request(method, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await?.error_for_status()?;
    Ok(())
}
