//! A log that is cut, set back in the ledger and grows again, under owners of before and after, and those who saw the cut
//! and act upon it late: every record that the
//! log still has, below the ledger's offset, is in the table once, and none is in it twice.

use proptest::prelude::*;

use super::*;
use crate::ledger::Said;
use crate::varied::{Varied, explore};

const OWNERS: usize = 3;

#[derive(Clone, Debug)]
enum Event {
    /// The log loses its newest records, some that the table holds among them, and the ledger is set back before
    /// anything is written: what is not seen in time cannot be told. An owner has seen it, too, and done nothing yet.
    Cut(usize, usize),
    /// An owner sets the ledger back by the last cut that it saw, whoever came between.
    SetBack(usize),
    /// So many records are written; an owner reads what the ledger says, the records up to the log's end, and is about
    /// to commit them.
    Read(usize, usize),
    /// An owner commits what it read, whoever came between.
    Commit(usize),
    /// Both at once.
    Take(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    // Mostly one record at a time: so offsets fit again soon.
    let few = || prop_oneof![4 => Just(1_usize), 1 => Just(2)];
    prop_oneof![
        3 => (0..OWNERS, few()).prop_map(|(owner, by)| Event::Cut(owner, by)),
        1 => (0..OWNERS).prop_map(Event::SetBack),
        3 => (0..OWNERS, few()).prop_map(|(owner, by)| Event::Read(owner, by)),
        3 => (0..OWNERS).prop_map(Event::Commit),
        4 => (0..OWNERS, few()).prop_map(|(owner, by)| Event::Take(owner, by)),
    ]
}

/// What owners hold the ledger to when they move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    On,
    /// Each claims the generation of the ledger at its commit, and so is fenced by its offsets alone.
    NoGenerations,
    /// What was seen of the log is held against the ledger as it is by then.
    StaleFacts,
}

struct Partition {
    lab: Lab,
    committer: IcebergCommitter,
    opened: Opened,
    guard: Guard,
    /// The record at each offset, by a number that no other one has.
    log: Vec<u64>,
    written: u64,
    /// What each owner is about to commit.
    read: [Option<(Claim, Vec<u64>)>; OWNERS],
    /// Where each saw the log cut, and what the ledger had said before.
    saw: [Option<(Offset, Said)>; OWNERS],
}

impl Partition {
    async fn new(guard: Guard) -> Self {
        let lab = Lab::new();
        let (committer, opened) = lab.opened().await;
        Self {
            lab,
            committer,
            opened,
            guard,
            log: Vec::new(),
            written: 0,
            read: Default::default(),
            saw: Default::default(),
        }
    }

    async fn next(&self) -> usize {
        let next = self.lab.ledger().await.next.get(&tp(0)).map_or(0, |o| o.0);
        usize::try_from(next).unwrap()
    }

    async fn take(&mut self, event: Event, varied: &Varied) {
        match event {
            Event::Cut(owner, by) => {
                let next = self.next().await;
                if next == 0 {
                    return;
                }
                self.log.truncate(next.saturating_sub(by));
                let end = i64::try_from(self.log.len()).unwrap();
                let ledger = self.lab.ledger().await;
                let saw = (Offset(end), ledger.said(&tp(0)));
                self.saw[owner] = Some(saw.clone());
                self.set_back(saw).await.unwrap();
            }
            Event::SetBack(owner) => {
                let Some((end, mut said)) = self.saw[owner].take() else {
                    return;
                };
                let ledger = self.lab.ledger().await;
                if self.guard == Guard::StaleFacts {
                    said = ledger.said(&tp(0));
                }
                let result = self.set_back((end, said)).await;
                varied.met(match (&result, ledger.next.get(&tp(0)) > Some(&end)) {
                    (Err(_), true) => "set back too late",
                    _ => "set back in time",
                });
                if let Err(refused) = result {
                    let fenced = matches!(refused, IcebergFailure::Fenced { .. });
                    assert!(fenced, "{refused:?}");
                }
            }
            Event::Take(owner, by) => {
                self.read(owner, by).await;
                self.commit(owner, varied).await;
            }
            Event::Read(owner, by) => self.read(owner, by).await,
            Event::Commit(owner) => self.commit(owner, varied).await,
        }
    }

    async fn set_back(&mut self, (end, said): (Offset, Said)) -> Result<(), IcebergFailure> {
        let (ends, said) = ([(tp(0), end)].into(), [(tp(0), said)].into());
        self.committer.truncate_source(&ends, &said).await.map(drop)
    }

    async fn read(&mut self, owner: usize, by: usize) {
        for _ in 0..by {
            self.written += 1;
            self.log.push(self.written);
        }
        let ledger = self.lab.ledger().await;
        let known = ledger.next.get(&tp(0)).map(|offset| offset.0);
        let records = self.log[self.next().await..].to_vec();
        let end = i64::try_from(self.log.len()).unwrap();
        let claim = Claim {
            generation: ledger.generation(&tp(0)),
            ..claim(0, known, known.unwrap_or(0), end)
        };
        self.read[owner] = (!records.is_empty()).then_some((claim, records));
    }

    async fn commit(&mut self, owner: usize, varied: &Varied) {
        let Some((mut claim, records)) = self.read[owner].take() else {
            return;
        };
        let ledger = self.lab.ledger().await;
        let current = ledger.generation(&tp(0));
        let stale = claim.generation != current;
        let fits = claim.expected == ledger.next.get(&tp(0)).copied();
        if self.guard == Guard::NoGenerations {
            claim.generation = current;
        }
        let numbers: Vec<_> = records.iter().map(u64::to_string).collect();
        let id = CommitId::fresh();
        let name = format!("{}_{id}.parquet", numbers.join("+"));
        let wish = IcebergCommit {
            commit_id: id,
            claims: vec![claim],
            files: vec![named(&name, records.len() as u64)],
            ..commit_of(&self.opened, 0, None, 1)
        };
        let answer = self.committer.commit(&wish).await;
        varied.met(match (&answer, stale && fits) {
            (Err(_), true) => "fenced although the offsets fit",
            (Err(_), false) => "fenced",
            (Ok(_), _) => "committed",
        });
        if let Err(refused) = answer {
            let fenced = matches!(refused.failure, IcebergFailure::Fenced { .. });
            assert!(fenced, "{refused:?}");
        }
    }

    /// What is wrong with the table.
    async fn wrong(&self) -> Option<String> {
        let mut held = BTreeMap::<u64, usize>::new();
        for name in self.lab.visible().await {
            let (records, _) = name.split_once('_').unwrap();
            for record in records.split('+') {
                *held.entry(record.parse().unwrap()).or_default() += 1;
            }
        }
        let twice = held.iter().find(|(_, times)| **times > 1);
        let next = self.next().await;
        let missing = self.log[..next]
            .iter()
            .find(|record| !held.contains_key(record));
        match (twice, missing) {
            (Some((record, _)), _) => Some(format!("record {record} is there twice")),
            (_, Some(record)) => Some(format!("record {record} is below {next} and not there")),
            (None, None) => None,
        }
    }
}

fn run(events: Vec<Event>, guard: Guard, varied: &Varied) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut partition = Partition::new(guard).await;
        for event in events {
            let what = format!("{event:?}");
            partition.take(event, varied).await;
            if let Some(wrong) = partition.wrong().await {
                return Some(format!("after {what}: {wrong}"));
            }
        }
        None
    })
}

// T15
#[test]
fn of_a_log_that_was_cut_and_grew_again_each_record_is_in_the_table_once() {
    let events = prop::collection::vec(event(), 20..60);
    let varied = explore(256, &events, |events, varied| {
        prop_assert_eq!(run(events, Guard::On, varied), None);
        Ok(())
    });
    varied.assert_varied(&["committed", "fenced"], 50);
    let rare = ["fenced although the offsets fit", "set back too late"];
    varied.assert_varied(&rare, 10);
}

#[test]
fn without_generations_a_claim_of_before_the_cut_goes_in_and_the_oracle_says_so() {
    let events = vec![
        Event::Take(0, 4),
        // Owner 1 reads two records which are then lost.
        Event::Read(1, 2),
        Event::Cut(0, 3),
        Event::Take(0, 3),
        // The log is long enough again: its records of these offsets are other ones.
        Event::Read(0, 2),
        Event::Commit(1),
    ];
    let varied = Varied::default();
    let wrong = run(events.clone(), Guard::NoGenerations, &varied).unwrap();
    assert!(wrong.contains("not there"), "{wrong}");
    assert_eq!(run(events, Guard::On, &varied), None);
}

#[test]
fn who_acts_late_on_a_cut_that_is_settled_reads_again_what_came_since_and_the_oracle_says_so() {
    let events = vec![
        Event::Take(0, 4),
        // Owner 1 sees it, too, and hangs.
        Event::Cut(1, 2),
        Event::Take(0, 3),
        Event::SetBack(1),
        Event::Take(1, 1),
    ];
    let varied = Varied::default();
    let wrong = run(events.clone(), Guard::StaleFacts, &varied).unwrap();
    assert!(wrong.contains("there twice"), "{wrong}");
    assert_eq!(run(events, Guard::On, &varied), None);
}
