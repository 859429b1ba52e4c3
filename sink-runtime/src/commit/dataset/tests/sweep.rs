//! Uploads that were left, after a ledger went to a sink of another name.

use super::*;

#[tokio::test]
async fn uploads_that_a_sink_left_with_its_ledger_are_swept_by_the_one_that_goes_on() {
    let (shelf, old) = begun().await;
    let day = Duration::from_secs(86_400);
    shelf.0.lock().now = Some(SystemTime::UNIX_EPOCH + 3 * day);
    let orphan = name(10, CommitId::fresh());
    shelf.upload(&orphan, "x", SystemTime::UNIX_EPOCH);
    let new = DatasetCommitter::new(
        shelf.clone(),
        "default.new",
        "pod-0/2",
        BackoffPolicy::default(),
    );
    let left = old.leave(&tp(0), "default.new").await.unwrap();
    // Until somebody goes on it is nobody's.
    for one in [&old, &new] {
        assert_eq!(one.sweep(day).await.unwrap().kept, 1);
    }
    new.arrive(left).await.unwrap();
    // One that has no ledger of its own any more sweeps nothing, and is not stopped by that.
    let swept = old.sweep(day).await.unwrap();
    assert_eq!((swept.aborted.len(), swept.kept), (0, 1));
    let swept = new.sweep(day).await.unwrap();
    assert_eq!(swept.aborted, [orphan.as_str()]);
}
