//! What kube-proxy and the endpoints' controller are elsewhere: every port of a Service's own address is listened on, and
//! leads to a ready pod. Endpoints at loopback addresses are refused by the API server, so a slice of names stands for
//! them; that a Service has pods behind it is all that anybody reads there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Result;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::kubernetes::{self, patient};

/// The Services of a cluster. Dropping it closes their ports.
pub(super) struct Services {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Serves them on a thread of its own: tests come and go with their runtimes, Services stay.
    pub(super) fn start(kubeconfig: &Path) -> Result<Self> {
        let (stop, mut stopped) = watch::channel(false);
        let kubeconfig = kubeconfig.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = async move {
            match kubernetes::client(&kubeconfig).await {
                Ok(client) => Box::pin(serve(client)).await,
                Err(error) => eprintln!("services: {error:#}"),
            }
        };
        let thread = std::thread::Builder::new()
            .name("services".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve => {}
                        _ = stopped.wait_for(|stopped| *stopped) => {}
                    }
                });
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It panicked, and said so, or it is done.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// Where a connection to a port of a Service goes.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    namespace: String,
    selector: BTreeMap<String, String>,
    port: ServicePort,
}

impl Target {
    /// The addresses of the pods that are ready for it.
    fn found(&self, pods: &Store<Pod>) -> Vec<(Ipv4Addr, u16)> {
        let pods = pods.state();
        let mine = pods
            .iter()
            .filter(|pod| pod.namespace().as_deref() == Some(&self.namespace));
        let ready = mine.filter(|pod| {
            let labels = pod.labels();
            let selected = self
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            selected && pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
        });
        ready
            .filter_map(|pod| {
                let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
                Some((address, self.port_of(pod)?))
            })
            .collect()
    }

    fn port_of(&self, pod: &Pod) -> Option<u16> {
        let number = match &self.port.target_port {
            None => self.port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => {
                let containers = &pod.spec.as_ref()?.containers;
                let mut ports = containers.iter().flat_map(|c| c.ports.iter().flatten());
                let named = |port: &&_| {
                    let port: &k8s_openapi::api::core::v1::ContainerPort = port;
                    port.name.as_ref() == Some(name)
                };
                ports.find(named)?.container_port
            }
        };
        u16::try_from(number).ok()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Services that have an address of their own and select pods, port by port.
fn targets(service: &Service) -> Vec<((Ipv4Addr, u16), Target)> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let address = spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok());
    let (Some(address), Some(selector)) = (address, &spec.selector) else {
        return Vec::new();
    };
    let ports = spec.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    tcp.filter_map(|port| {
        let target = Target {
            namespace: service.namespace().unwrap_or_default(),
            selector: selector.clone(),
            port: port.clone(),
        };
        Some(((address, u16::try_from(port.port).ok()?), target))
    })
    .collect()
}

fn followed<K>(client: &Client) -> (Store<K>, impl Stream<Item = ()> + Send + use<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default());
    (store, patient(events.reflect(writer)).map(drop))
}

async fn serve(client: Client) {
    let (services, of_services) = followed::<Service>(&client);
    let (pods, of_pods) = followed::<Pod>(&client);
    let mut changes = Box::pin(stream::select(of_services, of_pods));
    let mut doors: BTreeMap<(Ipv4Addr, u16), Door> = BTreeMap::new();
    let mut told: BTreeMap<(String, String), Value> = BTreeMap::new();
    while changes.next().await.is_some() {
        let mut wanted = BTreeMap::new();
        for service in services.state() {
            let targets = targets(&service);
            if let Some(slice) = slice(&service, &targets, &pods) {
                let key = (service.namespace().unwrap_or_default(), service.name_any());
                if told.get(&key) != Some(&slice) && apply(&client, &key.0, &slice).await {
                    told.insert(key, slice);
                }
            }
            wanted.extend(targets);
        }
        doors.retain(|address, door| wanted.get(address) == Some(&*door.target));
        for (address, target) in wanted {
            if !doors.contains_key(&address)
                && let Some(door) = Door::open(address, target, &pods).await
            {
                doors.insert(address, door);
            }
        }
    }
}

/// A port that is listened on; closed when dropped.
struct Door {
    target: Arc<Target>,
    accepting: AbortHandle,
}

impl Door {
    async fn open(address: (Ipv4Addr, u16), target: Target, pods: &Store<Pod>) -> Option<Self> {
        // Another cluster of this machine may have given the address away, too: the next change tries again.
        let listener = TcpListener::bind(address).await.ok()?;
        let target = Arc::new(target);
        let (leads, pods) = (Arc::clone(&target), pods.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let found = leads.found(&pods);
                let Some(pod) = found.choose(&mut rand::rng()).copied() else {
                    continue;
                };
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(pod).await {
                        // Either side may end it.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Some(Self {
            target,
            accepting: accepting.abort_handle(),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What says that there are pods behind a Service.
fn slice(
    service: &Service,
    targets: &[((Ipv4Addr, u16), Target)],
    pods: &Store<Pod>,
) -> Option<Value> {
    let (_, first) = targets.first()?;
    let pods = first.found(pods);
    let endpoint = |(address, _): &(Ipv4Addr, u16)| {
        let name = format!("{}.pod.invalid", address.to_string().replace('.', "-"));
        json!({"addresses": [name], "conditions": {"ready": true}})
    };
    let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
    let ports: Vec<Value> = targets
        .iter()
        .map(|(_, target)| json!({"name": target.port.name, "port": target.port.port, "protocol": "TCP"}))
        .collect();
    let name = service.name_any();
    Some(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-lab"),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "lab",
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "uid": service.uid(),
            }],
        },
        "addressType": "FQDN",
        "endpoints": endpoints,
        "ports": ports,
    }))
}

async fn apply(client: &Client, namespace: &str, slice: &Value) -> bool {
    let kind = GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice");
    let kind = ApiResource::from_gvk(&kind);
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
    let name = slice["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply("lab").force();
    match api.patch(name, &params, &Patch::Apply(slice)).await {
        Ok(_) => true,
        Err(error) => {
            eprintln!("services: {namespace}/{name}: {error}");
            false
        }
    }
}
