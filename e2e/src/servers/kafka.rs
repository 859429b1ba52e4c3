//! A Kafka broker: one node, KRaft, no topic ever created by accident, nothing ever deleted by age. Others may join it.

pub(crate) mod secured;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;

use super::process::{Launch, Process};
use crate::{Installation, free_port};

/// Where Kafka's own scripts look for the sizes of the heap.
const HEAP_OPTIONS: &str = "KAFKA_HEAP_OPTS";
const HEAP: &str = "-Xms512m -Xmx512m";

const READY: Duration = Duration::from_secs(90);

/// A broker of its own data folder and port.
#[derive(Debug)]
pub struct KafkaServer {
    process: Process,
    bootstrap: String,
    controller: u16,
    /// Its log folder.
    data: PathBuf,
}

impl KafkaServer {
    /// Settings of one that is killed: it is missed after three seconds, by default after nine, and not let in again
    /// before that.
    pub const SOON_MISSED: &str =
        "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n";

    /// Starts a new broker with its data below `folder` and waits until it serves.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "").await
    }

    /// The same, with lines added to `server.properties`; the last setting of a key wins.
    pub async fn start_with(folder: &Path, properties: &str) -> Result<Self> {
        let installed = Installation::find().await?.folder("kafka")?;
        let settings = |_, _| properties.to_owned();
        let format = |data: &Path, _: &Path| copy_formatted(installed, data);
        Self::launch(folder, installed, settings, format).await
    }

    /// Starts a broker that joins this one's cluster, as number `id`, with its data below `folder`. This one stays the
    /// controller.
    pub async fn join(&self, folder: &Path, id: u32, properties: &str) -> Result<Self> {
        let installed = Installation::find().await?.folder("kafka")?;
        let controller = self.controller;
        let settings = |port, _| {
            format!(
                "process.roles=broker
node.id={id}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port}
{properties}"
            )
        };
        let cluster = fs::read_to_string(self.data.join("meta.properties"))?;
        let cluster = cluster
            .lines()
            .find(|line| line.starts_with("cluster.id="))
            .context("a cluster id")?;
        let format = |data: &Path, _: &Path| {
            let directory = cluster_id();
            let text = format!("version=1\n{cluster}\nnode.id={id}\ndirectory.id={directory}\n");
            Ok(fs::write(data.join("meta.properties"), text)?)
        };
        Self::launch(folder, installed, settings, format).await
    }

    /// `more` settings (of the two ports) are added to the plain ones; `format` prepares the log folder for the file of
    /// settings.
    async fn launch(
        folder: &Path,
        installed: &Path,
        more: impl FnOnce(u16, u16) -> String,
        format: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<Self> {
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let (port, controller) = (free_port()?, free_port()?);
        let config = folder.join("server.properties");
        fs::write(
            &config,
            settings(port, controller, &data) + &more(port, controller),
        )?;
        format(&data, &config)?;
        let heap = std::env::var(HEAP_OPTIONS).unwrap_or_else(|_| HEAP.to_owned());
        let process = Launch::new("kafka", "java", folder)
            .args(heap.split_whitespace())
            .args(["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
            .args([
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-Djava.awt.headless=true",
            ])
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                installed.join("log4j2.properties").display()
            ))
            .args([
                "-cp",
                &format!("{}/libs/*", installed.display()),
                "kafka.Kafka",
            ])
            .arg(config)
            .start()?;
        let server = KafkaServer {
            process,
            bootstrap: format!("127.0.0.1:{port}"),
            controller,
            data,
        };
        server.await_started(0).await?;
        Ok(server)
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// SIGKILL. The data stay.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// A clean stop. The data stay.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Starts it again after `kill` or `stop`: the same port, the same data.
    pub async fn restart(&self) -> Result<()> {
        let seen = self.process.log().len();
        self.process.start()?;
        self.await_started(seen).await
    }

    async fn await_started(&self, seen: usize) -> Result<()> {
        let started = async || {
            let log = self.process.log();
            Ok(log
                .get(seen..)
                .is_some_and(|new| new.contains("Kafka Server started")))
        };
        self.process.await_ready(READY, started).await
    }

    /// The broker's process: log, pid.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Copies the formatted log folder of the installation and gives it a cluster id of its own.
fn copy_formatted(installed: &Path, data: &Path) -> Result<()> {
    let template = installed.join("formatted");
    fs::copy(
        template.join("bootstrap.checkpoint"),
        data.join("bootstrap.checkpoint"),
    )
    .context("copy the formatted storage")?;
    let properties: String = fs::read_to_string(template.join("meta.properties"))?
        .lines()
        .filter(|line| !line.starts_with("cluster.id="))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(
        data.join("meta.properties"),
        format!("{properties}cluster.id={}\n", cluster_id()),
    )?;
    Ok(())
}

/// 22 characters, the length of 16 bytes in base64; the last carries 2 bits, so it is one of few.
fn cluster_id() -> String {
    let random = rand::rng().sample_iter(rand::distr::Alphanumeric);
    random.take(21).map(char::from).chain(['w']).collect()
}

fn settings(port: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
default.replication.factor=1
group.initial.rebalance.delay.ms=0
log.message.timestamp.after.max.ms=9223372036854775807
log.retention.hours=-1
log.segment.bytes=268435456
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
",
        data.display()
    )
}
