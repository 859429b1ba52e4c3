//! A proxy that carries requests out and loses the answers to chosen ones: what a client sees of a network that breaks
//! at the worst moment. Or it gives them an answer of its own, and carries none of them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Whether a request of this first line is one of the chosen.
type Choice = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Debug)]
pub(crate) struct LostReplies {
    endpoint: String,
    lost: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl LostReplies {
    /// In front of `upstream`, `host:port`.
    pub(crate) async fn before(
        upstream: &str,
        choice: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<LostReplies> {
        Self::with(upstream, choice, None).await
    }

    /// The chosen requests get a status and an S3 error code, and never reach `upstream`.
    pub(crate) async fn refusing(
        upstream: &str,
        (status, code): (&str, &str),
        choice: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<LostReplies> {
        let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        Self::with(upstream, choice, Some(answer)).await
    }

    async fn with(
        upstream: &str,
        choice: impl Fn(&str) -> bool + Send + Sync + 'static,
        answer: Option<String>,
    ) -> Result<LostReplies> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let lost = Arc::new(AtomicUsize::new(0));
        let (choice, counter): (Choice, _) = (Arc::new(choice), Arc::clone(&lost));
        let upstream = upstream.to_owned();
        let answer = answer.map(Arc::<str>::from);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&upstream).await {
                    tokio::spawn(carry(
                        client,
                        server,
                        Arc::clone(&choice),
                        answer.clone(),
                        Arc::clone(&counter),
                    ));
                }
            }
        });
        Ok(LostReplies {
            endpoint,
            lost,
            accepting,
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Requests chosen so far whose answers were lost.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for LostReplies {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection, until either side ends it or an answer is lost. A client sends a request on it only after the answer
/// to the one before, so every request begins a read.
async fn carry(
    client: TcpStream,
    server: TcpStream,
    choice: Choice,
    answer: Option<Arc<str>>,
    counter: Arc<AtomicUsize>,
) {
    let (mut from_client, to_client) = client.into_split();
    let to_client = Mutex::new(to_client);
    let (mut from_server, mut to_server) = server.into_split();
    let losing = AtomicBool::new(false);
    let requests = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if let Some(line) = request_line(&buffer[..n]) {
                let chosen = choice(&line);
                if let (true, Some(answer)) = (chosen, &answer) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let _ = to_client.lock().await.write_all(answer.as_bytes()).await;
                    break;
                }
                losing.store(chosen, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            // "100 Continue" is no answer yet.
            let interim = buffer[..n].starts_with(b"HTTP/1.1 100");
            if losing.load(Ordering::SeqCst) && !interim {
                counter.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if to_client
                .lock()
                .await
                .write_all(&buffer[..n])
                .await
                .is_err()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

fn request_line(bytes: &[u8]) -> Option<String> {
    let methods: [&[u8]; 5] = [b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE "];
    if !methods.iter().any(|method| bytes.starts_with(method)) {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
