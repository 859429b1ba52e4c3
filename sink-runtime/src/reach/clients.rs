//! Clients of catalogs and stores that connect to what is in reach only.

use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Reach;
use crate::store::BoxError;

impl Resolve for &'static Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let kept = reach.filter(name.as_str(), found)?;
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// A client for AWS and what answers like it.
pub(crate) fn client_in(reach: &'static Reach) -> SharedHttpClient {
    let inner = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_with_resolver(InReach { reach, inner: () });
    SharedHttpClient::new(InReach { reach, inner })
}

#[derive(Clone, Debug)]
struct InReach<T> {
    reach: &'static Reach,
    inner: T,
}

impl ResolveDns for InReach<()> {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let found = async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            let kept = self.reach.filter(name, found)?;
            Ok::<_, BoxError>(kept.into_iter().map(|address| address.ip()).collect())
        };
        DnsFuture::new(async move { found.await.map_err(ResolveDnsError::new) })
    }
}

impl HttpClient for InReach<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(InReach {
            reach: self.reach,
            inner: self.inner.http_connector(settings, components),
        })
    }
}

impl HttpConnector for InReach<SharedHttpConnector> {
    /// Nobody resolves a host that is an address.
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let url = reqwest::Url::parse(request.uri());
        let host = url.as_ref().ok().and_then(reqwest::Url::host_str);
        match self.reach.check_literal(host.unwrap_or_default()) {
            Ok(()) => self.inner.call(request),
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}
