//! One pod, from its binding to its end: address, volumes, containers in order, status, deletion.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::board::Board;
use super::container::{self, Deadline, PodContext, Restart};
use super::events::Events;
use super::fields::Fields;
use super::logs::PodLogs;
use super::objects::{self, Data, Objects, Reference};
use super::pods::Latest;
use super::status::{self, Facts};
use super::unsupported::unsupported;
use super::volumes::{Contents, Owner, Tokens, Volumes, tokens};
use super::{Context, complain};

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a pod until it is gone.
pub(super) async fn run(kubelet: Arc<Context>, mut changes: watch::Receiver<Latest>) {
    let latest = changes.borrow_and_update().clone();
    if latest.gone {
        return;
    }
    let phase = latest
        .pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        // It ran to its end under a kubelet before us: whoever deletes it needs nobody.
        return;
    }
    let Some(mut worker) = Worker::new(&kubelet, latest.pod) else {
        complain(&kubelet.options.node, "pod", &"no address is free");
        return;
    };
    worker.live(&mut changes).await;
    worker.tasks.shutdown().await;
    worker.clean_up();
}

struct Worker {
    kubelet: Arc<Context>,
    /// As the API server has it now.
    pod: Arc<Pod>,
    namespace: String,
    name: String,
    uid: String,
    address: Ipv4Addr,
    started: Time,
    shared: Arc<PodContext>,
    board: Arc<Board>,
    objects: Objects,
    tokens: Tokens,
    renew_tokens: Option<Instant>,
    /// The volumes are there, as far as they can be.
    prepared: bool,
    /// Something the volumes are made of has changed since they were written.
    stale: bool,
    launched: BTreeSet<String>,
    tasks: JoinSet<()>,
    stop: watch::Sender<Deadline>,
    published: PodStatus,
}

impl Worker {
    fn new(kubelet: &Arc<Context>, pod: Arc<Pod>) -> Option<Worker> {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let uid = metadata.uid.clone().unwrap_or_default();
        let published = pod.status.clone().unwrap_or_default();
        // A second address would be refused, so one that a kubelet before us gave stays.
        let given = published
            .pod_ip
            .as_ref()
            .and_then(|address| address.parse().ok());
        let address = match given {
            Some(address) => {
                kubelet.addresses.keep(address);
                address
            }
            None => kubelet.addresses.take()?,
        };
        let spec = pod.spec.as_ref();
        let containers = spec.into_iter().flat_map(|spec| {
            spec.init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
        });
        let names = containers.map(|container| container.name.as_str());
        let board = Arc::new(Board::new(names, "ContainerCreating"));
        let folder = kubelet.options.folder.join("pods").join(&uid);
        let short = &uid[..uid.len().min(8)];
        let logs = kubelet
            .options
            .folder
            .join("logs")
            .join(format!("{namespace}_{name}_{short}"));
        kubelet.logs.add(
            &namespace,
            &name,
            PodLogs {
                folder: logs.clone(),
                board: Arc::clone(&board),
            },
        );
        let volumes = Volumes::at(folder.join("volumes"), spec.map(owner).unwrap_or_default());
        let shared = PodContext {
            kubelet: Arc::clone(kubelet),
            pod: Pod::clone(&pod),
            address,
            folder,
            logs,
            volumes,
            board: Arc::clone(&board),
            events: Events::of(kubelet, &pod),
        };
        Some(Worker {
            kubelet: Arc::clone(kubelet),
            namespace,
            name,
            uid,
            address,
            started: Time(Timestamp::now()),
            shared: Arc::new(shared),
            board,
            objects: Objects::new(),
            tokens: Tokens::new(),
            renew_tokens: None,
            prepared: false,
            stale: true,
            launched: BTreeSet::new(),
            tasks: JoinSet::new(),
            stop: watch::channel(None).0,
            published,
            pod,
        })
    }

    /// Until the pod is deleted or gone.
    async fn live(&mut self, changes: &mut watch::Receiver<Latest>) {
        let refused = unsupported(&self.pod);
        let mut objects = self.watch_objects();
        loop {
            self.heed_deletion();
            // The address is told before anything starts: containers are told it, and others find them by it.
            let mut settled = self.publish().await;
            if self.is_deleted() && self.tasks.is_empty() {
                if settled && self.delete().await {
                    return;
                }
                settled = false;
            } else if settled && !self.is_deleted() {
                if refused.is_empty() {
                    settled = Box::pin(self.advance()).await;
                } else {
                    let message = format!("not done by the lab's kubelet: {}", refused.join(", "));
                    self.wait_all("Unsupported", &message);
                }
            }
            let renewal = self.renew_tokens;
            tokio::select! {
                changed = changes.changed() => {
                    let latest = changes.borrow_and_update().clone();
                    if changed.is_err() || latest.gone {
                        return;
                    }
                    self.stale |= latest.pod.metadata.labels != self.pod.metadata.labels
                        || latest.pod.metadata.annotations != self.pod.metadata.annotations;
                    self.pod = latest.pod;
                }
                () = self.board.changed() => {}
                Some((reference, data)) = objects.next() => {
                    self.stale |= self.objects.insert(reference, data.clone()) != Some(data);
                }
                Some(_) = self.tasks.join_next() => {}
                () = sleep(RETRY), if !settled => {}
                () = sleep_until(renewal.unwrap_or_else(Instant::now)), if renewal.is_some() => {
                    self.tokens.clear();
                    self.renew_tokens = None;
                    self.stale = true;
                }
            }
        }
    }

    fn watch_objects(&self) -> BoxStream<'static, (Reference, Option<Data>)> {
        let references = objects::of_volumes(&self.pod).into_iter();
        let watches = references.map(|reference| {
            objects::watch(&self.kubelet.client, &self.namespace, reference).boxed()
        });
        stream::select_all(watches).boxed()
    }

    fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Tells the containers to stop, once. A deadline may come nearer, never go away.
    fn heed_deletion(&self) {
        if !self.is_deleted() {
            return;
        }
        let seconds = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let until = Instant::now() + grace;
        self.stop.send_if_modified(|deadline| {
            let nearer = deadline.is_none_or(|deadline| until < deadline);
            if nearer {
                *deadline = Some(until);
            }
            nearer
        });
    }

    /// Writes the volumes and starts what is due. False: something is missing, to be tried again.
    async fn advance(&mut self) -> bool {
        if self.stale && !self.prepare().await {
            return false;
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        for container in spec.init_containers.iter().flatten() {
            let well = self
                .board
                .one(&container.name)
                .is_some_and(|shown| shown.ended_well());
            if !well {
                self.launch(container, true);
                return true;
            }
        }
        for container in &spec.containers {
            self.launch(container, false);
        }
        true
    }

    fn launch(&mut self, container: &k8s_openapi::api::core::v1::Container, initial: bool) {
        if !self.launched.insert(container.name.clone()) {
            return;
        }
        let restart = Restart::of(&self.pod, initial);
        let pod = Arc::clone(&self.shared);
        let task = container::run(pod, container.clone(), restart, self.stop.subscribe());
        self.tasks.spawn(Box::pin(task));
    }

    /// Writes the volumes. Before the first start all of them have to be there; later the old ones stay until then.
    async fn prepare(&mut self) -> bool {
        if let Err(error) = self.fetch_tokens().await {
            self.waits_for_volumes(&error);
            return false;
        }
        let contents = Contents {
            fields: Fields {
                pod: &self.pod,
                node: &self.kubelet.options.node,
                address: self.address,
            },
            objects: &self.objects,
            tokens: &self.tokens,
        };
        match self.shared.volumes.write(&contents) {
            Ok(()) => {
                self.prepared = true;
                self.stale = false;
                true
            }
            Err(error) => {
                self.waits_for_volumes(&error);
                // With the containers running, what is missing comes by a change; until then it is asked for again.
                self.prepared
            }
        }
    }

    fn waits_for_volumes(&self, error: &str) {
        let message = format!("MountVolume.SetUp failed for {error}");
        if !self.prepared && self.wait_all("ContainerCreating", &message) {
            self.shared.events.warning("FailedMount", message);
        }
    }

    /// Shows that all containers wait, and why; tells whether that is news.
    fn wait_all(&self, reason: &str, message: &str) -> bool {
        let containers = self.board.all();
        let news = containers
            .keys()
            .map(|name| self.board.wait(name, reason, message));
        // All of them, not until the first that is.
        news.fold(false, |any, news| any | news)
    }

    /// Asks for the tokens that the volumes lack, and notes when they have to be renewed.
    async fn fetch_tokens(&mut self) -> Result<(), String> {
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let api = Api::<ServiceAccount>::namespaced(self.kubelet.client.clone(), &self.namespace);
        for wanted in tokens(&self.pod) {
            if self.tokens.contains_key(&wanted) {
                continue;
            }
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: wanted.audience.clone().map(|audience| vec![audience]),
                    expiration_seconds: Some(wanted.seconds),
                    bound_object_ref: Some(BoundObjectReference {
                        kind: Some("Pod".to_owned()),
                        api_version: Some("v1".to_owned()),
                        name: Some(self.name.clone()),
                        uid: Some(self.uid.clone()),
                    }),
                }),
                ..TokenRequest::default()
            };
            let parameters = PostParams::default();
            let answer = api.create_subresource("token", &account, &parameters, &request);
            let answer: TokenRequest = answer.await.map_err(|error| format!("token: {error}"))?;
            let status = answer.status.unwrap_or_default();
            let (Some(token), Some(end)) = (status.token, status.expiration_timestamp) else {
                return Err("token: the answer is empty".to_owned());
            };
            let life = end.0.duration_since(Timestamp::now());
            let life = Duration::try_from(life).unwrap_or_default();
            let renewal = Instant::now() + life.mul_f64(0.8);
            let earlier = self
                .renew_tokens
                .map_or(renewal, |earlier| earlier.min(renewal));
            self.renew_tokens = Some(earlier);
            self.tokens.insert(wanted, token);
        }
        Ok(())
    }

    /// Tells the API server how the pod does, if that has changed. False: it could not be told.
    async fn publish(&mut self) -> bool {
        let over = self.is_deleted() && self.tasks.is_empty();
        let facts = Facts {
            pod: &self.pod,
            shown: &self.board.all(),
            address: self.address,
            started: &self.started,
            over,
            prepared: self.prepared,
        };
        let before = self.published.conditions.as_deref().unwrap_or_default();
        let status = status::status(&facts, before, &Time(Timestamp::now()));
        if status == self.published {
            return true;
        }
        let Some(patch) = patch(&self.uid, &status) else {
            return false;
        };
        let api = Api::<Pod>::namespaced(self.kubelet.client.clone(), &self.namespace);
        let parameters = PatchParams::default();
        let patch = Patch::Strategic(patch);
        let answer = api.patch_status(&self.name, &parameters, &patch);
        match timeout(PATIENCE, Box::pin(answer)).await {
            Ok(Ok(_)) => {
                self.published = status;
                true
            }
            // Gone, or another of the same name: the watch will say so.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => true,
            Ok(Err(error)) => {
                let what = format!("status of {}/{}", self.namespace, self.name);
                complain(&self.kubelet.options.node, &what, &error);
                false
            }
            Err(_) => false,
        }
    }

    /// The last step of a deletion, which is the kubelet's. False: to be tried again.
    async fn delete(&self) -> bool {
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            });
        let api = Api::<Pod>::namespaced(self.kubelet.client.clone(), &self.namespace);
        match timeout(PATIENCE, Box::pin(api.delete(&self.name, &parameters))).await {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(answer))) => matches!(answer.code, 404 | 409),
            _ => false,
        }
    }

    fn clean_up(&self) {
        self.kubelet
            .logs
            .remove(&self.namespace, &self.name, &self.board);
        self.kubelet.addresses.give_back(self.address);
        // Whatever cannot be removed goes with the lab's folder.
        let _ = fs::remove_dir_all(&self.shared.folder);
    }
}

/// The status as a patch: of this pod only, with what is absent now taken away.
fn patch(uid: &str, status: &PodStatus) -> Option<Value> {
    let mut status = serde_json::to_value(status).ok()?;
    for condition in status.get_mut("conditions")?.as_array_mut()? {
        let condition = condition.as_object_mut()?;
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(Value::Null);
        }
    }
    Some(json!({"metadata": {"uid": uid}, "status": status}))
}

/// Who owns the files of the volumes: the pod's group, and the user if all containers name the same.
fn owner(spec: &PodSpec) -> Owner {
    let pod = spec.security_context.as_ref();
    let users: BTreeSet<Option<i64>> = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| {
            let own = container
                .security_context
                .as_ref()
                .and_then(|own| own.run_as_user);
            own.or_else(|| pod.and_then(|pod| pod.run_as_user))
        })
        .collect();
    let number = |id: i64| u32::try_from(id).ok();
    let only = if users.len() == 1 {
        users.into_iter().next().flatten()
    } else {
        None
    };
    Owner {
        user: only.and_then(number),
        group: pod.and_then(|pod| pod.fs_group).and_then(number),
    }
}
