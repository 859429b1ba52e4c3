//! Letters to a topic. What the brokers refuse for itself, for its size most of all, goes again with less in it: no
//! letter keeps the records behind it from the destination. What a wait can mend is an error, and waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sha2::{Digest, Sha256};

use super::{DeadLetterError, Delivered, Letter};
use crate::plan::{Property, is_for_consumers};
use crate::record::TopicName;

/// Longest time the client itself tries to deliver one letter.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Letters in flight, and their bytes: the client copies them.
const IN_FLIGHT: usize = 1000;
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// librdkafka's greatest `message.max.bytes`: the topic decides what is too large.
const MESSAGE_BYTES: &str = "1000000000";
/// Characters of a message that a bare letter carries.
const BARE_MESSAGE: usize = 500;

/// What the producer is made with: the source's properties but for those of consumers, and what delivery rests on.
fn settings(source: &BTreeMap<String, Property>) -> BTreeMap<String, String> {
    let not_ours = ["max.in.flight", "statistics.interval.ms"];
    let taken = source
        .iter()
        .filter(|(key, _)| !is_for_consumers(key) && !not_ours.contains(&key.as_str()));
    let mut settings: BTreeMap<String, String> = taken
        .map(|(key, value)| (key.clone(), value.expose().to_owned()))
        .collect();
    if !settings.contains_key("compression.codec") {
        settings
            .entry("compression.type".to_owned())
            .or_insert_with(|| "lz4".to_owned());
    }
    let timeout = DELIVERY_TIMEOUT.as_millis().to_string();
    for (key, value) in [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        // As many as idempotence bears.
        ("max.in.flight.requests.per.connection", "5"),
        ("message.max.bytes", MESSAGE_BYTES),
        ("message.timeout.ms", timeout.as_str()),
    ] {
        settings.insert(key.to_owned(), value.to_owned());
    }
    settings
}

pub(super) fn producer(
    source: &BTreeMap<String, Property>,
) -> Result<FutureProducer, DeadLetterError> {
    let mut config = ClientConfig::new();
    for (key, value) in settings(source) {
        config.set(key, value);
    }
    config.create().map_err(DeadLetterError::Producer)
}

/// How much of a letter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// The value's length and hash stand for it.
    WithoutValue,
    /// Key and headers of the record are left out as well, and the end of a long message.
    Bare,
}

/// Returns when every letter is durable, or was refused for itself.
pub(super) async fn produce(
    topic: &TopicName,
    producer: &FutureProducer,
    letters: &[Letter],
) -> Result<Delivered, DeadLetterError> {
    let mut delivered = Delivered::default();
    for some in groups(letters) {
        let sends = some
            .iter()
            .map(|letter| send(topic, producer, letter, Extent::Whole));
        for (letter, outcome) in some.iter().zip(join_all(sends).await) {
            match outcome {
                Ok(()) => delivered.letters += 1,
                Err(error) if is_of_the_letter(&error) => {
                    // Alone first: the brokers' limit is for the batch that the client made of several.
                    let first = if some.len() > 1 {
                        Extent::Whole
                    } else {
                        Extent::WithoutValue
                    };
                    delivered += alone(topic, producer, letter, first).await?;
                }
                Err(source) => return Err(failed(topic, source)),
            }
        }
    }
    Ok(delivered)
}

/// Letters that go together, in order: no more than are wanted in flight, and one at the least.
fn groups(letters: &[Letter]) -> impl Iterator<Item = &[Letter]> {
    let mut rest = letters;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |letter: &&Letter| {
            bytes += letter.memory();
            bytes <= IN_FLIGHT_BYTES
        };
        let count = rest.iter().take(IN_FLIGHT).take_while(fits).count().max(1);
        let (group, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(group)
    })
}

/// One letter with as much in it as the topic takes.
async fn alone(
    topic: &TopicName,
    producer: &FutureProducer,
    letter: &Letter,
    first: Extent,
) -> Result<Delivered, DeadLetterError> {
    let mut why = None;
    for extent in [Extent::Whole, Extent::WithoutValue, Extent::Bare] {
        if (extent as u8) < first as u8 {
            continue;
        }
        match send(topic, producer, letter, extent).await {
            Ok(()) => {
                return Ok(Delivered {
                    letters: 1,
                    cut: u64::from(extent != Extent::Whole),
                    lost: 0,
                });
            }
            Err(error) if is_of_the_letter(&error) => why = Some(error),
            Err(source) => return Err(failed(topic, source)),
        }
    }
    let value = letter.value.as_deref().unwrap_or_default();
    tracing::error!(
        topic = %letter.tp.topic, partition = letter.tp.partition, offset = letter.offset.0, class = ?letter.class,
        bytes = value.len(), sha256 = hash(value), error = why.map(tracing::field::display),
        "the dead-letter topic takes no letter of this record, not even a bare one: this line is what is kept of it"
    );
    Ok(Delivered {
        lost: 1,
        ..Delivered::default()
    })
}

/// Whether the brokers refused the letter for what it is, so that no wait would help.
fn is_of_the_letter(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageProduction(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::PolicyViolation
        )
    )
}

fn failed(topic: &TopicName, source: KafkaError) -> DeadLetterError {
    DeadLetterError::Produce {
        topic: topic.clone(),
        source,
    }
}

async fn send(
    topic: &TopicName,
    producer: &FutureProducer,
    letter: &Letter,
    extent: Extent,
) -> Result<(), KafkaError> {
    let key = letter.identity();
    let headers = headers(letter, extent);
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: value.as_deref(),
            })
        });
    let mut record = FutureRecord::to(topic.as_str()).key(&key).headers(headers);
    if let (Some(value), Extent::Whole) = (&letter.value, extent) {
        record = record.payload(value.as_slice());
    }
    let sent = producer.send(record, DELIVERY_TIMEOUT).await;
    sent.map(|_| ()).map_err(|(error, _)| error)
}

type Entry = (String, Option<Vec<u8>>);

/// The record's own headers, then what is said of it, then what was left out.
fn headers(letter: &Letter, extent: Extent) -> Vec<Entry> {
    let bare = extent == Extent::Bare;
    let mut entries: Vec<Entry> = if bare {
        Vec::new()
    } else {
        letter.headers.clone()
    };
    let mut say = |name: &str, value: Option<Vec<u8>>| entries.push((name.to_owned(), value));
    let text = |text: String| Some(text.into_bytes());
    let message = if bare {
        letter.message.chars().take(BARE_MESSAGE).collect()
    } else {
        letter.message.clone()
    };
    say("tidewater.error.class", text(format!("{:?}", letter.class)));
    say("tidewater.error.message", text(message));
    say("tidewater.topic", text(letter.tp.topic.to_string()));
    say("tidewater.partition", text(letter.tp.partition.to_string()));
    say("tidewater.offset", text(letter.offset.to_string()));
    say("tidewater.timestamp", text(letter.timestamp.to_string()));
    if !bare {
        say("tidewater.key", letter.key.clone());
    }
    let mut left_out = |name: &str, part: &Option<Vec<u8>>| {
        if let Some(part) = part {
            let bytes = part.len().to_string();
            say(&format!("tidewater.{name}.bytes"), text(bytes));
            say(&format!("tidewater.{name}.sha256"), text(hash(part)));
        }
    };
    if extent != Extent::Whole {
        left_out("value", &letter.value);
    }
    if bare {
        left_out("key", &letter.key);
        let count = letter.headers.len().to_string();
        say("tidewater.headers.count", text(count));
    }
    entries
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
