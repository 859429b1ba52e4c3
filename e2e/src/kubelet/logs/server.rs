//! `GET /containerLogs/<namespace>/<pod>/<container>`, for the API server alone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::{Log, Logs};
use crate::kubelet::KubeletOptions;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

const CHUNK: usize = 64 * 1024;

/// A server that listens.
pub(in crate::kubelet) struct Server {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Server {
    pub(in crate::kubelet) async fn bind(options: &KubeletOptions) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&options.authority)?)?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let chain = vec![CertificateDer::from_pem_file(&options.certificate)?];
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
        Ok(Server {
            tcp: TcpListener::bind(("127.0.0.1", 0)).await?,
            tls: TlsAcceptor::from(Arc::new(config)),
        })
    }

    pub(in crate::kubelet) fn port(&self) -> Result<u16> {
        Ok(self.tcp.local_addr().context("the logs' port")?.port())
    }

    pub(in crate::kubelet) async fn serve(self, logs: Arc<Logs>) {
        let router = Router::new()
            .route(
                "/containerLogs/{namespace}/{pod}/{container}",
                get(container_logs),
            )
            .with_state(logs);
        // It never returns: errors of single connections end those.
        let _ = axum::serve(self, router).await;
    }
}

impl axum::serve::Listener for Server {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else {
                sleep(LOOK).await;
                continue;
            };
            let shaken = timeout(Duration::from_secs(5), self.tls.accept(stream)).await;
            if let Ok(Ok(stream)) = shaken {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// What of a log is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    follow: bool,
    previous: bool,
    tail: Option<usize>,
    limit: Option<usize>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Query::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{name}={value} is no number"))
            };
            match name {
                "follow" => parsed.follow = value == "true",
                "previous" => parsed.previous = value == "true",
                "tailLines" => parsed.tail = Some(number()?),
                "limitBytes" => parsed.limit = Some(number()?),
                "timestamps" if value == "false" => {}
                "stream" if value == "All" => {}
                _ => {
                    return Err(format!(
                        "{name}: the lab's kubelet keeps lines without time"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

async fn container_logs(
    State(logs): State<Arc<Logs>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    uri: Uri,
) -> Response {
    let query = match Query::parse(uri.query().unwrap_or("")) {
        Ok(query) => query,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let log = match logs.find(&namespace, &pod, &container, query.previous) {
        Ok(log) => log,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    match opened(&log, &query).await {
        Ok((head, file)) if query.follow => {
            Body::from_stream(followed(head, file, log)).into_response()
        }
        Ok((head, _)) => head.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What is there now, cut to what is asked for, and the file at its end.
async fn opened(log: &Log, query: &Query) -> io::Result<(Vec<u8>, File)> {
    let mut file = File::open(&log.file).await?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).await?;
    Ok((cut(text, query), file))
}

fn cut(mut text: Vec<u8>, query: &Query) -> Vec<u8> {
    if let Some(lines) = query.tail {
        let start = text
            .split_inclusive(|byte| *byte == b'\n')
            .rev()
            .take(lines)
            .map(<[u8]>::len)
            .sum::<usize>();
        text.drain(..text.len() - start);
    }
    if let Some(limit) = query.limit {
        text.truncate(limit);
    }
    text
}

/// The head, then whatever is written as long as the container runs.
fn followed(
    head: Vec<u8>,
    file: File,
    log: Log,
) -> impl stream::Stream<Item = Result<Vec<u8>, Infallible>> {
    stream::unfold(
        (Some(head), file, log),
        |(head, mut file, log)| async move {
            if let Some(head) = head.filter(|head| !head.is_empty()) {
                return Some((Ok(head), (None, file, log)));
            }
            loop {
                // Asked before the file is read: what was written before the end is not missed.
                let grows = log.grows();
                let mut chunk = vec![0; CHUNK];
                let read = file.read(&mut chunk).await.unwrap_or(0);
                if read > 0 {
                    chunk.truncate(read);
                    return Some((Ok(chunk), (None, file, log)));
                }
                if !grows {
                    return None;
                }
                sleep(LOOK).await;
            }
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_or_the_first_bytes_are_cut_out() {
        let text = b"one\ntwo\nthree\n".to_vec();
        for (query, expected) in [
            ("", "one\ntwo\nthree\n"),
            ("tailLines=2", "two\nthree\n"),
            ("tailLines=9", "one\ntwo\nthree\n"),
            ("tailLines=0", ""),
            ("limitBytes=5", "one\nt"),
            ("tailLines=1&limitBytes=2&follow=true", "th"),
        ] {
            let cut = cut(text.clone(), &Query::parse(query).unwrap());
            assert_eq!(String::from_utf8(cut).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn what_lines_without_time_cannot_answer_is_refused() {
        for query in [
            "timestamps=true",
            "sinceSeconds=5",
            "sinceTime=x",
            "stream=Stderr",
        ] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
