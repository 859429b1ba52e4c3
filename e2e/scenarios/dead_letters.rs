//! Dead letters reach their topic, or as much of them as it takes; nothing keeps the records behind them.

use anyhow::Result;
use serde_json::json;
use tidewater_e2e::{Consumed, Lab, Record, Topic, orders};

use crate::dataset_sink::DatasetSink;

/// Not JSON, and too large for a client that is left to its defaults; of bytes that no compression makes small.
fn malformed(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'!' + (state % 90) as u8
    });
    noise.take(size).collect()
}

fn header(letter: &Consumed, name: &str) -> Option<String> {
    let found = letter.record.headers.iter().find(|(key, _)| key == name)?;
    String::from_utf8(found.1.clone()?).ok()
}

/// Twenty orders with the malformed ones among them.
fn records(sizes: &[usize], key: usize) -> Vec<Record> {
    let mut records: Vec<Record> = orders(20, 1).collect();
    for (n, size) in sizes.iter().enumerate() {
        let record = Record::new(0, malformed(*size)).header("trace", "abc");
        records.insert(3 + 4 * n, record.key(malformed(key)));
    }
    records
}

async fn topic(lab: &Lab, prefix: &str, max: usize) -> Result<Topic> {
    let max = max.to_string();
    Topic::create_with(
        lab.kafka(),
        &lab.unique(prefix),
        1,
        &[("max.message.bytes", &max)],
    )
    .await
}

/// Letters of a topic that takes `takes` at the most, from records of these sizes with keys of `key` bytes.
async fn letters_of(sizes: &[usize], key: usize, takes: usize) -> Result<(Topic, Vec<Consumed>)> {
    let lab = Lab::shared().await?;
    let source = topic(lab, "orders", 5_000_000).await?;
    let dead = topic(lab, "dead", takes).await?;
    source.produce(records(sizes, key)).await?;
    let sink = DatasetSink::of(lab, &source).await?.with(json!({
        "onError": "DeadLetter", "deadLetter": {"topic": dead.name()},
        // Taken over by the producer; a consumer's own must not trouble it.
        "source": {"properties": {"broker.address.family": "v4", "fetch.min.bytes": "1"}},
    }));
    sink.catch_up().await?;
    sink.assert_once(20).await?;
    let letters = dead.read_all().await?;
    Ok((source, letters))
}

#[tokio::test]
async fn large_records_that_do_not_fit_arrive_whole_where_the_topic_takes_them() -> Result<()> {
    let sizes = [2_000_000, 999_900, 10];
    let (source, letters) = letters_of(&sizes, 3, 5_000_000).await?;
    assert_eq!(letters.len(), 3);
    for (n, letter) in letters.iter().enumerate() {
        let offset = 3 + 4 * n;
        assert_eq!(letter.record.value, Some(malformed(sizes[n])), "{n}");
        assert_eq!(header(letter, "tidewater.offset"), Some(offset.to_string()));
        assert_eq!(
            header(letter, "tidewater.topic").as_deref(),
            Some(source.name())
        );
        assert_eq!(header(letter, "tidewater.value.bytes"), None);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_topic_does_not_take_for_its_size_arrives_without_its_value() -> Result<()> {
    // Several to a batch: each by itself is what the limit is for.
    let sizes = [60_000, 2_000_000, 60_001, 99_990];
    let key = String::from_utf8(malformed(3))?;
    let (_, letters) = letters_of(&sizes, 3, 100_000).await?;
    assert_eq!(letters.len(), 4);
    let by_offset = |offset: usize| {
        let offset = offset.to_string();
        let found = |letter: &&Consumed| header(letter, "tidewater.offset") == Some(offset.clone());
        letters.iter().find(found).unwrap()
    };
    for (offset, size) in [(3, 60_000), (11, 60_001)] {
        assert_eq!(by_offset(offset).record.value, Some(malformed(size)));
    }
    for (offset, size, hash) in [
        (
            7,
            2_000_000,
            "2dde25aacad6287422aa09694675b5b176d0d24f8db1ec164097443eab92c3c9",
        ),
        (
            15,
            99_990,
            "cadf1e97a9bccd7956675eedcdbab89192ffe1c3571c1e55a9be17a0e0dcd9f6",
        ),
    ] {
        let cut = by_offset(offset);
        assert_eq!(cut.record.value, None);
        for (name, value) in [
            ("tidewater.error.class", "Malformed"),
            ("tidewater.partition", "0"),
            ("tidewater.value.bytes", &size.to_string()),
            ("tidewater.value.sha256", hash),
            ("tidewater.key", &key),
            ("trace", "abc"),
        ] {
            assert_eq!(header(cut, name).as_deref(), Some(value), "{name}");
        }
    }
    // A key too large for the topic goes the same way.
    let (_, letters) = letters_of(&[200_000], 150_000, 100_000).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "tidewater.key"), None);
    assert_eq!(
        header(&letters[0], "tidewater.key.bytes").as_deref(),
        Some("150000")
    );
    Ok(())
}
