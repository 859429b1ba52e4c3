//! A broker that asks who is there: SASL, TLS, both, and TLS with client certificates, each on a listener of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::KafkaServer;
use crate::{Installation, free_port};

/// User and password on the SASL listeners, by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 alike.
pub const SASL_USER: (&str, &str) = ("alice", "alice-secret");

/// A broker with security, besides its plain listener.
#[derive(Debug)]
pub struct SecuredKafka {
    kafka: KafkaServer,
    certificates: PathBuf,
    sasl: u16,
    tls: u16,
    sasl_tls: u16,
    mutual_tls: u16,
}

impl SecuredKafka {
    /// Makes certificates, starts the broker with everything below `folder`, and waits until it serves.
    pub async fn start(folder: &Path) -> Result<Self> {
        let installed = Installation::find().await?.folder("kafka")?;
        let certificates = folder.join("certificates");
        make_certificates(&certificates)?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let [sasl, tls, sasl_tls, mutual_tls] = ports;
        let format = |data: &Path, config: &Path| add_users(installed, data, config);
        let security = |port, controller| settings(port, controller, ports, &certificates);
        let kafka = KafkaServer::launch(folder, installed, security, format).await?;
        Ok(SecuredKafka {
            kafka,
            certificates,
            sasl,
            tls,
            sasl_tls,
            mutual_tls,
        })
    }

    /// The broker; its plain listener serves [`crate::Topic`].
    pub fn plain(&self) -> &KafkaServer {
        &self.kafka
    }

    /// `SASL_PLAINTEXT`.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    /// `SSL`.
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// `SASL_SSL`.
    pub fn sasl_tls(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_tls)
    }

    /// `SSL`, refusing clients without a certificate of the authority.
    pub fn mutual_tls(&self) -> String {
        format!("127.0.0.1:{}", self.mutual_tls)
    }

    /// The authority that signed the broker and the client.
    pub fn authority(&self) -> PathBuf {
        self.certificates.join("ca.pem")
    }

    /// An authority that signed neither.
    pub fn strange_authority(&self) -> PathBuf {
        self.certificates.join("stranger.pem")
    }

    /// Certificate and key of a client.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (
            self.certificates.join("client.pem"),
            self.certificates.join("client.key"),
        )
    }
}

/// Authorities and certificates as PEM, P-256 with PKCS#8 keys; the broker's is good for 127.0.0.1.
fn make_certificates(folder: &Path) -> Result<()> {
    const SCRIPT: &str = r#"
        authority() {
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
        }
        signed() {
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
            printf '%s\n' "$2" >"$1.ext"
            openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.pem"
        }
        set -e
        authority ca
        authority stranger
        signed broker 'subjectAltName=IP:127.0.0.1,DNS:localhost'
        signed client 'extendedKeyUsage=clientAuth'
        cat broker.key broker.pem ca.pem >broker-keystore.pem
    "#;
    fs::create_dir_all(folder)?;
    let output = Command::new("sh")
        .args(["-c", SCRIPT])
        .current_dir(folder)
        .output()
        .context("run openssl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl: {errors}");
    Ok(())
}

/// Formats the log folder with the SCRAM users in it: they cannot be added by a client we have.
fn add_users(installed: &Path, data: &Path, config: &Path) -> Result<()> {
    let (user, password) = SASL_USER;
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(format!("{}/libs/*", installed.display()))
        .args([
            "kafka.tools.StorageTool",
            "format",
            "-t",
            &super::cluster_id(),
            "-c",
        ])
        .arg(config);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        command.args([
            "--add-scram",
            &format!("{mechanism}=[name={user},password={password}]"),
        ]);
    }
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "format '{}': {errors}",
        data.display()
    );
    Ok(())
}

fn settings(port: u16, controller: u16, ports: [u16; 4], certificates: &Path) -> String {
    let [sasl, tls, sasl_tls, mutual_tls] = ports;
    let (user, password) = SASL_USER;
    let clients = format!(
        "PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},\
         SASLTLS://127.0.0.1:{sasl_tls},MTLS://127.0.0.1:{mutual_tls}"
    );
    let mut text = format!(
        "listeners={clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={clients}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,SASLTLS:SASL_SSL,MTLS:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker-keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mtls.ssl.client.auth=required
",
        folder = certificates.display()
    );
    for listener in ["sasl", "sasltls"] {
        text += &format!(
            "listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required username=\"{user}\" password=\"{password}\" user_{user}=\"{password}\";\n"
        );
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            text += &format!(
                "listener.name.{listener}.{mechanism}.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
            );
        }
    }
    text
}
