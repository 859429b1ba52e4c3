//! Watches: all namespaces at once, or each of a list by itself and merged, as one stream of events for one store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::core::DynamicResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tidewater_runtime::errors::OneLine;

use crate::watching::{Watch, Watching};

/// Events of a watch.
pub type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// One API for all namespaces, or one for each of `namespaces`.
pub fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if namespaces.is_empty() {
        return vec![Api::all(client.clone())];
    }
    let api = |namespace: &String| Api::namespaced(client.clone(), namespace);
    namespaces.iter().map(api).collect()
}

/// The same for a kind that is known at run time only.
pub fn dynamic_apis<K>(client: &Client, namespaces: &[String], kind: &K::DynamicType) -> Vec<Api<K>>
where
    K: Resource<Scope = DynamicResourceScope>,
{
    if namespaces.is_empty() {
        return vec![Api::all_with(client.clone(), kind)];
    }
    let api = |namespace: &String| Api::namespaced_with(client.clone(), namespace, kind);
    namespaces.iter().map(api).collect()
}

/// Objects in one answer to a list. A page is held as text, as objects and as what is kept of them at the same time.
const PAGE: u32 = 50;

/// How a kind's watches fare, each by itself.
#[derive(Clone, Debug)]
pub struct Told {
    pub watching: Arc<Watching>,
    /// Plural name of the kind.
    pub resource: String,
}

impl Told {
    pub fn of<K: Resource<DynamicType = ()>>(watching: &Arc<Watching>) -> Self {
        Self {
            watching: Arc::clone(watching),
            resource: K::plural(&()).into_owned(),
        }
    }

    /// Tells of the watch of a resource, by its path, what its events say.
    pub fn hears<T: Send + 'static>(
        &self,
        path: &str,
        events: impl Stream<Item = Result<T, watcher::Error>> + Send + 'static,
        tells: impl Fn(&T) -> bool + Send + 'static,
    ) -> BoxStream<'static, Result<T, watcher::Error>> {
        let watch = Watch {
            resource: self.resource.clone(),
            namespace: namespace(path).to_owned(),
        };
        let watching = Arc::clone(&self.watching);
        watching.begun(&watch, Instant::now());
        let note = move |event: &Result<T, watcher::Error>| match event {
            Ok(event) if tells(event) => watching.heard(&watch),
            Ok(_) => {}
            Err(error) => watching.failed(&watch, OneLine(error).to_string(), Instant::now()),
        };
        events.inspect(note).boxed()
    }
}

/// The namespace in the path of a resource; empty where it has none.
fn namespace(path: &str) -> &str {
    let below = path.split_once("/namespaces/").map(|(_, below)| below);
    below
        .and_then(|below| below.split('/').next())
        .unwrap_or_default()
}

/// That a listing begins is said before the API server has answered.
pub fn tells<K>(event: &Event<K>) -> bool {
    match event {
        Event::InitDone | Event::Apply(_) | Event::Delete(_) => true,
        Event::Init | Event::InitApply(_) => false,
    }
}

/// Watches `apis`, each trying again by itself, and makes of every object what is to be kept of it. `kept` is the store
/// that the events go to.
pub fn watch<Raw, K>(
    apis: Vec<Api<Raw>>,
    config: &watcher::Config,
    told: &Told,
    keep: impl Fn(Raw) -> K + Clone + Send + 'static,
    kept: Store<K>,
) -> Events<K>
where
    Raw: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    let count = apis.len();
    let streams = apis.into_iter().enumerate().map(|(source, api)| {
        let keep = keep.clone();
        let events = watcher(api.clone(), config.clone().page_size(PAGE)).default_backoff();
        told.hears(api.resource_url(), events, tells)
            .map(move |event| (source, event.map(|event| mapped(event, &keep))))
            .boxed()
    });
    let mut streams: Vec<_> = streams.collect();
    if count == 1
        && let Some(only) = streams.pop()
    {
        return only.map(|(_, event)| event).boxed();
    }
    let merge = Merge::new(count);
    stream::select_all(streams)
        .scan((merge, kept), |(merge, kept), (source, event)| {
            let others = |namespaces: &dyn Fn(&str) -> bool| {
                kept.state_filter(|object| {
                    namespaces(
                        Resource::meta(object)
                            .namespace
                            .as_deref()
                            .unwrap_or_default(),
                    )
                })
                .iter()
                .map(|object| K::clone(object))
                .collect()
            };
            let events = merge.step(source, event, others);
            futures::future::ready(Some(stream::iter(events)))
        })
        .flatten()
        .boxed()
}

fn mapped<Raw, K>(event: Event<Raw>, keep: &impl Fn(Raw) -> K) -> Event<K> {
    match event {
        Event::Apply(object) => Event::Apply(keep(object)),
        Event::Delete(object) => Event::Delete(keep(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(keep(object)),
        Event::InitDone => Event::InitDone,
    }
}

/// Several watches as one. A store takes everything it held for gone when a listing starts anew: so each listing of one
/// source goes on as one of all, with what is known of the others.
struct Merge<K> {
    sources: Vec<Source<K>>,
    /// Whether every source was heard of once.
    complete: bool,
}

struct Source<K> {
    /// A listing that has not ended, or that the others' first ones are waited for with.
    listing: Option<BTreeMap<String, K>>,
    /// Whether a listing ended, or failed: a namespace that cannot be read must not keep the others waiting.
    heard: bool,
    namespaces: Vec<String>,
}

impl<K: Resource + Clone> Merge<K> {
    fn new(sources: usize) -> Self {
        let source = || Source {
            listing: Some(BTreeMap::new()),
            heard: false,
            namespaces: Vec::new(),
        };
        Self {
            sources: (0..sources).map(|_| source()).collect(),
            complete: false,
        }
    }

    /// `others` gives what is known of the namespaces for which it is told true.
    fn step<E>(
        &mut self,
        from: usize,
        event: Result<Event<K>, E>,
        others: impl FnOnce(&dyn Fn(&str) -> bool) -> Vec<K>,
    ) -> Vec<Result<Event<K>, E>> {
        let Some(source) = self.sources.get_mut(from) else {
            return Vec::new();
        };
        match event {
            Err(error) => {
                source.heard = true;
                let mut events = vec![Err(error)];
                events.extend(self.first_listing());
                events
            }
            Ok(Event::Init) => {
                source.listing = Some(BTreeMap::new());
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                source.list(object);
                Vec::new()
            }
            Ok(Event::InitDone) if !self.complete => {
                source.heard = true;
                self.first_listing()
            }
            Ok(Event::InitDone) => {
                let listed = source.listing.take().unwrap_or_default();
                let mine = source.namespaces.clone();
                let others = others(&|namespace| !mine.iter().any(|mine| mine == namespace));
                let objects = others.into_iter().chain(listed.into_values());
                listing(objects)
            }
            Ok(event @ (Event::Apply(_) | Event::Delete(_))) if self.complete => {
                if let Event::Apply(object) = &event {
                    source.knows(object);
                }
                vec![Ok(event)]
            }
            // The others have not been listed yet.
            Ok(Event::Apply(object)) => {
                source.list(object);
                Vec::new()
            }
            Ok(Event::Delete(object)) => {
                let name = object.meta().name.clone().unwrap_or_default();
                if let Some(listing) = &mut source.listing {
                    listing.remove(&name);
                }
                Vec::new()
            }
        }
    }

    fn first_listing<E>(&mut self) -> Vec<Result<Event<K>, E>> {
        if self.complete || !self.sources.iter().all(|source| source.heard) {
            return Vec::new();
        }
        self.complete = true;
        let listed = self
            .sources
            .iter_mut()
            .filter_map(|source| source.listing.take());
        let objects: Vec<K> = listed.flat_map(BTreeMap::into_values).collect();
        listing(objects)
    }
}

impl<K: Resource> Source<K> {
    fn list(&mut self, object: K) {
        self.knows(&object);
        let name = object.meta().name.clone().unwrap_or_default();
        self.listing.get_or_insert_default().insert(name, object);
    }

    /// A source is one namespace; which one, its objects tell.
    fn knows(&mut self, object: &K) {
        if let Some(namespace) = &object.meta().namespace
            && !self.namespaces.contains(namespace)
        {
            self.namespaces.push(namespace.clone());
        }
    }
}

fn listing<K, E>(objects: impl IntoIterator<Item = K>) -> Vec<Result<Event<K>, E>> {
    let mut events = vec![Ok(Event::Init)];
    events.extend(
        objects
            .into_iter()
            .map(|object| Ok(Event::InitApply(object))),
    );
    events.push(Ok(Event::InitDone));
    events
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn object(namespace: &str, name: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    /// A store, as far as events go.
    #[derive(Default)]
    struct Kept {
        objects: BTreeMap<(String, String), ConfigMap>,
        fresh: BTreeMap<(String, String), ConfigMap>,
        ready: bool,
    }

    impl Kept {
        fn take(&mut self, event: Event<ConfigMap>) {
            let key = |o: &ConfigMap| {
                let meta = &o.metadata;
                (
                    meta.namespace.clone().unwrap_or_default(),
                    meta.name.clone().unwrap_or_default(),
                )
            };
            match event {
                Event::Apply(o) => drop(self.objects.insert(key(&o), o)),
                Event::Delete(o) => drop(self.objects.remove(&key(&o))),
                Event::Init => self.fresh.clear(),
                Event::InitApply(o) => drop(self.fresh.insert(key(&o), o)),
                Event::InitDone => {
                    self.objects = std::mem::take(&mut self.fresh);
                    self.ready = true;
                }
            }
        }

        fn names(&self) -> Vec<String> {
            self.objects
                .keys()
                .map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect()
        }
    }

    struct Run {
        merge: Merge<ConfigMap>,
        kept: Kept,
    }

    impl Run {
        fn new(sources: usize) -> Self {
            Self {
                merge: Merge::new(sources),
                kept: Kept::default(),
            }
        }

        fn step(&mut self, from: usize, event: Result<Event<ConfigMap>, &'static str>) {
            let kept = &self.kept;
            let others = |matches: &dyn Fn(&str) -> bool| {
                let of = |((namespace, _), object): (&(String, String), &ConfigMap)| {
                    matches(namespace).then(|| object.clone())
                };
                kept.objects.iter().filter_map(of).collect()
            };
            for event in self.merge.step(from, event, others).into_iter().flatten() {
                self.kept.take(event);
            }
        }

        fn list(&mut self, from: usize, namespace: &str, names: &[&str]) {
            self.step(from, Ok(Event::Init));
            for name in names {
                self.step(from, Ok(Event::InitApply(object(namespace, name))));
            }
            self.step(from, Ok(Event::InitDone));
        }
    }

    #[test]
    fn the_store_is_ready_when_every_namespace_was_listed() {
        let mut run = Run::new(2);
        run.list(0, "a", &["1", "2"]);
        run.step(0, Ok(Event::Apply(object("a", "3"))));
        run.step(0, Ok(Event::Delete(object("a", "1"))));
        assert!(!run.kept.ready);
        run.list(1, "b", &["1"]);
        assert!(run.kept.ready);
        assert_eq!(run.kept.names(), ["a/2", "a/3", "b/1"]);
    }

    #[test]
    fn a_namespace_that_cannot_be_read_keeps_nobody_waiting() {
        let mut run = Run::new(2);
        run.list(0, "a", &["1"]);
        run.step(1, Err("forbidden"));
        assert!(run.kept.ready);
        assert_eq!(run.kept.names(), ["a/1"]);
        run.list(1, "b", &["1"]);
        assert_eq!(run.kept.names(), ["a/1", "b/1"]);
    }

    #[test]
    fn a_listing_of_one_namespace_leaves_the_others_as_they_are() {
        let mut run = Run::new(2);
        run.list(0, "a", &["1", "2"]);
        run.list(1, "b", &["1"]);
        run.step(1, Ok(Event::Apply(object("b", "2"))));
        run.list(0, "a", &["2", "4"]);
        assert_eq!(run.kept.names(), ["a/2", "a/4", "b/1", "b/2"]);
        run.list(1, "b", &[]);
        assert_eq!(run.kept.names(), ["a/2", "a/4"]);
        run.list(1, "b", &["5"]);
        run.step(0, Ok(Event::Delete(object("a", "2"))));
        assert_eq!(run.kept.names(), ["a/4", "b/5"]);
    }
}
