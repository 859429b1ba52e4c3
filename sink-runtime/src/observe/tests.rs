use super::*;

#[test]
fn health_follows_what_lag_and_commits_say() {
    let tp = TopicPartition::new("orders", 0);
    let behind = |progress: &Progress| progress.inner.lock().health.is_behind();
    let progress = Progress::new("default.orders", Budget::new(1), Duration::ZERO);
    assert!(!behind(&progress), "owns nothing");
    progress.starting(true);
    assert!(behind(&progress), "no partition could be started");
    progress.starting(false);
    // Nothing is committed of a log that is read from its end.
    progress.owned(&tp, None, Some((Offset(0), Offset(10))));
    progress.begins(&tp, Offset(10));
    assert!(!behind(&progress), "nothing to read");
    progress.owned(&tp, Some(Offset(7)), Some((Offset(0), Offset(10))));
    assert!(behind(&progress), "three records wait");
    progress.next(&BTreeMap::from([(tp.clone(), Offset(9))]));
    assert!(behind(&progress), "one record waits");
    progress.next(&BTreeMap::from([(tp.clone(), Offset(10))]));
    assert!(!behind(&progress), "all is committed");
    progress.owned(&tp, Some(Offset(7)), Some((Offset(0), Offset(10))));
    progress.disowned(&[tp]);
    assert!(!behind(&progress), "somebody else's");
}

#[test]
fn a_failure_of_a_partition_is_shown_until_that_partition_is_through() {
    let tps = [
        TopicPartition::new("orders", 0),
        TopicPartition::new("orders", 1),
    ];
    let progress = Progress::new("default.orders", Budget::new(1), Duration::ZERO);
    for tp in &tps {
        progress.owned(tp, Some(Offset(7)), None);
    }
    let shown = |progress: &Progress| {
        let commit = progress.snapshot().commit;
        (commit.consecutive_failures, commit.last_error_reason)
    };
    let failed = (1, Some("StoreAccessDenied"));
    progress.commit_failed(&tps[..1], crate::errors::class::STORE_DENIED, "denied");
    progress.reached();
    assert_eq!(shown(&progress), failed);
    let commit = |lane: &[TopicPartition]| {
        progress.committed(lane, String::new(), None, 1, 1, CommitOutcome::Committed);
    };
    commit(&tps[1..]);
    assert_eq!(shown(&progress), failed);
    commit(&tps[..1]);
    assert_eq!(shown(&progress), (0, None));
    // Of a partition that is somebody else's by now nothing is kept.
    progress.disowned(&tps[1..]);
    progress.commit_failed(&tps[1..], crate::errors::class::STORE_DENIED, "denied");
    assert_eq!(shown(&progress), (0, None));
}

#[test]
fn a_sink_that_stopped_says_why_owns_nothing_and_costs_the_process_no_restart() {
    let progress = Progress::new("default.orders", Budget::new(1), Duration::ZERO);
    progress.started();
    progress.set_ready();
    let tp = TopicPartition::new("orders", 0);
    progress.owned(&tp, Some(Offset(7)), Some((Offset(0), Offset(10))));
    assert!(progress.unhealthy().is_some(), "nothing was heard of it");

    let again = Duration::from_secs(10);
    progress.stopped("the bucket is gone".to_owned(), Some(again));
    let status = progress.snapshot();
    let stop = status.stopped.as_ref();
    let said = stop.map(|stop| (stop.message.as_str(), stop.again_after));
    assert_eq!(said, Some(("the bucket is gone", Some(10))));
    assert!(!status.ready && status.partitions.is_empty());
    assert_eq!(status.lag_records, None);
    assert_eq!(progress.unhealthy(), None);

    progress.started();
    assert_eq!(progress.snapshot().stopped, None);
}
