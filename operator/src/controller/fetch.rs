//! What a spec is judged by and the stores do not hold: the Secrets it names. Client; changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::{Api, Client};
use tidewater_runtime::plan::Secret;

use super::validate::{FetchedSecrets, SecretFacts};

/// The Secrets of those names that exist.
///
/// # Errors
/// The first call that failed; a Secret that is not there is none.
pub async fn secrets(
    client: &Client,
    namespace: &str,
    names: &BTreeSet<String>,
) -> Result<FetchedSecrets, kube::Error> {
    let api = Api::<KubeSecret>::namespaced(client.clone(), namespace);
    let mut fetched = BTreeMap::new();
    for name in names {
        if let Some(secret) = api.get_opt(name).await? {
            fetched.insert(name.clone(), facts(secret));
        }
    }
    Ok(fetched)
}

/// Values as a pod reads them from its files: texts only, without one line break at the end.
fn facts(secret: KubeSecret) -> SecretFacts {
    let text = |bytes: Vec<u8>| {
        let mut text = String::from_utf8(bytes).ok()?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Some(Secret::new(text))
    };
    SecretFacts {
        version: secret.metadata.resource_version.unwrap_or_default(),
        values: secret
            .data
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key, text(value.0)?)))
            .collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secrets_values_are_what_the_pod_reads() {
        // "open sesame\n", "x\r\n", bytes that are no text
        let secret = serde_json::from_value(json!({
            "metadata": {"name": "s", "resourceVersion": "12"},
            "data": {"a": "b3BlbiBzZXNhbWUK", "b": "eA0K", "c": "/w=="},
        }));
        let facts = facts(secret.unwrap());
        assert_eq!(facts.version, "12");
        let values: Vec<_> = facts
            .values
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()))
            .collect();
        assert_eq!(values, [("a", "open sesame"), ("b", "x")]);
        assert!(!format!("{facts:?}").contains("sesame"));
    }
}
