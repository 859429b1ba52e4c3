//! A kubelet whose containers are processes of this machine: enough of one for any ordinary Deployment or Job.
//!
//! It registers a Node, keeps its lease, and takes each pod bound to it through its life: address, volumes, init
//! containers, containers with probes and restarts, status, graceful deletion, logs. A container is the local program of
//! its [`Image`] in a mount namespace of its own, so that `/etc/…`, `/tmp` or a read-only root are the container's and
//! this machine's files stay as they are. Network and processes are the machine's: a pod has a loopback address of its
//! own, and binds to it by `status.podIP`.
//!
//! What it does not do it refuses, by [`unsupported`]; resource limits are told to the container and not enforced. It
//! runs on a thread of its own: tests come and go with their runtimes, pods stay.

mod addresses;
mod board;
mod container;
mod environment;
mod events;
mod expansion;
mod fields;
mod handlers;
mod images;
mod logs;
mod node;
mod objects;
mod pod;
mod pods;
mod probes;
mod quantity;
mod sandbox;
mod status;
mod unsupported;
mod volumes;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

pub use images::{Image, Images};

use addresses::Addresses;
use logs::Logs;

use crate::{kubernetes, os};

/// What a kubelet needs to know.
#[derive(Debug, Clone)]
pub struct KubeletOptions {
    /// The node's name.
    pub node: String,
    /// How to reach the API server, as this node.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:<port>` of the API server, for pods.
    pub server: String,
    /// The authority of the cluster, and the certificate and key the logs are served with.
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Volumes and logs of the pods.
    pub folder: PathBuf,
    /// What an image is here.
    pub images: Images,
}

/// What every part of a running kubelet shares.
struct Context {
    client: Client,
    /// Of probes and hooks.
    http: reqwest::Client,
    recorder: Recorder,
    options: KubeletOptions,
    addresses: Addresses,
    logs: Arc<Logs>,
}

/// A running kubelet. Dropping it kills its containers.
pub struct Kubelet {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Starts a kubelet; returns when its node takes pods.
    pub async fn start(options: KubeletOptions) -> Result<Kubelet> {
        ensure!(
            os::is_root(),
            "pods run in mount namespaces with an overlay of '/': only root may do that here"
        );
        let (stop, stopped) = watch::channel(false);
        let (ready, outcome) = oneshot::channel();
        let node = options.node.clone();
        let thread = std::thread::Builder::new()
            .name(node.clone())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(serve(options, stopped, ready)),
                    Err(error) => {
                        // A starter that is gone has no use for the answer.
                        let _ = ready.send(Err(error.into()));
                    }
                }
            })?;
        let kubelet = Kubelet {
            stop,
            thread: Some(thread),
        };
        timeout(Duration::from_secs(60), outcome)
            .await
            .with_context(|| format!("node '{node}' was not ready within 60 s"))?
            .with_context(|| format!("the kubelet of '{node}' ended"))??;
        Ok(kubelet)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It panicked, and said so, or it is done.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubelet").finish_non_exhaustive()
    }
}

/// Everything the kubelet does, until it is stopped: dropping the futures kills the containers.
async fn serve(
    options: KubeletOptions,
    mut stopped: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<()>>,
) {
    let starting = async {
        let context = Arc::new(context(options).await?);
        let listener = logs::Server::bind(&context.options).await?;
        node::register(&context, listener.port()?).await?;
        anyhow::Ok((context, listener))
    };
    let started = tokio::select! {
        started = Box::pin(starting) => started,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    let (outcome, started) = match started {
        Ok(started) => (Ok(()), Some(started)),
        Err(error) => (Err(error), None),
    };
    // A starter that is gone stops us as well.
    let _ = ready.send(outcome);
    let Some((context, listener)) = started else {
        return;
    };
    let logs = Arc::clone(&context.logs);
    tokio::select! {
        () = node::heartbeat(&context) => {}
        () = pods::run(Arc::clone(&context)) => {}
        () = listener.serve(logs) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn context(options: KubeletOptions) -> Result<Context> {
    let client = kubernetes::client(&options.kubeconfig).await?;
    let reporter = Reporter {
        controller: "lab-kubelet".to_owned(),
        instance: Some(options.node.clone()),
    };
    Ok(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        http: handlers::client()?,
        addresses: Addresses::default(),
        logs: Arc::new(Logs::default()),
        options,
    })
}

/// Says what went wrong and will be tried again. The lab's log is where one looks when a pod does not come up.
fn complain(node: &str, what: &str, error: &dyn fmt::Display) {
    eprintln!("{node}: {what}: {error}");
}
