//! ConfigMaps and Secrets that pods refer to. A node may read those of its own pods only, each by name.

use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::kubernetes::patient;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

/// The name of a ConfigMap or Secret in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl Reference {
    pub(super) fn config_map(name: &str) -> Self {
        Reference {
            kind: Kind::ConfigMap,
            name: name.to_owned(),
        }
    }

    pub(super) fn secret(name: &str) -> Self {
        Reference {
            kind: Kind::Secret,
            name: name.to_owned(),
        }
    }

    /// As the messages of a kubelet name it.
    pub(super) fn described(&self) -> String {
        let kind = match self.kind {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
        };
        format!("{kind} \"{}\"", self.name)
    }
}

pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// What is known: `None` for an object that does not exist.
pub(super) type Objects = BTreeMap<Reference, Option<Data>>;

/// The data of an object, `None` when there is none.
pub(super) async fn fetch(
    client: &Client,
    namespace: &str,
    reference: &Reference,
) -> kube::Result<Option<Data>> {
    let name = &reference.name;
    Ok(match reference.kind {
        Kind::ConfigMap => {
            let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
            api.get_opt(name).await?.map(of_config_map)
        }
        Kind::Secret => {
            let api = Api::<Secret>::namespaced(client.clone(), namespace);
            api.get_opt(name).await?.map(of_secret)
        }
    })
}

/// The object now and after each change, for ever.
pub(super) fn watch(
    client: &Client,
    namespace: &str,
    reference: Reference,
) -> impl Stream<Item = (Reference, Option<Data>)> + Send + use<> {
    let name = reference.name.clone();
    let objects = match reference.kind {
        Kind::ConfigMap => {
            let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
            let objects = patient(watcher::watch_object(api, &name));
            objects.map(|object| object.map(of_config_map)).boxed()
        }
        Kind::Secret => {
            let api = Api::<Secret>::namespaced(client.clone(), namespace);
            let objects = patient(watcher::watch_object(api, &name));
            objects.map(|object| object.map(of_secret)).boxed()
        }
    };
    objects.map(move |data| (reference.clone(), data))
}

fn of_config_map(object: ConfigMap) -> Data {
    let text = object.data.unwrap_or_default().into_iter();
    let text = text.map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter();
    text.chain(binary.map(|(key, value)| (key, value.0)))
        .collect()
}

fn of_secret(object: Secret) -> Data {
    let data = object.data.unwrap_or_default().into_iter();
    data.map(|(key, value)| (key, value.0)).collect()
}

/// What the pod's volumes refer to.
pub(super) fn of_volumes(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        if let Some(source) = &volume.config_map {
            found.insert(Reference::config_map(&source.name));
        }
        if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.as_ref()) {
            found.insert(Reference::secret(name));
        }
        let projections = volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten());
        for projection in projections {
            if let Some(source) = &projection.config_map {
                found.insert(Reference::config_map(&source.name));
            }
            if let Some(source) = &projection.secret {
                found.insert(Reference::secret(&source.name));
            }
        }
    }
    found
}

/// What a container's variables refer to.
pub(super) fn of_variables(container: &Container) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        if let Some(map) = &source.config_map_ref {
            found.insert(Reference::config_map(&map.name));
        }
        if let Some(secret) = &source.secret_ref {
            found.insert(Reference::secret(&secret.name));
        }
    }
    let variables = container.env.iter().flatten();
    for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(map) = &source.config_map_key_ref {
            found.insert(Reference::config_map(&map.name));
        }
        if let Some(secret) = &source.secret_key_ref {
            found.insert(Reference::secret(&secret.name));
        }
    }
    found
}
