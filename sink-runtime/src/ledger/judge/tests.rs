#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::ledger::Stamp;
use crate::ledger::document::Entry;
use crate::record::OffsetRange;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn id(n: u128) -> CommitId {
    CommitId(uuid::Uuid::from_u128(n))
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange {
        start: Offset(start),
        end: Offset(end),
    }
}

fn claim(expected: Option<i64>, start: i64, end: i64) -> Claim {
    Claim {
        tp: tp(0),
        expected: expected.map(Offset),
        range: range(start, end),
    }
}

/// Holds `[0, 10)` by commit 1.
fn ledger() -> LedgerDocument {
    let entry = Entry {
        range: range(0, 10),
        floor: Offset(0),
        commit_id: id(1),
        files: &[],
        cluster_id: None,
        topic_id: None,
    };
    let stamp = Stamp {
        writer: String::new(),
        written_at: String::new(),
    };
    LedgerDocument::committed(None, "s", &tp(0), entry, &stamp)
}

fn fenced(next: Option<i64>) -> Verdict {
    Verdict::Fenced {
        found: BTreeMap::from([(tp(0), next.map(Offset))]),
    }
}

#[test]
fn the_table_of_verdicts_holds() {
    let there = ledger();
    let some = Some(&there);
    type Row<'a> = (&'a str, Option<&'a LedgerDocument>, Claim, u128, Verdict);
    let gone = fenced(None);
    let elsewhere = || fenced(Some(10));
    let rows: &[Row<'_>] = &[
        ("first ever", None, claim(None, 5, 9), 2, Verdict::Commit),
        (
            "next in line",
            some,
            claim(Some(10), 10, 20),
            2,
            Verdict::Commit,
        ),
        (
            "a mark without records",
            some,
            claim(Some(10), 10, 10),
            2,
            Verdict::Commit,
        ),
        ("over a hole", some, claim(Some(10), 15, 20), 2, elsewhere()),
        (
            "over what is there",
            some,
            claim(Some(10), 5, 20),
            2,
            elsewhere(),
        ),
        (
            "another went on",
            some,
            claim(Some(5), 5, 10),
            2,
            elsewhere(),
        ),
        (
            "ledger went back",
            some,
            claim(Some(15), 15, 20),
            2,
            elsewhere(),
        ),
        (
            "another was first",
            some,
            claim(None, 0, 10),
            2,
            elsewhere(),
        ),
        ("ledger is gone", None, claim(Some(10), 10, 20), 2, gone),
        (
            "end before start",
            some,
            claim(Some(10), 10, 9),
            2,
            elsewhere(),
        ),
        (
            "own commit is there",
            some,
            claim(None, 0, 10),
            1,
            Verdict::AlreadyCommitted,
        ),
    ];
    for (what, ledger, claim, commit, verdict) in rows {
        let got = judge(*ledger, claim, 0, id(*commit));
        assert_eq!(&got, verdict, "{what}");
    }
}

#[test]
fn a_claim_of_an_earlier_generation_is_fenced_even_where_the_offsets_fit() {
    let mut document = ledger();
    document.generation = 1;
    let fits = claim(Some(10), 10, 20);
    assert_eq!(judge(Some(&document), &fits, 0, id(2)), fenced(Some(10)));
    assert_eq!(judge(Some(&document), &fits, 1, id(2)), Verdict::Commit);
    // Its own commit was taken back: not "already committed".
    let own = claim(None, 0, 10);
    assert_eq!(judge(Some(&document), &own, 0, id(1)), fenced(Some(10)));
}

#[test]
fn one_fenced_claim_fences_the_set_and_only_the_fenced_are_named() {
    let known = BTreeMap::from([(tp(0), Offset(10)), (tp(1), Offset(50))]);
    let other = |expected, start, end| Claim {
        tp: tp(1),
        ..claim(expected, start, end)
    };
    let good = claim(Some(10), 10, 20);
    let both = [good.clone(), other(Some(40), 40, 60)];
    assert_eq!(
        judge_all(&known, &both),
        Verdict::Fenced {
            found: BTreeMap::from([(tp(1), Some(Offset(50)))])
        }
    );
    let fine = [good, other(Some(50), 50, 60)];
    assert_eq!(judge_all(&known, &fine), Verdict::Commit);
}

#[test]
fn claims_on_one_partition_follow_each_other() {
    let known = BTreeMap::from([(tp(0), Offset(10))]);
    let chain = [claim(Some(10), 10, 20), claim(Some(20), 20, 25)];
    assert_eq!(judge_all(&known, &chain), Verdict::Commit);
    let twice = [claim(Some(10), 10, 20), claim(Some(10), 10, 20)];
    assert_eq!(judge_all(&known, &twice), fenced(Some(10)));
}

proptest! {
    /// The same law as a model says it: applying only claims that were judged "commit" never repeats an offset and
    /// leaves no hole.
    #[test]
    fn accepted_claims_neither_overlap_nor_leave_holes(
        claims in prop::collection::vec((0i64..30, 0i64..8, prop::option::of(0i64..30)), 1..60),
    ) {
        let mut known = BTreeMap::new();
        for (start, len, expected) in claims {
            let claim = claim(expected, start, start + len);
            let before = known.get(&tp(0)).copied();
            if judge_all(&known, std::slice::from_ref(&claim)) == Verdict::Commit {
                prop_assert_eq!(claim.expected, before);
                prop_assert_eq!(before.unwrap_or(claim.range.start), claim.range.start);
                known.insert(tp(0), claim.range.end);
            }
        }
    }
}
