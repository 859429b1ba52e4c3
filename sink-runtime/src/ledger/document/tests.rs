#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::store::{PartTag, UploadId};

fn stamp() -> Stamp {
    Stamp {
        writer: "pod-0/1".into(),
        written_at: "2026-01-01T00:00:00Z".into(),
    }
}

fn tp() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

fn file() -> PendingFile {
    PendingFile {
        key: "dt=1/orders-3-0010.abc.parquet".into(),
        upload: UploadId("u1".into()),
        parts: vec![PartTag {
            number: 1,
            etag: "e".into(),
            checksum: None,
        }],
        size: 7,
        rows: 10,
        partition: vec!["1".into()],
        first_offset: Offset(10),
        last_offset: Offset(19),
    }
}

fn document() -> LedgerDocument {
    LedgerDocument::committed(
        None,
        "default.orders",
        &tp(),
        Entry {
            range: OffsetRange {
                start: Offset(10),
                end: Offset(20),
            },
            floor: Offset(10),
            last_read: None,
            commit_id: CommitId(uuid::Uuid::from_u128(7)),
            files: &[file()],
            cluster_id: Some("c"),
            topic_id: None,
        },
        &stamp(),
    )
}

#[test]
fn a_document_survives_being_stored() {
    for document in [document(), document().retracting(&stamp())] {
        let back = LedgerDocument::parse(&document.to_bytes(), "default.orders", &tp());
        assert_eq!(back.unwrap(), document);
    }
}

/// Such a ledger may be met for as long as there are datasets: it is read, and written no differently.
#[test]
fn what_the_first_release_wrote_is_read_and_still_written_so() {
    let read = |text: &str| LedgerDocument::parse(text.as_bytes(), "shop.orders", &tp()).unwrap();
    let pending = include_str!("written-by-0.1.0/pending.json");
    let retracting = include_str!("written-by-0.1.0/retracting.json");
    let recreated = include_str!("written-by-0.1.0/recreated.json");
    for text in [pending, retracting, recreated] {
        assert_eq!(read(text).to_bytes(), text.as_bytes());
    }
    let ledger = read(pending);
    assert_eq!(
        (ledger.next, ledger.floor),
        (Offset(120_000), Offset(110_000))
    );
    assert_eq!(
        (ledger.revision, ledger.generation, ledger.reread),
        (42, 2, false)
    );
    let [first, second] = &ledger.pending[..] else {
        panic!("{ledger:?}");
    };
    assert_eq!(
        (first.parts.len(), first.rows, first.last_offset),
        (2, 9999, Offset(119_999))
    );
    assert_eq!(second.partition, ["2026-01-01", "Österreich"]);
    assert_eq!(second.upload.0, "2~kR");
    let ledger = read(retracting);
    assert!(ledger.reread);
    assert_eq!(
        ledger.retracting.unwrap().files,
        [first.clone(), second.clone()]
    );
    let ledger = read(recreated);
    assert_eq!((ledger.topic_since, ledger.topic_id), (4, None));
}

#[test]
fn a_document_of_a_newer_format_is_refused_by_its_number() {
    let bytes = br#"{"format": 4, "something": "new"}"#;
    let error = LedgerDocument::parse(bytes, "default.orders", &tp()).unwrap_err();
    assert!(matches!(error, DocumentError::NewerFormat { found: 4, .. }));
    assert!(error.to_string().contains("newer"));
}

#[test]
fn a_field_of_a_newer_release_is_named_and_not_dropped() {
    let text = String::from_utf8(document().to_bytes().to_vec()).unwrap();
    let newer = text.replacen('{', r#"{"leaderEpoch":7,"#, 1);
    let error = LedgerDocument::parse(newer.as_bytes(), "default.orders", &tp()).unwrap_err();
    assert!(matches!(&error, DocumentError::NewerField { field, .. } if field == "leaderEpoch"));
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn the_fields_are_those_of_the_format() {
    let mut all = document().retracting(&stamp());
    all.topic_since = 1;
    assert_eq!(all.format, 1, "what every release reads");
    assert_eq!(all.moved("default.other", &stamp()).format, 2);
    all.last_read = Some(LastRead {
        offset: Offset(9),
        leader_epoch: 4,
    });
    let all = all.moved("default.other", &stamp());
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&all.to_bytes()).unwrap();
    let mut expected = FIELDS.to_vec();
    expected.sort_unstable();
    let mut found: Vec<_> = fields.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(
        (FORMAT, all.format, found),
        (3, 3, expected),
        "a new field raises the format"
    );
}

#[test]
fn a_ledger_that_was_moved_away_is_read_and_not_gone_on_with() {
    let moved = document().moved("default.other", &stamp());
    let read = LedgerDocument::read(&moved.to_bytes(), "default.orders", &tp());
    assert_eq!(read.unwrap(), moved);
    let error = LedgerDocument::parse(&moved.to_bytes(), "default.orders", &tp()).unwrap_err();
    assert_eq!(error.class().reason, "LedgerMoved");
    assert!(error.to_string().contains("\"default.other\""), "{error}");
    // Where it went it is one that every release reads again.
    let there = moved.moved_in("default.other", None, &stamp());
    let there = LedgerDocument::parse(&there.to_bytes(), "default.other", &tp()).unwrap();
    assert_eq!((there.format, there.next), (1, document().next));
}

#[test]
fn a_place_kept_for_a_ledger_is_gone_on_with_by_no_release_and_taken_by_what_arrives() {
    let id = CommitId(uuid::Uuid::from_u128(8));
    let place = LedgerDocument::reserved(
        "default.other",
        &tp(),
        "default.orders",
        Offset(20),
        id,
        &stamp(),
    );
    assert!(place.is_reserved());
    assert_eq!(place.format, 2, "what releases without moves stop at");
    let error = LedgerDocument::parse(&place.to_bytes(), "default.other", &tp()).unwrap_err();
    assert_eq!(error.class().reason, "LedgerMoved");
    assert!(error.to_string().contains("\"default.orders\""), "{error}");
    let left = document().moved("default.other", &stamp());
    assert!(!left.is_reserved());
    let there = left.moved_in("default.other", Some(&place), &stamp());
    assert!(there.revision > place.revision && there.generation > left.generation);
    assert!(!there.moved("default.orders", &stamp()).is_reserved());
}

/// An older release stops at a newer format, in a roll-out as well: whoever raises it tells what that means for one.
#[test]
fn every_format_that_a_ledger_may_have_is_told_where_updates_are() {
    let page = include_str!("../../../../docs/upgrade.md");
    for format in PLAIN..=FORMAT {
        assert!(page.contains(&format!("\n| {format} | ")), "{format}");
    }
}

#[test]
fn bytes_that_are_no_ledger_are_refused() {
    for bytes in [
        &b""[..],
        b"{}",
        b"{\"format\": 1}",
        b"[]",
        b"{\"format\": 0}",
    ] {
        assert!(LedgerDocument::parse(bytes, "default.orders", &tp()).is_err());
    }
}

#[test]
fn a_ledger_copied_from_another_sink_or_partition_is_refused() {
    let bytes = document().to_bytes();
    let other = TopicPartition::new("orders", 4);
    for result in [
        LedgerDocument::parse(&bytes, "default.other", &tp()),
        LedgerDocument::parse(&bytes, "default.orders", &other),
    ] {
        assert!(matches!(result, Err(DocumentError::Foreign { .. })));
    }
}

#[test]
fn the_documented_example_is_a_ledger() {
    let page = include_str!("../../../../docs/commit-protocol.md");
    let example = page.split("```json").nth(1).unwrap().split("```").next();
    let bytes = example.unwrap().as_bytes();
    let document = LedgerDocument::parse(bytes, "default.orders", &tp()).unwrap();
    let ending = format!(".{}.parquet", document.commit_id.short());
    assert!(document.pending[0].key.ends_with(&ending));
}

#[test]
fn a_commit_adds_an_id_that_became_known_and_keeps_one_that_is_not_told() {
    let entry = Entry {
        range: OffsetRange {
            start: Offset(20),
            end: Offset(20),
        },
        floor: Offset(10),
        last_read: None,
        commit_id: CommitId(uuid::Uuid::from_u128(8)),
        files: &[],
        cluster_id: None,
        topic_id: Some("t"),
    };
    let next =
        LedgerDocument::committed(Some(&document()), "default.orders", &tp(), entry, &stamp());
    assert_eq!(next.cluster_id.as_deref(), Some("c"));
    assert_eq!(next.topic_id.as_deref(), Some("t"));
    assert_eq!((next.next, next.rows), (Offset(20), 10));
}

#[test]
fn taking_a_commit_back_leaves_rows_and_next_as_before_it() {
    let retracted = document().retracting(&stamp()).retracted(&stamp());
    assert_eq!(retracted.next, Offset(10));
    assert_eq!(retracted.rows, 0);
    assert_eq!(retracted.generation, 1);
    assert_eq!(retracted.revision, 3);
    assert!(retracted.reread && retracted.pending.is_empty() && retracted.retracting.is_none());
}

#[test]
fn the_epoch_of_the_last_record_stays_until_the_ledger_is_set_otherwise() {
    let last_read = Some(LastRead {
        offset: Offset(29),
        leader_epoch: 4,
    });
    let entry = |end, last_read| Entry {
        range: OffsetRange {
            start: Offset(20),
            end: Offset(end),
        },
        floor: Offset(20),
        last_read,
        commit_id: CommitId(uuid::Uuid::from_u128(8)),
        files: &[],
        cluster_id: Some("c"),
        topic_id: None,
    };
    let after = |base: &LedgerDocument, entry| {
        LedgerDocument::committed(Some(base), "default.orders", &tp(), entry, &stamp())
    };
    let read = after(&document(), entry(30, last_read));
    let back = LedgerDocument::parse(&read.to_bytes(), "default.orders", &tp());
    assert_eq!(back.unwrap().last_read, last_read);
    assert_eq!(read.format, LAST_READ, "what releases without it stop at");
    // Nothing but what leaves no record was read since.
    assert_eq!(after(&read, entry(35, None)).last_read, last_read);
    assert_eq!(read.settled(&stamp()).last_read, last_read);
    assert_eq!(read.retracting(&stamp()).last_read, None);
    let set = entry(20, None);
    let reset = LedgerDocument::reset(Some(&read), "default.orders", &tp(), set, false, &stamp());
    assert_eq!(reset.last_read, None);
    // A ledger of a release that knew none.
    assert!(!String::from_utf8_lossy(&document().to_bytes()).contains("lastRead"));
}
