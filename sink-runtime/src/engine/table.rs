//! The engine's parts for an Iceberg table: each worker's shelf of open data files, and commits of all lanes together.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::target::{Target, Targets};
use self::topics::{TopicIds, mark, new_ids, recreated, told, unrecorded};
use super::coordinator::CutScope;
use super::deliver::{Deliver, Facts, Failure, Job, Landed};
use crate::commit::iceberg::{Hears, IcebergCommit, IcebergFailure, NotCommitted, TableLedger};
use crate::errors::{Class, OneLine, class};
use crate::ledger::{Claim, CommitId, Progress as Known, Recorded, SourceCheck, check_source};
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{OnRecordsExpired, OnSourceReset, Plan};
use crate::record::{Offset, OffsetRange, TopicPartition};

mod file;
mod shelf;
pub mod target;
mod topics;

pub use self::file::TableFile;
pub use self::shelf::TableShelf;

/// Commits to one table.
#[derive(Debug)]
pub struct TableDeliver {
    targets: Arc<Targets>,
    progress: Progress,
    on_source_reset: OnSourceReset,
    on_records_expired: OnRecordsExpired,
    cluster: parking_lot::Mutex<Option<String>>,
}

impl TableDeliver {
    pub fn new(plan: &Plan, targets: Arc<Targets>, progress: Progress) -> Self {
        Self {
            targets,
            progress,
            on_source_reset: plan.source.on_source_reset,
            on_records_expired: plan.source.on_records_expired,
            cluster: parking_lot::Mutex::new(None),
        }
    }

    /// What the table knows of one topic-partition, against what Kafka says of it.
    fn known(
        &self,
        tp: &TopicPartition,
        next: Option<Offset>,
        facts: &Facts,
    ) -> Result<Known, Failure> {
        let mut known = Known {
            next,
            floor: next,
            reread: false,
        };
        let recorded = Recorded {
            cluster_id: None,
            topic_id: None,
            next,
        };
        if let SourceCheck::RecordsExpired { gap } = check_source(recorded, &facts.origin()) {
            let message = format!("{tp}: records {gap} expired before they were read");
            if self.on_records_expired == OnRecordsExpired::Stop {
                return Err(Failure::Trouble {
                    class: class::OFFSET_OUT_OF_RANGE,
                    message,
                });
            }
            tracing::warn!("{message}; going on at the log's start");
            self.progress.expired((gap.end.0 - gap.start.0) as u64);
            known.floor = Some(facts.log_start);
        }
        Ok(known)
    }

    fn target(&self) -> Result<Arc<Target>, Failure> {
        self.targets
            .current()
            .ok_or_else(|| again("the table is not open"))
    }

    async fn submit(
        &self,
        commit_id: CommitId,
        claims: Vec<Claim>,
        topic_ids: TopicIds,
        target: &Target,
        files: Vec<iceberg::spec::DataFile>,
    ) -> Result<Landed, Failure> {
        let count = files.len() as u64;
        let next: BTreeMap<_, _> = claims
            .iter()
            .map(|claim| (claim.tp.clone(), claim.range.end))
            .collect();
        let wish = IcebergCommit {
            table: target.uuid,
            commit_id,
            // Reading began, without a hole, where the range starts: everything below it is done with.
            floor: claims
                .iter()
                .map(|claim| (claim.tp.clone(), claim.range.start))
                .collect(),
            claims,
            cluster_id: self.cluster.lock().clone(),
            topic_ids,
            files,
            spec: Arc::clone(&target.spec),
            schema: Arc::clone(&target.schema),
        };
        let committed = self
            .targets
            .commit(&wish)
            .await
            .map_err(|error| self.failure(error))?;
        for change in &committed.schema_changes {
            tracing::info!(%change, "the table's schema was evolved");
        }
        if let Some(extent) = committed.extent {
            self.progress.extends(extent);
        }
        let outcome = if committed.already {
            CommitOutcome::AlreadyCommitted
        } else {
            CommitOutcome::Committed
        };
        Ok(Landed {
            outcome,
            next,
            snapshot_id: committed.snapshot_id,
            files: count,
        })
    }

    /// A ledger from before a topic's id was known takes it now, not when records come: what is recreated meanwhile
    /// would pass for the old.
    async fn adopt(
        &self,
        ledger: &TableLedger,
        asked: &BTreeMap<TopicPartition, Facts>,
    ) -> Result<(), Failure> {
        let (marks, ids) = unrecorded(ledger, asked);
        if marks.is_empty() {
            return Ok(());
        }
        let target = self.target()?;
        let adopted = self.submit(CommitId::fresh(), marks, ids, &target, Vec::new());
        adopted.await.map(|_| ())
    }

    fn failure(&self, error: NotCommitted) -> Failure {
        match &error.failure {
            IcebergFailure::Fenced { .. } => Failure::Reread {
                why: error.failure.to_string(),
                fenced: true,
            },
            IcebergFailure::SchemaMoved(_) | IcebergFailure::LayoutMoved { .. } => {
                self.targets.forget();
                Failure::Reread {
                    why: OneLine(&error.failure).to_string(),
                    fenced: false,
                }
            }
            // The recovery looks at the table and applies the policy.
            IcebergFailure::TableMissing { .. }
            | IcebergFailure::TableReplaced { .. }
            | IcebergFailure::RolledBack { .. }
            | IcebergFailure::SourceReset { .. } => {
                self.targets.forget();
                Failure::Reread {
                    why: error.failure.to_string(),
                    fenced: false,
                }
            }
            failure => Failure::of(failure),
        }
    }
}

fn again(why: &str) -> Failure {
    Failure::Reread {
        why: why.to_owned(),
        fenced: false,
    }
}

impl Hears for Progress {
    fn tried_again(&self, class: Class, why: &str) {
        tracing::warn!(error = why, advice = class.advice, "tried again");
        self.hindered(class, why.to_owned());
    }
}

#[async_trait]
impl Deliver for TableDeliver {
    type File = TableFile;

    fn scope(&self) -> CutScope {
        CutScope::Together
    }

    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
        let Some(first) = asked.values().next() else {
            return Ok(BTreeMap::new());
        };
        self.cluster.lock().clone_from(&first.cluster_id);
        let Some(mut ledger) = self
            .targets
            .open()
            .await
            .map_err(|error| Failure::of(&error))?
        else {
            return Ok(BTreeMap::new());
        };
        let recreated = recreated(&ledger, asked);
        if let Some((tp, why)) = recreated.first() {
            let message = format!("{tp}: the topic is not the one the table speaks of: {why}");
            if self.on_source_reset == OnSourceReset::Stop {
                return Err(Failure::Trouble {
                    class: class::SOURCE_RESET,
                    message,
                });
            }
            tracing::warn!("{message}; it is read from its start");
            let log = |facts: &Facts| OffsetRange {
                start: facts.log_start,
                end: facts.log_end,
            };
            let logs = asked.iter().map(|(tp, facts)| (tp.clone(), log(facts)));
            let topic_ids = new_ids(&recreated, asked);
            let restarted = self
                .targets
                .restart_source(first.cluster_id.as_deref(), &topic_ids, &logs.collect())
                .await;
            ledger = restarted.map_err(|error| Failure::of(&error))?;
        } else {
            self.adopt(&ledger, asked).await?;
        }
        let known = |(tp, facts): (&TopicPartition, &Facts)| {
            Ok((
                tp.clone(),
                self.known(tp, ledger.next.get(tp).copied(), facts)?,
            ))
        };
        asked.iter().map(known).collect()
    }

    async fn anchor(&self, tp: &TopicPartition, at: Offset, facts: &Facts) -> Result<(), Failure> {
        let ids = told([(tp, &facts.topic_id)]);
        let marks = vec![mark(tp, None, at)];
        let target = self.target()?;
        let marked = self.submit(CommitId::fresh(), marks, ids, &target, Vec::new());
        marked.await.map(|_| ())
    }

    async fn commit(&self, job: &mut Job<TableFile>) -> Result<Landed, Failure> {
        let mut files = Vec::with_capacity(job.files.len());
        for file in &mut job.files {
            files.push(file.data_file().await?);
        }
        // After the uploads, during which it may have been.
        let target = self.target()?;
        if !job
            .files
            .iter()
            .all(|file| file.target().is_of_opening(&target))
        {
            return Err(again(
                "the table was opened anew since the files were begun",
            ));
        }
        let claims = job
            .lanes
            .iter()
            .map(|lane| Claim {
                tp: lane.tp.clone(),
                expected: lane.expected,
                range: lane.range,
            })
            .collect();
        let topic_ids = told(job.lanes.iter().map(|lane| (&lane.tp, &lane.topic_id)));
        self.submit(job.commit_id, claims, topic_ids, &target, files)
            .await
    }

    fn abandon(&self, files: Vec<TableFile>) {
        files.into_iter().for_each(TableFile::abandon);
    }

    async fn idle(&self, _lanes: &[TopicPartition]) {}
}
