//! Where assigned partitions go on: the broker's facts and the destination's ledger, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::conductor::Found;
use super::coordinator::Recovered;
use super::deliver::{Deliver, Facts, Failure};
use super::identity::changed;
use super::{EngineError, RETRY, ends};
use crate::errors::{Class, Classified, OneLine, Retry, class};
use crate::ledger::positions;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::record::{AssignmentEpoch, Offset, TopicPartition};
use crate::source::{Facts as KafkaFacts, SourceError, StartAt};

/// Tries until it knows, or until it cannot be known.
pub(super) async fn recover<D: Deliver>(
    plan: Arc<Plan>,
    facts: Arc<KafkaFacts>,
    deliver: Arc<D>,
    progress: Progress,
    asked: Vec<(TopicPartition, AssignmentEpoch)>,
) -> Vec<Found> {
    let mut failures = 0;
    loop {
        let tps: Vec<_> = asked.iter().map(|(tp, _)| tp.clone()).collect();
        let failure = match attempt(&plan, &facts, deliver.as_ref(), tps).await {
            Ok(mut found) => {
                progress.reached();
                let take = |(tp, epoch): (TopicPartition, AssignmentEpoch)| {
                    let found = found.remove(&tp)?;
                    Some((epoch, tp, Ok(found)))
                };
                return asked.into_iter().filter_map(take).collect();
            }
            Err(failure) => failure,
        };
        let (class, message) = match failure {
            Failure::Trouble { class, message } => (class, message),
            Failure::Reread { why, .. } => (class::FENCED, why),
        };
        failures += 1;
        progress.not_committed(
            crate::observe::CommitOutcome::Failed,
            class,
            message.clone(),
        );
        if ends(class, failures, plan.commit.max_consecutive_failures) {
            let stop = |(tp, epoch)| {
                (
                    epoch,
                    tp,
                    Err(EngineError::Stopped {
                        class,
                        message: message.clone(),
                    }),
                )
            };
            return asked.into_iter().map(stop).collect();
        }
        tracing::warn!(error = %message, advice = class.advice, "partitions cannot be recovered yet");
        RETRY.pause(failures).await;
    }
}

/// What an assigned partition goes on with.
pub(super) struct Resumed {
    pub(super) found: Recovered,
    /// Start and end of the log.
    pub(super) watermarks: (Offset, Offset),
    pub(super) topic_id: Option<String>,
    /// Of the ledger.
    pub(super) generation: u64,
}

type Positions = BTreeMap<TopicPartition, Resumed>;

async fn attempt<D: Deliver>(
    plan: &Arc<Plan>,
    facts: &Arc<KafkaFacts>,
    deliver: &D,
    tps: Vec<TopicPartition>,
) -> Result<Positions, Failure> {
    let (asked, group) = ask_kafka(facts, &tps).await?;
    let known = deliver.recover(&asked).await?;
    let starts = positions(
        &tps,
        &group,
        std::slice::from_ref(&known),
        &plan.source.startup,
    );
    let mut found = BTreeMap::new();
    for tp in tps {
        let Some(fact) = asked.get(&tp) else { continue };
        let expected = known.get(&tp).and_then(|known| known.next);
        let at = starts.get(&tp).map_or(StartAt::Earliest, |start| start.at);
        let start = match at {
            StartAt::Offset(offset) => offset,
            StartAt::Earliest => fact.log_start,
            StartAt::Latest => fact.log_end,
            StartAt::Timestamp(millis) => {
                at_time(facts, &tp, millis).await?.unwrap_or(fact.log_end)
            }
        };
        let anchored = expected.is_none() && matches!(at, StartAt::Latest | StartAt::Timestamp(_));
        if anchored {
            deliver.anchor(&tp, start, fact).await?;
        }
        let expected = if anchored { Some(start) } else { expected };
        let resumed = Resumed {
            found: Recovered { start, expected },
            watermarks: (fact.log_start, fact.log_end),
            topic_id: fact.topic_id.clone(),
            generation: known.get(&tp).map_or(0, |known| known.generation),
        };
        found.insert(tp, resumed);
    }
    Ok(found)
}

type Asked = (
    BTreeMap<TopicPartition, Facts>,
    BTreeMap<TopicPartition, Offset>,
);

async fn ask_kafka(facts: &Arc<KafkaFacts>, tps: &[TopicPartition]) -> Result<Asked, Failure> {
    let (facts, tps) = (Arc::clone(facts), tps.to_vec());
    let asked = tokio::task::spawn_blocking(move || {
        let topics = tps.iter().map(|tp| tp.topic.clone()).collect();
        let before = facts.topic_ids(&topics);
        let watermarks = facts.watermarks(&tps)?;
        let committed = facts.committed(&tps)?;
        // Behind the others: the client only waits for an answer that names the cluster, it does not ask for one, and would
        // spend a second where nothing else was asked.
        let cluster_id = facts.cluster_id();
        // The same id on both sides: the watermarks are of this very topic.
        let topic_ids = match before.is_empty() {
            true => before,
            false => {
                let after = facts.topic_ids(&topics);
                if let Some(topic) = changed(&before, &after) {
                    return Err(SourceError::Lookup {
                        what: "describe topic",
                        message: format!("\"{topic}\" is being recreated"),
                    });
                }
                after
            }
        };
        let mut asked = BTreeMap::new();
        let mut group = BTreeMap::new();
        for ((tp, watermarks), committed) in tps.into_iter().zip(watermarks).zip(committed) {
            let Some((log_start, log_end)) = watermarks else {
                let what = "look offsets up";
                return Err(SourceError::Lookup {
                    what,
                    message: format!("{tp} has no leader"),
                });
            };
            if let Some(offset) = committed {
                group.insert(tp.clone(), offset);
            }
            let fact = Facts {
                cluster_id: cluster_id.clone(),
                topic_id: topic_ids.get(&tp.topic).cloned(),
                log_start,
                log_end,
            };
            asked.insert(tp, fact);
        }
        Ok((asked, group))
    });
    joined(asked.await)
}

async fn at_time(
    facts: &Arc<KafkaFacts>,
    tp: &TopicPartition,
    millis: i64,
) -> Result<Option<Offset>, Failure> {
    let (facts, tp) = (Arc::clone(facts), tp.clone());
    let found = tokio::task::spawn_blocking(move || {
        facts.offsets_for_timestamp(std::slice::from_ref(&tp), millis)
    });
    Ok(joined(found.await)?.into_iter().next().flatten())
}

/// A question that failed may be asked again, unless the class says never.
fn joined<T, E: Classified + 'static>(
    result: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, Failure> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Trouble {
            class: asked_again(error.class()),
            message: OneLine(&error).to_string(),
        }),
        Err(error) => Err(Failure::Trouble {
            class: class::INTERNAL,
            message: error.to_string(),
        }),
    }
}

fn asked_again(class: Class) -> Class {
    if class.retry == Retry::Reload {
        class::BROKER_UNREACHABLE
    } else {
        class
    }
}
