//! The AWS SDK's configuration from the plan: credentials, region, endpoint, time limits.

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::plan::{AwsCredentials, S3Access, Timeouts};

pub(crate) async fn aws_config(access: &S3Access, timeouts: &Timeouts) -> SdkConfig {
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
            session_token.as_ref().map(|t| t.expose().to_owned()),
            None,
            "plan",
        ));
    }
    let own = Box::pin(loader.load()).await;
    let mut config = own.to_builder();
    if let (Some(role), Some(credentials)) = (&access.assume_role, own.credentials_provider()) {
        let mut assume = AssumeRoleProvider::builder(&role.role_arn)
            .session_name(&role.session_name)
            .configure(&own);
        if let Some(id) = &role.external_id {
            assume = assume.external_id(id);
        }
        let assumed = Box::pin(assume.build_from_provider(credentials)).await;
        config.set_credentials_provider(Some(SharedCredentialsProvider::new(assumed)));
    }
    if let Some(endpoint) = &access.endpoint {
        config.set_endpoint_url(Some(endpoint.clone()));
    }
    if own.region().is_none() {
        // Servers behind an own endpoint do not care, but the signature names one.
        config.set_region(Some(Region::from_static("us-east-1")));
    }
    config.build()
}
