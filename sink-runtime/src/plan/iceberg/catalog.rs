//! `spec.catalog` → [`CatalogPlan`]. Pure.

use std::path::PathBuf;

use tidewater_crds::{CatalogSpec, GlueSpec, RestAuthSpec, RestSpec};

use crate::plan::problem::Checks;
use crate::plan::secrets::{resolve, resolve_from};
use crate::plan::store::{self, AccessSpec, Asking};
use crate::plan::{CatalogPlan, GlueAccess, GluePlan, Property, RestAuth, RestPlan};

pub(super) fn plan(checks: &mut Checks, asking: &Asking<'_>, spec: &CatalogSpec) -> CatalogPlan {
    checks.exactly_one(
        "spec.catalog",
        &[
            ("rest", spec.rest.is_some()),
            ("glue", spec.glue.is_some()),
            ("local", spec.local.is_some()),
        ],
    );
    if let Some(spec) = &spec.rest {
        store::needs_cloud(checks, "spec.catalog.rest", "Iceberg REST catalog");
        return CatalogPlan::Rest(rest(checks, asking, spec));
    }
    if let Some(spec) = &spec.glue {
        store::needs_cloud(checks, "spec.catalog.glue", "Glue catalog");
        return CatalogPlan::Glue(glue(checks, asking, spec));
    }
    let path = spec.local.as_ref().map(|local| local.path.as_str());
    CatalogPlan::Local {
        path: PathBuf::from(path.unwrap_or_default()),
    }
}

fn rest(checks: &mut Checks, asking: &Asking<'_>, spec: &RestSpec) -> RestPlan {
    let path = "spec.catalog.rest";
    store::check_url(checks, &format!("{path}.uri"), &spec.uri);
    let auth = spec
        .auth
        .as_ref()
        .map_or(RestAuth::None, |auth| auth_of(checks, asking, auth));
    let mut headers = std::collections::BTreeMap::new();
    for (name, from) in &spec.headers {
        let field = format!("{path}.headers[\"{name}\"]");
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            checks.add(
                &field,
                name,
                "not a header's name: use letters, digits and '-'",
            );
        }
        if auth != RestAuth::None && name.eq_ignore_ascii_case("authorization") {
            checks.add(
                &field,
                "",
                "spec.catalog.rest.auth sets this header: remove one of them",
            );
        }
        let given = [
            ("value", from.value.is_some()),
            ("secretKeyRef", from.secret_key_ref.is_some()),
        ];
        checks.exactly_one(&field, &given);
        let value = match (&from.value, &from.secret_key_ref) {
            (_, Some(reference)) => {
                Property::Secret(resolve(checks, asking.secrets, &field, reference))
            }
            (value, None) => Property::Plain(value.clone().unwrap_or_default()),
        };
        if value.expose().chars().any(char::is_control) {
            checks.add(
                &field,
                "",
                "a header's value has no line breaks or control characters",
            );
        }
        headers.insert(name.clone(), value);
    }
    RestPlan {
        uri: spec.uri.trim_end_matches('/').to_owned(),
        warehouse: spec.warehouse.clone(),
        auth,
        headers,
        timeouts: store::timeouts(checks, path, &spec.timeouts),
    }
}

fn auth_of(checks: &mut Checks, asking: &Asking<'_>, spec: &RestAuthSpec) -> RestAuth {
    let path = "spec.catalog.rest.auth";
    checks.exactly_one(
        path,
        &[
            ("bearer", spec.bearer.is_some()),
            ("oauth2", spec.oauth2.is_some()),
            ("sigV4", spec.sig_v4.is_some()),
        ],
    );
    let mut secret =
        |name: &str, from| resolve_from(checks, asking.secrets, &format!("{path}.{name}"), from);
    if let Some(bearer) = &spec.bearer {
        return RestAuth::Bearer(secret("bearer.token", &bearer.token));
    }
    if let Some(oauth2) = &spec.oauth2 {
        let client_id = secret("oauth2.clientId", &oauth2.client_id);
        let client_secret = secret("oauth2.clientSecret", &oauth2.client_secret);
        if let Some(uri) = &oauth2.token_uri {
            store::check_url(checks, &format!("{path}.oauth2.tokenUri"), uri);
        }
        return RestAuth::OAuth2 {
            token_uri: oauth2.token_uri.clone(),
            client_id,
            client_secret,
            scope: oauth2.scope.clone(),
        };
    }
    spec.sig_v4
        .as_ref()
        .map_or(RestAuth::None, |sig| RestAuth::SigV4 {
            region: sig.region.clone(),
            service: sig.service.clone(),
        })
}

fn glue(checks: &mut Checks, asking: &Asking<'_>, spec: &GlueSpec) -> GluePlan {
    let path = "spec.catalog.glue";
    let access = AccessSpec {
        region: spec.region.as_deref(),
        endpoint: spec.endpoint.as_deref(),
        path_style: false,
        credentials: spec.credentials.as_ref(),
        assume_role: spec.assume_role.as_ref(),
    };
    GluePlan {
        glue: GlueAccess {
            access: store::access(checks, asking, path, access),
            catalog_id: spec.catalog_id.clone(),
            timeouts: store::timeouts(checks, path, &spec.timeouts),
        },
        warehouse: spec.warehouse.trim_end_matches('/').to_owned(),
    }
}
