//! Where a secret value comes from. Values themselves never stand in a resource.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key of a Secret in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret. Example: `orders-kafka`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret. Example: `password`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A value that is read from a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FromSecret {
    /// The Secret's name and key. Example: `{name: orders-kafka, key: password}`.
    pub secret_key_ref: SecretKeyRef,
}

/// A certificate in PEM form: public, so it may stand in the resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.pem) != has(self.secretKeyRef)").message("give exactly one of pem and secretKeyRef"))]
pub struct Certificate {
    /// The certificate itself, one or more PEM blocks. Example: `-----BEGIN CERTIFICATE-----…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub pem: Option<String>,
    /// The Secret's name and key. Example: `{name: kafka-ca, key: ca.crt}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A text that may be secret: plain or read from a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.value) != has(self.secretKeyRef)").message("give exactly one of value and secretKeyRef"))]
pub struct MaybeSecret {
    /// The value itself, when it is no secret. Example: `analytics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// The Secret's name and key. Example: `{name: catalog, key: api-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}
