//! One port: `/metrics`, `/healthz` (the process answers) and `/readyz` (the API server answers, knows the kinds, and tells
//! what changes).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::observations::Observations;
use crate::watching::Watching;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    pub metrics: Arc<Metrics>,
    pub observations: Arc<Observations>,
    pub ready: Arc<AtomicBool>,
    pub watching: Arc<Watching>,
}

/// Binds and serves until the process ends. Returns the address really bound (port 0 picks one).
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, pages: Pages) -> std::io::Result<SocketAddr> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(pages);
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
async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        pages.metrics.page(&pages.observations, &pages.watching),
    )
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn healthz() -> &'static str {
    "ok"
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let mut wrong = Vec::new();
    if !pages.ready.load(Ordering::Relaxed) {
        wrong.push("the API server does not answer, or does not know the kinds yet".to_owned());
    }
    let watches = pages.watching.all(Instant::now()).into_iter();
    wrong.extend(watches.filter_map(|(watch, found)| Some(format!("{watch}: {}", found.err()?))));
    match wrong.is_empty() {
        true => (StatusCode::OK, "ready".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n")),
    }
}
