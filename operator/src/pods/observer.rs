//! Asks the pods of every sink how they fare: HTTP to the pod's own address, a few at once. Pods are watched, trimmed to
//! what is read of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tidewater_runtime::errors::OneLine;
use tokio::sync::watch;

use super::live::LivePod;
use super::{Told, last_words, together, told};
use crate::controller::build::PORT;
use crate::controller::{names, watch as watches};
use crate::observations::{Observations, SinkKey, Target};
use crate::watching::Watching;

/// Longest answer that is read: a page of ten thousand partitions.
const LONGEST: usize = 4 << 20;

/// Bounds of the observer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two rounds over all sinks.
    pub interval: Duration,
    /// Pods asked at once.
    pub at_once: usize,
    /// Of one question.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            at_once: 16,
            timeout: Duration::from_secs(3),
        }
    }
}

/// The pods of every sink, as they are now and will be: what is read of them, kept up to date until told to stop.
pub fn watched(
    client: &Client,
    namespaces: &[String],
    watching: &Arc<Watching>,
    mut stop: watch::Receiver<bool>,
) -> Store<LivePod> {
    let writer = Writer::new(());
    let store = writer.as_reader();
    let config = watcher::Config::default().labels(&names::all_pods());
    let apis = watches::apis(client, namespaces);
    let told = watches::Told::of::<Pod>(watching);
    let events = watches::watch(apis, &config, &told, LivePod::of, store.clone());
    let mut events = events.reflect(writer).boxed();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::warn!(error = %OneLine(&error), "watch pods"),
                    None => return,
                },
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    });
    store
}

/// Asks the pods of every sink again and again, until told to stop.
pub async fn run(
    observations: Arc<Observations>,
    pods: Store<LivePod>,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(pace.timeout)
        .no_proxy()
        // A connection kept for each of hundreds of pods would be most of the operator's memory.
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut ticks = tokio::time::interval(pace.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        let all = by_namespace(pods.state());
        let none = Vec::new();
        let round = futures::stream::iter(observations.targets()).for_each_concurrent(
            pace.at_once,
            |(key, target)| {
                let near = all.get(&key.namespace).unwrap_or(&none);
                ask(&observations, near, &client, key, target)
            },
        );
        tokio::select! {
            () = round => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

fn by_namespace(pods: Vec<Arc<LivePod>>) -> BTreeMap<String, Vec<Arc<LivePod>>> {
    let mut all: BTreeMap<String, Vec<Arc<LivePod>>> = BTreeMap::new();
    for pod in pods {
        all.entry(pod.namespace().unwrap_or_default())
            .or_default()
            .push(pod);
    }
    all
}

async fn ask(
    observations: &Observations,
    pods: &[Arc<LivePod>],
    client: &reqwest::Client,
    key: SinkKey,
    target: Arc<Target>,
) {
    let mut answers = Vec::new();
    let mut words = Vec::new();
    let sink = format!("{}.{}", key.namespace, key.name);
    for pod in pods
        .iter()
        .filter(|pod| pod.is_taken_by(&target.pods) && !pod.is_over())
    {
        words.extend(last_words(pod));
        if let Some(address) = &pod.status.pod_ip {
            // By now the address may be somebody else's.
            let answer = answer(client, address).await;
            answers.extend(answer.filter(|told| told.sink == sink));
        }
    }
    observations.set_commit(&key, &target.uid, together(answers, words));
}

async fn answer(client: &reqwest::Client, address: &str) -> Option<Told> {
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let mut response = client
        .get(format!("http://{host}:{PORT}/status"))
        .send()
        .await
        .ok()?;
    let mut page = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        page.extend_from_slice(&chunk);
        if page.len() > LONGEST {
            return None;
        }
    }
    told(&page)
}
