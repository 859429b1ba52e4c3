//! A conditional put whose answer may be lost. The decision needs no knowledge of S3: ledger bodies are unique, so an
//! object that holds our bytes is our own success, and anything else is looked at before it is written again.

use bytes::Bytes;

use super::BoxError;
use crate::store::{Expect, StoreError, Version};

/// How one try ended.
#[derive(Debug)]
pub(super) enum Attempt {
    Written(Version),
    /// The precondition did not hold.
    Lost,
    /// It certainly changed nothing; another try may do better.
    NotApplied(StoreError),
    /// It may have been applied, or may be yet.
    Ambiguous(BoxError),
    /// It changed nothing, and would not next time.
    Refused(StoreError),
}

pub(super) trait Target {
    async fn attempt(&self) -> Attempt;
    async fn look(&self) -> Result<Option<(Bytes, Version)>, StoreError>;
    /// After so many failures, before the next try.
    async fn pause(&self, failures: u32);
}

/// What a look says about a put of unknown outcome.
enum Seen {
    Ours(Version),
    /// As expected before the put: it was not applied so far. Trying again is safe: if the first one lands after all,
    /// the second loses and a look finds our bytes.
    Before,
    Other,
}

fn see(found: Option<(Bytes, Version)>, body: &Bytes, expect: &Expect) -> Seen {
    match (found, expect) {
        (Some((bytes, version)), _) if bytes == *body => Seen::Ours(version),
        (None, Expect::Absent) => Seen::Before,
        (Some((_, version)), Expect::Unchanged(wanted)) if version == *wanted => Seen::Before,
        _ => Seen::Other,
    }
}

/// At most `attempts` tries.
///
/// # Errors
/// [`StoreError::Conflict`] only when nothing of ours can have been applied; [`StoreError::Unknown`] when it may have.
pub(super) async fn put(
    target: &impl Target,
    key: &str,
    body: &Bytes,
    expect: &Expect,
    attempts: u32,
) -> Result<Version, StoreError> {
    let unknown = |source| StoreError::Unknown {
        operation: "put",
        key: key.to_owned(),
        source,
    };
    let mut doubt: Option<BoxError> = None;
    let mut last = None;
    for failures in 1..=attempts {
        match target.attempt().await {
            Attempt::Written(version) => return Ok(version),
            Attempt::Lost if doubt.is_none() => {
                return Err(StoreError::Conflict {
                    key: key.to_owned(),
                });
            }
            // Lost to another writer, or to our own earlier try: the look tells.
            Attempt::Lost => {}
            Attempt::NotApplied(error) => last = Some(error),
            Attempt::Ambiguous(source) => doubt = Some(source),
            Attempt::Refused(error) => {
                return Err(if doubt.is_some() {
                    unknown(error.into())
                } else {
                    error
                });
            }
        }
        if failures < attempts || doubt.is_some() {
            target.pause(failures).await;
        }
        if let Some(source) = doubt.take() {
            match target.look().await {
                Ok(found) => match see(found, body, expect) {
                    Seen::Ours(version) => return Ok(version),
                    Seen::Before => {}
                    Seen::Other => return Err(unknown(source)),
                },
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => return Err(unknown(error.into())),
            }
            doubt = Some(source);
        }
    }
    Err(match (doubt, last) {
        (Some(source), _) => unknown(source),
        (None, Some(error)) => error,
        (None, None) => unknown("no attempt was allowed".into()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::collections::VecDeque;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::store::{MemoryStore, Store};

    /// What happens to one try.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Clean,
        LostReply,
        LostRequest,
        /// Lost now, and applied just before the next try.
        Late,
        Throttled,
        Denied,
        /// Another writer goes first.
        Overtaken,
        /// Applied, answer lost, and another writer goes on from there.
        LostReplyThenOvertaken,
    }

    struct Script {
        store: Arc<MemoryStore>,
        expect: Expect,
        steps: Mutex<VecDeque<Step>>,
        late: Mutex<bool>,
    }

    const KEY: &str = "ledger";

    fn body() -> Bytes {
        Bytes::from_static(b"ours")
    }

    impl Script {
        async fn apply(&self) -> Attempt {
            match self.store.put(KEY, body(), self.expect.clone()).await {
                Ok(version) => Attempt::Written(version),
                Err(StoreError::Conflict { .. }) => Attempt::Lost,
                Err(other) => Attempt::Refused(other),
            }
        }

        async fn overtake(&self) {
            let theirs = Bytes::from_static(b"theirs");
            self.store.put(KEY, theirs, Expect::Anything).await.unwrap();
        }
    }

    impl Target for Script {
        async fn attempt(&self) -> Attempt {
            let step = self.steps.lock().pop_front().unwrap_or(Step::Clean);
            if std::mem::take(&mut *self.late.lock()) {
                self.apply().await;
            }
            let lost = || Attempt::Ambiguous("reset".into());
            match step {
                Step::Clean => self.apply().await,
                Step::LostReply => {
                    self.apply().await;
                    lost()
                }
                Step::LostRequest => lost(),
                Step::Late => {
                    *self.late.lock() = true;
                    lost()
                }
                Step::Throttled => Attempt::NotApplied(StoreError::Unavailable {
                    operation: "put",
                    key: KEY.to_owned(),
                    source: "slow down".into(),
                }),
                Step::Denied => Attempt::Refused(StoreError::Denied {
                    operation: "put",
                    key: KEY.to_owned(),
                    source: "denied".into(),
                }),
                Step::Overtaken => {
                    self.overtake().await;
                    self.apply().await
                }
                Step::LostReplyThenOvertaken => {
                    self.apply().await;
                    self.overtake().await;
                    lost()
                }
            }
        }

        async fn look(&self) -> Result<Option<(Bytes, Version)>, StoreError> {
            self.store.get(KEY).await
        }

        async fn pause(&self, _failures: u32) {}
    }

    /// Both as the first version and as a replacement.
    async fn outcomes(steps: &[Step]) -> [Result<Version, StoreError>; 2] {
        let mut outcomes = Vec::new();
        for replace in [false, true] {
            let store = Arc::new(MemoryStore::new());
            let expect = if replace {
                let base = Bytes::from_static(b"base");
                let version = store.put(KEY, base, Expect::Absent).await.unwrap();
                Expect::Unchanged(version)
            } else {
                Expect::Absent
            };
            let script = Script {
                store: Arc::clone(&store),
                expect: expect.clone(),
                steps: Mutex::new(steps.iter().copied().collect()),
                late: Mutex::new(false),
            };
            let outcome = put(&script, KEY, &body(), &expect, 3).await;
            if let Ok(version) = &outcome {
                let there = store.get(KEY).await.unwrap();
                assert_eq!(there, Some((body(), version.clone())), "{steps:?}");
            }
            outcomes.push(outcome);
        }
        outcomes.try_into().unwrap()
    }

    #[tokio::test]
    async fn a_success_whose_answer_was_lost_is_recognised() {
        for steps in [
            &[Step::LostReply][..],
            &[Step::LostRequest, Step::LostReply],
            &[Step::LostRequest, Step::LostRequest],
            &[Step::Late, Step::Clean],
            &[Step::Throttled, Step::LostReply],
            &[Step::LostRequest, Step::Throttled, Step::LostReply],
        ] {
            let [first, replaced] = outcomes(steps).await;
            assert!(first.is_ok() && replaced.is_ok(), "{steps:?}: {first:?}");
        }
    }

    #[tokio::test]
    async fn a_conflict_is_reported_only_when_nothing_of_ours_can_be_there() {
        for steps in [&[Step::Overtaken][..], &[Step::Throttled, Step::Overtaken]] {
            for outcome in outcomes(steps).await {
                let conflict = matches!(outcome, Err(StoreError::Conflict { .. }));
                assert!(conflict, "{steps:?}: {outcome:?}");
            }
        }
        for steps in [
            &[Step::LostReplyThenOvertaken][..],
            &[Step::LostRequest, Step::Overtaken],
            &[Step::LostRequest, Step::Denied],
            &[Step::LostRequest, Step::LostRequest, Step::LostRequest],
        ] {
            for outcome in outcomes(steps).await {
                let unknown = matches!(outcome, Err(StoreError::Unknown { .. }));
                assert!(unknown, "{steps:?}: {outcome:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_was_surely_not_applied_keeps_its_own_error() {
        for outcome in outcomes(&[Step::Throttled; 3]).await {
            assert!(matches!(outcome, Err(StoreError::Unavailable { .. })));
        }
        for outcome in outcomes(&[Step::Denied]).await {
            assert!(matches!(outcome, Err(StoreError::Denied { .. })));
        }
    }
}
