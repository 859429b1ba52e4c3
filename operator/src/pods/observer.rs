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

use super::{Told, last_words, together, told};
use crate::controller::build::PORT;
use crate::controller::{names, watch as watches};
use crate::observations::{Observations, SinkKey, Target};

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
    mut stop: watch::Receiver<bool>,
) -> Store<Pod> {
    let writer = Writer::new(());
    let store = writer.as_reader();
    let config = watcher::Config::default().labels(&names::all_pods());
    let apis = watches::apis(client, namespaces);
    let events = watches::watch(apis, &config, trimmed, store.clone());
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

/// Leaves of a pod what is read of it.
fn trimmed(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.spec = None;
    if let Some(status) = &mut pod.status {
        status.conditions = None;
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
    }
    pod
}

/// Asks the pods of every sink again and again, until told to stop.
pub async fn run(
    observations: Arc<Observations>,
    pods: Store<Pod>,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(pace.timeout)
        .no_proxy()
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

fn by_namespace(pods: Vec<Arc<Pod>>) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut all: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        all.entry(pod.namespace().unwrap_or_default())
            .or_default()
            .push(pod);
    }
    all
}

async fn ask(
    observations: &Observations,
    pods: &[Arc<Pod>],
    client: &reqwest::Client,
    key: SinkKey,
    target: Arc<Target>,
) {
    let mut answers = Vec::new();
    let mut words = Vec::new();
    let sink = format!("{}.{}", key.namespace, key.name);
    for pod in pods
        .iter()
        .filter(|pod| selects(&target.pods, pod) && !is_over(pod))
    {
        words.extend(last_words(pod));
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        if let Some(address) = address {
            // By now the address may be somebody else's.
            let answer = answer(client, &address).await;
            answers.extend(answer.filter(|told| told.sink == sink));
        }
    }
    observations.set_commit(&key, &target.uid, together(answers, words));
}

/// Evicted pods stay for long, and those that are being deleted have a successor: neither speaks for the sink any more.
fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether a selector of the form `key=value,…` takes the pod.
fn selects(selector: &str, pod: &Pod) -> bool {
    selector.split(',').all(|term| {
        term.split_once('=')
            .is_some_and(|(key, value)| pod.labels().get(key).is_some_and(|found| found == value))
    })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_over_speaks_for_nobody() {
        let pod = |value| -> Pod { serde_json::from_value(value).unwrap() };
        for over in [
            json!({"metadata": {}, "status": {"phase": "Failed", "podIP": "10.0.0.1"}}),
            json!({"metadata": {}, "status": {"phase": "Succeeded"}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
        ] {
            assert!(is_over(&pod(over.clone())), "{over}");
        }
        assert!(!is_over(&pod(
            json!({"metadata": {}, "status": {"phase": "Running"}})
        )));
    }

    #[test]
    fn a_pod_is_a_sinks_when_every_label_of_the_selector_is_its_own() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"labels": {"a": "1", "b": "2", "c": "3"}},
        }))
        .unwrap();
        assert!(selects("a=1,b=2", &pod));
        assert!(!selects("a=1,b=3", &pod));
        assert!(!selects("d=1", &pod));
        assert!(!selects("", &pod));
    }
}
