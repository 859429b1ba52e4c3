//! The engine's parts for an Iceberg table: each worker's shelf of open data files, and commits of all lanes together.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::target::{Target, Targets};
use self::topics::{
    TopicIds, doubts, known, mark, new_ids, recreated, told, truncated, unrecorded,
};
use super::coordinator::CutScope;
use super::deliver::{Deliver, Doubts, Facts, Failure, Job, Landed, Unsettled};
use crate::commit::iceberg::{Hears, IcebergCommit, IcebergFailure, NotCommitted, TableLedger};
use crate::errors::{Class, class};
use crate::ledger::{
    Claim, CommitId, Progress as Known, Recorded, SourceCheck, check_source, truncation,
};
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{OnLogTruncated, OnRecordsExpired, OnSourceReset, Plan};
use crate::record::{Census, LastRead, Offset, OffsetRange, TopicPartition};

mod file;
mod shelf;
pub mod target;
mod topics;
mod wishes;

pub use self::file::TableFile;
pub use self::shelf::TableShelf;

/// Commits to one table.
#[derive(Debug)]
pub struct TableDeliver {
    targets: Arc<Targets>,
    progress: Progress,
    on_source_reset: OnSourceReset,
    on_records_expired: OnRecordsExpired,
    on_log_truncated: OnLogTruncated,
    cluster: parking_lot::Mutex<Option<String>>,
    /// Taken while there was no table to write it down in.
    census: parking_lot::Mutex<Option<Census>>,
}

impl TableDeliver {
    pub fn new(plan: &Plan, targets: Arc<Targets>, progress: Progress) -> Self {
        Self {
            targets,
            progress,
            on_source_reset: plan.source.on_source_reset,
            on_records_expired: plan.source.on_records_expired,
            on_log_truncated: plan.source.on_log_truncated,
            cluster: parking_lot::Mutex::new(None),
            census: parking_lot::Mutex::new(None),
        }
    }

    /// What the table knows of one topic-partition, against what Kafka says of it.
    fn known(
        &self,
        tp: &TopicPartition,
        ledger: &TableLedger,
        facts: &Facts,
    ) -> Result<Known, Failure> {
        let known = known(ledger, tp);
        let next = known.next;
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
            // The lane passes over the gap, and counts it, when it meets it.
            tracing::warn!("{message}");
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
        last_reads: BTreeMap<TopicPartition, LastRead>,
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
            census: self.census.lock().clone(),
            topic_ids,
            last_reads,
            files,
            spec: Arc::clone(&target.spec),
            columns: target.columns.clone(),
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
        let adopted = self.submit(
            CommitId::fresh(),
            marks,
            ids,
            BTreeMap::new(),
            &target,
            Vec::new(),
        );
        adopted.await.map(|_| ())
    }

    fn failure(&self, error: NotCommitted) -> Failure {
        match &error.failure {
            IcebergFailure::Fenced { .. } => Failure::reread(&error.failure),
            // The recovery looks at the table and applies the policy.
            IcebergFailure::SchemaMoved(_)
            | IcebergFailure::LayoutMoved { .. }
            | IcebergFailure::TableMissing { .. }
            | IcebergFailure::TableReplaced { .. }
            | IcebergFailure::RolledBack { .. }
            | IcebergFailure::SourceReset { .. } => {
                self.targets.forget();
                Failure::reread(&error.failure)
            }
            failure => Failure::of(failure),
        }
    }
}

/// That log and ledger do not fit was seen before Kafka was asked, of all of these.
fn confirmed<'a>(
    ledger: &TableLedger,
    tps: impl Iterator<Item = &'a TopicPartition>,
    doubted: &Doubts,
    class: Class,
    message: &str,
) -> Result<(), Failure> {
    let said = doubts(ledger, tps, doubted);
    match said.is_empty() {
        true => Ok(()),
        false => Err(Failure::Doubt {
            said,
            class,
            message: message.to_owned(),
        }),
    }
}

fn again(why: &str) -> Failure {
    Failure::Reread {
        class: class::CATALOG_CONFLICT,
        why: why.to_owned(),
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
        doubted: &Doubts,
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
            let class = class::SOURCE_RESET;
            confirmed(
                &ledger,
                recreated.iter().map(|(tp, _)| *tp),
                doubted,
                class,
                &message,
            )?;
            if self.on_source_reset == OnSourceReset::Stop {
                return Err(Failure::Trouble { class, message });
            }
            tracing::warn!("{message}; it is read from its start");
            let log = |facts: &Facts| OffsetRange {
                start: facts.log_start,
                end: facts.log_end,
            };
            let logs = asked.iter().map(|(tp, facts)| (tp.clone(), log(facts)));
            let topic_ids = new_ids(&recreated, asked);
            let (cluster_id, logs) = (first.cluster_id.as_deref(), logs.collect());
            let said = doubts(&ledger, asked.keys(), &Doubts::new());
            let restarted = self
                .targets
                .restart_source(cluster_id, &topic_ids, &logs, &said)
                .await;
            ledger = restarted.map_err(|error| Failure::of(&error))?;
        } else {
            self.adopt(&ledger, asked).await?;
        }
        let ends = truncated(&ledger, asked);
        if let Some((tp, end)) = ends.first_key_value() {
            let next = ledger.next.get(tp).unwrap_or(end);
            let log = asked.get(tp).unwrap_or(first).origin();
            let message = format!("{tp}: {}", truncation(*end, *next, &log));
            let class = class::LOG_TRUNCATED;
            confirmed(&ledger, ends.keys(), doubted, class, &message)?;
            if self.on_log_truncated == OnLogTruncated::Stop {
                return Err(Failure::Trouble { class, message });
            }
            tracing::warn!("{message}; they stay in the table, and reading goes on there");
            let truncated = self.targets.truncate_source(&ends, doubted).await;
            ledger = truncated.map_err(|error| Failure::of(&error))?;
        }
        let look = |(tp, facts): (&TopicPartition, &Facts)| {
            Ok((tp.clone(), self.known(tp, &ledger, facts)?))
        };
        asked.iter().map(look).collect()
    }

    async fn census(&self, now: &Census) -> Result<Census, Failure> {
        if self.targets.current().is_none() {
            // Nobody can have written anything down. The first commit does.
            let mut census = self.census.lock();
            return Ok(census.get_or_insert_with(|| now.clone()).clone());
        }
        let census = self.targets.census(now).await;
        census.map_err(|error| Failure::of(&error))
    }

    async fn anchor(
        &self,
        tp: &TopicPartition,
        at: Offset,
        generation: u64,
        facts: &Facts,
    ) -> Result<bool, Failure> {
        // The first records make the table.
        let Some(target) = self.targets.current() else {
            return Ok(false);
        };
        let ids = told([(tp, &facts.topic_id)]);
        let marks = vec![mark(tp, None, at, generation)];
        let marked = self.submit(
            CommitId::fresh(),
            marks,
            ids,
            BTreeMap::new(),
            &target,
            Vec::new(),
        );
        marked.await.map(|_| true)
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
                generation: lane.generation,
            })
            .collect();
        let topic_ids = told(job.lanes.iter().map(|lane| (&lane.tp, &lane.topic_id)));
        let last_reads = job.lanes.iter();
        let last_reads = last_reads.filter_map(|lane| Some((lane.tp.clone(), lane.last_read?)));
        self.submit(
            job.commit_id,
            claims,
            topic_ids,
            last_reads.collect(),
            &target,
            files,
        )
        .await
    }

    fn abandon(&self, files: Vec<TableFile>) {
        files.into_iter().for_each(TableFile::abandon);
    }

    /// A snapshot is whole.
    async fn settle(&self, _lanes: &[TopicPartition]) -> Unsettled {
        Unsettled::default()
    }
}
