//! Records that did not fit, kept with their original bytes: in a topic or under a prefix of the destination. Letters of
//! a cut are durable before its offsets move, so each arrives at least once; key or name carry topic, partition, offset.

use std::ops::AddAssign;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;

use crate::catalog::CatalogError;
use crate::decode::{Reject, RejectClass};
use crate::errors::{Class, Classified, class};
use crate::plan::{DeadLetter, Plan};
use crate::record::{Headers, Offset, RawBatch, TopicName, TopicPartition};
use crate::store::{Expect, Store, StoreError};

mod beside;
mod topic;

pub use beside::BesideTable;

/// What became of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    pub letters: u64,
    /// Of those, without the record's value: the topic takes none of that size.
    pub cut: u64,
    /// Refused for themselves in every form; a line in the log is all that is left.
    pub lost: u64,
}

impl AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.letters += other.letters;
        self.cut += other.cut;
        self.lost += other.lost;
    }
}

/// One record that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub tp: TopicPartition,
    pub offset: Offset,
    pub timestamp: i64,
    pub class: RejectClass,
    pub message: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Letter {
    pub fn of(raw: &RawBatch, reject: &Reject) -> Self {
        let row = reject.row as usize;
        Self {
            tp: raw.tp.clone(),
            offset: Offset(raw.offsets[row]),
            timestamp: raw.timestamps[row],
            class: reject.class,
            message: reject.message.clone(),
            key: raw
                .keys
                .as_ref()
                .and_then(|keys| keys.get(row))
                .map(<[u8]>::to_vec),
            value: raw.values.get(row).map(<[u8]>::to_vec),
            headers: raw
                .headers
                .as_ref()
                .map(|headers| headers[row].clone())
                .unwrap_or_default(),
        }
    }

    /// Bytes held, for the memory budget.
    pub fn memory(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(n, v)| n.len() + v.as_ref().map_or(0, Vec::len) + 64)
            .sum();
        let own = self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.message.len();
        own + headers + 160
    }

    /// `<topic>-<partition>-<offset>`: what tells repeated letters apart.
    pub fn identity(&self) -> String {
        format!("{}-{}", self.tp, self.offset)
    }

    fn to_json(&self) -> serde_json::Value {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| BASE64.encode(b));
        serde_json::json!({
            "topic": self.tp.topic.as_str(),
            "partition": self.tp.partition,
            "offset": self.offset.0,
            "timestamp": self.timestamp,
            "errorClass": format!("{:?}", self.class),
            "errorMessage": self.message,
            "key": text(&self.key),
            "value": text(&self.value),
            "headers": self.headers.iter().map(|(n, v)| serde_json::json!({"name": n, "value": text(v)})).collect::<Vec<_>>(),
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("dead-letter producer cannot be made")]
    Producer(#[source] KafkaError),
    #[error("dead letter to topic \"{topic}\" failed")]
    Produce {
        topic: TopicName,
        #[source]
        source: KafkaError,
    },
    #[error("dead letter to prefix \"{prefix}\" failed")]
    Store {
        prefix: String,
        #[source]
        source: StoreError,
    },
    #[error("look up the table that dead letters go beside")]
    Table(#[source] CatalogError),
    #[error("there is nothing beside table location \"{location}\" for dead letters: use a topic")]
    Place { location: String },
}

impl Classified for DeadLetterError {
    fn class(&self) -> Class {
        match self {
            Self::Producer(_) | Self::Place { .. } => class::INVALID_SPEC,
            Self::Produce { .. } | Self::Store { .. } | Self::Table(_) => {
                class::DEAD_LETTER_UNAVAILABLE
            }
        }
    }
}

/// Where letters go.
#[derive(Clone)]
pub enum DeadLetters {
    /// No record is dead-lettered under this plan.
    None,
    Topic {
        topic: TopicName,
        producer: FutureProducer,
    },
    Prefix {
        prefix: String,
        shelf: Shelf,
    },
}

/// The store that letters under a prefix go to.
#[derive(Clone, Debug)]
pub enum Shelf {
    /// Of a dataset: its own.
    Dataset(Arc<dyn Store>),
    Table(Arc<BesideTable>),
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Topic { topic, .. } => write!(f, "Topic({topic})"),
            Self::Prefix { prefix, .. } => write!(f, "Prefix({prefix})"),
        }
    }
}

impl DeadLetters {
    /// `shelf`: the destination's, for letters under a prefix.
    pub fn open(plan: &Plan, shelf: Shelf) -> Result<Self, DeadLetterError> {
        match &plan.dead_letter {
            None => Ok(Self::None),
            Some(DeadLetter::Prefix { prefix }) => Ok(Self::Prefix {
                prefix: prefix.clone(),
                shelf,
            }),
            Some(DeadLetter::Topic { topic }) => {
                let producer = topic::producer(&plan.source.properties)?;
                Ok(Self::Topic {
                    topic: topic.clone(),
                    producer,
                })
            }
        }
    }

    /// Returns when every letter is durable, but for those that are lost.
    pub async fn deliver(&self, letters: &[Letter]) -> Result<Delivered, DeadLetterError> {
        if letters.is_empty() {
            return Ok(Delivered::default());
        }
        match self {
            Self::None => Ok(Delivered::default()),
            Self::Topic { topic, producer } => topic::produce(topic, producer, letters).await,
            Self::Prefix { prefix, shelf } => {
                let store = match shelf {
                    Shelf::Dataset(store) => store,
                    Shelf::Table(beside) => beside.store(prefix).await?,
                };
                write(prefix, store.as_ref(), letters).await?;
                Ok(Delivered {
                    letters: letters.len() as u64,
                    ..Delivered::default()
                })
            }
        }
    }
}

/// One JSON-lines object per topic-partition and cut, named by its first offset; a repeat overwrites or stands beside.
async fn write(prefix: &str, store: &dyn Store, letters: &[Letter]) -> Result<(), DeadLetterError> {
    for group in letters.chunk_by(|a, b| a.tp == b.tp) {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let mut body = Vec::new();
        for letter in group {
            body.extend_from_slice(letter.to_json().to_string().as_bytes());
            body.push(b'\n');
        }
        let tp = &first.tp;
        let prefix = prefix.trim_end_matches('/');
        let key = format!(
            "{prefix}/{}/{}-{:020}-{:020}.jsonl",
            tp.topic, tp.partition, first.offset.0, last.offset.0
        );
        let put = store.put(&key, body.into(), Expect::Anything).await;
        put.map_err(|source| DeadLetterError::Store {
            prefix: prefix.to_owned(),
            source,
        })?;
    }
    Ok(())
}
