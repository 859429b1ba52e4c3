//! How requests to a REST catalog are authorised: not at all, by a fixed token, by tokens fetched with client
//! credentials and renewed in time, or by AWS signatures. Secrets appear in headers only, marked as sensitive.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::aws_config;
use super::client::{COMPLAINT, Failure, bounded, in_reach};
use crate::plan::{AwsCredentials, RestAuth, S3Access, S3Plan, Secret, Timeouts};
use crate::store::BoxError;

/// Of a token's life that is not used: requests under way must not outlive it.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// Of a token whose server does not say.
const ASSUMED_LIFE: Duration = Duration::from_secs(15 * 60);

pub(super) enum Auth {
    None,
    Bearer(Secret),
    OAuth2(OAuth2),
    SigV4 {
        credentials: Option<SharedCredentialsProvider>,
        region: String,
        service: String,
    },
}

pub(super) struct OAuth2 {
    token_uri: String,
    /// From the plan: no server's offer replaces it.
    fixed: bool,
    client_id: Secret,
    client_secret: Secret,
    scope: String,
    token: Mutex<Option<Token>>,
}

struct Token {
    value: Secret,
    renew_at: Instant,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer",
            Self::OAuth2(_) => "OAuth2",
            Self::SigV4 { .. } => "SigV4",
        })
    }
}

impl Auth {
    pub(super) async fn new(
        auth: &RestAuth,
        default_token_uri: String,
        storage: Option<&S3Plan>,
        timeouts: &Timeouts,
    ) -> Self {
        match auth {
            RestAuth::None => Self::None,
            RestAuth::Bearer(token) => Self::Bearer(token.clone()),
            RestAuth::OAuth2 {
                token_uri,
                client_id,
                client_secret,
                scope,
            } => Self::OAuth2(OAuth2 {
                fixed: token_uri.is_some(),
                token_uri: token_uri.clone().unwrap_or(default_token_uri),
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                scope: scope.clone(),
                token: Mutex::new(None),
            }),
            RestAuth::SigV4 { region, service } => {
                // Whose credentials reach the files reach the catalog; its endpoint is not that of S3.
                let access = S3Access {
                    region: Some(region.clone()),
                    endpoint: None,
                    path_style: false,
                    credentials: storage.map_or(AwsCredentials::DefaultChain, |s| {
                        s.access.credentials.clone()
                    }),
                    assume_role: storage.and_then(|s| s.access.assume_role.clone()),
                };
                Self::SigV4 {
                    credentials: aws_config(&access, timeouts).await.credentials_provider(),
                    region: region.clone(),
                    service: service.clone(),
                }
            }
        }
    }

    pub(super) fn offer_token_uri(&mut self, uri: &str) {
        if let Self::OAuth2(oauth) = self
            && !oauth.fixed
        {
            uri.clone_into(&mut oauth.token_uri);
        }
    }

    /// The server refused the token. Whether there can be another.
    pub(super) async fn forget_token(&self) -> bool {
        match self {
            Self::OAuth2(oauth) => oauth.token.lock().await.take().is_some(),
            _ => false,
        }
    }

    pub(super) async fn headers(
        &self,
        http: &reqwest::Client,
        method: &Method,
        url: &str,
        body: &str,
    ) -> Result<HeaderMap, Failure> {
        match self {
            Self::None => Ok(HeaderMap::new()),
            Self::Bearer(token) => bearer(token),
            Self::OAuth2(oauth) => bearer(&oauth.token(http).await?),
            Self::SigV4 {
                credentials,
                region,
                service,
            } => signed(credentials.as_ref(), region, service, method, url, body).await,
        }
    }
}

fn bearer(token: &Secret) -> Result<HeaderMap, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| Failure::Denied("the token cannot stand in a header".into()))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

impl OAuth2 {
    /// Held over the fetch, so that one fetch serves all who wait.
    async fn token(&self, http: &reqwest::Client) -> Result<Secret, Failure> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token
            && Instant::now() < token.renew_at
        {
            return Ok(token.value.clone());
        }
        let fresh = self.fetch(http).await?;
        Ok(token.insert(fresh).value.clone())
    }

    async fn fetch(&self, http: &reqwest::Client) -> Result<Token, Failure> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: Option<u64>,
        }
        in_reach(&self.token_uri)?;
        let asked = Instant::now();
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.expose()),
            ("client_secret", self.client_secret.expose()),
        ];
        if !self.scope.is_empty() {
            form.push(("scope", &self.scope));
        }
        // Whatever goes wrong here, the catalog request itself was not sent.
        let unsent = |e: reqwest::Error| Failure::Unsent(e.without_url().into());
        let answer = http
            .post(&self.token_uri)
            .form(&form)
            .send()
            .await
            .map_err(unsent)?;
        let status = answer.status();
        if !status.is_success() {
            // The body may repeat what was sent; the status says enough.
            let source: BoxError = format!("the token endpoint answered {status}").into();
            return Err(if status.is_client_error() && status.as_u16() != 429 {
                Failure::Denied(source)
            } else {
                Failure::Unsent(source)
            });
        }
        let body = bounded(answer, COMPLAINT).await?.unwrap_or_default();
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|error| Failure::Unsent(error.into()))?;
        let life = granted.expires_in.map_or(ASSUMED_LIFE, Duration::from_secs);
        Ok(Token {
            value: Secret::new(granted.access_token),
            renew_at: asked + usable(life),
        })
    }
}

/// A short-lived token keeps half its life, so that it is used at all.
fn usable(life: Duration) -> Duration {
    life.saturating_sub(RENEW_BEFORE).max(life / 2)
}

async fn signed(
    credentials: Option<&SharedCredentialsProvider>,
    region: &str,
    service: &str,
    method: &Method,
    url: &str,
    body: &str,
) -> Result<HeaderMap, Failure> {
    let denied = |e: BoxError| Failure::Denied(e);
    let provider = credentials.ok_or_else(|| denied("no AWS credentials".into()))?;
    let identity = provider
        .provide_credentials()
        .await
        .map_err(|e| Failure::Unsent(e.into()))?
        .into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|e| denied(e.into()))?
        .into();
    let parsed = Url::parse(url).map_err(|e| denied(e.into()))?;
    let host = match (parsed.host_str(), parsed.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut plain = vec![("host", host.as_str())];
    if !body.is_empty() {
        plain.push((CONTENT_TYPE.as_str(), "application/json"));
    }
    let request = SignableRequest::new(
        method.as_str(),
        parsed.as_str(),
        plain.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .map_err(|e| denied(e.into()))?;
    let (instructions, _) = sign(request, &params)
        .map_err(|e| denied(e.into()))?
        .into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|e| denied(e.into()))?;
        let mut value = HeaderValue::try_from(value).map_err(|e| denied(e.into()))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_a_minute_before_its_end_or_at_half_its_life() {
        let seconds = |s| usable(Duration::from_secs(s)).as_secs();
        assert_eq!((seconds(3600), seconds(100), seconds(30)), (3540, 50, 15));
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let auth = Auth::Bearer(Secret::new("hush"));
        assert_eq!(format!("{auth:?}"), "Bearer");
    }
}
