//! Proof, on a scratch object, that a store keeps the promise the ledger stands on: of two writers that expect the
//! same version, one loses. Some S3-compatible stores ignore the conditions and answer 200.

use bytes::Bytes;

use super::{Expect, Store, StoreError, Version};

pub(super) async fn conditional_puts<S: Store + ?Sized>(
    store: &S,
    prefix: &str,
) -> Result<(), StoreError> {
    let scratch = format!("probe-{}", uuid::Uuid::new_v4().simple());
    let key = match prefix.trim_end_matches('/') {
        "" => format!("_tidewater/{scratch}"),
        prefix => format!("{prefix}/_tidewater/{scratch}"),
    };
    let verdict = conditions(store, &key).await;
    let deleted = store.delete(&key).await;
    verdict?;
    deleted
}

async fn conditions<S: Store + ?Sized>(store: &S, key: &str) -> Result<(), StoreError> {
    // Every body differs: equal bytes have equal ETags, and would prove nothing.
    let first = store.put(key, body("first"), Expect::Absent).await?;
    must_lose(
        store.put(key, body("again"), Expect::Absent).await,
        "a put that expected no object replaced one",
    )?;
    let stale = Version("\"00000000000000000000000000000000\"".to_owned());
    must_lose(
        store
            .put(key, body("stale"), Expect::Unchanged(stale))
            .await,
        "a put that expected another version replaced the object",
    )?;
    let second = store
        .put(key, body("second"), Expect::Unchanged(first.clone()))
        .await
        .map_err(|error| match error {
            StoreError::Conflict { .. } => StoreError::Unfit {
                probe: "a put that expected the current version was refused",
            },
            other => other,
        })?;
    must_lose(
        store.put(key, body("late"), Expect::Unchanged(first)).await,
        "a put that expected an earlier version replaced the object",
    )?;
    match store.get(key).await? {
        Some((bytes, version)) if bytes == body("second") && version == second => Ok(()),
        _ => Err(StoreError::Unfit {
            probe: "a read after the writes does not show the last of them",
        }),
    }
}

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn must_lose(
    outcome: Result<Version, StoreError>,
    otherwise: &'static str,
) -> Result<(), StoreError> {
    match outcome {
        Err(StoreError::Conflict { .. }) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(StoreError::Unfit { probe: otherwise }),
    }
}
