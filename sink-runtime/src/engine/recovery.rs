//! Where assigned partitions go on: the broker's facts and the destination's ledger, put together. One look at a time;
//! what a look leaves open is the conductor's to ask again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::coordinator::Recovered;
use super::deliver::{Deliver, Doubts, Facts, Failure};
use super::identity::changed;
use crate::errors::{Class, Classified, OneLine, Retry, class};
use crate::ledger::{FirstCheck, Progress as Known, Said, check_first, positions};
use crate::plan::{OnRecordsExpired, Plan, Startup};
use crate::record::{AssignmentEpoch, Census, Offset, Then, TopicPartition};
use crate::source::{Extent, Facts as KafkaFacts, SourceError, StartAt, cuts};

/// How long a broker may take to answer the first look; each further one doubles it, up to the client's own bound. Short,
/// since the others wait for one that has just gone; unanswered, it is asked again.
const PATIENCE: Duration = Duration::from_secs(3);
const MOST_DOUBLINGS: u32 = 4;

/// A partition under the epoch that it is looked at for.
pub(super) type Asked = (TopicPartition, AssignmentEpoch);

/// Partitions to be looked at, and how often that came to nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pub(super) lanes: Vec<Asked>,
    /// Looks that Kafka did not answer.
    pub(super) unanswered: u32,
    /// Looks that the destination did not answer.
    pub(super) failures: u32,
    /// Of these, those that waiting alone does not mend.
    pub(super) telling: u32,
    /// What ledgers said, at earlier looks, that did not fit their logs.
    pub(super) doubted: Doubts,
}

/// What a partition goes on with.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) found: Recovered,
    /// Start and end of the log.
    pub(super) watermarks: (Offset, Offset),
    pub(super) topic_id: Option<String>,
    /// Of the ledger.
    pub(super) generation: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) class: Class,
    pub(super) message: String,
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) ask: Ask,
    pub(super) found: BTreeMap<TopicPartition, Resumed>,
    /// Kafka does not say enough of these.
    pub(super) waiting: BTreeMap<TopicPartition, Why>,
    /// The destination, or a policy, does not let all others go on.
    pub(super) refused: Option<Why>,
    /// That is because these do not fit their logs, which another look has to confirm.
    pub(super) doubts: Doubts,
}

/// Looks once.
pub(super) async fn look<D: Deliver>(
    plan: Arc<Plan>,
    facts: Arc<KafkaFacts>,
    counted: Arc<AtomicBool>,
    deliver: Arc<D>,
    ask: Ask,
) -> Looked {
    let mut looked = Looked {
        ask,
        found: BTreeMap::new(),
        waiting: BTreeMap::new(),
        refused: None,
        doubts: Doubts::new(),
    };
    let look = Look {
        patience: PATIENCE * (1 << looked.ask.unanswered.min(MOST_DOUBLINGS)),
        plan,
        facts,
        counted,
    };
    if let Err(failure) = look.at(deliver.as_ref(), &mut looked).await {
        let (class, message) = match failure {
            Failure::Trouble { class, message } => (class, message),
            Failure::Reread { why, .. } => (class::FENCED, why),
            Failure::Doubt {
                said,
                class,
                message,
            } => {
                looked.doubts = said;
                (class, message)
            }
        };
        looked.refused = Some(Why { class, message });
    }
    looked
}

struct Look {
    plan: Arc<Plan>,
    facts: Arc<KafkaFacts>,
    /// This process has seen to it that the destination has a census, if it is to have one.
    counted: Arc<AtomicBool>,
    patience: Duration,
}

/// What the brokers said of a partition, and the group's offset.
type Told = Result<(Facts, Option<Offset>), SourceError>;

impl Look {
    async fn at<D: Deliver>(&self, deliver: &D, looked: &mut Looked) -> Result<(), Failure> {
        let tps: Vec<_> = looked.ask.lanes.iter().map(|(tp, _)| tp.clone()).collect();
        let told = self.blocking(tps, ask_kafka).await?;
        let (mut asked, mut group) = (BTreeMap::new(), BTreeMap::new());
        for (tp, told) in told {
            match told {
                Ok((facts, committed)) => {
                    group.extend(committed.map(|offset| (tp.clone(), offset)));
                    asked.insert(tp, facts);
                }
                Err(error) => drop(looked.waiting.insert(tp, Why::of(&error))),
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut known = deliver.recover(&asked, &looked.ask.doubted).await?;
        if self.find_cuts(&mut asked, &known, looked).await? {
            known = deliver.recover(&asked, &looked.ask.doubted).await?;
        }
        let starts = self.starts(deliver, &asked, &group, &known, looked).await?;
        for (tp, Start { at: start, by }) in starts {
            let Some(fact) = asked.get(&tp) else { continue };
            let known = known.get(&tp).copied().unwrap_or_default();
            let mut expected = known.next;
            if expected.is_none() && by != By::Log {
                self.check_first(&tp, start, by, fact, &looked.ask.doubted)?;
            }
            if expected.is_none() && by != By::Wish {
                let written = deliver.anchor(&tp, start, known.generation, fact).await?;
                expected = written.then_some(start);
            }
            let resumed = Resumed {
                found: Recovered { start, expected },
                watermarks: (fact.log_start, fact.log_end),
                topic_id: fact.topic_id.clone(),
                generation: known.generation,
            };
            looked.found.insert(tp, resumed);
        }
        Ok(())
    }

    /// A log that had no other leader since is as it was. Of the others the brokers are asked whether they were cut below
    /// what the destination holds, and grew again. Whether one was.
    async fn find_cuts(
        &self,
        asked: &mut BTreeMap<TopicPartition, Facts>,
        known: &BTreeMap<TopicPartition, Known>,
        looked: &mut Looked,
    ) -> Result<bool, Failure> {
        let doubtful = |(tp, fact): (&TopicPartition, &Facts)| {
            let last = known.get(tp)?.last_read?;
            let later = fact.leader_epoch? > last.leader_epoch && fact.log_end > last.offset;
            later.then(|| (tp.clone(), last))
        };
        let doubtful: BTreeMap<_, _> = asked.iter().filter_map(doubtful).collect();
        if doubtful.is_empty() {
            return Ok(false);
        }
        let ask = |look: &Look, read| cuts(&look.plan.source, &read, look.patience);
        let mut any = false;
        for (tp, found) in self.blocking(doubtful, ask).await? {
            match found {
                Ok(cut) => {
                    any |= cut.is_some();
                    asked.entry(tp).and_modify(|fact| fact.cut = cut);
                }
                Err(error) => {
                    asked.remove(&tp);
                    looked.waiting.insert(tp, Why::of(&error));
                }
            }
        }
        Ok(any)
    }

    /// Where each starts. Those for which Kafka would have to say more, and does not, wait.
    async fn starts<D: Deliver>(
        &self,
        deliver: &D,
        asked: &BTreeMap<TopicPartition, Facts>,
        group: &BTreeMap<TopicPartition, Offset>,
        known: &BTreeMap<TopicPartition, Known>,
        looked: &mut Looked,
    ) -> Result<Starts, Failure> {
        let tps: Vec<_> = asked.keys().cloned().collect();
        let startup = &self.plan.source.startup;
        let at = positions(&tps, group, std::slice::from_ref(known), startup);
        let (mut starts, mut latest, mut timed) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (tp, fact) in asked {
            match at.get(tp).map_or(StartAt::Earliest, |start| start.at) {
                StartAt::Offset(offset) => drop(starts.insert(tp.clone(), By::Wish.at(offset))),
                StartAt::Earliest => drop(starts.insert(tp.clone(), By::Wish.at(fact.log_start))),
                StartAt::Latest => latest.push(tp.clone()),
                StartAt::Timestamp(_) => timed.push(tp.clone()),
            }
        }
        // Before anything of it is read or written down: what comes to be from now on is not meant by "the end".
        let unknown = |tp: &&TopicPartition| known.get(tp).is_none_or(|known| known.next.is_none());
        let counts = *startup == Startup::Latest && !self.counted.load(Ordering::Relaxed);
        if !latest.is_empty() || counts && tps.iter().any(|tp| unknown(&tp)) {
            match self.first_start(deliver).await? {
                Ok((first, now)) => latest.retain(|tp| {
                    let Some(fact) = asked.get(tp) else {
                        return false;
                    };
                    let then = |census| Then::of(tp, fact.topic_id.as_deref(), census);
                    let start = match then(&first) {
                        Then::There(None) => return true,
                        Then::There(Some(end)) if then(&now) == Then::There(Some(end)) => {
                            By::Log.at(end)
                        }
                        Then::There(Some(end)) => By::FirstStart.at(end),
                        // Nobody meant to pass over what came to be after the sink's first start.
                        Then::NotYet => By::Wish.at(fact.log_start),
                    };
                    starts.insert(tp.clone(), start);
                    false
                }),
                Err(why) => {
                    latest.clear();
                    for tp in tps.iter().filter(unknown) {
                        starts.remove(tp);
                        looked.waiting.insert(tp.clone(), why.clone());
                    }
                }
            }
        }
        // Of those that were there and did not say then where they ended, the end is that of now.
        let ends = |look: &Look, tps: Vec<TopicPartition>| {
            let ends = look
                .facts
                .stable_ends(&look.plan.source, &tps, look.patience);
            tps.into_iter().zip(ends).collect::<Vec<_>>()
        };
        for (tp, end) in self.blocking(latest, ends).await? {
            note(tp, end, &mut starts, &mut looked.waiting);
        }
        if let Startup::Timestamp(millis) = *startup {
            let ask = move |look: &Look, tps: Vec<TopicPartition>| {
                let found = look
                    .facts
                    .offsets_for_timestamp(&tps, millis, look.patience);
                tps.into_iter().zip(found).collect::<Vec<_>>()
            };
            for (tp, found) in self.blocking(timed, ask).await? {
                // As young as none: the end.
                let end = asked.get(&tp).map_or(Offset(0), |fact| fact.log_end);
                let found = found.map(|found| found.unwrap_or(end));
                note(tp, found, &mut starts, &mut looked.waiting);
            }
        }
        Ok(starts)
    }

    /// The topics as they were when the sink first started, and as they are now, unless Kafka does not say this.
    async fn first_start<D: Deliver>(
        &self,
        deliver: &D,
    ) -> Result<Result<(Census, Census), Why>, Failure> {
        let ask = |look: &Look, ()| look.facts.census(&look.plan.source, look.patience);
        match self.blocking((), ask).await? {
            Ok(now) => {
                let first = deliver.census(&now).await?;
                self.counted.store(true, Ordering::Relaxed);
                Ok(Ok((first, now)))
            }
            Err(error) => Ok(Err(Why::of(&error))),
        }
    }

    /// A first offset that was chosen may be anywhere: it is held to the same policies as one that was recorded. Where
    /// expired records are skipped, the lane passes over the gap when it meets it.
    fn check_first(
        &self,
        tp: &TopicPartition,
        at: Offset,
        by: By,
        facts: &Facts,
        doubted: &Doubts,
    ) -> Result<(), Failure> {
        let source = &self.plan.source;
        let setting = match source.startup {
            _ if by == By::FirstStart => "the end at the sink's first start (spec.source.startup)",
            Startup::Offsets(_) => "spec.source.startup.offsets",
            _ => "the consumer group (spec.source.startup)",
        };
        let (class, message) = match check_first(at, facts.log_start, facts.log_end) {
            FirstCheck::Fine => return Ok(()),
            FirstCheck::Expired { .. } if source.on_records_expired == OnRecordsExpired::Skip => {
                return Ok(());
            }
            FirstCheck::Expired { gap } => {
                let message = format!(
                    "{tp}: {setting} says to start at {at}: records {gap} expired before they were read"
                );
                (class::OFFSET_OUT_OF_RANGE, message)
            }
            FirstCheck::BeyondEnd => {
                let end = facts.log_end;
                let message =
                    format!("{tp}: {setting} says to start at {at}: the log ends at {end}");
                let class = class::START_BEYOND_LOG;
                // A broker may lag behind the group.
                if !doubted.contains_key(tp) {
                    return Err(Failure::Doubt {
                        said: [(tp.clone(), Said::default())].into(),
                        class,
                        message,
                    });
                }
                (class, message)
            }
        };
        Err(Failure::Trouble { class, message })
    }

    async fn blocking<Q: Send + 'static, A: Send + 'static>(
        &self,
        question: Q,
        ask: impl FnOnce(&Look, Q) -> A + Send + 'static,
    ) -> Result<A, Failure> {
        let look = Look {
            plan: Arc::clone(&self.plan),
            facts: Arc::clone(&self.facts),
            counted: Arc::clone(&self.counted),
            patience: self.patience,
        };
        let asked = tokio::task::spawn_blocking(move || ask(&look, question));
        asked.await.map_err(|error| Failure::Trouble {
            class: class::INTERNAL,
            message: error.to_string(),
        })
    }
}

/// Where partitions start.
type Starts = BTreeMap<TopicPartition, Start>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    at: Offset,
    by: By,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Ledger, group, spec or the rule that all is read: nothing is written down before reading begins.
    Wish,
    /// The log, a moment ago. Written down first, so that a restart does not move it.
    Log,
    /// The census of the sink's first start. Written down as well, and the log may have moved away from it.
    FirstStart,
}

impl By {
    fn at(self, at: Offset) -> Start {
        Start { at, by: self }
    }
}

fn note(
    tp: TopicPartition,
    found: Result<Offset, SourceError>,
    starts: &mut Starts,
    waiting: &mut BTreeMap<TopicPartition, Why>,
) {
    match found {
        Ok(offset) => drop(starts.insert(tp, By::Log.at(offset))),
        Err(error) => drop(waiting.insert(tp, Why::of(&error))),
    }
}

impl Why {
    /// A question that failed may be asked again, unless the class says never.
    fn of(error: &SourceError) -> Self {
        let class = match error.class() {
            Class {
                retry: Retry::Reload,
                ..
            } => class::BROKER_UNREACHABLE,
            class => class,
        };
        let message = OneLine(error).to_string();
        Self { class, message }
    }
}

fn ask_kafka(look: &Look, tps: Vec<TopicPartition>) -> Vec<(TopicPartition, Told)> {
    let facts = &look.facts;
    let topics = tps.iter().map(|tp| tp.topic.clone()).collect();
    let before = facts.topic_ids(&topics);
    let bounds = facts.extents(&tps, look.patience);
    let told: Vec<_> = tps
        .iter()
        .zip(&bounds)
        .filter(|(_, bounds)| bounds.is_ok())
        .map(|(tp, _)| tp.clone())
        .collect();
    let committed = match facts.committed_each(&told, look.patience) {
        Ok(committed) => committed,
        Err(error) => told.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut committed: BTreeMap<_, _> = told.into_iter().zip(committed).collect();
    // Behind the others: the client only waits for an answer that names the cluster, it does not ask for one, and would
    // spend a second where nothing else was asked.
    let cluster_id = match committed.is_empty() {
        true => None,
        false => facts.cluster_id(),
    };
    // The same id on both sides: the watermarks are of this very topic.
    let topic_ids = match before.is_empty() {
        true => before.clone(),
        false => facts.topic_ids(&topics),
    };
    let mut fact = |tp: &TopicPartition, extent: Result<Extent, SourceError>| {
        let extent = extent?;
        let committed = committed.remove(tp).unwrap_or(Ok(None))?;
        if changed(&before, &topic_ids, &tp.topic) {
            return Err(SourceError::Lookup {
                what: "describe topic",
                message: format!("\"{}\" is being recreated", tp.topic),
            });
        }
        let fact = Facts {
            cluster_id: cluster_id.clone(),
            topic_id: topic_ids.get(&tp.topic).cloned(),
            log_start: extent.start,
            log_end: extent.end,
            leader_epoch: extent.leader_epoch,
            cut: None,
        };
        Ok((fact, committed))
    };
    let each = tps.into_iter().zip(bounds);
    each.map(|(tp, bounds)| {
        let told = fact(&tp, bounds);
        (tp, told)
    })
    .collect()
}

/// How far the group is with partitions that others own; `None` of those that are no more. What is not told is left out.
pub(super) fn elsewhere(
    facts: &KafkaFacts,
    tps: &[TopicPartition],
) -> Vec<(TopicPartition, Option<Offset>)> {
    let committed = facts.committed_each(tps, PATIENCE).unwrap_or_default();
    let bounds = facts.bounds(tps, PATIENCE);
    let mut found: BTreeMap<_, _> = tps
        .iter()
        .zip(committed)
        .filter_map(|(tp, committed)| Some((tp.clone(), Some(committed.ok()??))))
        .collect();
    for (tp, bounds) in tps.iter().zip(bounds) {
        if let Err(SourceError::NoSuchTopic(_)) = bounds {
            found.insert(tp.clone(), None);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests;
