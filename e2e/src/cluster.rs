//! A Kubernetes cluster whose pods are processes of this machine: control plane and kubelets, started in this process or
//! by the lab, and used as its users do, by kubectl, helm and a client.

mod namespace;
mod services;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::install::e2e_folder;
use crate::kubelet::{Image, Images, Kubelet, KubeletOptions};
use crate::servers::kubernetes::{self as kubernetes_server, ControlPlane};
use crate::tidewater::built;
use crate::{Installation, await_until, kubernetes, tidewater_binary};

use services::Services;

pub use namespace::Namespace;

/// Two, so that pods are spread, evicted and moved as elsewhere.
const NODES: [&str; 2] = ["lab-0", "lab-1"];

/// Who the images of this workspace run as.
const NONROOT: u32 = 65532;

/// How long a cluster that the lab starts may take. The first start builds Kubernetes.
const ANNOUNCEMENT: Duration = Duration::from_secs(1800);

/// Where a cluster is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterAccess {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:<port>`.
    pub server: String,
    /// The certificate of the authority that signed the API server's.
    pub authority: PathBuf,
    /// State and logs: of the control plane, and of every container in `<node>/logs`.
    pub folder: PathBuf,
}

/// A cluster. Dropping one that was started here ends it, its pods included.
#[derive(Debug)]
pub struct Cluster {
    access: ClusterAccess,
    kubernetes: PathBuf,
    helm: PathBuf,
    running: Option<Running>,
}

/// The control plane last: what asks it is dropped before.
#[derive(Debug)]
struct Running {
    _services: Services,
    kubelets: Vec<Kubelet>,
    control_plane: ControlPlane,
}

impl Cluster {
    /// Starts a cluster with its state below `folder`; returns when its nodes take pods. Our kinds are defined.
    pub async fn start(folder: &Path) -> Result<Cluster> {
        let control_plane = Box::pin(ControlPlane::start(folder, &NODES, &definitions()?)).await?;
        let images = images()?;
        let mut kubelets = Vec::new();
        for node in NODES {
            let server = format!("{node}-server");
            let kubelet = Kubelet::start(KubeletOptions {
                node: node.to_owned(),
                kubeconfig: control_plane.kubeconfig(node),
                server: control_plane.server().to_owned(),
                authority: control_plane.certificate("ca"),
                certificate: control_plane.certificate(&server),
                key: control_plane.key(&server),
                folder: folder.join(node),
                images: images.clone(),
            });
            kubelets.push(Box::pin(kubelet).await?);
        }
        let access = ClusterAccess {
            kubeconfig: control_plane.kubeconfig("admin"),
            server: control_plane.server().to_owned(),
            authority: control_plane.certificate("ca"),
            folder: folder.to_owned(),
        };
        let mut cluster = Self::attach(access).await?;
        cluster.running = Some(Running {
            _services: Services::start(&cluster.access.kubeconfig)?,
            kubelets,
            control_plane,
        });
        Ok(cluster)
    }

    /// Starts a cluster and leaves word in the folder, of success or failure, for [`Cluster::announced`].
    pub async fn start_and_announce(folder: &Path) -> Result<Cluster> {
        fs::create_dir_all(folder)?;
        let started = Box::pin(Self::start(folder)).await;
        let (name, text) = match &started {
            Ok(cluster) => (ACCESS, serde_json::to_string_pretty(&cluster.access)?),
            Err(error) => (FAILURE, format!("{error:#}")),
        };
        let draft = folder.join("announcement.draft");
        fs::write(&draft, text)?;
        fs::rename(&draft, folder.join(name))?;
        started
    }

    /// The cluster that another process starts, or has started, in this folder.
    pub async fn announced(folder: &Path) -> Result<Cluster> {
        let (access, failure) = (folder.join(ACCESS), folder.join(FAILURE));
        await_until(ANNOUNCEMENT, "the lab's cluster is up", async || {
            Ok(access.exists() || failure.exists())
        })
        .await?;
        if let Ok(failure) = fs::read_to_string(&failure) {
            bail!("the lab's cluster did not start: {failure}");
        }
        Self::attach(serde_json::from_slice(&fs::read(&access)?)?).await
    }

    async fn attach(access: ClusterAccess) -> Result<Cluster> {
        let installed = Installation::of_cluster().await?;
        Ok(Cluster {
            access,
            kubernetes: installed.folder("kubernetes")?.to_owned(),
            helm: installed.folder("helm")?.to_owned(),
            running: None,
        })
    }

    /// Where it is.
    pub fn access(&self) -> &ClusterAccess {
        &self.access
    }

    /// The control plane, for what only its owner may do to it: start a cluster of your own to break it.
    pub fn control_plane(&self) -> Result<&ControlPlane> {
        let running = self.running.as_ref();
        let running = running.context("this cluster belongs to the lab: start one of your own")?;
        Ok(&running.control_plane)
    }

    /// Every request of a ServiceAccount so far, as the API server's audit log tells them.
    pub fn audited(&self, namespace: &str, account: &str) -> Result<Vec<Value>> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        kubernetes_server::audited(&self.access.folder, &user)
    }

    /// Kills one of the nodes' kubelets with its pods. The node itself stays, and is given up after 50 s.
    pub fn kill_a_node(&mut self) -> Result<()> {
        let running = self
            .running
            .as_mut()
            .context("this cluster belongs to the lab")?;
        running.kubelets.pop().context("no node is left")?;
        Ok(())
    }

    /// A client with every right. Make one per test: its connections belong to the test's runtime.
    pub async fn client(&self) -> Result<Client> {
        kubernetes::client(&self.access.kubeconfig).await
    }

    /// The output of a kubectl command; its failure with what it said.
    pub async fn kubectl<A: AsRef<str>>(&self, arguments: &[A]) -> Result<String> {
        let program = self.kubernetes.join("kubectl");
        Box::pin(self.run(&program, arguments, "")).await
    }

    /// The same with standard input: for `-f -`.
    pub async fn kubectl_with<A: AsRef<str>>(
        &self,
        arguments: &[A],
        input: &str,
    ) -> Result<String> {
        let program = self.kubernetes.join("kubectl");
        Box::pin(self.run(&program, arguments, input)).await
    }

    /// The output of a helm command.
    pub async fn helm<A: AsRef<str>>(&self, arguments: &[A]) -> Result<String> {
        Box::pin(self.run(&self.helm.join("helm"), arguments, "")).await
    }

    /// Installs or upgrades a release and waits until what it made is available.
    pub async fn helm_install(
        &self,
        release: &str,
        namespace: &str,
        chart: &Path,
        values: &Value,
    ) -> Result<String> {
        let chart = chart.display().to_string();
        let arguments = [
            "upgrade",
            "--install",
            release,
            &chart,
            "--namespace",
            namespace,
            "--create-namespace",
            // The kinds were defined before the controllers started, by nobody's release.
            "--take-ownership",
            "--wait",
            "--timeout=2m",
            "--values=-",
        ];
        let helm = self.helm.join("helm");
        Box::pin(self.run(&helm, &arguments, &values.to_string())).await
    }

    async fn run<A: AsRef<str>>(
        &self,
        program: &Path,
        arguments: &[A],
        input: &str,
    ) -> Result<String> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let own = |name: &str| self.access.folder.join(name);
        let mut child = Command::new(program)
            .args(&arguments)
            .env("KUBECONFIG", &self.access.kubeconfig)
            .env("KUBECACHEDIR", own("kubectl-cache"))
            .env("HELM_CACHE_HOME", own("helm/cache"))
            .env("HELM_CONFIG_HOME", own("helm/config"))
            .env("HELM_DATA_HOME", own("helm/data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start '{}'", program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        let (said, errors) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        let name = program.file_name().unwrap_or_default().display();
        let command = arguments.join(" ");
        ensure!(output.status.success(), "{name} {command}: {said}{errors}");
        Ok(said)
    }

    /// A fresh namespace that pods can be created in. It is deleted when the value goes.
    pub async fn namespace(&self) -> Result<Namespace<'_>> {
        Namespace::create(self).await
    }

    /// Variables to work by hand: the kubeconfig, and the programs in the path.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let (kubernetes, helm) = (self.kubernetes.display(), self.helm.display());
        vec![
            ("KUBECONFIG", self.access.kubeconfig.display().to_string()),
            ("PATH", format!("{kubernetes}:{helm}:$PATH")),
        ]
    }
}

const ACCESS: &str = "access.json";
const FAILURE: &str = "failure.txt";

/// The definitions of our kinds.
fn definitions() -> Result<Vec<PathBuf>> {
    let folder = e2e_folder().join("../crds");
    let entries = fs::read_dir(&folder).with_context(|| format!("read '{}'", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    found.sort();
    ensure!(!found.is_empty(), "no definition in '{}'", folder.display());
    Ok(found)
}

/// What runs here: this workspace's programs under the names of their images, and `host`, this machine's own programs.
fn images() -> Result<Images> {
    let program = |name: &str, file: PathBuf| {
        let path = format!("/usr/local/bin/{name}");
        Image {
            entrypoint: vec![path.clone()],
            files: vec![(file, path)],
            user: Some(NONROOT),
        }
    };
    let tidewater = tidewater_binary().or_else(|_| built("tidewater"))?;
    let operator = built("tidewater-operator")?;
    Ok(Images::default()
        .with("tidewater", program("tidewater", tidewater))
        .with(
            "tidewater-operator",
            program("tidewater-operator", operator),
        )
        .with("host", Image::default()))
}
