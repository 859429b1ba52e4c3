//! Leader election by a Lease: whose turn it is (pure), and keeping it. One process leads; when it cannot be sure that it
//! still does, it ends at once, and another begins where it stood. Time is this machine's alone: clocks of two machines
//! are never compared.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rand::Rng;
use tidewater_runtime::errors::OneLine;

/// A lease that its holder did not renew for this long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long tries no more.
const DEADLINE: Duration = Duration::from_secs(9);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(3);
/// Between two attempts at one.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at somebody else's lease.
const LOOK: Duration = Duration::from_secs(2);
/// No call takes longer.
const CALL: Duration = Duration::from_secs(2);

/// A lease as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    holder: String,
    duration: Duration,
    /// Changes with every renewal.
    mark: (String, Option<MicroTime>, i32),
}

impl Found {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.unwrap_or_default();
        Self {
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            mark: (
                holder.clone(),
                spec.renew_time,
                spec.lease_transitions.unwrap_or_default(),
            ),
            holder,
        }
    }
}

/// What a process does next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Create,
    /// It is free, or its holder is gone.
    Take,
    /// It is ours.
    Renew,
    Wait(Duration),
}

/// `unchanged`: for how long this process has seen the lease as it is now.
fn evaluate(me: &str, lease: Option<&Found>, unchanged: Duration) -> Turn {
    match lease {
        None => Turn::Create,
        Some(lease) if lease.holder == me => Turn::Renew,
        Some(lease) if lease.holder.is_empty() || unchanged >= lease.duration => Turn::Take,
        Some(lease) => Turn::Wait((lease.duration - unchanged).min(LOOK)),
    }
}

/// A candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
}

/// Why a lease is not held any more.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    #[error("\"{0}\" leads now")]
    Taken(String),
    #[error("the lease could not be renewed for {} s", DEADLINE.as_secs())]
    NotRenewed(#[source] kube::Error),
}

impl Candidate {
    /// `me` must be this process's alone.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
        }
    }

    /// Waits until the lease is held.
    pub async fn acquire(&self) -> Held {
        let mut seen: Option<(Found, Instant)> = None;
        loop {
            let begun = Instant::now();
            let pause = match self.attempt(&mut seen).await {
                Ok(Some(lease)) => {
                    return Held {
                        candidate: self.clone(),
                        lease,
                        renewed: begun,
                    };
                }
                Ok(None) => LOOK,
                Err(error) => {
                    tracing::warn!(error = %OneLine(&error), lease = self.name, "lease not acquired");
                    LOOK
                }
            };
            tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.8..1.2))).await;
        }
    }

    async fn attempt(
        &self,
        seen: &mut Option<(Found, Instant)>,
    ) -> Result<Option<Lease>, kube::Error> {
        let lease = bounded(self.api.get_opt(&self.name)).await?;
        let found = lease.as_ref().map(Found::of);
        let unchanged = match (&found, &*seen) {
            (Some(found), Some((before, since))) if before.mark == found.mark => since.elapsed(),
            _ => Duration::ZERO,
        };
        if unchanged.is_zero() {
            *seen = found.clone().map(|found| (found, Instant::now()));
        }
        match evaluate(&self.me, found.as_ref(), unchanged) {
            Turn::Wait(_) => Ok(None),
            Turn::Create => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(0, Timestamp::now())),
                };
                self.won(bounded(self.api.create(&PostParams::default(), &lease)).await)
            }
            Turn::Take | Turn::Renew => {
                let mut lease = lease.unwrap_or_default();
                let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
                lease.spec = Some(self.spec(
                    transitions.unwrap_or_default().saturating_add(1),
                    Timestamp::now(),
                ));
                self.won(self.replace(&lease).await)
            }
        }
    }

    fn won(&self, answer: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
        match answer {
            Ok(lease) => Ok(Some(lease)),
            // Somebody else was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: i32, acquired: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// By the version that was read: a lease that changed meanwhile stays as it is.
    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        bounded(self.api.replace(&self.name, &PostParams::default(), lease)).await
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer,
        Err(late) => Err(kube::Error::Service(late.into())),
    }
}

/// A lease that is held.
#[derive(Debug)]
pub struct Held {
    candidate: Candidate,
    lease: Lease,
    renewed: Instant,
}

impl Held {
    /// Renews until it is lost.
    pub async fn keep(&mut self) -> LeaseLost {
        let mut pause = RENEW;
        loop {
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            let error = match self.renew().await {
                Ok(Ok(())) => {
                    self.renewed = begun;
                    pause = RENEW;
                    continue;
                }
                Ok(Err(lost)) => return lost,
                Err(error) => error,
            };
            tracing::warn!(error = %OneLine(&error), "lease not renewed");
            if self.renewed.elapsed() > DEADLINE {
                return LeaseLost::NotRenewed(error);
            }
            pause = RETRY;
        }
    }

    async fn renew(&mut self) -> Result<Result<(), LeaseLost>, kube::Error> {
        if let Some(spec) = &mut self.lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let conflict = match self.candidate.replace(&self.lease).await {
            Ok(lease) => {
                self.lease = lease;
                return Ok(Ok(()));
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => status,
            Err(error) => return Err(error),
        };
        // Ours under another version, as when an answer was lost, or somebody else's.
        let found = bounded(self.candidate.api.get_opt(&self.candidate.name)).await?;
        match found {
            Some(lease) if Found::of(&lease).holder == self.candidate.me => {
                self.lease = lease;
                Err(kube::Error::Api(conflict))
            }
            Some(lease) => Ok(Err(LeaseLost::Taken(Found::of(&lease).holder))),
            None => Ok(Err(LeaseLost::Taken("nobody".to_owned()))),
        }
    }

    /// Gives it up, so that the next one need not wait. Only after all work has ended.
    pub async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = self.candidate.replace(&self.lease).await {
            tracing::info!(error = %OneLine(&error), "lease not given up: the next leader waits for it to expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Found {
        Found {
            holder: holder.into(),
            duration: DURATION,
            ..Found::default()
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_anothers_only_after_it_expired() {
        let seconds = Duration::from_secs;
        assert_eq!(evaluate("a", None, seconds(0)), Turn::Create);
        assert_eq!(evaluate("a", Some(&held_by("a")), seconds(0)), Turn::Renew);
        assert_eq!(evaluate("a", Some(&held_by("")), seconds(0)), Turn::Take);
        assert_eq!(
            evaluate("a", Some(&held_by("b")), seconds(0)),
            Turn::Wait(LOOK)
        );
        assert_eq!(
            evaluate("a", Some(&held_by("b")), seconds(14)),
            Turn::Wait(seconds(1))
        );
        assert_eq!(evaluate("a", Some(&held_by("b")), seconds(15)), Turn::Take);
    }

    #[test]
    fn a_leader_gives_up_before_another_may_begin() {
        // The last attempt begins just before the deadline, and makes two calls.
        assert!(DEADLINE + RETRY + CALL + CALL < DURATION);
        assert!(RENEW + CALL + CALL < DEADLINE);
    }

    #[test]
    fn a_renewal_is_seen_whatever_the_clocks_say() {
        let lease = |renewed: i64| {
            let spec = LeaseSpec {
                holder_identity: Some("b".into()),
                renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
                lease_duration_seconds: Some(-5),
                ..LeaseSpec::default()
            };
            Found::of(&Lease {
                spec: Some(spec),
                ..Lease::default()
            })
        };
        assert_ne!(lease(5).mark, lease(4).mark);
        assert_eq!(lease(5).mark, lease(5).mark);
        assert_eq!(lease(5).duration, Duration::ZERO);
    }
}
