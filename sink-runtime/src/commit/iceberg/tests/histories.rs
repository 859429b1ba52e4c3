//! Whatever commits, compactions, expiries and rollbacks a table has been through, its ledger is that of the rows that
//! `main` holds, or it is said that it cannot be.

use proptest::prelude::*;

use super::told::lineage;
use super::*;
use crate::catalog::faulty::foreign;

#[derive(Clone, Debug)]
enum Step {
    /// By how much each of some partitions goes on.
    Commit(Vec<(i32, i64)>),
    Compact,
    Expire,
    /// To a retained snapshot, of those that `main` has been at.
    RollBack(prop::sample::Index),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let moves = prop::collection::vec((0..6, 1i64..9), 1..3);
    prop_oneof![
        12 => moves.prop_map(Step::Commit),
        2 => Just(Step::Compact),
        1 => Just(Step::Expire),
        2 => any::<prop::sample::Index>().prop_map(Step::RollBack),
        1 => Just(Step::Reopen),
    ]
}

/// What the rows reach to at each snapshot.
type Reached = BTreeMap<i64, Offsets>;

struct History {
    lab: Lab,
    reached: Reached,
}

impl History {
    async fn main(&self) -> (Option<i64>, Offsets) {
        let current = self.lab.metadata().await.current_snapshot_id();
        let reached = current.map(|id| self.reached[&id].clone());
        (current, reached.unwrap_or_default())
    }

    /// A snapshot that moves no row follows the one before it.
    async fn follows(&mut self, before: Offsets) {
        let current = self.lab.metadata().await.current_snapshot_id();
        self.reached.insert(current.unwrap(), before);
    }

    async fn standing(&self) -> Standing {
        standing(&*self.lab.metadata().await, &Keys::of(SINK)).unwrap()
    }

    /// Whether the ledger is the rows', or is said not to be.
    async fn check(&mut self) -> Result<(), TestCaseError> {
        let (current, reached) = self.main().await;
        let Some(current) = current else {
            return Ok(());
        };
        if let (false, Standing::Settled(ledger)) =
            (self.tells(current).await, self.standing().await)
        {
            // The properties rule.
            self.reached.insert(current, ledger.next);
            return Ok(());
        }
        match self.standing().await {
            Standing::Settled(ledger) => prop_assert_eq!(ledger.next, reached),
            Standing::RolledBack { recorded, held } => {
                let metadata = self.lab.metadata().await;
                let on_main =
                    lineage(&metadata).any(|s| Some(s.snapshot_id()) == recorded.snapshot_id);
                prop_assert!(recorded.next != reached || !on_main);
                prop_assert!(held.is_none_or(|held| held == reached));
            }
        }
        Ok(())
    }

    /// Opens as a user would have it settled: read again where that can be, else go on.
    async fn reopen(&mut self) -> (IcebergCommitter, Opened) {
        let (before, reached) = self.main().await;
        let standing = self.standing().await;
        let (choice, reached) = match standing {
            Standing::RolledBack {
                recorded,
                held: None,
            } => (OnDestinationReset::Continue, recorded.next),
            _ => (OnDestinationReset::Reread, reached),
        };
        let mut committer = self.lab.committer();
        let opened = committer.open(&on_reset(choice), &columns(&["id"])).await;
        if self.lab.metadata().await.current_snapshot_id() != before {
            self.follows(reached).await;
        }
        (committer, opened.unwrap())
    }

    async fn take(&mut self, step: Step) {
        let (_, mut reached) = self.main().await;
        match step {
            Step::Commit(moves) => {
                let (mut committer, opened) = self.reopen().await;
                (_, reached) = self.main().await;
                let moves: BTreeMap<i32, i64> = moves.into_iter().collect();
                let claims = moves.iter().map(|(partition, by)| {
                    let known = reached.get(&tp(*partition)).map(|offset| offset.0);
                    let start = known.unwrap_or_default();
                    claim(*partition, known, start, start + by)
                });
                let wish = IcebergCommit {
                    claims: claims.collect(),
                    files: Vec::new(),
                    floor: Offsets::new(),
                    ..commit_of(&opened, 0, None, 0)
                };
                committer.commit(&wish).await.unwrap();
                for claim in wish.claims {
                    reached.insert(claim.tp, claim.range.end);
                }
                self.follows(reached).await;
            }
            Step::Compact if !self.reached.is_empty() => {
                foreign::compact(&*self.lab.memory).await.unwrap();
                self.follows(reached).await;
            }
            Step::Expire => foreign::expire(&*self.lab.memory).await.unwrap(),
            Step::RollBack(to) => {
                let metadata = self.lab.metadata().await;
                let retained: Vec<i64> = metadata.snapshots().map(|s| s.snapshot_id()).collect();
                if !retained.is_empty() && self.tells(*to.get(&retained)).await {
                    let to = *to.get(&retained);
                    foreign::roll_back(&*self.lab.memory, to).await.unwrap();
                }
            }
            Step::Reopen => drop(self.reopen().await),
            Step::Compact => {}
        }
    }

    /// Whether the snapshot or a retained ancestor has a word of ours: without one the properties rule.
    async fn tells(&self, snapshot: i64) -> bool {
        let metadata = self.lab.metadata().await;
        let key = Keys::of(SINK).offsets;
        let mut next = metadata.snapshot_by_id(snapshot);
        while let Some(snapshot) = next {
            if snapshot.summary().additional_properties.contains_key(&key) {
                return true;
            }
            next = snapshot
                .parent_snapshot_id()
                .and_then(|id| metadata.snapshot_by_id(id));
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_ledger_is_that_of_the_rows_or_said_not_to_be(steps in prop::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let lab = Lab::new();
            lab.opened().await;
            let mut history = History { lab, reached: Reached::new() };
            for step in steps {
                history.take(step).await;
                history.check().await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}
