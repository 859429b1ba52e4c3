//! `make bench`: how many records a second and how much CPU and memory a sink takes, beside a control that only reads.
//!
//! Each run is a process of its own, started fresh with a group and a destination that nobody has used, and counts only
//! when DuckDB finds every row. The broker, the stores and the readers take part in the use of the machine's cores: CPU
//! seconds are the robust figure.

mod against;
mod batches;
mod case;
mod commits;
mod control;
mod operator;
mod outcome;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use case::{Case, Workload};
use control::Consumed;
use report::Figures;
use serde_json::Value;
use tidewater_e2e::{
    Lab, Launch, Topic, Usage, orders_of_countries, run_measured, tidewater_binary,
};

const USAGE: &str = "usage: bench [--records N] [--only CASE]... [--against PROGRAM [--rounds N]]
       bench operator          many resources in a cluster of its own
       bench many-commits      a table with a thousand commits of 200 partitions
       N: records of each topic, else BENCH_RECORDS, else 5000000
       PROGRAM: another build of tidewater, which runs each case in turn with this one, N times (3)
       CASE: s3sink-local, s3sink-s3, iceberg-local, iceberg-rest, many-paths;
             or control, control-many-paths, which run anyway when a case needs them";

const SEED: u64 = 42;
/// Records of a run that is not measured.
const WARM_UP: u64 = 1000;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        // Both are started by the bench itself.
        ["measure", report, program, rest @ ..] => measure(Path::new(report), program, rest),
        ["control", bootstrap, topic, records] => {
            let found = control::consume(bootstrap, topic, records.parse()?)?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(ExitCode::SUCCESS)
        }
        ["operator"] => tokio::runtime::Runtime::new()?
            .block_on(Box::pin(operator::bench()))
            .map(|holds| ExitCode::from(u8::from(!holds))),
        ["many-commits"] => tokio::runtime::Runtime::new()?
            .block_on(Box::pin(commits::bench()))
            .map(|holds| ExitCode::from(u8::from(!holds))),
        words => match Options::parse(words) {
            Ok(options) => tokio::runtime::Runtime::new()?.block_on(Box::pin(bench(&options))),
            Err(problem) => {
                eprintln!("{problem}\n{USAGE}");
                Ok(ExitCode::from(2))
            }
        },
    }
}

/// Runs a command to its end and writes what it used: a small process between the bench and what it measures.
fn measure(report: &Path, program: &str, args: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new(program);
    command.args(args);
    let (status, usage) = run_measured(command)?;
    std::fs::write(report, serde_json::to_vec(&usage)?)?;
    ensure!(status.success(), "'{program}' ended with {status}");
    Ok(ExitCode::SUCCESS)
}

struct Options {
    records: u64,
    /// Empty when only controls are asked for.
    cases: Vec<Case>,
    workloads: Vec<Workload>,
    /// Another build of the program, to be held beside this one.
    against: Option<PathBuf>,
    /// How often each of the two runs each case.
    rounds: u32,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Options> {
        let mut records = std::env::var("BENCH_RECORDS").ok();
        let (mut only, mut against, mut rounds) = (Vec::new(), None, 3);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} what?"));
            match *word {
                "--records" => records = Some((*value()?).to_owned()),
                "--only" => only.push(*value()?),
                "--against" => against = Some(PathBuf::from(*value()?)),
                "--rounds" => rounds = value()?.parse().context("rounds")?,
                other => bail!("unknown argument '{other}'"),
            }
        }
        let cases: Vec<Case> = if only.is_empty() {
            Case::ALL.to_vec()
        } else {
            only.iter()
                .filter(|name| {
                    Workload::ALL
                        .iter()
                        .all(|workload| workload.control() != **name)
                })
                .map(|name| Case::named(name).ok_or_else(|| anyhow!("unknown case '{name}'")))
                .collect::<Result<_>>()?
        };
        let mut workloads = Workload::ALL.to_vec();
        workloads.retain(|workload| {
            cases.iter().any(|case| case.workload() == *workload)
                || only.contains(&workload.control())
        });
        let records = records.map_or(Ok(5_000_000), |records| {
            records.replace('_', "").parse().context("records")
        })?;
        ensure!(records > 0 && rounds > 0, "no records, or no rounds");
        Ok(Options {
            records,
            cases,
            workloads,
            against,
            rounds,
        })
    }
}

async fn bench(options: &Options) -> Result<ExitCode> {
    let lab = Lab::shared().await?;
    // A load of other work makes records a second meaningless.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "bench: {} records a topic, {} cores, load before {}",
        options.records,
        std::thread::available_parallelism()?,
        load.split(' ').next().unwrap_or("unknown"),
    );
    let mut all = Vec::new();
    let mut failed = false;
    for workload in &options.workloads {
        let topic = Box::pin(load_topic(lab, *workload, options.records)).await?;
        let (control, consumed) = Box::pin(run_control(lab, *workload, &topic, options)).await?;
        let rate = control.records_per_s;
        announce(&mut all, control)?;
        for case in &options.cases {
            if case.workload() != *workload {
                continue;
            }
            let found = match &options.against {
                None => {
                    let program = tidewater_binary()?;
                    let run = run_case(lab, *case, &program, &topic, &consumed, rate);
                    Box::pin(run).await.map(|figures| vec![figures])
                }
                Some(other) => {
                    let programs = [other.clone(), tidewater_binary()?];
                    let run = async |program: PathBuf| {
                        run_case(lab, *case, &program, &topic, &consumed, rate).await
                    };
                    Box::pin(against::rounds(options.rounds, programs, run)).await
                }
            };
            match found {
                Ok(found) => found
                    .into_iter()
                    .try_for_each(|figures| announce(&mut all, figures))?,
                Err(error) => {
                    failed = true;
                    eprintln!("bench: {}: no figure: {error:#}", case.name());
                }
            }
        }
    }
    eprint!("\n{}", report::table(&all));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn announce(all: &mut Vec<Figures>, figures: Figures) -> Result<()> {
    println!("{}", serde_json::to_string(&figures)?);
    all.push(figures);
    Ok(())
}

async fn load_topic(lab: &Lab, workload: Workload, records: u64) -> Result<Topic> {
    let topic = lab.topic("bench", workload.partitions()).await?;
    let started = Instant::now();
    topic
        .produce(orders_of_countries(records, SEED, workload.countries()))
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "bench: loaded {} partitions in {seconds:.1} s, {:.0} records/s",
        workload.partitions(),
        records as f64 / seconds
    );
    Ok(topic)
}

async fn run_control(
    lab: &Lab,
    workload: Workload,
    topic: &Topic,
    options: &Options,
) -> Result<(Figures, Consumed)> {
    let name = workload.control();
    let records = options.records.to_string();
    let own = std::env::current_exe()?;
    let args = ["control", lab.kafka(), topic.name(), &records];
    let run = Run::of(lab, name, &own, &args, options.records).await?;
    let last = run.log.lines().last().unwrap_or_default();
    let consumed: Consumed =
        serde_json::from_str(last).with_context(|| format!("the control's last line: '{last}'"))?;
    ensure!(
        consumed.records == options.records,
        "the topic holds {} records, not {}",
        consumed.records,
        options.records
    );
    let mut figures = Figures::new(name, &run.usage, consumed.records, consumed.bytes, None);
    figures.steady_records_per_s = Some((consumed.records as f64 / consumed.seconds).round());
    Ok((figures, consumed))
}

async fn run_case(
    lab: &Lab,
    case: Case,
    program: &Path,
    topic: &Topic,
    consumed: &Consumed,
    control: f64,
) -> Result<Figures> {
    let destination = case.destination(lab).await?;
    if case == Case::IcebergRest {
        // The catalog is a JVM that has seen no table yet: what it needs to compile itself is not the sink's time.
        let few = lab.topic("bench", 1).await?;
        few.produce(orders_of_countries(WARM_UP, SEED, 1)).await?;
        let warm_up = case.destination(lab).await?;
        Box::pin(run_sink(lab, case, program, &few, &warm_up, WARM_UP)).await?;
    }
    let run = run_sink(lab, case, program, topic, &destination, consumed.records);
    let run = Box::pin(run).await?;

    let files = outcome::data_files(lab, &destination).await?;
    let rows = Box::pin(outcome::check(
        lab,
        case,
        &destination,
        &files,
        consumed.records,
    ))
    .await?;
    let sizes = files.iter().map(|(_, size)| *size).collect();
    let mut figures = Figures::new(
        case.name(),
        &run.usage,
        consumed.records,
        consumed.bytes,
        Some(control),
    )
    .with_files(sizes)
    .with_rss_limit(case.rss_limit());
    figures.rows = Some(rows);
    figures.commits = run.commits();
    Ok(figures)
}

/// The sink of a case, from the topic's start to its end.
async fn run_sink(
    lab: &Lab,
    case: Case,
    program: &Path,
    topic: &Topic,
    destination: &case::Destination,
    records: u64,
) -> Result<Run> {
    let folder = lab.scratch()?;
    let resource = folder.join("resource.yaml");
    std::fs::write(&resource, case.resource(lab, topic, destination))?;
    let resource = resource.display().to_string();
    let args = ["run", "-f", &resource, "--until-caught-up"];
    Run::of(lab, case.name(), program, &args, records).await
}

/// A measured process that has ended well.
struct Run {
    usage: Usage,
    log: String,
}

impl Run {
    async fn of(lab: &Lab, name: &str, program: &Path, args: &[&str], records: u64) -> Result<Run> {
        let folder = lab.scratch()?;
        let report = folder.join("usage.json");
        let launch = Launch::new(name, std::env::current_exe()?, &folder)
            .arg("measure")
            .arg(&report)
            .arg(program)
            .args(args);
        let process = lab
            .environment()
            .into_iter()
            .fold(launch, |launch, (key, value)| launch.env(key, value))
            .start()?;
        // A twentieth of the slowest rate that would be worth a bench.
        let deadline = Duration::from_secs(120 + records / 5_000);
        let status = process.wait_exit(deadline).await?;
        if !status.is_some_and(|status| status.success()) {
            bail!("'{name}' failed:\n{}", process.log_tail());
        }
        Ok(Run {
            usage: serde_json::from_slice(&std::fs::read(&report)?)?,
            log: process.log(),
        })
    }

    /// Commits, as the sink's last words tell.
    fn commits(&self) -> Option<u64> {
        self.log
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == "summary")
            .and_then(|line| line["commits"].as_u64())
    }
}
