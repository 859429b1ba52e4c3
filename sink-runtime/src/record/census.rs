//! The topics of a sink as they were when its destination first heard of it: what "the end" was said of. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Offset, TopicName, TopicPartition};

/// Topics, each as it was then.
pub type Census = BTreeMap<TopicName, Counted>;

/// A topic as it was at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Counted {
    /// How many partitions it had: of releases that wrote down no more, and of topics that may not be looked into.
    Partitions(i32),
    /// Where the log of each partition ended, `None` where its leader did not say.
    Ends {
        /// The topic's id, where the brokers told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        ends: Vec<Option<Offset>>,
    },
}

/// What a census says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It was there, and its log ended here, where that was told.
    There(Option<Offset>),
    /// It was not there: neither it nor what is in it was meant by "the end".
    NotYet,
}

impl Then {
    /// Of a topic-partition whose topic has this id now, where that is told. A topic of another id came to be since, under
    /// the name of one that is gone.
    pub fn of(tp: &TopicPartition, id: Option<&str>, census: &Census) -> Self {
        match census.get(&tp.topic) {
            Some(Counted::Partitions(count)) if tp.partition < *count => Self::There(None),
            Some(Counted::Ends { id: was, ends }) => {
                let another = was.as_deref().zip(id).is_some_and(|(was, is)| was != is);
                let number = usize::try_from(tp.partition).ok();
                match number.and_then(|number| ends.get(number)) {
                    Some(end) if !another => Self::There(*end),
                    _ => Self::NotYet,
                }
            }
            _ => Self::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    #[test]
    fn a_partition_that_was_there_has_its_own_end_and_one_that_came_later_has_none() {
        let census =
            r#"{"orders":{"id":"a","ends":[7,null,0]},"returns":3,"refunds":{"ends":[9]}}"#;
        let census: Census = serde_json::from_str(census).unwrap();
        let of = |n, id| Then::of(&tp(n), id, &census);
        let there = |at| Then::There(Some(Offset(at)));
        assert_eq!(of(0, Some("a")), there(7));
        assert_eq!(of(1, Some("a")), Then::There(None));
        assert_eq!(of(2, None), there(0));
        assert_eq!(of(3, Some("a")), Then::NotYet);
        // The topic was made anew: all that is in it came later.
        assert_eq!(of(0, Some("b")), Then::NotYet);
        let of = |topic, n| Then::of(&TopicPartition::new(topic, n), Some("b"), &census);
        assert_eq!(of("returns", 2), Then::There(None));
        assert_eq!(of("returns", 3), Then::NotYet);
        assert_eq!(of("refunds", 0), there(9));
        assert_eq!(of("rebates", 0), Then::NotYet);
    }

    #[test]
    fn a_census_is_written_as_it_is_read() {
        for text in [
            r#"{"orders":{"id":"a","ends":[7,null]},"returns":{"ends":[]}}"#,
            r#"{"orders":2147483647}"#,
        ] {
            let census: Census = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&census).unwrap(), text);
        }
    }
}
