#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::decode::RejectClass;
use crate::plan::Secret;
use crate::record::{Offset, TopicPartition};

fn letter(offset: i64, value: Vec<u8>) -> Letter {
    Letter {
        tp: TopicPartition::new("orders", 3),
        offset: Offset(offset),
        timestamp: 1_700_000_000_000,
        class: RejectClass::Malformed,
        message: "m".repeat(2000),
        key: Some(b"abc".to_vec()),
        value: Some(value),
        headers: vec![("trace".to_owned(), Some(b"t".to_vec()))],
    }
}

#[test]
fn the_producer_takes_all_of_the_source_but_what_serves_consumers() {
    let plain = |value: &str| Property::Plain(value.to_owned());
    let source = BTreeMap::from([
        ("bootstrap.servers".to_owned(), plain("kafka:9092")),
        ("broker.address.family".to_owned(), plain("v4")),
        ("client.dns.lookup".to_owned(), plain("use_all_dns_ips")),
        ("client.id".to_owned(), plain("tidewater")),
        ("fetch.max.bytes".to_owned(), plain("1048576")),
        ("group.id".to_owned(), plain("g")),
        ("group.instance.id".to_owned(), plain("i")),
        ("isolation.level".to_owned(), plain("read_committed")),
        ("linger.ms".to_owned(), plain("20")),
        ("max.in.flight".to_owned(), plain("100")),
        ("message.max.bytes".to_owned(), plain("1000")),
        (
            "sasl.password".to_owned(),
            Property::Secret(Secret::new("s")),
        ),
        ("socket.keepalive.enable".to_owned(), plain("true")),
        ("statistics.interval.ms".to_owned(), plain("5000")),
    ]);
    let settings: Vec<String> = settings(&source)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(
        settings,
        [
            "acks=all",
            "bootstrap.servers=kafka:9092",
            "broker.address.family=v4",
            "client.dns.lookup=use_all_dns_ips",
            "client.id=tidewater",
            "compression.type=lz4",
            "enable.idempotence=true",
            "linger.ms=20",
            "max.in.flight.requests.per.connection=5",
            "message.max.bytes=1000000000",
            "message.timeout.ms=30000",
            "sasl.password=s",
            "socket.keepalive.enable=true",
        ]
    );
    // As a whole they are what the client takes: no pair of them contradicts another.
    let some = [
        ("linger.ms".to_owned(), plain("20")),
        ("max.in.flight".to_owned(), plain("100")),
    ];
    drop(producer(&BTreeMap::from(some)).unwrap());
    let chosen = BTreeMap::from([("compression.codec".to_owned(), plain("zstd"))]);
    assert!(!super::settings(&chosen).contains_key("compression.type"));
}

#[test]
fn a_cut_letter_says_what_was_left_out_and_where_it_is_to_be_found() {
    let letter = letter(7, b"{".to_vec());
    let said = |extent| -> BTreeMap<String, String> {
        let entries = headers(&letter, extent);
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
        entries.into_iter().map(|(k, v)| (k, text(v))).collect()
    };
    let whole = said(Extent::Whole);
    assert_eq!(whole["trace"], "t");
    assert_eq!(whole["tidewater.key"], "abc");
    assert!(!whole.keys().any(|name| name.ends_with(".sha256")));

    let of_brace = "021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96";
    let cut = said(Extent::WithoutValue);
    for (name, value) in [
        ("tidewater.error.class", "Malformed"),
        ("tidewater.topic", "orders"),
        ("tidewater.partition", "3"),
        ("tidewater.offset", "7"),
        ("tidewater.timestamp", "1700000000000"),
        ("tidewater.key", "abc"),
        ("tidewater.value.bytes", "1"),
        ("tidewater.value.sha256", of_brace),
        ("trace", "t"),
    ] {
        assert_eq!(cut[name], value, "{name}");
    }

    let bare = said(Extent::Bare);
    assert_eq!(bare["tidewater.value.sha256"], of_brace);
    assert_eq!(bare["tidewater.key.bytes"], "3");
    assert_eq!(
        bare["tidewater.key.sha256"],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(bare["tidewater.headers.count"], "1");
    assert_eq!(bare["tidewater.error.message"].len(), 500);
    assert!(!bare.contains_key("trace") && !bare.contains_key("tidewater.key"));
}

#[test]
fn letters_go_in_groups_of_bounded_number_and_size() {
    let small: Vec<Letter> = (0..2500).map(|n| letter(n, vec![0; 10])).collect();
    let sizes: Vec<usize> = groups(&small).map(<[Letter]>::len).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    let sizes = [1, 20 << 20, 9 << 20, 5 << 20, 9 << 20, 1];
    let large: Vec<Letter> = (0..)
        .zip(sizes)
        .map(|(n, size)| letter(n, vec![0; size]))
        .collect();
    let grouped: Vec<Vec<i64>> = groups(&large)
        .map(|group| group.iter().map(|letter| letter.offset.0).collect())
        .collect();
    assert_eq!(grouped, [vec![0], vec![1], vec![2, 3], vec![4, 5]]);
    assert_eq!(groups(&[]).count(), 0);
}

#[test]
fn only_what_no_wait_would_mend_is_the_letters_own_fault() {
    for (code, own) in [
        (RDKafkaErrorCode::MessageSizeTooLarge, true),
        (RDKafkaErrorCode::InvalidRecord, true),
        (RDKafkaErrorCode::MessageTimedOut, false),
        (RDKafkaErrorCode::UnknownTopicOrPartition, false),
        (RDKafkaErrorCode::TopicAuthorizationFailed, false),
        (RDKafkaErrorCode::NotEnoughReplicas, false),
        (RDKafkaErrorCode::QueueFull, false),
    ] {
        let error = KafkaError::MessageProduction(code);
        assert_eq!(is_of_the_letter(&error), own, "{code:?}");
    }
}
