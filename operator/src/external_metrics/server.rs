//! The server behind the APIService: TLS with the certificate of a folder, read again when it changes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Path as Part, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::{group, resources, selector, values};
use crate::observations::Observations;

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// Between two looks at the certificate's file.
const RELOAD: Duration = Duration::from_secs(10);

/// Why the server cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("listen on {address} for external metrics")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("read the certificate in {folder}")]
    Certificate {
        folder: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Serves until the process ends. Returns the address really bound.
///
/// # Errors
/// When the address is taken, or the folder has no `tls.crt` and `tls.key`.
pub async fn serve(
    address: SocketAddr,
    folder: &Path,
    observations: Arc<Observations>,
) -> Result<SocketAddr, ServerError> {
    let certificate = Certificate::load(folder)?;
    let listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let tls = TlsListener::over(listener, bound, certificate);
    let router = router(observations);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(tls, router).await {
            tracing::error!(%error, "the external metrics server ended");
        }
    });
    Ok(bound)
}

fn router(observations: Arc<Observations>) -> Router {
    let version = format!("/apis/{}", super::VERSION);
    Router::new()
        .route(
            &format!("/apis/{}", super::GROUP),
            get(|| async { Json(group()) }),
        )
        .route(&version, get(|| async { Json(resources()) }))
        .route(
            &format!("{version}/namespaces/{{namespace}}/{{metric}}"),
            get(metric),
        )
        .with_state(observations)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "labelSelector", default)]
    label_selector: String,
}

#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn metric(
    State(observations): State<Arc<Observations>>,
    Part((namespace, metric)): Part<(String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(selector) = selector(&asked.label_selector) else {
        return refused(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "the label selector is none",
        );
    };
    let all = observations.all();
    let sinks = all.iter().map(|(key, seen, _)| (key, seen));
    match values(sinks, &namespace, &metric, &selector) {
        Some(list) => Json(list).into_response(),
        None => refused(StatusCode::NOT_FOUND, "NotFound", "no such metric"),
    }
}

fn refused(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

/// `tls.crt` and `tls.key` of a folder, as a Secret is mounted.
struct Certificate {
    folder: PathBuf,
    config: Arc<ServerConfig>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Certificate {
    fn load(folder: &Path) -> Result<Self, ServerError> {
        let config = read(folder).map_err(|source| ServerError::Certificate {
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            config: Arc::new(config),
            modified: modified(folder),
            looked: Instant::now(),
        })
    }

    /// The certificate as it is now; the last good one while the files are being changed.
    fn now(&mut self) -> Arc<ServerConfig> {
        if self.looked.elapsed() >= RELOAD {
            self.looked = Instant::now();
            let modified = modified(&self.folder);
            if modified != self.modified {
                match read(&self.folder) {
                    Ok(config) => {
                        self.config = Arc::new(config);
                        self.modified = modified;
                        tracing::info!("the certificate of external metrics was read again");
                    }
                    Err(error) => tracing::warn!(%error, "the new certificate cannot be used"),
                }
            }
        }
        Arc::clone(&self.config)
    }
}

fn modified(folder: &Path) -> Option<SystemTime> {
    std::fs::metadata(folder.join("tls.crt"))
        .and_then(|file| file.modified())
        .ok()
}

fn read(folder: &Path) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let chain =
        CertificateDer::pem_file_iter(folder.join("tls.crt"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?)
}

/// Accepted connections whose handshake is over: one client that stalls keeps nobody waiting.
struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    bound: SocketAddr,
}

impl TlsListener {
    fn over(listener: TcpListener, bound: SocketAddr, mut certificate: Certificate) -> Self {
        let (done, ready) = mpsc::channel(HANDSHAKES);
        tokio::spawn(async move {
            // A place is taken before a connection is, and given up with the handshake.
            while let Ok(place) = done.clone().reserve_owned().await {
                let (stream, from) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the external metrics failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let acceptor = TlsAcceptor::from(certificate.now());
                tokio::spawn(async move {
                    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        place.send((stream, from));
                    }
                });
            }
        });
        Self { ready, bound }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task runs as long as the process.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.bound)
    }
}
