//! The AWS SDK's configuration from ours: region, endpoint, credentials, time-outs. Shared by the object store and the
//! Glue catalog. May read the environment, profile files and credential services, as the SDK's chain does.

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_types::origin::Origin;

use crate::plan::{AwsCredentials, S3Access, Timeouts};
use crate::reach::{Reach, client_in};

/// S3-compatible servers want some region in the signature and do not care which.
const REGION_OF_OTHER_SERVERS: &str = "us-east-1";

/// An endpoint given explicitly is used for every service client made of the result, but never for the STS call of an
/// assumed role: that one follows the environment (`AWS_ENDPOINT_URL_STS`) or goes to AWS.
pub async fn aws_config(access: &S3Access, timeouts: &Timeouts) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(timeouts.max_attempts.max(1)))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(timeouts.connect)
                .operation_attempt_timeout(timeouts.attempt)
                .build(),
        );
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let AwsCredentials::Static {
        access_key_id,
        secret_access_key,
        session_token,
    } = &access.credentials
    {
        loader = loader.credentials_provider(Credentials::new(
            access_key_id.expose(),
            secret_access_key.expose(),
            session_token
                .as_ref()
                .map(|token| token.expose().to_owned()),
            None,
            "spec",
        ));
    }
    let base = Box::pin(loader.load()).await;
    let mut config = base.to_builder();
    // Not that of the credentials' chain: who gives this process its own credentials is in its neighbourhood.
    if let Some(reach) = Reach::of_process() {
        config.set_http_client(Some(client_in(reach)));
    }
    if let (Some(role), Some(own)) = (&access.assume_role, base.credentials_provider()) {
        let mut provider = AssumeRoleProvider::builder(&role.role_arn)
            .session_name(&role.session_name)
            .configure(&base);
        if let Some(id) = &role.external_id {
            provider = provider.external_id(id);
        }
        let assumed = Box::pin(provider.build_from_provider(own)).await;
        config.set_credentials_provider(Some(SharedCredentialsProvider::new(assumed)));
    }
    match &access.endpoint {
        Some(endpoint) => with_endpoint(&config.build(), endpoint),
        None => config.build(),
    }
}

/// The configuration for a server at this URL, whatever the environment says.
pub fn with_endpoint(config: &SdkConfig, endpoint: &str) -> SdkConfig {
    let mut builder = config.to_builder();
    builder.set_endpoint_url(Some(endpoint.to_owned()));
    // Without a known origin, variables of the environment such as AWS_ENDPOINT_URL_S3 would win.
    builder.insert_origin("endpoint_url", Origin::shared_config());
    if config.region().is_none() {
        builder.set_region(Some(Region::from_static(REGION_OF_OTHER_SERVERS)));
    }
    builder.build()
}

/// Whether an SDK error comes from credentials that are not there or are set up wrongly: somebody must mend that,
/// while a credential service that is down only needs time.
pub fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        matches!(
            error.downcast_ref::<CredentialsError>(),
            Some(
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            )
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use aws_credential_types::provider::ProvideCredentials;

    use super::*;
    use crate::plan::Secret;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(3),
        attempt: Duration::from_secs(30),
        max_attempts: 5,
    };

    #[tokio::test]
    async fn what_the_spec_says_is_what_the_client_gets() {
        let access = S3Access {
            region: Some("eu-west-1".to_owned()),
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            path_style: true,
            credentials: AwsCredentials::Static {
                access_key_id: Secret::new("id"),
                secret_access_key: Secret::new("key"),
                session_token: Some(Secret::new("token")),
            },
            assume_role: None,
        };
        let config = aws_config(&access, &TIMEOUTS).await;
        assert_eq!(config.region().unwrap().as_ref(), "eu-west-1");
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:9"));
        assert_eq!(config.retry_config().unwrap().max_attempts(), 5);
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.operation_attempt_timeout(), Some(TIMEOUTS.attempt));
        let provider = config.credentials_provider().unwrap();
        let credentials = provider.provide_credentials().await.unwrap();
        assert_eq!(
            (
                credentials.access_key_id(),
                credentials.secret_access_key(),
                credentials.session_token()
            ),
            ("id", "key", Some("token"))
        );
        assert!(!format!("{config:?}").contains("\"key\""));
    }
}
