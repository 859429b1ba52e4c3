//! The controller of both kinds: watches in, reconciles out. One reconcile is fetch → validate → build → apply → status;
//! see [`reconcile`]. Runs until told to stop, and ends what it has begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{
    Action, Config, ReconcileRequest, applier, trigger_owners, trigger_self,
};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{PredicateConfig, WatchStreamExt};
use kube::{Api, Client, Resource};
use tidewater_crds::{IcebergTable, KafkaS3Sink};
use tidewater_runtime::errors::OneLine;
use tokio::sync::{mpsc, watch as signal};

use crate::events::Events;
use crate::metrics::Metrics;
use crate::observations::{Observations, SinkKey};
use crate::settings::Settings;
use crate::watching::Watching;

pub mod apply;
pub mod build;
pub mod config;
mod ending;
pub mod fetch;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod kind;
pub mod live;
pub mod memory;
pub mod names;
pub mod reconcile;
pub mod status;
pub mod table;
pub mod validate;
pub mod watch;

use kind::SinkKind;
use live::{ChildKind, Live};
use memory::Memories;
use table::Tables;
use validate::Claim;
use watch::Told;

/// Reconciles at a time, of each kind.
const CONCURRENCY: u16 = 8;
/// Changes of one resource within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Requests from outside that wait.
const QUEUE: usize = 1024;

/// What `kubectl apply` was last given.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A resource, or why it is none.
pub type Guarded<S> = DeserializeGuard<S>;

/// What all reconciles share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) memories: Memories,
    pub(crate) catalogs: Tables,
    watching: Arc<Watching>,
    sinks: Store<Guarded<KafkaS3Sink>>,
    tables: Store<Guarded<IcebergTable>>,
}

impl Shared {
    /// The consumer groups of all resources of both kinds.
    fn claims(&self) -> Vec<Claim> {
        let mut claims = self::claims(&self.sinks);
        claims.extend(self::claims(&self.tables));
        claims
    }
}

fn claims<S: SinkKind>(store: &Store<Guarded<S>>) -> Vec<Claim> {
    let objects = store.state();
    let sound = objects.iter().filter_map(|object| object.0.as_ref().ok());
    let living = sound.filter(|sink| sink.meta().deletion_timestamp.is_none());
    living.map(Claim::of).collect()
}

/// What the reconciles of one kind share.
pub(crate) struct OfKind {
    pub(crate) shared: Arc<Shared>,
    /// Of the kind's spec.
    pub(crate) schema: serde_json::Value,
    children: BTreeMap<ChildKind, Store<Live>>,
}

impl OfKind {
    /// What was deleted while it was reconciled is not remembered again.
    pub(crate) fn forget_unless_there<S: SinkKind>(
        &self,
        there: &Store<Guarded<S>>,
        key: &SinkKey,
        uid: &str,
    ) {
        let found = there.get(&ObjectRef::new(&key.name).within(&key.namespace));
        let same = |object: &Arc<Guarded<S>>| object.meta().uid.as_deref() == Some(uid);
        let found = found.filter(|object| same(object));
        if let Some(object) = found {
            if let Ok(sink) = &object.0 {
                self.shared.memories.shown(key, uid, sink.status());
            }
        } else {
            self.shared.memories.forget(key, uid);
            self.shared.observations.forget(key, uid);
            self.shared.catalogs.forget(key, uid);
        }
    }

    /// A child as the store holds it.
    pub(crate) fn live(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<live::Facts> {
        let store = self.children.get(&kind)?;
        let reference = ObjectRef::new_with(name, kind.api()).within(namespace);
        Some(store.get(&reference)?.facts())
    }

    /// All ConfigMaps of a resource, as the store holds them.
    pub(crate) fn config_maps(&self, uid: &str) -> Vec<Arc<Live>> {
        let store = self.children.get(&ChildKind::ConfigMap);
        let owned = |live: &Live| live.is_of(uid);
        store.map_or_else(Vec::new, |store| store.state_filter(owned))
    }
}

/// Everything a controller is made of.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) watching: Arc<Watching>,
    /// Resources of which something new was seen.
    pub(crate) changed: mpsc::Receiver<SinkKey>,
}

/// Reconciles both kinds until `stop` turns true; returns when what was begun has ended.
pub(crate) async fn run(parts: Parts, stop: signal::Receiver<bool>) {
    let sinks = Writer::new(());
    let tables = Writer::new(());
    let identity = parts.settings.catalog_identity;
    let shared = Arc::new(Shared {
        events: Events::new(parts.client.clone()),
        client: parts.client,
        settings: parts.settings,
        metrics: parts.metrics,
        catalogs: Tables::new(Arc::clone(&parts.observations), identity),
        observations: parts.observations,
        watching: parts.watching,
        memories: Memories::default(),
        sinks: sinks.as_reader(),
        tables: tables.as_reader(),
    });
    let (of_sinks, sinks_queue) = mpsc::channel(QUEUE);
    let (of_tables, tables_queue) = mpsc::channel(QUEUE);
    let router = Router {
        shared: Arc::clone(&shared),
        queues: [
            (KafkaS3Sink::KIND, of_sinks),
            (IcebergTable::KIND, of_tables),
        ],
    };
    let until = stopped(stop.clone());
    tokio::join!(
        kind::<KafkaS3Sink>(&shared, sinks, sinks_queue, stop.clone()),
        kind::<IcebergTable>(&shared, tables, tables_queue, stop),
        async move {
            tokio::select! {
                () = router.route(parts.changed) => {}
                () = until => {}
            }
        },
    );
}

fn stopped(mut stop: signal::Receiver<bool>) -> BoxFuture<'static, ()> {
    async move {
        // An error: nobody is left who could say so.
        let _ = stop.wait_for(|stop| *stop).await;
    }
    .boxed()
}

/// Brings to the right queue what is not watched by a kind's own watches.
struct Router {
    shared: Arc<Shared>,
    queues: [(&'static str, mpsc::Sender<(String, String)>); 2],
}

impl Router {
    async fn route(self, mut changed: mpsc::Receiver<SinkKey>) {
        let mut secrets = self.secrets();
        loop {
            let keys = tokio::select! {
                Some(key) = changed.recv() => vec![key],
                Some(secret) = secrets.next() => match secret {
                    Ok(secret) => self.naming(&secret.metadata),
                    Err(error) => {
                        tracing::warn!(error = %OneLine(&error), "watch of Secrets");
                        continue;
                    }
                },
                else => return,
            };
            for key in keys {
                for (kind, queue) in &self.queues {
                    if *kind == key.kind {
                        let _ = queue.send((key.namespace.clone(), key.name.clone())).await;
                    }
                }
            }
        }
    }

    /// Secrets that change, by their metadata only.
    fn secrets(&self) -> BoxStream<'static, Result<PartialObjectMeta<Secret>, watcher::Error>> {
        let apis: Vec<Api<PartialObjectMeta<Secret>>> =
            watch::apis(&self.shared.client, &self.shared.settings.namespaces);
        // Helm keeps its releases in Secrets: large, many, and named by nobody.
        let config = watcher::Config::default().fields("type!=helm.sh/release.v1");
        let told = Told::of::<Secret>(&self.shared.watching);
        let streams = apis.into_iter().map(|api| {
            let events = watcher::watcher(api.clone(), config.clone()).default_backoff();
            told.hears(api.resource_url(), events, watch::tells)
                .touched_objects()
                .boxed()
        });
        stream::select_all(streams).boxed()
    }

    fn naming(&self, secret: &ObjectMeta) -> Vec<SinkKey> {
        let name = secret.name.as_deref().unwrap_or_default();
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        let naming = |(kind, _): &(&str, _)| self.shared.memories.naming(kind, namespace, name);
        self.queues.iter().flat_map(naming).collect()
    }
}

/// Reconciles the resources of one kind.
async fn kind<S: SinkKind>(
    shared: &Arc<Shared>,
    writer: Writer<Guarded<S>>,
    queue: mpsc::Receiver<(String, String)>,
    stop: signal::Receiver<bool>,
) {
    let mut triggers: SelectAll<
        BoxStream<'static, Result<ReconcileRequest<Guarded<S>>, watcher::Error>>,
    > = SelectAll::new();
    let store = writer.as_reader();
    triggers.push(resources(shared, writer));
    triggers.push(from_outside(queue));
    let mut children = BTreeMap::new();
    for child in ChildKind::ALL {
        if child == ChildKind::PodMonitor && shared.settings.pod_monitors.is_none() {
            continue;
        }
        let writer = Writer::new(child.api());
        children.insert(child, writer.as_reader());
        let events = child_events::<S>(shared, child, writer.as_reader());
        let touched = events.reflect(writer).touched_objects();
        triggers.push(trigger_owners::<Guarded<S>, _>(touched, (), child.api()).boxed());
    }
    let context = Arc::new(OfKind {
        shared: Arc::clone(shared),
        schema: S::schema(),
        children,
    });
    let (ready, there) = (Arc::clone(&context), store.clone());
    let config = Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let results = applier(
        move |object: Arc<Guarded<S>>, context: Arc<OfKind>| {
            let (ready, there) = (Arc::clone(&ready), there.clone());
            async move {
                ready.complete().await;
                let result = reconcile::reconcile(&object, &context).await;
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                context.forget_unless_there(&there, &key::<S>(object.meta()), uid);
                result
            }
            .boxed()
        },
        |object, error, context| reconcile::failed(&object, error, &context),
        context,
        store,
        triggers.take_until(stopped(stop)),
        config,
    );
    results
        .for_each(|result| {
            if let Err(error) = result {
                // A reconcile's own errors are told where they happen.
                match error {
                    kube::runtime::controller::Error::QueueError(error) => {
                        tracing::warn!(kind = S::KIND, error = %OneLine(&error), "watch");
                    }
                    kube::runtime::controller::Error::RunnerError(error) => {
                        tracing::error!(kind = S::KIND, error = %OneLine(&error), "controller");
                    }
                    _ => {}
                }
            }
            futures::future::ready(())
        })
        .await;
}

impl OfKind {
    /// Waits until all that decisions look at has been listed once: a child that is not in a store yet is not missing, and
    /// an older resource that is not listed yet is one all the same.
    async fn complete(&self) {
        let sinks = self.shared.sinks.wait_until_ready();
        let tables = self.shared.tables.wait_until_ready();
        // An error: the watch has ended, and with it the controller.
        let _ = tokio::join!(sinks, tables);
        for (kind, store) in &self.children {
            // A cluster without this kind never lists it: applying one then says so.
            if *kind != ChildKind::PodMonitor {
                let _ = store.wait_until_ready().await;
            }
        }
    }
}

/// Resources that changed in what a reconcile looks at; a status that was written is none.
fn resources<S: SinkKind>(
    shared: &Arc<Shared>,
    writer: Writer<Guarded<S>>,
) -> BoxStream<'static, Result<ReconcileRequest<Guarded<S>>, watcher::Error>> {
    let apis: Vec<Api<Guarded<S>>> = watch::apis(&shared.client, &shared.settings.namespaces);
    let store = writer.as_reader();
    let (config, told) = (watcher::Config::default(), Told::of::<S>(&shared.watching));
    let events = watch::watch(apis, &config, &told, trimmed, store.clone());
    let shared = Arc::clone(shared);
    let reflected = events.reflect(writer).inspect(move |event| match event {
        Ok(Event::Delete(object)) => {
            let (key, uid) = (key::<S>(object.meta()), object.meta().uid.as_deref());
            shared.memories.forget(&key, uid.unwrap_or_default());
            shared.observations.forget(&key, uid.unwrap_or_default());
            shared.catalogs.forget(&key, uid.unwrap_or_default());
        }
        Ok(Event::Apply(object)) => {
            if let Ok(sink) = &object.0 {
                let (key, uid) = (key::<S>(object.meta()), object.meta().uid.as_deref());
                let status = sink.status();
                shared.memories.shown(&key, uid.unwrap_or_default(), status);
            }
        }
        // What was deleted while nobody watched.
        Ok(Event::InitDone) => {
            let exists = |key: &SinkKey| {
                store
                    .get(&ObjectRef::new(&key.name).within(&key.namespace))
                    .is_some()
            };
            shared.memories.retain(S::KIND, exists);
            shared.observations.retain(S::KIND, exists);
            shared.catalogs.retain(S::KIND, exists);
        }
        _ => {}
    });
    let changed = reflected
        .applied_objects()
        .predicate_filter(looked_at::<S>, PredicateConfig::default());
    trigger_self::<Guarded<S>, _>(changed, ()).boxed()
}

/// Without what only fills memory.
fn trimmed<S: SinkKind>(mut object: Guarded<S>) -> Guarded<S> {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

/// Stands for all of a resource that a reconcile looks at, but its status.
fn looked_at<S: SinkKind>(object: &Guarded<S>) -> Option<u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let metadata = object.meta();
    let annotations = metadata.annotations.as_ref();
    let mut hasher = DefaultHasher::new();
    metadata.generation.hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    annotations
        .and_then(|annotations| annotations.get(names::RECONCILE))
        .hash(&mut hasher);
    object.0.is_ok().hash(&mut hasher);
    Some(hasher.finish())
}

pub(crate) fn key<S: SinkKind>(metadata: &ObjectMeta) -> SinkKey {
    SinkKey {
        kind: S::KIND,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

fn from_outside<S: SinkKind>(
    queue: mpsc::Receiver<(String, String)>,
) -> BoxStream<'static, Result<ReconcileRequest<Guarded<S>>, watcher::Error>> {
    stream::unfold(queue, |mut queue| async move {
        let (namespace, name) = queue.recv().await?;
        let request = ObjectRef::<Guarded<S>>::new(&name).within(&namespace);
        Some((Ok(ReconcileRequest::from(request)), queue))
    })
    .boxed()
}

/// Changes of the children of one kind of resources.
fn child_events<S: SinkKind>(
    shared: &Shared,
    child: ChildKind,
    store: Store<Live>,
) -> watch::Events<Live> {
    let (client, namespaces) = (&shared.client, &shared.settings.namespaces);
    let config = watcher::Config::default().labels(&names::children_of(S::KIND));
    // Of each kind of resources by itself: told apart by the resource that they are children of.
    let told = Told {
        watching: Arc::clone(&shared.watching),
        resource: format!("{} of {}", child.api().plural, S::plural(&())),
    };
    match child {
        ChildKind::Deployment => {
            let apis = watch::apis(client, namespaces);
            watch::watch(apis, &config, &told, live::of_deployment, store)
        }
        ChildKind::HorizontalPodAutoscaler => {
            let apis = watch::apis(client, namespaces);
            watch::watch(apis, &config, &told, live::of_autoscaler, store)
        }
        other => {
            let apis = watch::dynamic_apis(client, namespaces, &other.api());
            watch::watch(apis, &config, &told, live::of_metadata, store)
        }
    }
}

/// What a reconcile asks for next.
fn again(pause: Duration) -> Action {
    Action::requeue(memory::spread(pause, rand::random()))
}
