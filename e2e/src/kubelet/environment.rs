//! A container's environment variables: pure, given the objects they refer to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::expansion::expand;
use super::fields::Fields;
use super::objects::{Data, Objects, Reference};

/// Where programs are looked for, as in most images.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a container, or why it cannot have them. `server`: the API server's address.
pub(super) fn variables(
    container: &Container,
    fields: Fields<'_>,
    objects: &Objects,
    server: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), fields.field("metadata.name")?),
        // The network of these pods, and of all servers beside them, is this machine's loopback.
        (
            "TIDEWATER_REACH_ALLOWED".to_owned(),
            "127.0.0.0/8".to_owned(),
        ),
    ]);
    if let Some((host, port)) = server.trim_start_matches("https://").rsplit_once(':') {
        variables.insert("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned());
        variables.insert("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned());
    }
    for source in container.env_from.iter().flatten() {
        let (reference, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => (Reference::config_map(&map.name), map.optional),
            (None, Some(secret)) => (Reference::secret(&secret.name), secret.optional),
            (None, None) => continue,
        };
        let Some(data) = object(objects, &reference, optional)? else {
            continue;
        };
        let prefix = source.prefix.as_deref().unwrap_or("");
        for (key, value) in data {
            variables.insert(format!("{prefix}{key}"), text(&reference, key, value)?);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => sourced(source, container, fields, objects)?,
            None => {
                let written = variable.value.as_deref().unwrap_or("");
                Some(expand(written, |name| variables.get(name).cloned()))
            }
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// The value from elsewhere; `None` when it is optional and missing.
fn sourced(
    source: &EnvVarSource,
    container: &Container,
    fields: Fields<'_>,
    objects: &Objects,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return fields.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return fields.resource(resource, &container.name).map(Some);
    }
    let (reference, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(map), _) => (Reference::config_map(&map.name), &map.key, map.optional),
        (None, Some(secret)) => (
            Reference::secret(&secret.name),
            &secret.key,
            secret.optional,
        ),
        (None, None) => return Err("a variable has a source that is not known".to_owned()),
    };
    let Some(data) = object(objects, &reference, optional)? else {
        return Ok(None);
    };
    match data.get(key) {
        Some(value) => text(&reference, key, value).map(Some),
        None if optional == Some(true) => Ok(None),
        None => Err(format!(
            "couldn't find key {key} in {}",
            reference.described()
        )),
    }
}

/// The data of an object; `None` when it is optional and missing.
fn object<'a>(
    objects: &'a Objects,
    reference: &Reference,
    optional: Option<bool>,
) -> Result<Option<&'a Data>, String> {
    match objects.get(reference).and_then(Option::as_ref) {
        Some(data) => Ok(Some(data)),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("{} not found", reference.described())),
    }
}

fn text(reference: &Reference, key: &str, value: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(format!("key {key} of {} is no text", reference.described())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn resolved(container: Value) -> Result<BTreeMap<String, String>, String> {
        let mut container = container;
        container["name"] = json!("c");
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let data = |pairs: &[(&str, &str)]| -> Option<Data> {
            let pairs = pairs.iter();
            Some(
                pairs
                    .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                    .collect(),
            )
        };
        let objects = Objects::from([
            (
                Reference::config_map("settings"),
                data(&[("LEVEL", "info"), ("SIZE", "3")]),
            ),
            (
                Reference::secret("lake"),
                data(&[("key", "abc"), ("raw", "\0")]),
            ),
            (Reference::secret("gone"), None),
        ]);
        let fields = Fields {
            pod: &pod,
            node: "lab-0",
            address: Ipv4Addr::new(127, 127, 1, 2),
        };
        variables(&container, fields, &objects, "https://127.0.0.1:6443")
    }

    #[test]
    fn later_variables_win_and_may_name_earlier_ones() {
        let found = resolved(json!({
            "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "APP_"}],
            "env": [
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "ADDRESS", "value": "$(POD_IP):80 $(LATER)"},
                {"name": "LATER", "value": "x"},
                {"name": "APP_SIZE", "value": "5"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "lake", "key": "key"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": true}}},
            ],
        }))
        .unwrap();
        for (name, expected) in [
            ("APP_LEVEL", "info"),
            ("APP_SIZE", "5"),
            ("ADDRESS", "127.127.1.2:80 $(LATER)"),
            ("KEY", "abc"),
            ("HOSTNAME", "p"),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ] {
            assert_eq!(
                found.get(name).map(String::as_str),
                Some(expected),
                "{name}"
            );
        }
        assert!(!found.contains_key("NONE"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (env, expected) in [
            (
                json!({"secretKeyRef": {"name": "gone", "key": "k"}}),
                "secret \"gone\" not found",
            ),
            (
                json!({"secretKeyRef": {"name": "lake", "key": "k"}}),
                "find key k",
            ),
            (
                json!({"secretKeyRef": {"name": "lake", "key": "raw"}}),
                "no text",
            ),
            (json!({"fieldRef": {"fieldPath": "spec.x"}}), "spec.x"),
        ] {
            let error = resolved(json!({"env": [{"name": "V", "valueFrom": env}]})).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
