//! `lab run -- <command>`, `lab up`, `lab down`: the servers around a command, or in the background for work by hand, with
//! a Kubernetes cluster or without. In the background the cluster has the operator, installed from the chart, and there are
//! a topic and a bucket to begin with.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidewater_e2e::{Cluster, Lab, Topic, await_until, orders_of_countries};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str =
    "usage: lab run [--cluster] -- <command> [args]   start the servers, run the command, stop the servers
       lab up [--cluster]                       start the servers in the background
       lab down                                 stop them
       lab env                                  print the variables of the running servers
       lab orders <n>                           produce n orders to the topic 'orders'

       --cluster: a Kubernetes cluster as well; a command does not wait for it, and finds no operator in it";

const CLUSTER: &str = "--cluster";
/// To begin with, in the background.
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const BUCKET: &str = "lake";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", "--", program, rest @ ..] => Box::pin(run(false, program, rest)).await,
        ["run", CLUSTER, "--", program, rest @ ..] => Box::pin(run(true, program, rest)).await,
        ["up"] => Box::pin(up(false)).await,
        ["up", CLUSTER] => Box::pin(up(true)).await,
        ["serve", file] => Box::pin(serve(Path::new(file), false)).await,
        ["serve", file, CLUSTER] => Box::pin(serve(Path::new(file), true)).await,
        ["down"] => down().await,
        ["env"] => {
            Box::pin(print_environment(&state_file())).await?;
            Ok(ExitCode::SUCCESS)
        }
        ["orders", n] => {
            let n = n.parse().context("how many orders")?;
            Box::pin(produce(n)).await
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

/// The endpoints of the lab in the background: one per checkout, unless the shell has another.
fn state_file() -> PathBuf {
    std::env::var_os("TIDEWATER_LAB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab/endpoints.json"),
        PathBuf::from,
    )
}

async fn run(with_cluster: bool, program: &str, args: &[&str]) -> Result<ExitCode> {
    let mut lab = Box::pin(Lab::start()).await?;
    let cluster = with_cluster.then(|| lab.promise_cluster());
    let file = lab.endpoints().folder.join("endpoints.json");
    write(&lab, &file)?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Ctrl-C reaches the command through the terminal; here it must only not end us before the command.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env("TIDEWATER_LAB", &file)
        .env("TIDEWATER_TEST_S3", lab.s3_setting())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start '{program}'"))?;
    // Beside the command, which does not wait for it. A failure is told to those who ask for the cluster.
    let mut starting = Box::pin(async {
        match &cluster {
            Some(folder) => Cluster::start_and_announce(folder).await.ok(),
            None => None,
        }
    });
    let mut started = None;
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status?),
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => {}
            cluster = &mut starting, if started.is_none() => started = Some(cluster),
        }
    };
    if status.is_none() {
        child.kill().await?;
    }
    // With its pods, before what they use.
    drop(starting);
    drop(started);
    let Some(status) = status else {
        lab.stop(false)?;
        return Ok(ExitCode::from(143));
    };
    if !status.success() {
        eprintln!(
            "lab: logs are in {} until the next lab starts",
            lab.endpoints().folder.display()
        );
    }
    lab.stop(!status.success())?;
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}

async fn up(with_cluster: bool) -> Result<ExitCode> {
    let file = state_file();
    let folder = file.parent().context("folder of the state file")?;
    fs::create_dir_all(folder)?;
    if let Some(pid) = running(&file) {
        eprintln!("lab: running already, pid {pid}");
        if with_cluster && Lab::attach(&file)?.endpoints().cluster.is_none() {
            bail!("it has no cluster: stop it first, by 'lab down'");
        }
        return Box::pin(ready(&file)).await;
    }
    let log_path = folder.join("lab.log");
    let log = File::create(&log_path)?;
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(&file)
        .args(with_cluster.then_some(CLUSTER))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let mut ended = None;
    // Long, because a first start installs the servers.
    await_until(Duration::from_secs(1800), "lab up", async || {
        ended = server.try_wait()?;
        Ok(ended.is_some() || running(&file).is_some())
    })
    .await?;
    if ended.is_some() {
        bail!(
            "the servers did not start:\n{}",
            fs::read_to_string(&log_path)?
        );
    }
    Box::pin(ready(&file)).await
}

/// Brings in what one begins with, and prints what to export and what to do next. Twice is as good as once.
async fn ready(file: &Path) -> Result<ExitCode> {
    let lab = Lab::attach(file)?;
    lab.make_bucket(BUCKET).await?;
    Topic::ensure(lab.kafka(), TOPIC, PARTITIONS).await?;
    let cluster = lab.endpoints().cluster.is_some();
    if cluster {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tidewater");
        let values = serde_json::json!({});
        let cluster = Box::pin(lab.cluster()).await?;
        // What somebody has set meanwhile stays.
        let there = ["status", "tidewater", "--namespace=tidewater-system"];
        if Box::pin(cluster.helm(&there)).await.is_err() {
            Box::pin(cluster.helm_install("tidewater", "tidewater-system", &chart, &values))
                .await?;
        }
    }
    Box::pin(print_environment(file)).await?;
    println!(
        "# Topic '{TOPIC}' and bucket '{BUCKET}' are there. lab orders 100000 produces records."
    );
    if cluster {
        println!("# The operator is installed: release tidewater in namespace tidewater-system.");
        println!(
            "# Next: give these lines to a shell, then the blocks of README.md, \"In Kubernetes\"."
        );
        println!("#   eval \"$(make -s cluster)\"");
        println!("#   kubectl -n tidewater-system get pods");
    }
    Ok(ExitCode::SUCCESS)
}

async fn produce(n: u64) -> Result<ExitCode> {
    let lab = Lab::attach(&state_file()).context("the lab does not run: make lab")?;
    Topic::ensure(lab.kafka(), TOPIC, PARTITIONS).await?;
    let topic = Topic::existing(lab.kafka(), TOPIC);
    topic
        .produce(orders_of_countries(n, rand::random(), 10))
        .await?;
    println!("{n} orders produced to topic '{TOPIC}'");
    Ok(ExitCode::SUCCESS)
}

async fn serve(file: &Path, with_cluster: bool) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut lab = Box::pin(Lab::start()).await?;
    let cluster = if with_cluster {
        let folder = lab.promise_cluster();
        Some(Box::pin(Cluster::start_and_announce(&folder)).await?)
    } else {
        None
    };
    write(&lab, file)?;
    terminate.recv().await;
    fs::remove_file(file)?;
    drop(cluster);
    lab.stop(false)?;
    Ok(ExitCode::SUCCESS)
}

async fn down() -> Result<ExitCode> {
    let file = state_file();
    let Some(pid) = running(&file) else {
        eprintln!("lab: not running");
        return Ok(ExitCode::SUCCESS);
    };
    Command::new("kill").arg(pid.to_string()).status()?;
    await_until(Duration::from_secs(60), "lab down", async || {
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// The process that holds the lab of this file, if it lives.
fn running(file: &Path) -> Option<u32> {
    let pid = Lab::attach(file).ok()?.endpoints().pid;
    let name = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // Not a stranger who got the number since.
    name.split(|byte| *byte == 0)
        .any(|word| word == b"serve")
        .then_some(pid)
}

fn write(lab: &Lab, file: &Path) -> Result<()> {
    let draft = file.with_extension("draft");
    fs::write(&draft, serde_json::to_vec_pretty(lab.endpoints())?)?;
    fs::rename(&draft, file)?;
    Ok(())
}

async fn print_environment(file: &Path) -> Result<()> {
    let lab = Lab::attach(file)?;
    println!("export TIDEWATER_LAB={}", fs::canonicalize(file)?.display());
    for (key, value) in lab.environment() {
        println!("export {key}={value}");
    }
    if lab.endpoints().cluster.is_some() {
        for (key, value) in Box::pin(lab.cluster()).await?.environment() {
            println!("export {key}={value}");
        }
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the executable has no folder")?;
    println!("export PATH={}:$PATH", folder.display());
    Ok(())
}
