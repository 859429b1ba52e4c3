//! A way to an AWS service of JSON requests that spoils chosen operations: it loses the answer of a request that was
//! carried out, or answers for the service without asking it. Toxiproxy, which sees no requests, cannot choose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// It is carried out, and the connection cut instead of an answer.
    CutAfter,
    /// It is carried out, and answered by an internal error.
    FailAfter,
    /// It is not carried out; the answer is this error, a client's fault as AWS has it for throttling and conflicts.
    Refuse(&'static str),
}

#[derive(Debug)]
struct Order {
    spoil: Spoil,
    left: u32,
    spoilt: u32,
}

/// Orders by operation.
type Orders = Arc<Mutex<BTreeMap<String, Order>>>;

/// The way. Lives as long as this value and the runtime it was made in.
#[derive(Debug)]
pub struct Spoiler {
    endpoint: String,
    orders: Orders,
    server: JoinHandle<()>,
}

impl Drop for Spoiler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Spoiler {
    /// Opens a way to `upstream` (`http://host:port`).
    pub async fn start(upstream: &str) -> Result<Spoiler> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let orders = Orders::default();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (upstream, by) = (upstream.to_owned(), Arc::clone(&orders));
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let way = serve(socket, client.clone(), upstream.clone(), Arc::clone(&by));
                // A request that breaks off is the client's to notice.
                tokio::spawn(async move { way.await.ok() });
            }
        });
        Ok(Spoiler {
            endpoint,
            orders,
            server,
        })
    }

    /// `http://host:port` of the way.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Spoils the next `count` requests of an operation, such as `UpdateTable`.
    pub fn spoil(&self, operation: &str, spoil: Spoil, count: u32) {
        let order = Order {
            spoil,
            left: count,
            spoilt: 0,
        };
        locked(&self.orders).insert(operation.to_owned(), order);
    }

    /// How many requests the last order for the operation has spoilt.
    pub fn spoilt(&self, operation: &str) -> u32 {
        locked(&self.orders).get(operation).map_or(0, |o| o.spoilt)
    }
}

fn locked(orders: &Orders) -> MutexGuard<'_, BTreeMap<String, Order>> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken(orders: &Orders, operation: &str) -> Option<Spoil> {
    let mut orders = locked(orders);
    let order = orders.get_mut(operation).filter(|order| order.left > 0)?;
    order.left -= 1;
    order.spoilt += 1;
    Some(order.spoil)
}

/// One request of one connection.
async fn serve(
    socket: TcpStream,
    client: reqwest::Client,
    upstream: String,
    orders: Orders,
) -> Result<()> {
    let mut socket = BufReader::new(socket);
    let (path, headers) = head(&mut socket).await?;
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
    let length = length.transpose()?.unwrap_or("0").parse()?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;

    let target = headers.get("x-amz-target").map(HeaderValue::to_str);
    let operation = target.transpose()?.unwrap_or_default();
    let operation = operation.rsplit('.').next().unwrap_or_default();
    let spoil = taken(&orders, operation);
    let (status, answer) = match spoil {
        Some(Spoil::Refuse(code)) => (400, error(code)),
        _ => {
            let request = client.post(format!("{upstream}{path}"));
            let answer = request.headers(headers).body(body).send().await?;
            (answer.status().as_u16(), answer.bytes().await?.to_vec())
        }
    };
    let (status, answer) = match spoil {
        Some(Spoil::CutAfter) => return Ok(()),
        Some(Spoil::FailAfter) => (500, error("InternalServiceException")),
        _ => (status, answer),
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&answer).await?;
    Ok(socket.shutdown().await?)
}

fn error(code: &str) -> Vec<u8> {
    let body =
        json!({"__type": code, "message": "spoilt on its way", "Message": "spoilt on its way"});
    body.to_string().into_bytes()
}

/// Path and headers of a POST.
async fn head(socket: &mut BufReader<TcpStream>) -> Result<(String, HeaderMap)> {
    let mut line = String::new();
    socket.read_line(&mut line).await?;
    let Some(("POST", rest)) = line.split_once(' ') else {
        bail!("no POST: {line:?}");
    };
    let path = rest.split(' ').next().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let name = HeaderName::try_from(name)?;
        headers.insert(name, HeaderValue::try_from(value.trim())?);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        bail!("a request without a length");
    }
    headers.get("host").context("no host")?;
    Ok((path, headers))
}
