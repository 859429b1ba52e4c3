//! What every store must keep, as checks that run against any of them: in unit tests against memory and directories,
//! in the lab against real S3 servers. Each check works under a fresh prefix and leaves nothing behind but objects
//! below it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{BoxError, Completed, Expect, PartTag, Store, StoreError, UploadId, Version};

pub type Check = fn(Arc<dyn Store>) -> BoxFuture<'static, Result<(), BoxError>>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// Every check by name.
        pub const CHECKS: &[(&str, Check)] =
            &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}

checks![
    an_object_reads_back_and_is_gone_after_delete,
    a_conditional_put_needs_its_condition,
    of_racing_creators_one_wins,
    of_racing_replacers_one_wins,
    an_upload_is_invisible_until_completed,
    completing_twice_is_harmless,
    parts_may_arrive_in_any_order_and_twice,
    an_aborted_upload_never_appears,
    a_listing_holds_what_is_visible_in_order,
    folders_are_told_once_each_and_only_one_level_of_them,
    keys_of_partition_directories_survive,
    an_upload_began_by_the_clock_that_is_told,
    the_probe_accepts_this_store,
];

/// Runs every check and reports all that failed.
///
/// # Errors
/// One line for each failed check.
pub async fn run_all(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check(Arc::clone(&store)).await {
            failed.push(format!("{name}: {error} ({error:?})"));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n").into())
}

const RACERS: usize = 8;
const ROUNDS: usize = 40;

macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+).into());
        }
    };
}

fn fresh(name: &str) -> String {
    format!("conformance/{}/{name}", uuid::Uuid::new_v4().simple())
}

fn unique() -> Bytes {
    Bytes::from(uuid::Uuid::new_v4().to_string())
}

fn lost<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Conflict { .. }))
}

async fn an_object_reads_back_and_is_gone_after_delete(
    store: Arc<dyn Store>,
) -> Result<(), BoxError> {
    let key = fresh("object");
    ensure!(store.get(&key).await?.is_none(), "there before it was put");
    ensure!(store.head(&key).await?.is_none(), "head before it was put");
    let body = unique();
    let version = store.put(&key, body.clone(), Expect::Anything).await?;
    ensure!(
        store.get(&key).await? == Some((body.clone(), version.clone())),
        "reads back otherwise"
    );
    let info = store.head(&key).await?.ok_or("head finds nothing")?;
    ensure!(
        (info.size, &info.version) == (body.len() as u64, &version),
        "head says {info:?}"
    );
    let empty = store.put(&key, Bytes::new(), Expect::Anything).await?;
    ensure!(
        store.get(&key).await? == Some((Bytes::new(), empty)),
        "an empty object reads back otherwise"
    );
    store.delete(&key).await?;
    ensure!(store.get(&key).await?.is_none(), "there after delete");
    store.delete(&key).await?;
    Ok(())
}

async fn a_conditional_put_needs_its_condition(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("ledger.json");
    let other = Version("\"00000000000000000000000000000000\"".to_owned());
    let outcome = store
        .put(&key, unique(), Expect::Unchanged(other.clone()))
        .await;
    ensure!(lost(&outcome), "replaced what is not there: {outcome:?}");
    let first = store.put(&key, unique(), Expect::Absent).await?;
    let outcome = store.put(&key, unique(), Expect::Absent).await;
    ensure!(lost(&outcome), "created twice: {outcome:?}");
    let outcome = store.put(&key, unique(), Expect::Unchanged(other)).await;
    ensure!(lost(&outcome), "replaced another version: {outcome:?}");
    let body = unique();
    let second = store
        .put(&key, body.clone(), Expect::Unchanged(first.clone()))
        .await?;
    let outcome = store.put(&key, unique(), Expect::Unchanged(first)).await;
    ensure!(lost(&outcome), "replaced an earlier version: {outcome:?}");
    ensure!(
        store.get(&key).await? == Some((body, second)),
        "a losing put changed the object"
    );
    Ok(())
}

/// One round: every racer writes own bytes with the same expectation; the object is then the one winner's.
async fn race(store: &Arc<dyn Store>, key: &str, expect: &Expect) -> Result<Version, BoxError> {
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let (store, key, expect) = (Arc::clone(store), key.to_owned(), expect.clone());
            tokio::spawn(async move {
                let body = unique();
                (body.clone(), store.put(&key, body, expect).await)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await? {
            (body, Ok(version)) => winners.push((body, version)),
            (_, Err(StoreError::Conflict { .. })) => {}
            (_, Err(other)) => return Err(other.into()),
        }
    }
    let [winner] = winners.as_slice() else {
        return Err(format!("{} winners", winners.len()).into());
    };
    ensure!(
        store.get(key).await?.as_ref() == Some(winner),
        "the object is not the winner's"
    );
    Ok(winner.1.clone())
}

async fn of_racing_creators_one_wins(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let base = fresh("created");
    for round in 0..ROUNDS {
        race(&store, &format!("{base}/{round}"), &Expect::Absent).await?;
    }
    Ok(())
}

async fn of_racing_replacers_one_wins(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("replaced");
    let mut version = store.put(&key, unique(), Expect::Absent).await?;
    for _ in 0..ROUNDS {
        version = race(&store, &key, &Expect::Unchanged(version)).await?;
    }
    Ok(())
}

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("tidewater-sink".to_owned(), "default.orders".to_owned())])
}

/// Bytes of three parts, the last short.
fn three_parts(store: &dyn Store) -> Vec<Bytes> {
    let size = store.part_size().max(16);
    [size, size + 1, 7]
        .iter()
        .enumerate()
        .map(|(n, size)| {
            let salt = uuid::Uuid::new_v4();
            let mut bytes = salt.as_bytes().repeat(size / 16 + 1);
            bytes.truncate(*size);
            if let Some(last) = bytes.last_mut() {
                *last = u8::try_from(n).unwrap_or(0);
            }
            Bytes::from(bytes)
        })
        .collect()
}

async fn upload(
    store: &dyn Store,
    key: &str,
    parts: &[Bytes],
) -> Result<(UploadId, Vec<PartTag>), BoxError> {
    let id = store.begin(key, &metadata()).await?;
    let mut tags = Vec::new();
    for (number, part) in (1..).zip(parts) {
        tags.push(store.put_part(key, &id, number, part.clone()).await?);
    }
    Ok((id, tags))
}

async fn an_upload_is_invisible_until_completed(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("dir/data.parquet");
    let parts = three_parts(&*store);
    let (id, tags) = upload(&*store, &key, &parts).await?;
    ensure!(store.head(&key).await?.is_none(), "visible to head");
    ensure!(store.get(&key).await?.is_none(), "visible to get");
    ensure!(store.list(&key).await?.is_empty(), "visible to list");
    let open = store.list_uploads(&key).await?;
    ensure!(
        open.len() == 1 && open[0].key == key && open[0].id == id,
        "open uploads are {open:?}"
    );
    let done = store.complete(&key, &id, &tags).await?;
    ensure!(done == Completed::Done, "completion said {done:?}");
    let whole = Bytes::from(parts.concat());
    let (bytes, _) = store.get(&key).await?.ok_or("not visible afterwards")?;
    ensure!(bytes == whole, "the bytes are not the parts'");
    let info = store.head(&key).await?.ok_or("head finds nothing")?;
    ensure!(info.size == whole.len() as u64, "head says {info:?}");
    let open = store.list_uploads(&key).await?;
    ensure!(open.is_empty(), "still open: {open:?}");
    Ok(())
}

async fn completing_twice_is_harmless(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("twice");
    let (id, tags) = upload(&*store, &key, &[unique()]).await?;
    store.complete(&key, &id, &tags).await?;
    let before = store.get(&key).await?.ok_or("not there")?;
    // Either answer is honest, as long as the object is there.
    store.complete(&key, &id, &tags).await?;
    ensure!(store.get(&key).await? == Some(before), "it changed");
    // Aborting what is finished changes nothing either.
    store.abort(&key, &id).await?;
    ensure!(store.get(&key).await?.is_some(), "an abort removed it");
    Ok(())
}

async fn parts_may_arrive_in_any_order_and_twice(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("shuffled");
    let parts = three_parts(&*store);
    let id = store.begin(&key, &metadata()).await?;
    let mut tags = BTreeMap::new();
    for index in [2_usize, 0, 1, 0] {
        let number = i32::try_from(index)? + 1;
        let tag = store
            .put_part(&key, &id, number, parts[index].clone())
            .await?;
        tags.insert(number, tag);
    }
    let tags: Vec<_> = tags.into_values().collect();
    store.complete(&key, &id, &tags).await?;
    let (bytes, _) = store.get(&key).await?.ok_or("not there")?;
    ensure!(bytes == parts.concat(), "not in part order");
    Ok(())
}

async fn an_aborted_upload_never_appears(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("aborted");
    let (id, tags) = upload(&*store, &key, &[unique()]).await?;
    store.abort(&key, &id).await?;
    store.abort(&key, &id).await?;
    ensure!(
        store.list_uploads(&key).await?.is_empty(),
        "still listed as open"
    );
    let outcome = store.complete(&key, &id, &tags).await?;
    ensure!(outcome == Completed::NoSuchUpload, "said {outcome:?}");
    ensure!(store.get(&key).await?.is_none(), "it appeared");
    let late = store.put_part(&key, &id, 2, unique()).await;
    ensure!(
        matches!(late, Err(StoreError::Vanished { .. })),
        "a late part gave {late:?}"
    );
    Ok(())
}

async fn an_upload_began_by_the_clock_that_is_told(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let key = fresh("clock");
    let (id, _) = upload(&*store, &key, &[unique()]).await?;
    let now = store.now().await?.ok_or("no clock")?;
    let open = store.list_uploads(&key).await?;
    for at in open.iter().filter_map(|upload| upload.initiated) {
        let apart = now.duration_since(at).unwrap_or_else(|e| e.duration());
        ensure!(apart.as_secs() < 120, "began {apart:?} from now");
    }
    store.abort(&key, &id).await?;
    Ok(())
}

async fn a_listing_holds_what_is_visible_in_order(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let base = fresh("listing");
    let names = ["a/1", "a/2", "ab", "b/c/d", "b/c/e"];
    for name in names {
        store
            .put(&format!("{base}/{name}"), unique(), Expect::Absent)
            .await?;
    }
    for (prefix, wanted) in [
        ("", &names[..]),
        ("a", &names[..3]),
        ("a/", &names[..2]),
        ("b/c/d", &names[3..4]),
        ("nothing/", &[]),
    ] {
        let found: Vec<_> = store
            .list(&format!("{base}/{prefix}"))
            .await?
            .into_iter()
            .map(|info| info.key)
            .collect();
        let wanted: Vec<_> = wanted.iter().map(|name| format!("{base}/{name}")).collect();
        ensure!(found == wanted, "under \"{prefix}\" found {found:?}");
    }
    Ok(())
}

async fn folders_are_told_once_each_and_only_one_level_of_them(
    store: Arc<dyn Store>,
) -> Result<(), BoxError> {
    let base = fresh("folders");
    for name in ["a=1/x", "a=1/y", "a=1%2F2/x", "b/c/d", "file"] {
        let key = format!("{base}/{name}");
        store.put(&key, unique(), Expect::Absent).await?;
    }
    for (prefix, wanted) in [
        ("", &["a=1", "a=1%2F2", "b"][..]),
        ("b/", &["c"]),
        ("b/c/", &[]),
        ("nothing/", &[]),
    ] {
        let mut found = store.folders(&format!("{base}/{prefix}")).await?;
        found.sort();
        ensure!(found == wanted, "under \"{prefix}\" found {found:?}");
        let any = store.holds_any(&format!("{base}/{prefix}")).await?;
        ensure!(any == (prefix != "nothing/"), "under \"{prefix}\": {any}");
    }
    Ok(())
}

async fn keys_of_partition_directories_survive(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let base = fresh("hive");
    let names: BTreeSet<_> = [
        "dt=2026-11-21/country=ES/orders+0+0000000000.parquet",
        "note=50%25 %2Foff/x",
        "city=Łódź ü/x",
    ]
    .map(|name| format!("{base}/{name}"))
    .into();
    for key in &names {
        let (id, tags) = upload(&*store, key, &[unique()]).await?;
        let open = store.list_uploads(key).await?;
        ensure!(
            open.iter().any(|upload| upload.key == *key),
            "open uploads are {open:?}"
        );
        store.complete(key, &id, &tags).await?;
        ensure!(store.head(key).await?.is_some(), "\"{key}\" is not there");
    }
    let listed: BTreeSet<_> = store
        .list(&format!("{base}/"))
        .await?
        .into_iter()
        .map(|info| info.key)
        .collect();
    ensure!(listed == names, "listed {listed:?}");
    Ok(())
}

async fn the_probe_accepts_this_store(store: Arc<dyn Store>) -> Result<(), BoxError> {
    let prefix = fresh("probe");
    store.probe(&prefix).await?;
    let left = store.list(&prefix).await?;
    ensure!(left.is_empty(), "the probe left {left:?}");
    Ok(())
}
