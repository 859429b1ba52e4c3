//! The wall clock jumps under a sink that commits to a table.

use super::*;
use crate::clock::{FAR, WallClock};

// R10
#[tokio::test]
async fn a_table_takes_commits_while_the_wall_clock_jumps() -> Result<()> {
    let sink = TableSink::new(Catalog::Local, 2).await?;
    let clock = WallClock::new(&sink.folder)?;
    let arguments = ["run", "-f", &sink.manifest()?];
    let running = Tidewater::spawn(&sink.folder, &arguments, &clock.environment()?)?;
    let mut produced = 0;
    for offset in [0, FAR, -FAR, 0] {
        clock.set(offset)?;
        sink.produce(50, 1).await?;
        produced += 50;
        sink.await_rows(produced)
            .await
            .with_context(|| running.process().log_tail())?;
    }
    end(&running).await?;
    sink.assert_rows_once().await
}
