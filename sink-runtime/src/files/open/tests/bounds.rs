//! How many files are open, and how much memory they hold.

use super::*;

#[test]
fn beyond_the_allowed_number_the_longest_open_file_is_sealed() {
    let mut table = table(Limits {
        places: Places::new(3, 1),
        ..limits()
    });
    for (n, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        write(
            &mut table,
            (n % 2) as i32,
            &slice(key, n as i64, 1),
            n as u64,
        );
        assert!(table.open_files() <= 3);
    }
    assert_eq!(table.totals(&tp(0)).sealed_files, 1);
    assert_eq!(table.totals(&tp(1)).sealed_files, 1);
    assert_eq!(cut(&mut table, 0).files[0].key.as_str(), "a");
    assert_eq!(cut(&mut table, 1).files[0].key.as_str(), "b");
}

/// `rows` rows of each of `folders` folders, as one batch of a scattered topic is split.
fn scattered(table: &mut Table, partition: i32, folders: usize, rows: usize, at: u64) {
    for folder in 0..folders {
        let first = (at as usize * folders + folder) * rows;
        let slice = slice(&format!("f{folder}"), first as i64, rows);
        write(table, partition, &slice, at);
    }
}

#[test]
fn one_busy_worker_of_many_has_as_many_files_open_as_the_process_may() {
    let places = Places::new(2000, 64);
    let mut workers: Vec<_> = (0..64)
        .map(|_| {
            table(Limits {
                places: places.clone(),
                ..limits()
            })
        })
        .collect();
    for batch in 0..5 {
        scattered(&mut workers[7], 0, 1000, 20, batch);
    }
    let files = cut(&mut workers[7], 0).files;
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    assert_eq!((files.len(), rows), (1000, 100_000));
    assert_eq!(places.taken(), 0);
}

#[test]
fn workers_share_the_open_files_and_none_starves() {
    let places = Places::new(10, 2);
    let limits = || Limits {
        places: places.clone(),
        ..limits()
    };
    let (mut first, mut second) = (table(limits()), table(limits()));
    scattered(&mut first, 0, 12, 1, 0);
    assert_eq!((first.open_files(), places.taken()), (10, 10));
    scattered(&mut second, 1, 12, 1, 0);
    assert_eq!((first.open_files(), second.open_files()), (10, 5));
    // The first gives back what it has more than its share, as it goes on.
    scattered(&mut first, 0, 12, 1, 1);
    assert_eq!((first.open_files(), second.open_files()), (5, 5));
    drop(first);
    assert_eq!(places.taken(), 5);
}

#[test]
fn shedding_seals_the_largest_files_and_stops_below_the_mark() {
    let budget = Budget::new(8 << 20);
    // Lines have no row groups to end.
    let lines = OutputFormat::JsonLines {
        compression: JsonCompression::None,
    };
    let format = Format::new(lines, 32 << 10);
    let mut table: Table = OpenFiles::new(format, limits(), Vec::new(), &budget);
    for n in 0..10 {
        let rows = if n == 7 { 5_000 } else { 100 };
        write(&mut table, 0, &slice(&format!("k{n}"), n * 10_000, rows), 0);
    }
    assert_eq!(budget.used(), table.memory());
    assert_eq!(table.shed(&mut Memory::default()).unwrap(), 0);
    let elsewhere = budget.reserve((8 << 20) * 74 / 100 - table.memory());
    let shed = table.shed(&mut Memory::default()).unwrap();
    assert_eq!(shed, 0, "not above the mark");
    let more = budget.reserve(200 << 10);
    assert_eq!(table.shed(&mut Memory::default()).unwrap(), 1);
    assert!(!budget.must_shed());
    assert_eq!(
        budget.used() - elsewhere.bytes() - more.bytes(),
        table.memory()
    );
    assert_eq!(cut(&mut table, 0).files[0].key.as_str(), "k7");
    assert_eq!(table.memory(), 0);
}

#[test]
fn a_discarded_group_gives_back_memory_and_uploads() {
    let budget = Budget::new(1 << 30);
    let mut table = table_in(
        Limits {
            file_records: Some(10),
            ..limits()
        },
        &budget,
    );
    write(&mut table, 0, &slice("a", 0, 5), 0);
    write(&mut table, 0, &slice("b", 5, 10), 0);
    write(&mut table, 1, &slice("a", 0, 5), 0);
    // The open file has begun no upload yet.
    assert_eq!(table.discard(&tp(0)).len(), 1);
    assert_eq!(table.open_files(), 1);
    assert_eq!(budget.used(), table.memory());
    table.discard(&tp(1));
    assert_eq!(
        (table.memory(), budget.used(), table.open_files()),
        (0, 0, 0)
    );
    assert_eq!(table.next_deadline(), None);
}

/// T13: databricks/iceberg-kafka-connect#227. A backlog of a thousand paths in one poll.
#[test]
fn a_backlog_of_many_partitions_stays_within_the_budget() {
    let budget = Budget::new(16 << 20);
    let mut table = table_in(
        Limits {
            places: Places::new(5000, 1),
            ..limits()
        },
        &budget,
    );
    let mut outlet = Memory::default();
    let mut offset = 0;
    for _ in 0..5 {
        for key in 0..1000 {
            let rows = slice(&format!("day={key}"), offset, 20);
            table
                .write(&tp(0), &tp(0), &rows, secs(0), &mut outlet)
                .unwrap();
            table.shed(&mut outlet).unwrap();
            assert!(!budget.must_pause());
            offset += 20;
        }
    }
    // Whatever the memory forced, the rest is a commit's work.
    let files = cut(&mut table, 0).files;
    assert_eq!(files.iter().map(|f| f.rows).sum::<u64>(), 100_000);
}

/// T13's other form: 24 partitions with rows for each of 80 folders.
#[test]
fn many_partitions_of_many_folders_end_row_groups_rather_than_make_small_files() {
    const PARTITIONS: i32 = 24;
    const FOLDERS: usize = 80;
    const ROUNDS: usize = 14;
    let budget = Budget::new(64 << 20);
    let mut table = table_in(
        Limits {
            places: Places::new(5000, 1),
            ..limits()
        },
        &budget,
    );
    let rows = orders(0, FOLDERS * 20);
    let keys: Vec<_> = (0..FOLDERS)
        .map(|n| Arc::new(format!("country={n}")))
        .collect();
    let mut outlet = Memory::default();
    let mut relieved = false;
    for round in 0..ROUNDS {
        for partition in 0..PARTITIONS {
            for (n, key) in keys.iter().enumerate() {
                let slice = Slice {
                    key: Arc::clone(key),
                    batch: rows.slice(n * 20, 20),
                    first_offset: (round * FOLDERS + n) as i64 * 20,
                    last_offset: (round * FOLDERS + n) as i64 * 20 + 19,
                };
                let tp = tp(partition);
                table.write(&tp, &tp, &slice, secs(0), &mut outlet).unwrap();
            }
            relieved |= budget.must_shed();
            assert_eq!(table.shed(&mut outlet).unwrap(), 0, "nothing is sealed");
            assert!(!budget.must_shed() && budget.used() == table.memory());
        }
    }
    assert!(relieved, "the budget was too large to tell");
    let mut files = Vec::new();
    for partition in 0..PARTITIONS {
        files.extend(cut(&mut table, partition).files);
    }
    assert_eq!(files.len(), PARTITIONS as usize * FOLDERS);
    assert!(files.iter().all(|file| file.rows == 20 * ROUNDS as u64));
    assert_eq!(read(&files[0]).num_rows(), 20 * ROUNDS);
    assert_eq!((budget.used(), table.open_files()), (0, 0));
}

#[test]
fn under_pressure_a_large_file_ends_its_row_group_and_stays_open() {
    let budget = Budget::new(32 << 20);
    let mut table = table_in(limits(), &budget);
    write(&mut table, 0, &slice("k", 0, 60_000), 0);
    let before = table.memory();
    assert!(before > WORTH_RELIEVING, "an encoder is at work: {before}");
    let _elsewhere = budget.reserve((32 << 20) * 76 / 100 - before);
    assert_eq!(
        table.shed(&mut Memory::default()).unwrap(),
        0,
        "nothing is sealed"
    );
    assert_eq!(table.open_files(), 1);
    assert!(
        table.memory() < before / 2,
        "{} of {before}",
        table.memory()
    );
}
