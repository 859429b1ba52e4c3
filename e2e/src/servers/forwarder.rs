//! A forwarder in front of an HTTP/1.1 server: notes the head of every request, and can leave headers out. A server that
//! checks signatures notices what is left out; ministack does not.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bodies of forms are noted, too, up to this many bytes.
const NOTED_FORM: usize = 16 << 10;

/// A request that passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// `PUT /bucket/key HTTP/1.1`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Names of the headers that were left out.
    pub left_out: Vec<String>,
    /// Of a form, else empty.
    pub form: String,
}

impl Passed {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A running forwarder; it ends when dropped.
#[derive(Debug)]
pub struct Forwarder {
    endpoint: String,
    passed: Arc<Mutex<Vec<Passed>>>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// In front of `upstream`, `host:port`, without the headers of these names (in lower case).
    pub async fn before(upstream: &str, left_out: &'static [&'static str]) -> Result<Forwarder> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (notes, upstream) = (Arc::clone(&passed), upstream.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&upstream).await {
                    tokio::spawn(carry(client, server, left_out, Arc::clone(&notes)));
                }
            }
        });
        Ok(Forwarder {
            endpoint,
            passed,
            accepting,
        })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The requests so far.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed
            .lock()
            .map(|passed| passed.clone())
            .unwrap_or_default()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection, until either side ends it.
async fn carry(
    client: TcpStream,
    server: TcpStream,
    left_out: &'static [&'static str],
    notes: Arc<Mutex<Vec<Passed>>>,
) {
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut from_client = BufReader::new(from_client);
    let requests = async {
        while let Ok(Some(passed)) = request(&mut from_client, &mut to_server, left_out).await {
            if let Ok(mut notes) = notes.lock() {
                notes.push(passed);
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Carries one request; `None` at the end of the connection.
async fn request(
    client: &mut BufReader<OwnedReadHalf>,
    server: &mut OwnedWriteHalf,
    left_out: &[&str],
) -> Result<Option<Passed>> {
    let mut line = String::new();
    if client.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut passed = Passed {
        line: line.trim_end().to_owned(),
        headers: Vec::new(),
        left_out: Vec::new(),
        form: String::new(),
    };
    let mut head = line;
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            head.push_str("\r\n");
            break;
        };
        let name = name.to_ascii_lowercase();
        if left_out.contains(&name.as_str()) {
            passed.left_out.push(name);
        } else {
            passed.headers.push((name, value.trim().to_owned()));
            head.push_str(&line);
        }
    }
    if passed.header("transfer-encoding").is_some() {
        bail!("a body of unknown length");
    }
    let length = passed.header("content-length").unwrap_or("0");
    let length: usize = length.parse().context("content-length")?;
    server.write_all(head.as_bytes()).await?;
    let is_form = passed
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if is_form && length <= NOTED_FORM {
        let mut body = vec![0; length];
        client.read_exact(&mut body).await?;
        passed.form = String::from_utf8_lossy(&body).into_owned();
        server.write_all(&body).await?;
    } else {
        tokio::io::copy(&mut client.take(length as u64), server).await?;
    }
    Ok(Some(passed))
}
