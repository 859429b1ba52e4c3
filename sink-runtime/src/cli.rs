//! The command line `tidewater`. Arguments are resolved once into typed plans; each command has its own file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cgroup;
use crate::errors::{Classified, OneLine, class};
use crate::observe::http::address;
use crate::plan::{Container, NoSecrets, Plan, SecretFolder};

mod demo;
mod ledger;
mod run;
mod show;
mod status;
mod verify;

/// Kafka topics into S3 Parquet and Apache Iceberg tables, exactly once.
#[derive(Debug, Parser)]
#[command(name = "tidewater", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Resources {
    /// File with KafkaS3Sink and IcebergTable resources (and Secrets they name); may be given more than once.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder of secrets: the value of key K of secret S is the content of DIR/S/K.
    #[arg(long, value_name = "DIR", env = "TIDEWATER_SECRETS_DIR")]
    secrets_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the resources until SIGTERM.
    Run {
        #[command(flatten)]
        resources: Resources,
        /// Stop with exit code 0 once every partition is committed up to where it ended at the start.
        #[arg(long)]
        until_caught_up: bool,
        /// Address of /metrics, /status, /healthz and /readyz; port 0 picks a free one.
        #[arg(long, default_value = "127.0.0.1:0", env = "TIDEWATER_HTTP", value_parser = address)]
        http: SocketAddr,
    },
    /// Check the resources without connecting to anything.
    Validate {
        #[command(flatten)]
        resources: Resources,
    },
    /// Compare topic and destination: every offset and every value. Reads the whole topic and every file.
    ///
    /// Needs metadata columns for partition and offset; without them rows are counted. Records are decoded again as the
    /// resource says now, up to where the ledger stands, and their values are held against the columns of their names
    /// (as hashes of 32 bits). Says what is missing, there twice, or other than it was sent, and in which column.
    /// Takes about as long as reading the topic and the files takes, and some 256 MiB of memory beside the largest file.
    /// Changes nothing. Exit code 0: all is as it was sent; 1: it is not, or could not be compared.
    Verify {
        #[command(flatten)]
        resources: Resources,
        /// Compare offsets, not values: quicker, and right also after a field's type or encoding was changed.
        #[arg(long)]
        offsets_only: bool,
    },
    /// Show ledger and lag of the resources.
    Status {
        #[command(flatten)]
        resources: Resources,
    },
    /// Show the ledger of a sink, or move it by hand: past a record, back, to another name.
    ///
    /// What would become of it is told; with --apply it is done, by the same compare-and-swap as any commit. The sink has
    /// to stand still (spec.paused: true) or to be fenced (--fence).
    Ledger {
        #[command(subcommand)]
        what: ledger::What,
    },
    /// See it work, with an embedded broker and a local warehouse; needs nothing.
    Demo {
        /// Folder for the warehouse; emptied first.
        #[arg(long, default_value = "demo-data")]
        dir: PathBuf,
        /// Orders to produce.
        #[arg(long, default_value_t = 300_000)]
        records: u64,
    },
}

/// The process: parses the command line, runs the command, prints an error in one line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    crate::observe::logs::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("start the runtime: {error}")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Run {
                resources,
                until_caught_up,
                http,
            } => Box::pin(run::run(resources.plans()?, until_caught_up, http)).await,
            Command::Validate { resources } => Ok(show::validate(&resources.plans()?)),
            Command::Verify {
                resources,
                offsets_only,
            } => Box::pin(verify::verify(resources.plans()?, offsets_only)).await,
            Command::Status { resources } => Box::pin(status::status(resources.plans()?)).await,
            Command::Ledger { what } => Box::pin(ledger::ledger(what)).await,
            Command::Demo { dir, records } => Box::pin(demo::demo(&dir, records)).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match result {
        Ok(code) => code,
        Err(CliError(message)) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Names the file that keeps a process's last words, as a cluster reads them: `<reason>: <message>`.
const LAST_WORDS: &str = "TIDEWATER_TERMINATION_LOG";

/// Leaves why the process ends where somebody asked for it. Whoever cannot write there loses nothing but that.
fn last_words(reason: &str, message: &str) {
    let Some(file) = std::env::var_os(LAST_WORDS) else {
        return;
    };
    if let Err(error) = std::fs::write(&file, format!("{reason}: {message}\n")) {
        tracing::warn!(file = %PathBuf::from(file).display(), %error, "last words not written");
    }
}

/// One line (or one a problem): cause and remedy.
#[derive(Debug)]
struct CliError(String);

impl<E: Classified + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        Self(format!("{} ({})", OneLine(&error), error.class().advice))
    }
}

impl Resources {
    fn plans(&self) -> Result<Vec<Plan>, CliError> {
        let mut text = String::new();
        for file in &self.files {
            let read = |path: &Path| std::fs::read_to_string(path);
            let content = read(file)
                .map_err(|error| CliError(format!("read {}: {error}", file.display())))?;
            text.push_str("---\n");
            text.push_str(&content);
            text.push('\n');
        }
        let container = Container::new(cgroup::own_memory_limit());
        let plans = match &self.secrets_dir {
            Some(folder) => Plan::from_yaml_in(&text, &SecretFolder::new(folder), container),
            None => Plan::from_yaml_in(&text, &NoSecrets, container),
        };
        plans.map_err(|problems| {
            let problems = problems.to_string();
            last_words(class::INVALID_SPEC.reason, &problems);
            CliError(problems)
        })
    }
}
