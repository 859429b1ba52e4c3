#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ledger::Stamp;
use crate::ledger::document::Entry;
use crate::record::OffsetRange;
use crate::varied::explore;

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
        generation: 0,
    }
}

fn judge_all(known: &BTreeMap<TopicPartition, Offset>, claims: &[Claim]) -> Verdict {
    super::judge_all(known, &BTreeMap::new(), claims)
}

/// Holds `[0, 10)` by commit 1.
fn ledger() -> LedgerDocument {
    let entry = Entry {
        range: range(0, 10),
        floor: Offset(0),
        last_read: None,
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
        let got = judge(*ledger, claim, id(*commit));
        assert_eq!(&got, verdict, "{what}");
    }
}

#[test]
fn a_claim_of_an_earlier_generation_is_fenced_even_where_the_offsets_fit() {
    let mut document = ledger();
    document.generation = 1;
    let fits = claim(Some(10), 10, 20);
    assert_eq!(judge(Some(&document), &fits, id(2)), fenced(Some(10)));
    let begun_since = Claim {
        generation: 1,
        ..fits
    };
    assert_eq!(judge(Some(&document), &begun_since, id(2)), Verdict::Commit);
    // Its own commit was taken back: not "already committed".
    let own = claim(None, 0, 10);
    assert_eq!(judge(Some(&document), &own, id(1)), fenced(Some(10)));
}

#[test]
fn of_many_partitions_a_claim_is_held_to_the_generation_of_its_own() {
    let known = BTreeMap::from([(tp(0), Offset(10)), (tp(1), Offset(10))]);
    let set_back = BTreeMap::from([(tp(0), 2)]);
    let of = |partition, generation| Claim {
        tp: tp(partition),
        generation,
        ..claim(Some(10), 10, 20)
    };
    let judge = |claims: &[Claim]| super::judge_all(&known, &set_back, claims);
    assert_eq!(judge(&[of(0, 2), of(1, 0)]), Verdict::Commit);
    for other in [0, 1, 3] {
        assert_eq!(judge(&[of(0, other), of(1, 0)]), fenced(Some(10)));
    }
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

/// The law as a set of offsets says it, and not as the judge does: what is taken is neither there already nor beyond a
/// hole, and whatever could be taken is.
#[test]
fn claims_are_taken_when_they_neither_overlap_nor_leave_a_hole_and_only_then() {
    // Most claims begin near where the ledger stands and expect what it says: the others are fenced for the first cause.
    let claims = prop::collection::vec(
        (0..8_usize, 0..8_i64, prop::option::weighted(0.2, -2..3_i64)),
        1..60,
    );
    let varied = explore(500, &claims, |claims, varied| {
        let mut known = BTreeMap::new();
        let mut taken: BTreeSet<i64> = BTreeSet::new();
        for (off, len, misled) in claims {
            let before: Option<Offset> = known.get(&tp(0)).copied();
            let next = before.map_or(0, |next| next.0);
            let start = (next + [-2, -1, 0, 0, 0, 0, 1, 2][off]).max(0);
            let expected = match (misled, before) {
                (None, before) => before.map(|next| next.0),
                (Some(by), Some(next)) => Some(next.0 + by),
                (Some(by), None) => Some(by),
            };
            let claim = claim(expected, start, start + len);
            let verdict = judge_all(&known, std::slice::from_ref(&claim));

            let fits = expected == before.map(|next| next.0);
            let repeats = (start..start + len).any(|offset| taken.contains(&offset))
                || before.is_some() && start < next;
            // The first claim may begin anywhere: what is before it is not this destination's.
            let hole = before.is_some() && start > next;
            let lawful = fits && !repeats && !hole;
            prop_assert_eq!(
                verdict == Verdict::Commit,
                lawful,
                "{:?} {:?}",
                claim,
                before
            );
            varied.met(match (fits, repeats, hole) {
                (false, ..) => "expects something else",
                (_, true, _) => "repeats offsets",
                (.., true) => "leaves a hole",
                _ => "taken",
            });
            if lawful {
                taken.extend(start..start + len);
                known.insert(tp(0), claim.range.end);
            }
        }
        Ok(())
    });
    let every = [
        "taken",
        "expects something else",
        "repeats offsets",
        "leaves a hole",
    ];
    varied.assert_varied(&every, 500);
    let all = [
        "taken",
        "expects something else",
        "repeats offsets",
        "leaves a hole",
    ];
    varied.assert_share(&all, 30);
}
