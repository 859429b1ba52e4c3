//! Commits that rewrite the ledger because the destination or the source began anew. Each is an empty snapshot under
//! the same compare-and-swap as any other commit.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::opening::{Reset, Settled};
use super::standing::{Standing, standing};
use super::table_ledger::{Offsets, TableLedger};
use super::told::Told;
use super::{Attempts, Found, IcebergCommitter, IcebergFailure};
use crate::catalog::stage::{self, Change, fresh_snapshot_id};
use crate::catalog::{Base, CommitError};
use crate::ledger::{CommitId, Said};
use crate::plan::OnDestinationReset;
use crate::record::{Census, OffsetRange, TopicName, TopicPartition};

impl IcebergCommitter {
    /// The table's ledger, or one step towards it.
    pub(super) async fn settle(
        &self,
        base: &Base,
        policy: OnDestinationReset,
        attempts: &mut Attempts,
    ) -> Result<Settled, IcebergFailure> {
        let replaced = self.check_identity(base).err();
        if let Some(failure) = replaced {
            return match policy {
                OnDestinationReset::Stop => Err(failure),
                OnDestinationReset::Reread => self.settled(base).map(|ledger| {
                    let resumed = ledger.next.clone();
                    Settled::Yes(Box::new(ledger), Some(Reset::Replaced { resumed }))
                }),
                OnDestinationReset::Continue => self.carry_over(base, attempts).await,
            };
        }
        let (recorded, held) =
            match standing(&base.metadata, &self.keys).map_err(IcebergFailure::LedgerUnreadable)? {
                Standing::Settled(ledger) => {
                    return Ok(Settled::Yes(Box::new(self.ours(ledger)?), None));
                }
                Standing::RolledBack { recorded, held } => (recorded, held),
            };
        let before = recorded.next.clone();
        let ledger = match (policy, held) {
            (OnDestinationReset::Continue, _) => recorded,
            (OnDestinationReset::Reread, Some(held)) => reread(recorded, held),
            (OnDestinationReset::Stop, held) | (OnDestinationReset::Reread, held) => {
                return Err(IcebergFailure::RolledBack {
                    table: self.ops.describe(),
                    recorded: before,
                    held,
                });
            }
        };
        let resumed = ledger.next.clone();
        Ok(match self.rewrite(base, ledger, attempts).await? {
            true => Settled::Written(Reset::RolledBack {
                recorded: before,
                resumed,
            }),
            false => Settled::NotYet,
        })
    }

    /// The last known ledger goes into the table's successor, unless that has one of its own.
    async fn carry_over(
        &self,
        base: &Base,
        attempts: &mut Attempts,
    ) -> Result<Settled, IcebergFailure> {
        let ledger = self.settled(base)?;
        let Some((_, last)) = &self.known else {
            return Ok(Settled::Yes(Box::new(ledger), None));
        };
        let behind = last
            .next
            .iter()
            .any(|(tp, next)| ledger.next.get(tp).is_none_or(|n| n < next));
        let mut merged = ledger.clone();
        for (tp, next) in &last.next {
            let known = merged.next.entry(tp.clone()).or_insert(*next);
            *known = (*known).max(*next);
        }
        let resumed = merged.next.clone();
        if !behind {
            return Ok(Settled::Yes(
                Box::new(ledger),
                Some(Reset::Replaced { resumed }),
            ));
        }
        for (tp, floor) in &last.floor {
            merged.floor.entry(tp.clone()).or_insert(*floor);
        }
        merged.cluster_id = merged.cluster_id.or_else(|| last.cluster_id.clone());
        Ok(match self.rewrite(base, merged, attempts).await? {
            true => Settled::Written(Reset::Replaced { resumed }),
            false => Settled::NotYet,
        })
    }

    /// The Kafka cluster or topics were recreated, and the user chose to read them anew: forgets what was recorded of
    /// them, records the new ids, and lets the partitions in `logs` (each from its log's start to its end, now) begin
    /// at their start. A topic whose id is not known on both sides was recreated, too, where some partition ends below
    /// what is recorded.
    /// `said`: what the table said of partitions when that was decided. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where the table says something else by now.
    pub async fn restart_source(
        &mut self,
        cluster_id: Option<&str>,
        topic_ids: &BTreeMap<TopicName, String>,
        logs: &BTreeMap<TopicPartition, OffsetRange>,
        said: &BTreeMap<TopicPartition, Said>,
    ) -> Result<TableLedger, IcebergFailure> {
        let change = |ledger: &TableLedger, sequence| {
            let anew = restarted(ledger, cluster_id, topic_ids, logs, sequence);
            let moved = said.iter().filter(|(tp, said)| ledger.said(tp) != **said);
            match anew.is_some() {
                true => fenced(ledger, moved.map(|(tp, _)| tp)).map(|()| anew),
                false => Ok(None),
            }
        };
        self.rewrite_until_settled(change).await
    }

    /// Kafka lost records that the table holds, and the user chose to go on: sets `next` back to where these logs end,
    /// in a new generation. The rows stay. `said`: what the table said of each before Kafka was asked where its log
    /// ends; of what was committed since, that end tells nothing. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where the table says something else by now.
    pub async fn truncate_source(
        &mut self,
        ends: &Offsets,
        said: &BTreeMap<TopicPartition, Said>,
    ) -> Result<TableLedger, IcebergFailure> {
        let change = |ledger: &TableLedger, _| truncated(ledger, ends, said);
        self.rewrite_until_settled(change).await
    }

    /// The topics as they were when the sink first started: as the table has it, or `now`, which is written down, where
    /// the table does not know the sink. Empty where it knows the sink from before this was written down.
    ///
    /// # Errors
    /// As for a commit.
    pub async fn census(&mut self, now: &Census) -> Result<Census, IcebergFailure> {
        let change = |ledger: &TableLedger, _| {
            let first = ledger.census.is_none() && ledger.next.is_empty();
            Ok(first.then(|| TableLedger {
                census: Some(now.clone()),
                ..ledger.clone()
            }))
        };
        let ledger = self.rewrite_until_settled(change).await?;
        Ok(ledger.census.unwrap_or_default())
    }

    /// Rewrites the ledger as `change` says (given the sequence number of the snapshot that will say so), until it has
    /// nothing to change.
    pub(super) async fn rewrite_until_settled(
        &mut self,
        change: impl Fn(&TableLedger, i64) -> Result<Option<TableLedger>, IcebergFailure>,
    ) -> Result<TableLedger, IcebergFailure> {
        let mut attempts = Attempts::default();
        for round in 0..=self.pace.attempts {
            if round > 0 {
                self.pace.pause(round).await;
            }
            let Some(base) = self.load(&mut attempts).await? else {
                continue;
            };
            self.check_identity(&base)?;
            let ledger = self.settled(&base)?;
            let sequence = base.metadata.next_sequence_number();
            let Some(ledger) = change(&ledger, sequence)? else {
                if let Some((_, known)) = &mut self.known {
                    known.clone_from(&ledger);
                }
                return Ok(ledger);
            };
            self.rewrite(&base, ledger, &mut attempts).await?;
        }
        Err(IcebergFailure::Exhausted {
            table: self.ops.describe(),
            attempts: attempts.sent,
            source: attempts.last.unwrap_or(CommitError::Conflict),
        })
    }

    /// An empty snapshot with this ledger. Whether it is certainly there; if not, look again.
    async fn rewrite(
        &self,
        base: &Base,
        ledger: TableLedger,
        attempts: &mut Attempts,
    ) -> Result<bool, IcebergFailure> {
        let beside = (BTreeMap::new(), Vec::new());
        self.rewrite_beside(base, ledger, beside, attempts).await
    }

    /// The same, with other properties to set and to remove.
    pub(super) async fn rewrite_beside(
        &self,
        base: &Base,
        mut ledger: TableLedger,
        beside: (BTreeMap<String, String>, Vec<String>),
        attempts: &mut Attempts,
    ) -> Result<bool, IcebergFailure> {
        let (mut set_properties, mut remove_properties) = beside;
        let snapshot_id = fresh_snapshot_id(&base.metadata);
        ledger.snapshot_id = Some(snapshot_id);
        ledger.commit_id = Some(CommitId::fresh());
        let told =
            Told::by(&base.metadata, &self.keys).map_err(IcebergFailure::LedgerUnreadable)?;
        set_properties.extend(self.keys.properties(&ledger));
        let had = base.metadata.properties();
        remove_properties.extend(self.keys.emptied(&set_properties, had));
        let change = Change {
            snapshot_id,
            commit_uuid: Uuid::new_v4(),
            now_ms: (self.clock)(),
            files: Vec::new(),
            spec_id: base.metadata.default_partition_spec_id(),
            schema: None,
            set_properties,
            remove_properties,
            summary: self.keys.summary(&ledger, &told),
            merge: None,
        };
        match Box::pin(stage::stage(&self.ops.file_io(), base, change)).await {
            Ok(staged) => self.publish(base, staged, attempts).await,
            Err(error) => self
                .later("stage snapshot", error, attempts)
                .map(|()| false),
        }
    }
}

/// Back to what the table holds. The ids of commits go: their rows did.
fn reread(mut recorded: TableLedger, held: Offsets) -> TableLedger {
    recorded.floor = recorded
        .floor
        .into_iter()
        .filter_map(|(tp, floor)| {
            let next = *held.get(&tp)?;
            Some((tp, floor.min(next)))
        })
        .collect();
    recorded.next = held;
    recorded.commits.clear();
    recorded
}

/// `None`: it was done.
fn truncated(
    ledger: &TableLedger,
    ends: &Offsets,
    said: &BTreeMap<TopicPartition, Said>,
) -> Result<Option<TableLedger>, IcebergFailure> {
    let mut set_back = ledger.clone();
    let mut moved = Vec::new();
    for (tp, end) in ends {
        let (now, before) = (ledger.said(tp), said.get(tp).cloned().unwrap_or_default());
        if now.next == Some(*end) && now.generation == before.generation + 1 {
            continue;
        }
        if now != before {
            moved.push(tp);
            continue;
        }
        set_back.next.insert(tp.clone(), *end);
        // Once the log has grown again the offsets of a claim of before may fit: its records are other ones.
        set_back.begin_anew(tp);
        if let Some(floor) = set_back.floor.get_mut(tp) {
            *floor = (*floor).min(*end);
        }
        // A late reply to a commit of what was lost is not looked up any more.
        set_back.commits.remove(tp);
    }
    fenced(ledger, moved)?;
    Ok((set_back.next != ledger.next).then_some(set_back))
}

/// Another owner went on with these.
fn fenced<'a>(
    ledger: &TableLedger,
    moved: impl IntoIterator<Item = &'a TopicPartition>,
) -> Result<(), IcebergFailure> {
    let next = |tp: &TopicPartition| (tp.clone(), ledger.next.get(tp).copied());
    let found: Found = moved.into_iter().map(next).collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(IcebergFailure::Fenced { found }),
    }
}

/// `None`: the ledger speaks of the topics as they are. `sequence`: of the snapshot that will say so.
fn restarted(
    ledger: &TableLedger,
    cluster_id: Option<&str>,
    topic_ids: &BTreeMap<TopicName, String>,
    logs: &BTreeMap<TopicPartition, OffsetRange>,
    sequence: i64,
) -> Option<TableLedger> {
    let another = |recorded: Option<&str>, found: Option<&str>| {
        recorded
            .zip(found)
            .is_some_and(|(recorded, found)| recorded != found)
    };
    let cluster = another(ledger.cluster_id.as_deref(), cluster_id);
    let renamed = topic_ids.iter().filter_map(|(topic, found)| {
        let recorded = ledger.topic_ids.get(topic).map(String::as_str);
        another(recorded, Some(found.as_str())).then_some(topic)
    });
    let shorter = logs.iter().filter_map(|(tp, log)| {
        let recorded = ledger.next.get(tp)?;
        let id = ledger.topic_ids.get(&tp.topic);
        let same = id.is_some() && id == topic_ids.get(&tp.topic);
        (log.end < *recorded && !same).then_some(&tp.topic)
    });
    let recreated: BTreeSet<TopicName> = renamed.chain(shorter).cloned().collect();
    if !cluster && recreated.is_empty() {
        return None;
    }
    let stale = |topic: &TopicName| cluster || recreated.contains(topic);
    let mut ledger = ledger.clone();
    let held = ledger.next.keys().map(|tp| tp.topic.clone());
    let begun: Vec<_> = held.filter(|topic| stale(topic)).collect();
    let begun = begun.into_iter().map(|topic| (topic, sequence));
    ledger.topic_since.extend(begun);
    let known: BTreeSet<_> = ledger.next.keys().chain(logs.keys()).cloned().collect();
    for tp in known.iter().filter(|tp| stale(&tp.topic)) {
        ledger.begin_anew(tp);
    }
    ledger.next.retain(|tp, _| !stale(&tp.topic));
    ledger.floor.retain(|tp, _| !stale(&tp.topic));
    ledger.commits.retain(|tp, _| !stale(&tp.topic));
    ledger.topic_ids.retain(|topic, _| !stale(topic));
    for (tp, log) in logs.iter().filter(|(tp, _)| stale(&tp.topic)) {
        ledger.next.insert(tp.clone(), log.start);
    }
    if let Some(id) = cluster_id {
        ledger.cluster_id = Some(id.to_owned());
    }
    ledger.topic_ids.extend(topic_ids.clone());
    Some(ledger)
}
