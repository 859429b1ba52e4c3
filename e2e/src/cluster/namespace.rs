//! A namespace of one test: what it applies, waits for and looks at.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Cluster;
use crate::kubernetes::patient;

/// A namespace. It is deleted, and its pods ended, when the value goes; nobody waits for that.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    pub(super) async fn create(cluster: &'a Cluster) -> Result<Self> {
        let name = format!("t{:08x}", rand::random::<u32>());
        cluster.kubectl(&["create", "namespace", &name]).await?;
        let namespace = Namespace { cluster, name };
        // Pods are refused until the controllers have made the account.
        let within = Duration::from_secs(60);
        namespace
            .await_that::<ServiceAccount>("default", "exists", within, |_| true)
            .await?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The output of a kubectl command in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Box::pin(self.cluster.kubectl(&self.here(arguments))).await
    }

    /// Applies YAML or JSON as a user does, fields checked strictly.
    pub async fn apply(&self, text: &str) -> Result<String> {
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--filename=-",
        ];
        let arguments = self.here(&arguments);
        Box::pin(self.cluster.kubectl_with(&arguments, text)).await
    }

    /// How what is stored differs from this YAML or JSON, were it applied; nothing when it does not.
    pub async fn differences(&self, text: &str) -> Result<String> {
        let arguments = ["diff", "--server-side", "--force-conflicts", "--filename=-"];
        // It fails when there is a difference, which stands in what it said then.
        match Box::pin(self.cluster.kubectl_with(&self.here(&arguments), text)).await {
            Ok(said) => Ok(said),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    fn here(&self, arguments: &[&str]) -> Vec<String> {
        let place = format!("--namespace={}", self.name);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        [place].into_iter().chain(arguments).collect()
    }

    /// `kubectl wait --for=condition=<condition> <object>`; a failure tells how the namespace looks.
    pub async fn await_condition(
        &self,
        object: &str,
        condition: &str,
        within: Duration,
    ) -> Result<()> {
        let wanted = format!("--for=condition={condition}");
        let limit = format!("--timeout={}s", within.as_secs());
        match self.kubectl(&["wait", &wanted, &limit, object]).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(self.described().await)),
        }
    }

    /// A client's view of the objects of a kind in this namespace.
    pub async fn api<K>(&self) -> Result<Api<K>>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Ok(Api::namespaced(self.cluster.client().await?, &self.name))
    }

    /// Waits until an object is there and is as wanted, and gives it. `what` says what is waited for.
    pub async fn await_that<K>(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&K) -> bool,
    ) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K: Send + 'static,
        K::DynamicType: Default,
    {
        let mut last = None;
        let found = {
            let mut objects = pin!(patient(watch_object(self.api::<K>().await?, name)));
            let mut find = async || {
                loop {
                    match objects.next().await {
                        Some(Some(object)) if wanted(&object) => return Ok(object),
                        Some(object) => last = object,
                        None => return Err(anyhow!("the watch ended")),
                    }
                }
            };
            timeout(within, Box::pin(find())).await
        };
        match found {
            Ok(found) => found,
            Err(_) => {
                let kind = K::kind(&K::DynamicType::default()).into_owned();
                let error =
                    anyhow!("{kind} {name}: {what}: not within {within:?}; last: {last:#?}");
                Err(error.context(self.described().await))
            }
        }
    }

    /// How the namespace looks: objects, events, ends of the containers' logs. For the error of a test.
    pub async fn described(&self) -> String {
        let objects = "pods,deployments,replicasets,jobs,horizontalpodautoscalers,ks3,icet";
        let commands: [&[&str]; 2] = [
            &["get", objects, "--output=wide"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ];
        let mut text = format!("namespace {}:\n", self.name);
        for command in commands {
            let answer = self.kubectl(command).await;
            text += &answer.unwrap_or_else(|error| format!("{error:#}\n"));
        }
        text + &self.logs()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        let folder = &self.cluster.access.folder;
        for node in super::NODES {
            let pods = fs::read_dir(folder.join(node).join("logs"));
            for pod in pods.into_iter().flatten().flatten() {
                let name = pod.file_name().to_string_lossy().into_owned();
                if name.starts_with(&format!("{}_", self.name)) {
                    text += &tails(&pod.path(), &name);
                }
            }
        }
        text
    }

    /// The whole log of a container of a pod, by kubectl.
    pub async fn log(&self, pod: &str) -> Result<String> {
        let log = self.kubectl(&["logs", pod]).await;
        log.with_context(|| format!("the log of {pod}"))
    }
}

/// The last lines of each log of a pod.
fn tails(folder: &Path, pod: &str) -> String {
    let mut text = String::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let log = fs::read(file.path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        text += &format!("--- {pod}/{}\n", file.file_name().display());
        text += &last.join("\n");
        text.push('\n');
    }
    text
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let kubectl = self.cluster.kubernetes.join("kubectl");
        // A namespace that stays goes with the cluster.
        let _ = std::process::Command::new(kubectl)
            .args([
                "delete",
                "namespace",
                &self.name,
                "--wait=false",
                "--request-timeout=10s",
            ])
            .env("KUBECONFIG", &self.cluster.access.kubeconfig)
            .env(
                "KUBECACHEDIR",
                self.cluster.access.folder.join("kubectl-cache"),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
