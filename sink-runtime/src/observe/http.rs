//! One port: `/metrics` (Prometheus), `/status` (JSON), `/healthz` (poll and commit progress), `/readyz`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Progress, metrics};

type Sinks = Arc<Vec<Progress>>;

/// Reads `<host>:<port>`. An IPv6 host may stand without brackets, as Kubernetes writes the address of a pod.
///
/// # Errors
/// When the text is no address with a port, for people.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = || {
        let (host, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(
            IpAddr::V6(host.parse().ok()?),
            port.parse().ok()?,
        ))
    };
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) => bare().ok_or_else(|| "give <ip>:<port>".to_owned()),
    }
}

/// Binds and serves until the process ends. Returns the address really bound (port 0 picks one).
pub async fn serve(address: SocketAddr, sinks: Vec<Progress>) -> std::io::Result<SocketAddr> {
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(sinks));
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "http server ended");
        }
    });
    Ok(bound)
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn metrics_page(State(sinks): State<Sinks>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::page(&sinks),
    )
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn status(State(sinks): State<Sinks>) -> impl IntoResponse {
    let body =
        serde_json::json!({ "sinks": sinks.iter().map(Progress::snapshot).collect::<Vec<_>>() });
    (
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn healthz(State(sinks): State<Sinks>) -> impl IntoResponse {
    let why: Vec<String> = sinks
        .iter()
        .filter_map(|sink| Some(format!("{}: {}", sink.sink, sink.unhealthy()?)))
        .collect();
    if why.is_empty() {
        (
            StatusCode::OK,
            stopped(&sinks).unwrap_or_else(|| "ok".to_owned()),
        )
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, why.join("\n"))
    }
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn readyz(State(sinks): State<Sinks>) -> impl IntoResponse {
    match sinks.iter().find(|sink| !sink.ready()) {
        None => (StatusCode::OK, "ready".to_owned()),
        Some(sink) => (
            StatusCode::SERVICE_UNAVAILABLE,
            stopped(&sinks).unwrap_or_else(|| format!("{}: destination not open yet", sink.sink)),
        ),
    }
}

/// A line for each sink that stopped; `None` where all run.
fn stopped(sinks: &[Progress]) -> Option<String> {
    let line = |sink: &Progress| Some(format!("{} stopped: {}", sink.sink, sink.why_stopped()?));
    let lines: Vec<_> = sinks.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_of_pods_are_read_whichever_family_they_are_of() {
        for (text, read) in [
            ("10.0.0.7:9090", "10.0.0.7:9090"),
            ("[fd00::7]:9090", "[fd00::7]:9090"),
            ("fd00::7:9090", "[fd00::7]:9090"),
            ("::1:9090", "[::1]:9090"),
        ] {
            assert_eq!(
                address(text).map(|address| address.to_string()),
                Ok(read.to_owned())
            );
        }
        for text in ["9090", "10.0.0.7", "fd00::7", "host:9090", "[fd00::7:9090"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
