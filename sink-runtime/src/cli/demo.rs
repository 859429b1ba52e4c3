//! `tidewater demo`: the main job on a machine with nothing running. An embedded broker, a local warehouse and a local
//! Iceberg catalog; both sinks to the end, one of them killed and restarted on the way; then the proof.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use self::broker::Broker;
use super::CliError;
use super::verify::{self, Report};
use crate::plan::Plan;

mod broker;
mod orders;

const TOPIC: &str = "orders";
/// A sink that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(300);

struct Demo {
    dir: PathBuf,
    dataset: PathBuf,
    table: PathBuf,
}

pub(super) async fn demo(dir: &Path, records: u64) -> Result<ExitCode, CliError> {
    let began = Instant::now();
    let demo = Demo::lay_out(dir)?;
    let broker =
        Broker::start().map_err(|e| CliError(format!("start the embedded broker: {e}")))?;
    println!("embedded broker on {}", broker.address());
    demo.write_resources(&broker.address())?;

    let epoch = chrono::Utc::now().timestamp_millis() - records as i64 * 25;
    let filled = tokio::task::block_in_place(|| broker.fill(TOPIC, records, epoch));
    let malformed = filled.map_err(|e| CliError(format!("produce: {e}")))?;
    println!(
        "{records} orders produced to topic \"{TOPIC}\", {malformed} of them malformed, about 1 % days late"
    );

    let (dataset, table) =
        tokio::try_join!(demo.run_killing(&demo.dataset), demo.run(&demo.table))?;
    println!("dataset sink: killed (SIGKILL) after {dataset} committed records, restarted, done");
    println!("table sink: done after {:.1} s", table.as_secs_f64());

    let mut reports = Vec::new();
    for file in [&demo.dataset, &demo.table] {
        for plan in demo.plans(file)? {
            reports.push((plan.clone(), Box::pin(verify::check(&plan, true)).await?));
        }
    }
    drop(broker);
    println!();
    let rows: u64 = reports.iter().map(|(_, report)| report.rows_found).sum();
    for (plan, report) in &reports {
        print_report(plan, report);
    }
    let sample = Box::pin(verify::sample(&reports[0].0, 3)).await?;
    println!("three rows read back:\n{sample}");
    demo.print_next(began.elapsed());

    let missing: u64 = reports.iter().map(|(_, r)| r.missing()).sum();
    let duplicated: u64 = reports.iter().map(|(_, r)| r.duplicated()).sum();
    let dead: u64 = reports.iter().map(|(_, r)| r.rejected).sum();
    // Both sinks read every record.
    let total = records * reports.len() as u64;
    println!(
        "demo: {total} records in, {rows} rows out, {missing} missing, {duplicated} duplicated, {dead} dead-lettered"
    );
    let whole = reports.iter().all(|(_, report)| report.whole())
        && rows + dead == total
        && dead == malformed * reports.len() as u64;
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_report(plan: &Plan, report: &Report) {
    println!("{}", plan.sink);
    println!(
        "  {:>6} partitions  {:>6} files  {:>9} rows",
        report.partitions, report.files, report.rows_found
    );
    for (partition, files, rows) in report.largest.iter().take(4) {
        println!("    {partition:<34} {files:>4} files {rows:>9} rows");
    }
    if report.partitions > 4 {
        println!("    …");
    }
}

impl Demo {
    fn lay_out(dir: &Path) -> Result<Self, CliError> {
        let failed = |what: &str, error: std::io::Error| {
            CliError(format!("{what} {}: {error}", dir.display()))
        };
        if dir.exists() {
            // Only a folder that an earlier demo made may be emptied.
            if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
                && !dir.join(".tidewater-demo").exists()
            {
                return Err(CliError(format!(
                    "{} is not empty and not of an earlier demo (choose another --dir)",
                    dir.display()
                )));
            }
            std::fs::remove_dir_all(dir).map_err(|e| failed("empty", e))?;
        }
        std::fs::create_dir_all(dir).map_err(|e| failed("create", e))?;
        std::fs::write(dir.join(".tidewater-demo"), "").map_err(|e| failed("write into", e))?;
        let dir = dir.canonicalize().map_err(|e| failed("find", e))?;
        Ok(Self {
            dataset: dir.join("orders-dataset.yaml"),
            table: dir.join("orders-table.yaml"),
            dir,
        })
    }

    fn write_resources(&self, brokers: &str) -> Result<(), CliError> {
        let dir = self.dir.display().to_string();
        for (file, template) in [
            (&self.dataset, include_str!("demo/dataset.yaml")),
            (&self.table, include_str!("demo/table.yaml")),
        ] {
            let text = template
                .replace("@BROKERS@", brokers)
                .replace("@DIR@", &dir);
            std::fs::write(file, text)
                .map_err(|e| CliError(format!("write {}: {e}", file.display())))?;
        }
        Ok(())
    }

    fn plans(&self, file: &Path) -> Result<Vec<Plan>, CliError> {
        let resources = super::Resources {
            files: vec![file.to_owned()],
            secrets_dir: None,
        };
        resources.plans()
    }

    fn spawn(&self, file: &Path) -> Result<Child, CliError> {
        let log = self.dir.join("tidewater.log");
        let open = || {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log)
        };
        let failed = |error: std::io::Error| CliError(format!("run {}: {error}", file.display()));
        let binary = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(binary);
        command.args(["run", "--until-caught-up", "-f"]).arg(file);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(open().map_err(failed)?)
            .kill_on_drop(true);
        command.spawn().map_err(failed)
    }

    async fn run(&self, file: &Path) -> Result<Duration, CliError> {
        let began = Instant::now();
        let mut child = self.spawn(file)?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(began.elapsed()),
            Ok(Ok(status)) => Err(CliError(format!(
                "the sink of {} ended with {status}; see {}",
                file.display(),
                self.dir.join("tidewater.log").display()
            ))),
            Ok(Err(error)) => Err(CliError(format!("wait for the sink: {error}"))),
            Err(_) => Err(CliError(format!(
                "the sink of {} did not finish",
                file.display()
            ))),
        }
    }

    /// Runs the sink, kills it once something is committed, and runs it again to the end. Returns what was committed
    /// when it died.
    async fn run_killing(&self, file: &Path) -> Result<i64, CliError> {
        let plan = self.plans(file)?.remove(0);
        let mut child = self.spawn(file)?;
        let deadline = Instant::now() + PATIENCE;
        let mut committed = 0;
        while committed == 0 && Instant::now() < deadline {
            tokio::select! {
                _ = child.wait() => break,
                () = tokio::time::sleep(Duration::from_millis(20)) => committed = verify::committed(&plan).await?,
            }
        }
        // Already gone is as good as killed.
        let _ = child.kill().await;
        let committed = verify::committed(&plan).await?;
        self.run(file).await?;
        Ok(committed)
    }

    fn print_next(&self, took: Duration) {
        let dir = self.dir.display();
        println!("took {:.1} s. Where to look:", took.as_secs_f64());
        println!("  {dir}/lake/            the dataset: Hive partitions of Parquet");
        println!("  {dir}/warehouse/       the Iceberg table (metadata and data)");
        println!(
            "  {dir}/*.yaml           the resources that were run; {dir}/tidewater.log their log"
        );
        println!(
            "Next: put your brokers and bucket into one of the examples/ and run it on a real cluster:"
        );
        println!("  tidewater run -f examples/orders-s3.yaml");
        println!();
    }
}
