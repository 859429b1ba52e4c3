//! The Iceberg REST catalog: Iceberg's own adapter over SQLite, with faults to order. See
//! `setup/iceberg-rest/LoopbackRestServer.java`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{Launch, Process};
use crate::{Installation, S3Access, free_port};

/// What a catalog offers beyond the plain one.
#[derive(Debug, Clone, Default)]
pub struct IcebergRestOptions {
    /// Demand this bearer token, or one from the OAuth2 endpoint `/v1/oauth/tokens`.
    pub token: Option<String>,
    /// Hand out S3 keys and endpoint with every table.
    pub vend_credentials: bool,
}

/// A catalog of its own database and port.
#[derive(Debug)]
pub struct IcebergRest {
    process: Process,
    uri: String,
}

impl IcebergRest {
    /// Starts a catalog whose tables lie below `warehouse` (`s3://bucket/prefix`; the bucket must exist before a table
    /// is made) and waits until it serves.
    pub async fn start(
        folder: &Path,
        warehouse: &str,
        s3: &S3Access,
        options: &IcebergRestOptions,
    ) -> Result<Self> {
        let installed = Installation::find().await?.folder("iceberg-rest")?;
        let port = free_port()?;
        fs::create_dir_all(folder)?;
        let config = folder.join("catalog.properties");
        fs::write(&config, settings(port, folder, warehouse, s3, options))?;
        let classes = installed.display();
        let process = Launch::new("iceberg-rest", "java", folder)
            .args([
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            ])
            .args(["-cp", &format!("{classes}/classes:{classes}/libs/*")])
            .arg("org.apache.iceberg.rest.LoopbackRestServer")
            .arg(config)
            .start()?;
        let server = IcebergRest {
            process,
            uri: format!("http://127.0.0.1:{port}"),
        };
        server.await_started().await?;
        Ok(server)
    }

    /// The catalog's base URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Spoils the next `count` table requests: see [`crate::Lab::fault`].
    pub async fn fault(&self, mode: &str, count: u32) -> Result<u32> {
        arm(&self.uri, mode, count, "/tables/").await
    }

    /// Handed out with every table from now on, beside and before what is so already.
    pub async fn configure_tables(&self, config: &[(&str, &str)]) -> Result<()> {
        let url = format!("{}/__table-config", self.uri);
        let request = reqwest::Client::builder().no_proxy().build()?.post(url);
        request.query(config).send().await?.error_for_status()?;
        Ok(())
    }

    /// SIGKILL. The tables stay.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// A clean stop.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(10)).await
    }

    /// Starts it again after `kill` or `stop`: the same port, the same tables.
    pub async fn restart(&self) -> Result<()> {
        self.process.start()?;
        self.await_started().await
    }

    async fn await_started(&self) -> Result<()> {
        // Any answer will do: one that demands a token answers 401.
        let address = self.uri.trim_start_matches("http://").to_owned();
        let listening = async || Ok(tokio::net::TcpStream::connect(&address).await.is_ok());
        self.process
            .await_ready(Duration::from_secs(90), listening)
            .await
    }

    /// The server's process: log, pid.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Orders a fault; answers how many requests the last order spoilt.
pub(crate) async fn arm(uri: &str, mode: &str, count: u32, path: &str) -> Result<u32> {
    let url = format!("{uri}/__fault?mode={mode}&count={count}&path={path}");
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(url)
        .send()
        .await?;
    let spoilt = answer.error_for_status()?.text().await?;
    spoilt
        .trim()
        .parse()
        .context("read the number of spoilt requests")
}

fn settings(
    port: u16,
    folder: &Path,
    warehouse: &str,
    s3: &S3Access,
    options: &IcebergRestOptions,
) -> String {
    let database = folder.join("catalog.db");
    let S3Access {
        endpoint,
        access_key,
        secret_key,
        region,
    } = s3;
    // SQLite wants one client at a time.
    let mut text = format!(
        "port={port}
catalog.catalog-impl=org.apache.iceberg.jdbc.JdbcCatalog
catalog.uri=jdbc:sqlite:{}
catalog.clients=1
catalog.jdbc.schema-version=V1
catalog.warehouse={warehouse}
catalog.io-impl=org.apache.iceberg.aws.s3.S3FileIO
catalog.s3.endpoint={endpoint}
catalog.s3.path-style-access=true
catalog.s3.access-key-id={access_key}
catalog.s3.secret-access-key={secret_key}
catalog.client.region={region}
",
        database.display()
    );
    if let Some(token) = &options.token {
        text += &format!("auth.token={token}\n");
    }
    if options.vend_credentials {
        text += &format!(
            "catalog.include-credentials=true
table.s3.endpoint={endpoint}
table.s3.path-style-access=true
table.client.region={region}
"
        );
    }
    text
}
