//! The authorities, certificates and keys of a control plane, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

const SCRIPT: &str = include_str!("certificates.sh");

/// A folder of them.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them for the control plane and `nodes`.
    pub(super) fn make(folder: &Path, nodes: &[&str]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let output = Command::new("sh")
            .args(["-c", SCRIPT, "certificates"])
            .args(nodes)
            .current_dir(folder)
            .output()
            .context("run openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl: {errors}");
        Ok(Certificates {
            folder: folder.to_owned(),
        })
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The key that signs the tokens of service accounts, `key`, or its public half, `pub`.
    pub(super) fn service_accounts(&self, half: &str) -> String {
        let file = self.folder.join(format!("service-accounts.{half}"));
        file.display().to_string()
    }

    /// A kubeconfig with everything in it, so that it can be copied.
    pub(super) fn kubeconfig(&self, user: &str, server: &str) -> Result<String> {
        let encoded = |file: PathBuf| anyhow::Ok(STANDARD.encode(fs::read(file)?));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {
                "server": server,
                "certificate-authority-data": encoded(self.certificate("ca"))?,
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": encoded(self.certificate(user))?,
                "client-key-data": encoded(self.key(user))?,
            }}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        });
        Ok(serde_yaml_ng::to_string(&config)?)
    }
}
