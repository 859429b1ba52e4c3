//! `spec.source.security` folded into librdkafka's properties. Pure.

use std::collections::BTreeMap;

use tidewater_crds::{
    Certificate, EndpointIdentification, FromSecret, SaslMechanism, SaslSpec, SecurityProtocol,
    SourceSpec, TlsSpec,
};

use crate::plan::problem::Checks;
use crate::plan::secrets::{Secrets, resolve, resolve_from};
use crate::plan::{Property, Secret};

const PATH: &str = "spec.source.security";

pub(super) fn fold(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    spec: &SourceSpec,
    properties: &mut BTreeMap<String, Property>,
) {
    let Some(security) = &spec.security else {
        return;
    };
    let (protocol, with_sasl, with_tls) = match security.protocol {
        SecurityProtocol::Plaintext => ("plaintext", false, false),
        SecurityProtocol::Ssl => ("ssl", false, true),
        SecurityProtocol::SaslPlaintext => ("sasl_plaintext", true, false),
        SecurityProtocol::SaslSsl => ("sasl_ssl", true, true),
    };
    properties.insert("security.protocol".into(), Property::Plain(protocol.into()));
    if (with_sasl || with_tls) && !cfg!(feature = "cloud") {
        let remedy = "this build has no TLS and SASL: use one with feature \"cloud\"";
        checks.add(format!("{PATH}.protocol"), protocol, remedy);
    }
    if security.sasl.is_some() != with_sasl {
        let remedy = "sasl is needed with SaslPlaintext and SaslSsl, and only with them";
        checks.add(format!("{PATH}.sasl"), "", remedy);
    }
    if security.tls.is_some() && !with_tls {
        let remedy = "tls goes with Ssl and SaslSsl only: change the protocol, or remove it";
        checks.add(format!("{PATH}.tls"), "", remedy);
    }
    if let Some(sasl) = &security.sasl {
        fold_sasl(checks, secrets, sasl, properties);
    }
    if let Some(tls) = &security.tls {
        fold_tls(checks, secrets, tls, properties);
    }
}

fn fold_sasl(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    sasl: &SaslSpec,
    properties: &mut BTreeMap<String, Property>,
) {
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::Gssapi => "GSSAPI",
    };
    properties.insert("sasl.mechanism".into(), Property::Plain(mechanism.into()));
    let wanted = sasl.mechanism != SaslMechanism::Gssapi;
    for (name, given) in [
        ("username", sasl.username.is_some()),
        ("password", sasl.password.is_some()),
    ] {
        if given != wanted {
            let remedy = if wanted {
                format!("required with {mechanism}: give it a value")
            } else {
                format!("does not go with {mechanism}: remove it")
            };
            checks.add(format!("{PATH}.sasl.{name}"), "", remedy);
        }
    }
    if let Some(username) = &sasl.username {
        properties.insert("sasl.username".into(), Property::Plain(username.clone()));
    }
    if let Some(password) = &sasl.password {
        let password = resolve_from(checks, secrets, &format!("{PATH}.sasl.password"), password);
        properties.insert("sasl.password".into(), Property::Secret(password));
    }
}

fn fold_tls(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    tls: &TlsSpec,
    properties: &mut BTreeMap<String, Property>,
) {
    if tls.certificate.is_some() != tls.key.is_some() {
        let (missing, present) = if tls.key.is_none() {
            ("key", "certificate")
        } else {
            ("certificate", "key")
        };
        let remedy = format!("goes together with {present}: give both or none");
        checks.add(format!("{PATH}.tls.{missing}"), "", remedy);
    }
    if tls.key_password.is_some() && tls.key.is_none() {
        let remedy = "goes with key only: give the key, or remove it";
        checks.add(format!("{PATH}.tls.keyPassword"), "", remedy);
    }
    if let Some(ca) = &tls.ca_certificate {
        let ca = ca_certificate(checks, secrets, ca);
        properties.insert("ssl.ca.pem".into(), Property::Plain(ca));
    }
    let mut pem = |name: &str, from: &Option<FromSecret>, key: &str| {
        let Some(from) = from else { return };
        let path = format!("{PATH}.tls.{name}");
        let value = resolve_from(checks, secrets, &path, from);
        if name != "keyPassword" {
            check_pem(checks, &format!("{path}.secretKeyRef"), &value);
        }
        properties.insert(key.into(), Property::Secret(value));
    };
    pem("certificate", &tls.certificate, "ssl.certificate.pem");
    pem("key", &tls.key, "ssl.key.pem");
    pem("keyPassword", &tls.key_password, "ssl.key.password");
    let identification = match tls.endpoint_identification {
        EndpointIdentification::Https => "https",
        EndpointIdentification::None => "none",
    };
    properties.insert(
        "ssl.endpoint.identification.algorithm".into(),
        Property::Plain(identification.into()),
    );
    if tls.insecure_skip_verify {
        properties.insert(
            "enable.ssl.certificate.verification".into(),
            Property::Plain("false".into()),
        );
    }
}

fn ca_certificate(checks: &mut Checks, secrets: &dyn Secrets, ca: &Certificate) -> String {
    let path = format!("{PATH}.tls.caCertificate");
    checks.exactly_one(
        &path,
        &[
            ("pem", ca.pem.is_some()),
            ("secretKeyRef", ca.secret_key_ref.is_some()),
        ],
    );
    let (field, value) = match (&ca.pem, &ca.secret_key_ref) {
        (Some(pem), _) => (format!("{path}.pem"), Secret::new(pem.as_str())),
        (None, Some(reference)) => (
            format!("{path}.secretKeyRef"),
            resolve(checks, secrets, &path, reference),
        ),
        (None, None) => return String::new(),
    };
    check_pem(checks, &field, &value);
    value.expose().to_owned()
}

/// An empty value was reported when it was not found.
fn check_pem(checks: &mut Checks, field: &str, value: &Secret) {
    if !value.expose().is_empty() && !value.expose().contains("-----BEGIN ") {
        let remedy = "not in PEM form: it must hold a block -----BEGIN …-----";
        checks.add(field, "", remedy);
    }
}
