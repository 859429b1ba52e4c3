//! Requests to a REST catalog: bounded in time and number, authorised, and honest about whether they were sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::answer::Answer;
use super::auth::Auth;
use super::files::own_keys;
use crate::catalog::{CatalogError, CommitError};
use crate::plan::{Property, RestPlan, S3Plan, Timeouts};
use crate::reach::Reach;
use crate::store::BoxError;

const DELEGATION: &str = "x-iceberg-access-delegation";
/// Bytes of an answer: a table whose metadata are longer is not one that a process of this size can keep.
const ANSWER: usize = 256 << 20;
/// Bytes of one that says what went wrong: more is not read.
pub(super) const COMPLAINT: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct RestClient {
    http: reqwest::Client,
    auth: Auth,
    timeouts: Timeouts,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It certainly did not reach the server.
    Unsent(BoxError),
    Unanswered(BoxError),
    /// No credentials to send it with.
    Denied(BoxError),
}

impl Failure {
    fn of(error: reqwest::Error) -> Self {
        // A URL may carry a token in its query.
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            Self::Unsent(error.into())
        } else {
            Self::Unanswered(error.into())
        }
    }

    pub(super) fn into_catalog_error(self, operation: &'static str) -> CatalogError {
        match self {
            Self::Unsent(source) | Self::Unanswered(source) => {
                CatalogError::Unavailable { operation, source }
            }
            Self::Denied(source) => CatalogError::Denied { operation, source },
        }
    }

    pub(super) fn into_commit_error(self) -> CommitError {
        match self {
            Self::Unsent(source) => CommitError::Unavailable(source),
            Self::Unanswered(source) => CommitError::Unknown(source),
            Self::Denied(source) => CommitError::Refused(CatalogError::Denied {
                operation: "commit table",
                source,
            }),
        }
    }
}

impl RestClient {
    pub(super) async fn new(
        plan: &RestPlan,
        storage: Option<&S3Plan>,
    ) -> Result<Self, CatalogError> {
        let operation = "set up HTTP client";
        let refused = |source: BoxError| CatalogError::Refused { operation, source };
        let mut headers = HeaderMap::new();
        if !own_keys(storage) {
            headers.insert(DELEGATION, HeaderValue::from_static("vended-credentials"));
        }
        for (name, value) in &plan.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|e| refused(e.into()))?;
            let mut content =
                HeaderValue::try_from(value.expose()).map_err(|e| refused(e.into()))?;
            content.set_sensitive(matches!(value, Property::Secret(_)));
            headers.insert(name, content);
        }
        let mut builder = reqwest::Client::builder();
        if let Some(reach) = Reach::of_process() {
            builder = builder.dns_resolver(Arc::new(reach));
        }
        let http = builder
            .default_headers(headers)
            .connect_timeout(plan.timeouts.connect)
            .timeout(plan.timeouts.attempt)
            .user_agent(concat!("tidewater/", env!("CARGO_PKG_VERSION")))
            // Who is redirected takes credentials of the spec to hosts that nobody named in it.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| refused(e.into()))?;
        let token_uri = format!("{}/v1/oauth/tokens", plan.uri.trim_end_matches('/'));
        let auth = Box::pin(Auth::new(&plan.auth, token_uri, storage, &plan.timeouts)).await;
        Ok(Self {
            http,
            auth,
            timeouts: plan.timeouts,
        })
    }

    /// The server's word on where tokens come from; the plan's own goes first.
    pub(super) fn offer_token_uri(&mut self, uri: &str) {
        self.auth.offer_token_uri(uri);
    }

    /// A request that may be repeated.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        url: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, CatalogError> {
        let failed = |source: BoxError| CatalogError::Refused { operation, source };
        let mut url = reqwest::Url::parse(url).map_err(|e| failed(e.into()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let attempts = self.timeouts.max_attempts.max(1);
        let mut attempt = 1;
        loop {
            let outcome = self.once(Method::GET, url.as_str(), None).await;
            let passing = match &outcome {
                Ok(answer) => matches!(answer.status.as_u16(), 408 | 429 | 500 | 502..=504),
                Err(Failure::Denied(_)) => false,
                Err(_) => true,
            };
            if !passing || attempt >= attempts {
                return outcome.map_err(|f| f.into_catalog_error(operation));
            }
            let ceiling = Duration::from_millis(100 << attempt.min(6));
            let share = rand::rng().random_range(0.5..=1.0);
            tokio::time::sleep(ceiling.mul_f64(share)).await;
            attempt += 1;
        }
    }

    /// A request that is sent once, and once more only if its token was refused: then it did nothing.
    pub(super) async fn once(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let answer = self.send(method.clone(), url, body).await?;
        if matches!(answer.status.as_u16(), 401 | 419) && self.auth.forget_token().await {
            return self.send(method, url, body).await;
        }
        Ok(answer)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        in_reach(url)?;
        let encoded = body.map(Value::to_string).unwrap_or_default();
        let authorisation = Box::pin(self.auth.headers(&self.http, &method, url, &encoded)).await?;
        let mut request = self.http.request(method, url).headers(authorisation);
        if body.is_some() {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(encoded);
        }
        let answer = request.send().await.map_err(Failure::of)?;
        let status = answer.status();
        let body = if status.is_success() {
            let whole = bounded(answer, ANSWER).await?;
            let too_long = || format!("the answer is longer than {} MiB", ANSWER >> 20);
            whole.ok_or_else(|| Failure::Unanswered(too_long().into()))?
        } else {
            bounded(answer, COMPLAINT).await?.unwrap_or_default()
        };
        Ok(Answer { status, body })
    }
}

/// Hosts that are addresses are looked at here, since nobody resolves them.
pub(super) fn in_reach(url: &str) -> Result<(), Failure> {
    let Some(reach) = Reach::of_process() else {
        return Ok(());
    };
    let url = reqwest::Url::parse(url).map_err(|error| Failure::Unsent(error.into()))?;
    let host = url.host_str().unwrap_or_default();
    reach
        .check_literal(host)
        .map_err(|error| Failure::Denied(error.into()))
}

/// The body, or nothing of one that is longer.
pub(super) async fn bounded(
    mut answer: reqwest::Response,
    most: usize,
) -> Result<Option<Bytes>, Failure> {
    let mut body = BytesMut::new();
    let cut = |error: reqwest::Error| Failure::Unanswered(error.without_url().into());
    while let Some(piece) = answer.chunk().await.map_err(cut)? {
        if body.len() + piece.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}
