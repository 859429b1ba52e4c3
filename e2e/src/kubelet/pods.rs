//! The pods of this node: one task for each, fed with the latest of what the API server says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Context, pod};
use crate::kubernetes::patient;

/// What a pod's task has to know.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    pub(super) pod: Arc<Pod>,
    /// The object is not there any more.
    pub(super) gone: bool,
}

/// Serves the pods of this node, for ever.
pub(super) async fn run(kubelet: Arc<Context>) {
    let api = Api::<Pod>::all(kubelet.client.clone());
    let fields = format!("spec.nodeName={}", kubelet.options.node);
    let config = watcher::Config::default().fields(&fields);
    let mut events = patient(watcher(api, config)).boxed();
    let mut pods = Pods {
        kubelet,
        tasks: JoinSet::new(),
        known: BTreeMap::new(),
        listed: BTreeSet::new(),
    };
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => pods.take(event),
                None => return,
            },
            Some(_) = pods.tasks.join_next() => {}
        }
    }
}

struct Pods {
    kubelet: Arc<Context>,
    tasks: JoinSet<()>,
    /// By uid. A pod stays known when its task is done, until it is gone: its last changes must not start it again.
    known: BTreeMap<String, watch::Sender<Latest>>,
    /// What a list that is coming in has shown.
    listed: BTreeSet<String>,
}

impl Pods {
    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod);
            }
            Event::InitDone => {
                let known: Vec<String> = self.known.keys().cloned().collect();
                for uid in known {
                    if !self.listed.contains(&uid) {
                        self.gone(&uid);
                    }
                }
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.gone(uid);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let latest = Latest {
            pod: Arc::new(pod),
            gone: false,
        };
        if let Some(task) = self.known.get(&uid) {
            task.send_replace(latest);
        } else {
            let (task, changes) = watch::channel(latest);
            self.known.insert(uid, task);
            let pod = pod::run(Arc::clone(&self.kubelet), changes);
            self.tasks.spawn(Box::pin(pod));
        }
    }

    fn gone(&mut self, uid: &str) {
        if let Some(task) = self.known.remove(uid) {
            task.send_modify(|latest| latest.gone = true);
        }
    }
}
