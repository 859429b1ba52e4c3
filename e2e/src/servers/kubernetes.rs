//! Kubernetes' control plane: etcd, API server, controller manager and scheduler as processes. Nodes are
//! [`crate::kubelet`]'s, so a pod is a process of this machine.
//!
//! Pods have loopback addresses, and an EndpointSlice takes none: Services exist and have ClusterIPs, but no endpoints.

mod certificates;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client};
use serde_json::Value;

use self::certificates::Certificates;
use super::process::{Launch, Process};
use crate::{Installation, await_until, free_port};

const READY: Duration = Duration::from_secs(90);

/// ClusterIPs are loopback addresses too: whatever dials one stays on this machine.
const SERVICES: &str = "127.96.0.0/16";

/// What ServiceAccounts ask for is kept in a file, without contents.
const AUDITED: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts]
    omitManagedFields: true
  - level: None
";
const AUDIT_POLICY: &str = "audit-policy.yaml";
const AUDIT_LOG: &str = "audit.log";

/// What the API server of a control plane in this folder was asked for by a user, in its own words: an event of
/// `audit.k8s.io` for each request.
pub(crate) fn audited(folder: &Path, user: &str) -> Result<Vec<Value>> {
    let log = folder.join(AUDIT_LOG);
    let text = fs::read_to_string(&log).with_context(|| format!("read '{}'", log.display()))?;
    // The last line may not be whole yet.
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(events
        .filter(|event: &Value| event["user"]["username"] == user)
        .collect())
}

/// A control plane of its own folder and ports.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    programs: PathBuf,
    certificates: Certificates,
    server: String,
    etcd: Process,
    api: Process,
    controllers: Process,
    scheduler: Process,
}

impl ControlPlane {
    /// Starts a control plane for `nodes` with its state below `folder`, and waits until workloads can be created.
    /// `definitions` are applied before the controllers start: those look for new kinds every 30 s only.
    pub async fn start(folder: &Path, nodes: &[&str], definitions: &[PathBuf]) -> Result<Self> {
        let programs = Installation::of_cluster()
            .await?
            .folder("kubernetes")?
            .to_owned();
        fs::create_dir_all(folder)?;
        let certificates = Certificates::make(&folder.join("certificates"), nodes)?;

        let etcd_port = free_port()?;
        let etcd = etcd(&programs, folder, etcd_port)?.start()?;
        let health = format!("http://127.0.0.1:{etcd_port}/health");
        super::await_http(&etcd, &health).await?;

        let port = free_port()?;
        let server = format!("https://127.0.0.1:{port}");
        for user in ["admin", "controller-manager", "scheduler"]
            .iter()
            .chain(nodes)
        {
            let text = certificates.kubeconfig(user, &server)?;
            fs::write(kubeconfig(folder, user), text)?;
        }
        fs::write(folder.join(AUDIT_POLICY), AUDITED)?;
        let api = api_server(&programs, folder, &certificates, etcd_port, port).start()?;
        await_api(&api, &server, &certificates).await?;
        apply_definitions(&programs, folder, definitions).await?;

        let controllers = controllers(&programs, folder, &certificates).start()?;
        let scheduler = scheduler(&programs, folder).start()?;
        let control_plane = ControlPlane {
            folder: folder.to_owned(),
            programs,
            certificates,
            server,
            etcd,
            api,
            controllers,
            scheduler,
        };
        control_plane.await_controllers().await?;
        Ok(control_plane)
    }

    /// The kubeconfig of a user: `admin`, or the name of a node.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        kubeconfig(&self.folder, user)
    }

    /// The API server's address, `https://127.0.0.1:<port>`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A certificate that the cluster trusts, by the name of its file: `ca`, `<node>-server`, …
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.certificates.certificate(name)
    }

    /// The key of a certificate.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.certificates.key(name)
    }

    /// SIGKILL to the API server. Everything stored stays.
    pub fn kill_api_server(&self) {
        self.api.kill();
    }

    /// Starts the API server again after `kill_api_server`, on the same port.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.api.start()?;
        await_api(&self.api, &self.server, &self.certificates).await
    }

    /// Stops the controller manager and starts it again: it then knows kinds that were defined since.
    pub async fn restart_controllers(&self) -> Result<()> {
        self.controllers.kill();
        self.controllers.start()?;
        self.await_controllers().await
    }

    /// Kills everything. The state stays in the folder.
    pub fn kill(&self) {
        for process in [&self.scheduler, &self.controllers, &self.api, &self.etcd] {
            process.kill();
        }
    }

    /// A cluster serves workloads once the controllers have made the default namespace's account and root certificate.
    async fn await_controllers(&self) -> Result<()> {
        let ready = async || {
            let wanted = [
                "get",
                "serviceaccount/default",
                "configmap/kube-root-ca.crt",
                "--namespace=default",
            ];
            kubectl(&self.programs, &self.folder, &wanted).await?;
            Ok(true)
        };
        self.controllers.await_ready(READY, ready).await
    }
}

fn kubeconfig(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{user}.kubeconfig"))
}

fn etcd(programs: &Path, folder: &Path, port: u16) -> Result<Launch> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    Ok(Launch::new("etcd", programs.join("etcd"), folder)
        .arg("--name=lab")
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn")
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=lab={peer}")))
}

fn api_server(
    programs: &Path,
    folder: &Path,
    certificates: &Certificates,
    etcd: u16,
    port: u16,
) -> Launch {
    let certificate = |name: &str| certificates.certificate(name).display().to_string();
    let key = |name: &str| certificates.key(name).display().to_string();
    let options = [
        ("etcd-servers", format!("http://127.0.0.1:{etcd}")),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        // It would publish a loopback address as the endpoint of `kubernetes` every 10 s, and be refused.
        ("advertise-address", "127.0.0.1".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("service-cluster-ip-range", SERVICES.to_owned()),
        ("tls-cert-file", certificate("apiserver")),
        ("tls-private-key-file", key("apiserver")),
        ("client-ca-file", certificate("ca")),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        (
            "kubelet-client-certificate",
            certificate("apiserver-to-kubelet"),
        ),
        ("kubelet-client-key", key("apiserver-to-kubelet")),
        ("kubelet-certificate-authority", certificate("ca")),
        (
            "kubelet-preferred-address-types",
            "InternalIP,Hostname".to_owned(),
        ),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc".to_owned(),
        ),
        (
            "service-account-key-file",
            certificates.service_accounts("pub"),
        ),
        (
            "service-account-signing-key-file",
            certificates.service_accounts("key"),
        ),
        (
            "requestheader-client-ca-file",
            certificate("front-proxy-ca"),
        ),
        ("requestheader-allowed-names", "front-proxy".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".to_owned(),
        ),
        ("proxy-client-cert-file", certificate("front-proxy")),
        ("proxy-client-key-file", key("front-proxy")),
        (
            "audit-policy-file",
            folder.join(AUDIT_POLICY).display().to_string(),
        ),
        (
            "audit-log-path",
            folder.join(AUDIT_LOG).display().to_string(),
        ),
        ("profiling", "false".to_owned()),
    ];
    with_options(
        Launch::new("kube-apiserver", programs.join("kube-apiserver"), folder),
        &options,
    )
}

fn controllers(programs: &Path, folder: &Path, certificates: &Certificates) -> Launch {
    let options = [
        (
            "kubeconfig",
            kubeconfig(folder, "controller-manager")
                .display()
                .to_string(),
        ),
        // Endpoints of loopback addresses are refused, and would be tried for ever.
        (
            "controllers",
            "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
                .to_owned(),
        ),
        ("leader-elect", "false".to_owned()),
        // By default 20 requests a second, which makes a start take 5 s.
        ("kube-api-qps", "500".to_owned()),
        ("kube-api-burst", "1000".to_owned()),
        ("secure-port", "0".to_owned()),
        ("profiling", "false".to_owned()),
        // By default a folder of /usr.
        (
            "flex-volume-plugin-dir",
            folder.join("flexvolume").display().to_string(),
        ),
        ("use-service-account-credentials", "true".to_owned()),
        (
            "service-account-private-key-file",
            certificates.service_accounts("key"),
        ),
        (
            "root-ca-file",
            certificates.certificate("ca").display().to_string(),
        ),
        (
            "cluster-signing-cert-file",
            certificates.certificate("ca").display().to_string(),
        ),
        (
            "cluster-signing-key-file",
            certificates.key("ca").display().to_string(),
        ),
        // Autoscaling in seconds instead of minutes.
        ("horizontal-pod-autoscaler-sync-period", "2s".to_owned()),
        (
            "horizontal-pod-autoscaler-downscale-stabilization",
            "4s".to_owned(),
        ),
        (
            "horizontal-pod-autoscaler-initial-readiness-delay",
            "1s".to_owned(),
        ),
        (
            "horizontal-pod-autoscaler-cpu-initialization-period",
            "1s".to_owned(),
        ),
    ];
    let program = programs.join("kube-controller-manager");
    with_options(
        Launch::new("kube-controller-manager", program, folder),
        &options,
    )
}

fn scheduler(programs: &Path, folder: &Path) -> Launch {
    let options = [
        (
            "kubeconfig",
            kubeconfig(folder, "scheduler").display().to_string(),
        ),
        ("leader-elect", "false".to_owned()),
        ("kube-api-qps", "500".to_owned()),
        ("kube-api-burst", "1000".to_owned()),
        ("secure-port", "0".to_owned()),
        ("profiling", "false".to_owned()),
    ];
    with_options(
        Launch::new("kube-scheduler", programs.join("kube-scheduler"), folder),
        &options,
    )
}

fn with_options(launch: Launch, options: &[(&str, String)]) -> Launch {
    launch.args(
        options
            .iter()
            .map(|(name, value)| format!("--{name}={value}")),
    )
}

/// Anybody may ask `/readyz`.
async fn await_api(api: &Process, server: &str, certificates: &Certificates) -> Result<()> {
    let authority = Certificate::from_pem(&fs::read(certificates.certificate("ca"))?)?;
    let client = Client::builder()
        .no_proxy()
        .add_root_certificate(authority)
        .timeout(Duration::from_secs(5))
        .build()?;
    let url = format!("{server}/readyz");
    let ready = async || Ok(client.get(&url).send().await?.status().is_success());
    api.await_ready(READY, ready).await
}

async fn apply_definitions(programs: &Path, folder: &Path, definitions: &[PathBuf]) -> Result<()> {
    if definitions.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["apply".to_owned(), "--server-side".to_owned()];
    for definition in definitions {
        arguments.push(format!("--filename={}", definition.display()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wait = [
        "wait",
        "--for=condition=Established",
        "--all",
        "--timeout=60s",
        "customresourcedefinitions",
    ];
    // The API server says it is ready a moment before it has made its own roles, and a fresh definition has no
    // conditions that could be waited for.
    await_until(READY, "custom resources defined", async || {
        kubectl(programs, folder, &arguments).await?;
        kubectl(programs, folder, &wait).await?;
        Ok(true)
    })
    .await
}

/// One of the administrator's commands, for its success only.
async fn kubectl(programs: &Path, folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = tokio::process::Command::new(programs.join("kubectl"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig(folder, "admin"))
        .env("KUBECACHEDIR", folder.join("kubectl-cache"))
        .kill_on_drop(true)
        .output()
        .await
        .context("run kubectl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kubectl {}: {errors}",
        arguments.join(" ")
    );
    Ok(())
}
