#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::plan::{RestAuth, RestPlan, Timeouts};

const LOCATION: &str = "s3://lake/sales/orders";

/// A catalog that vends the keys `key-<n>` at the n-th question, for so long.
struct Server {
    url: String,
    asked: Arc<AtomicU32>,
    down: Arc<AtomicBool>,
}

impl Server {
    async fn start(path: &'static str, life: Duration) -> Self {
        let (asked, down) = (
            Arc::new(AtomicU32::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, fails) = (Arc::clone(&asked), Arc::clone(&down));
        let answer = move || {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            let body = json!({
                "storage-credentials": [{"prefix": "s3://lake", "config": config(n, SystemTime::now() + life)}],
            });
            let status = match fails.load(Ordering::SeqCst) {
                true => StatusCode::FORBIDDEN,
                false => StatusCode::OK,
            };
            async move { (status, body.to_string()) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route(path, get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked, down }
    }

    /// As if the table had been loaded, with keys that end so soon.
    async fn vending(&self, life: Duration, told: &[(&str, &str)]) -> Arc<Vending> {
        let plan = RestPlan {
            uri: self.url.clone(),
            warehouse: None,
            auth: RestAuth::None,
            headers: BTreeMap::new(),
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                attempt: Duration::from_secs(5),
                max_attempts: 1,
            },
        };
        let client = RestClient::new(&plan, None).await.unwrap();
        let at = SystemTime::now();
        let mut config = config(0, at + life);
        config.extend(told.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let grant = Grant {
            config,
            credentials: Vec::new(),
            at,
        };
        let table = format!("{}/v1/table", self.url);
        Arc::new(Vending::new(
            Arc::new(client),
            self.url.clone(),
            table,
            grant,
        ))
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn config(n: u32, ends: SystemTime) -> HashMap<String, String> {
    let ends = ends
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let entries = [
        ("s3.access-key-id", format!("key-{n}")),
        ("s3.secret-access-key", "hush".to_owned()),
        ("s3.session-token-expires-at-ms", ends.to_string()),
    ];
    entries.map(|(k, v)| (k.to_owned(), v)).into()
}

async fn key(vending: &Vending) -> Result<String, CredentialsError> {
    let keys = vending.keys(LOCATION).await?;
    Ok(keys.access_key_id().to_owned())
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn keys_that_hold_are_not_asked_for() {
    let server = Server::start("/v1/table", HOUR).await;
    let vending = server.vending(HOUR, &[]).await;
    assert_eq!(key(&vending).await.unwrap(), "key-0");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn many_uploads_whose_keys_ended_ask_once() {
    let server = Server::start("/v1/table", HOUR).await;
    let vending = server.vending(Duration::ZERO, &[]).await;
    let uploads = (0..20).map(|_| key(&vending));
    for found in futures::future::join_all(uploads).await {
        assert_eq!(found.unwrap(), "key-1");
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn fresh_keys_come_from_the_place_that_the_catalog_names() {
    let server = Server::start("/v1/keys", HOUR).await;
    let told = [("client.refresh-credentials-endpoint", "/v1/keys")];
    let vending = server.vending(Duration::ZERO, &told).await;
    assert_eq!(key(&vending).await.unwrap(), "key-1");
}

#[tokio::test]
async fn a_catalog_that_does_not_answer_costs_nothing_while_its_keys_hold() {
    let server = Server::start("/v1/table", HOUR).await;
    server.down.store(true, Ordering::SeqCst);
    // Long enough to hold, too short to go on with.
    let vending = server.vending(Duration::from_secs(60), &[]).await;
    vending.held.lock().grant.at -= HOUR;
    for _ in 0..5 {
        assert_eq!(key(&vending).await.unwrap(), "key-0");
    }
    assert_eq!(server.asked(), 1, "not with every request");

    let ended = server.vending(Duration::ZERO, &[]).await;
    key(&ended).await.unwrap_err();
    server.down.store(false, Ordering::SeqCst);
    assert_eq!(key(&ended).await.unwrap(), "key-3");
}

#[tokio::test]
async fn no_key_shows_in_debug_output() {
    let server = Server::start("/v1/table", HOUR).await;
    let vending = server.vending(HOUR, &[]).await;
    let keys = VendedKeys {
        vending,
        location: LOCATION.to_owned(),
    };
    let shown = format!("{keys:?}");
    assert!(
        !shown.contains("hush") && !shown.contains("key-0"),
        "{shown}"
    );
}
