//! The topics that are meant, as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::SourceError;
use super::Facts;
use crate::plan::{Isolation, SourcePlan, Topics};
use crate::record::{Census, Counted, Offset, TopicName, TopicPartition};

impl Facts {
    /// The topics that are meant, each with the ends of its logs as a reader of the plan's isolation sees them. Of a
    /// topic that may not be looked into every partition counts as there.
    ///
    /// # Errors
    /// When the brokers do not say what there is. A leader that does not answer costs the ends of its partitions only.
    pub fn census(&self, plan: &SourcePlan, patience: Duration) -> Result<Census, SourceError> {
        let mut census = Census::new();
        let mut tps = Vec::new();
        for (topic, partitions) in self.meant(&plan.topics)? {
            let count = match partitions {
                Ok(partitions) => partitions.last().map_or(0, |last| last + 1),
                Err(SourceError::NoSuchTopic(_)) => continue,
                Err(SourceError::Denied(_)) => {
                    census.insert(topic, Counted::Partitions(i32::MAX));
                    continue;
                }
                Err(error) => return Err(error),
            };
            tps.extend((0..count).map(|partition| TopicPartition {
                topic: topic.clone(),
                partition,
            }));
        }
        let topics: BTreeSet<_> = tps.iter().map(|tp| tp.topic.clone()).collect();
        let mut ids = self.topic_ids(&topics);
        let ends = self.stable_ends(plan, &tps, patience);
        // The same id on both sides: the ends are of this very topic.
        let after = self.topic_ids(&topics);
        ids.retain(|topic, id| after.get(topic) == Some(id));
        for (tp, end) in tps.into_iter().zip(ends) {
            let id = ids.get(&tp.topic).cloned();
            let counted = census.entry(tp.topic).or_insert_with(|| Counted::Ends {
                id,
                ends: Vec::new(),
            });
            if let Counted::Ends { ends, .. } = counted {
                ends.push(end.ok());
            }
        }
        Ok(census)
    }

    /// The end of each log as a reader of the plan's isolation sees it: whoever starts there misses nothing of a
    /// transaction that is open now.
    pub fn stable_ends(
        &self,
        plan: &SourcePlan,
        partitions: &[TopicPartition],
        patience: Duration,
    ) -> Vec<Result<Offset, SourceError>> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let bounds = match plan.isolation {
            Isolation::ReadUncommitted => self.bounds(partitions, patience),
            // Once in a partition's life: not worth a client that stays.
            Isolation::ReadCommitted => match Self::connect(plan, patience) {
                Ok(facts) => facts.bounds(partitions, patience),
                Err(error) => partitions.iter().map(|_| Err(error.clone())).collect(),
            },
        };
        let end = |bounds: Result<(Offset, Offset), SourceError>| bounds.map(|(_, end)| end);
        bounds.into_iter().map(end).collect()
    }

    fn meant(&self, topics: &Topics) -> Result<Meant, SourceError> {
        match topics {
            Topics::List(topics) => {
                let partitions = |topic: &TopicName| (topic.clone(), self.partitions(topic));
                Ok(topics.iter().map(partitions).collect())
            }
            Topics::Pattern(pattern) => self.matching_topics(pattern),
        }
    }
}

/// Topics with their partition numbers, or why these are not told.
type Meant = BTreeMap<TopicName, Result<Vec<i32>, SourceError>>;
