//! What is to be done about each child. Pure.

use std::sync::Arc;

use super::super::live::{DeploymentFacts, Facts, Live};
use super::super::validate::Identity;

/// ConfigMaps kept of a roll-out that does not come to its end.
const KEPT: usize = 10;

/// What a child was when it was last applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub(super) hash: String,
    pub(super) uid: String,
    pub(super) version: String,
}

impl Applied {
    /// Whether the cluster still holds what was applied.
    pub fn is(&self, live: &Facts) -> bool {
        self.uid == live.uid && self.version == live.version
    }
}

/// What is to be done about a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Settled,
    /// What is known may be out of date.
    Look,
    Apply {
        /// Of the object that is there.
        uid: Option<String>,
        /// Somebody changed or removed it.
        drift: bool,
    },
    /// Belongs to a resource of this name that is gone: it will go too.
    Leftover,
    /// Belongs to somebody else.
    Conflict,
}

/// `live` is what the store holds, or, when `certain`, what the API server has just said.
pub(super) fn decide(
    hash: &str,
    identity: &Identity,
    live: Option<&Facts>,
    applied: Option<&Applied>,
    certain: bool,
) -> Step {
    let same = applied.is_some_and(|applied| applied.hash == hash);
    let Some(live) = live else {
        return if certain {
            let uid = None;
            Step::Apply { uid, drift: same }
        } else {
            Step::Look
        };
    };
    let owner = live.owner.clone().unwrap_or_default();
    if owner.uid != identity.uid {
        return if !certain {
            Step::Look
        } else if owner.kind == identity.kind && owner.name == identity.name {
            Step::Leftover
        } else {
            Step::Conflict
        };
    }
    let unchanged = live.labelled && applied.is_some_and(|applied| applied.is(live));
    if same && unchanged {
        Step::Settled
    } else if same && !certain {
        Step::Look
    } else {
        Step::Apply {
            uid: Some(live.uid.clone()),
            drift: same,
        }
    }
}

/// ConfigMaps of a resource that may go.
#[derive(Debug)]
pub(super) enum Outdated {
    /// No pod can need them any more.
    All(Vec<Arc<Live>>),
    /// Those of them that no pod reads.
    Unread(Vec<Arc<Live>>),
}

/// Which of a resource's ConfigMaps may go. While a roll-out has not come to its end pods that start anew may read any of
/// them: [`KEPT`] are kept. `deployment` is the one last applied, where the store knows it.
pub(super) fn outdated(
    mut all: Vec<Arc<Live>>,
    current: &str,
    deployment: Option<&DeploymentFacts>,
) -> Outdated {
    all.retain(|live| live.metadata.name.as_deref() != Some(current));
    let through = |d: &DeploymentFacts| d.observed && d.rolled_out && d.updated == d.replicas;
    if deployment.is_some_and(through) || all.is_empty() {
        return Outdated::All(all);
    }
    all.sort_by_key(|live| live.metadata.creation_timestamp.as_ref().map(|at| at.0));
    all.truncate(all.len().saturating_sub(KEPT));
    match all.is_empty() {
        true => Outdated::All(all),
        false => Outdated::Unread(all),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::controller::live::Owner;

    fn identity() -> Identity {
        Identity {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: "orders".into(),
            uid: "mine".into(),
            child: "orders-ks3".into(),
        }
    }

    fn live(owner: Option<&str>, version: &str) -> Facts {
        Facts {
            uid: "u".into(),
            version: version.into(),
            owner: owner.map(|uid| Owner {
                uid: uid.into(),
                kind: "KafkaS3Sink".into(),
                name: "orders".into(),
            }),
            labelled: true,
            ..Facts::default()
        }
    }

    fn applied(hash: &str, version: &str) -> Applied {
        Applied {
            hash: hash.into(),
            uid: "u".into(),
            version: version.into(),
        }
    }

    fn step(live: Option<&Facts>, applied: Option<&Applied>, certain: bool) -> Step {
        decide("h", &identity(), live, applied, certain)
    }

    #[test]
    fn what_is_as_it_was_applied_costs_no_request() {
        let (live, applied) = (live(Some("mine"), "3"), applied("h", "3"));
        assert_eq!(step(Some(&live), Some(&applied), false), Step::Settled);
    }

    #[test]
    fn a_store_that_lags_behind_is_no_drift() {
        let (old, applied) = (live(Some("mine"), "2"), applied("h", "3"));
        assert_eq!(step(Some(&old), Some(&applied), false), Step::Look);
        assert_eq!(step(None, Some(&applied), false), Step::Look);
        let fresh = live(Some("mine"), "3");
        assert_eq!(step(Some(&fresh), Some(&applied), true), Step::Settled);
    }

    #[test]
    fn what_somebody_changed_or_removed_is_put_back() {
        let applied = applied("h", "3");
        let put_back = |uid: Option<&str>| Step::Apply {
            uid: uid.map(str::to_owned),
            drift: true,
        };
        assert_eq!(
            step(Some(&live(Some("mine"), "4")), Some(&applied), true),
            put_back(Some("u"))
        );
        assert_eq!(step(None, Some(&applied), true), put_back(None));
        let mut unlabelled = live(Some("mine"), "3");
        unlabelled.labelled = false;
        assert_eq!(
            step(Some(&unlabelled), Some(&applied), true),
            put_back(Some("u"))
        );
    }

    #[test]
    fn a_changed_spec_is_applied_and_is_no_drift() {
        let changed = Step::Apply {
            uid: Some("u".into()),
            drift: false,
        };
        let live = live(Some("mine"), "3");
        assert_eq!(
            step(Some(&live), Some(&applied("old", "3")), false),
            changed
        );
        // After a restart nothing is known of what was applied.
        assert_eq!(step(Some(&live), None, false), changed);
        let new = Step::Apply {
            uid: None,
            drift: false,
        };
        assert_eq!(step(None, None, false), Step::Look);
        assert_eq!(step(None, None, true), new);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_touched() {
        let mut stranger = live(Some("other"), "3");
        if let Some(owner) = &mut stranger.owner {
            owner.name = "other".into();
        }
        for (live, expected) in [
            (live(None, "3"), Step::Conflict),
            (stranger, Step::Conflict),
            // Of a resource of this name that was deleted and made anew.
            (live(Some("gone"), "3"), Step::Leftover),
        ] {
            for applied in [None, Some(&applied("h", "3"))] {
                assert_eq!(step(Some(&live), applied, false), Step::Look);
                assert_eq!(step(Some(&live), applied, true), expected);
            }
        }
    }

    fn config_map(made: i64) -> Arc<Live> {
        let mut live = Live::default();
        live.metadata.name = Some(format!("orders-ks3-{made}"));
        live.metadata.creation_timestamp = Timestamp::from_second(made).ok().map(Time);
        Arc::new(live)
    }

    /// What may go, and whether only where no pod reads it.
    fn going(
        made: &[i64],
        current: &str,
        deployment: Option<&DeploymentFacts>,
    ) -> (Vec<String>, bool) {
        let all = made.iter().copied().map(config_map).collect();
        let (gone, unread) = match outdated(all, current, deployment) {
            Outdated::All(gone) => (gone, false),
            Outdated::Unread(gone) => (gone, true),
        };
        let names = gone.iter().filter_map(|live| live.metadata.name.clone());
        (names.collect(), unread)
    }

    #[test]
    fn the_configuration_of_pods_that_may_start_anew_is_kept() {
        let through = DeploymentFacts {
            observed: true,
            rolled_out: true,
            replicas: 3,
            updated: 3,
            ..DeploymentFacts::default()
        };
        let stuck = [
            DeploymentFacts {
                rolled_out: false,
                ..through.clone()
            },
            DeploymentFacts {
                observed: false,
                ..through.clone()
            },
            DeploymentFacts {
                updated: 1,
                ..through.clone()
            },
        ];
        for deployment in stuck.iter().map(Some).chain([None]) {
            assert_eq!(
                going(&[1, 2, 3], "orders-ks3-2", deployment),
                (vec![], false)
            );
        }
        let gone = ["orders-ks3-1", "orders-ks3-3"].map(str::to_owned).to_vec();
        assert_eq!(
            going(&[1, 2, 3], "orders-ks3-2", Some(&through)),
            (gone, false)
        );
    }

    #[test]
    fn of_a_roll_out_changed_again_and_again_those_that_no_pod_reads_go_when_there_are_many() {
        let made: Vec<i64> = (1..=13).rev().collect();
        let gone = ["orders-ks3-1", "orders-ks3-2"].map(str::to_owned).to_vec();
        assert_eq!(going(&made, "orders-ks3-13", None), (gone, true));
    }
}
