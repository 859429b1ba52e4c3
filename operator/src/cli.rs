//! The command line `tidewater-operator`. Each command has its own file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use tidewater_runtime::observe::http::address;

use crate::controller::table::CatalogIdentity;
use crate::settings::Settings;

mod crd;
mod plan;
mod run;

/// Runs KafkaS3Sink and IcebergTable resources in a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "tidewater-operator", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How log lines are written.
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = LogFormat::Human, env = "TIDEWATER_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: a level, or module=level pairs.
    #[arg(long, global = true, default_value = "info", env = "TIDEWATER_LOG")]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one per process")]
enum Command {
    /// Reconcile until SIGTERM.
    Run(Run),
    /// Print the definitions of the kinds.
    Crd,
    /// Show what applying resources would change in the cluster, without changing it.
    Plan(Plan),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Image of the sink runtime, for resources that name none.
    #[arg(long, env = "TIDEWATER_RUNTIME_IMAGE", default_value = concat!("ghcr.io/tidewater/tidewater:", env!("CARGO_PKG_VERSION")))]
    runtime_image: String,
    /// Namespaces whose resources are reconciled, separated by commas. Default: all.
    #[arg(
        long,
        env = "TIDEWATER_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACES"
    )]
    watch_namespaces: Vec<String>,
    /// Make a PodMonitor for each sink; needs the Prometheus operator's definitions.
    #[arg(long, env = "TIDEWATER_POD_MONITORS")]
    pod_monitors: bool,
    /// Label of the PodMonitors; may be given more than once.
    #[arg(long = "pod-monitor-label", value_name = "KEY=VALUE", value_parser = label)]
    pod_monitor_labels: Vec<(String, String)>,
    /// As whom catalogs of AWS are asked for resources that bring no keys: not at all (their pods look after the tables), or
    /// as the operator, where all who write resources may do what it may.
    #[arg(long, env = "TIDEWATER_CATALOGS_IDENTITY", value_enum, default_value_t)]
    catalogs_identity: CatalogIdentity,
}

#[derive(Debug, clap::Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Address of /metrics, /healthz and /readyz; port 0 picks a free one.
    #[arg(
        long,
        visible_alias = "http",
        env = "TIDEWATER_METRICS_ADDRESS",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        value_parser = address
    )]
    metrics_address: SocketAddr,
    /// Address of external.metrics.k8s.io, where the lag of sinks is read by autoscalers. Default: not served.
    #[arg(
        long,
        env = "TIDEWATER_EXTERNAL_METRICS",
        value_name = "ADDRESS",
        value_parser = address,
        requires = "external_metrics_tls"
    )]
    external_metrics: Option<SocketAddr>,
    /// Folder with `tls.crt` and `tls.key` for it.
    #[arg(long, env = "TIDEWATER_EXTERNAL_METRICS_TLS", value_name = "FOLDER")]
    external_metrics_tls: Option<PathBuf>,
    /// Sinks whose lag is looked at at the same time. Each takes a few MiB; with many sinks, or brokers far away, more of
    /// them keep the lag young: it counts as unknown after two minutes.
    #[arg(
        long,
        env = "TIDEWATER_LAG_LOOKS_AT_ONCE",
        default_value_t = 2,
        value_name = "NUMBER",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64)
    )]
    lag_looks_at_once: usize,
    /// Networks of this machine or its neighbourhood that resources may name as brokers, catalogs and stores, separated by
    /// commas. Default: none; loopback and link-local addresses are not connected to.
    #[arg(
        long,
        env = "TIDEWATER_REACH_ALLOWED",
        value_delimiter = ',',
        value_name = "CIDRS"
    )]
    reach_allowed: Vec<IpNet>,
    /// Wait for a Lease before reconciling, so that several operators do not do the same work.
    #[arg(long, env = "TIDEWATER_LEADER_ELECT", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    leader_elect: bool,
    /// Name of the Lease.
    #[arg(
        long,
        env = "TIDEWATER_LEASE_NAME",
        default_value = "tidewater-operator"
    )]
    lease_name: String,
    /// Namespace of the Lease. Default: the operator's own.
    #[arg(long, env = "TIDEWATER_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of this process among the operators. Default: the host's.
    #[arg(long, env = "POD_NAME", hide = true)]
    pod_name: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Plan {
    #[command(flatten)]
    common: Common,
    /// File with KafkaS3Sink and IcebergTable resources; may be given more than once.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Common {
    fn settings(self) -> Settings {
        let labels: BTreeMap<String, String> = self.pod_monitor_labels.into_iter().collect();
        let named = self
            .watch_namespaces
            .into_iter()
            .map(|name| name.trim().to_owned());
        Settings {
            runtime_image: self.runtime_image,
            namespaces: named.filter(|name| !name.is_empty()).collect(),
            pod_monitors: self.pod_monitors.then_some(labels),
            catalog_identity: self.catalogs_identity,
        }
    }
}

/// The process: parses the command line, runs the command, prints an error in one line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logs(arguments.log_format, &arguments.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!(error).context("start the runtime")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Run(run) => Box::pin(run::run(run)).await,
            Command::Crd => crd::print(),
            Command::Plan(plan) => Box::pin(plan::plan(plan)).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn logs(format: LogFormat, what: &str) {
    let filter = EnvFilter::try_new(what).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Human => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second call fails.
    drop(installed);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_operator_elects_a_leader_unless_told_not_to() {
        let run = |arguments: &[&str]| {
            let all = [&["tidewater-operator", "run"], arguments].concat();
            match Arguments::try_parse_from(all).unwrap().command {
                Command::Run(run) => run,
                _ => unreachable!(),
            }
        };
        assert!(run(&[]).leader_elect);
        assert!(run(&["--leader-elect"]).leader_elect);
        assert!(!run(&["--leader-elect=false"]).leader_elect);
        assert!(run(&[]).metrics_address.ip().is_loopback());
        let settings = run(&[
            "--watch-namespaces=a, b,",
            "--pod-monitors",
            "--pod-monitor-label=a=b=c",
        ])
        .common
        .settings();
        assert_eq!(settings.namespaces, ["a", "b"]);
        assert_eq!(settings.pod_monitors.unwrap()["a"], "b=c");
        assert_eq!(
            run(&["--pod-monitor-label=a=b"])
                .common
                .settings()
                .pod_monitors,
            None
        );
    }
}
