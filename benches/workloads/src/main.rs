//! `workloads`: the benchmark's input, its raw limit and its workloads on `kstreams`.
//!
//! Driven by `scripts/bench.sh`, one process per measurement, because peak memory belongs to a process. Each
//! subcommand but `table` prints one JSON line. Order to read: `data` (what is processed), `rules` (what is computed), `events`
//! and `avro` (how it is read and written), `topologies`, `run`, `passthrough` (the limit), `verify`.

mod assignment;
mod avro;
mod collect;
mod data;
mod events;
mod generate;
mod hash;
mod kafka;
mod overhead;
mod passthrough;
mod random;
mod recovery;
mod restore;
mod rules;
mod run;
mod table;
mod topologies;
mod usage;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// The processing guarantee of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guarantee {
    /// Exactly once.
    Eos,
    /// At least once.
    Alo,
}

impl Guarantee {
    fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Alo => "alo",
        }
    }
}

/// Data, limit and workloads of the benchmark; every subcommand but `table` prints one JSON line.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    cluster: kafka::Cluster,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates and fills the input topics.
    Generate(generate::Size),
    /// Compares the input topics with the data set, record by record.
    CheckInput(generate::Size),
    /// Copies request-events with librdkafka alone.
    Passthrough {
        /// The processing guarantee.
        guarantee: Guarantee,
        /// The topic to create and fill.
        #[arg(long)]
        output: String,
    },
    /// Runs a workload on the engine.
    Run(run::Run),
    /// Checks the output of a run over the full data set.
    Verify(verify::Run),
    /// Fills a changelog to be restored.
    RestoreFill(restore::Changelog),
    /// Restores it on the engine, into an empty store.
    Restore(restore::Changelog),
    /// Kills one of two processes, and takes the time until results of its partitions come again.
    Recovery(recovery::Run),
    /// One of the two processes.
    #[command(hide = true)]
    RecoveryMember(recovery::Member),
    /// Takes the spans of traced runs, until it is killed; prints its address.
    Collect,
    /// Prints what tracing costs, from a file of result lines.
    Overhead {
        /// One JSON line for each run, with and without tracing in turn.
        results: PathBuf,
    },
    /// Prints medians of a file of result lines as a Markdown table.
    Table {
        /// One JSON line for each run.
        results: PathBuf,
    },
}

fn main() -> ExitCode {
    // The engine's warnings say why a run failed or was slow; stdout is for results. rust-rdkafka's own log takes the end of
    // a partition for an error.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,rdkafka=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&Cli::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        // The chain on one line, without a stack trace: what went wrong is outside this program.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<String> {
    let cluster = &cli.cluster;
    let line = match &cli.command {
        Command::Generate(size) => generate::fill(cluster, *size),
        Command::CheckInput(size) => generate::check(cluster, *size),
        Command::Passthrough { guarantee, output } => passthrough::run(cluster, *guarantee, output),
        Command::Run(run) => run::run(cluster, run),
        Command::Verify(run) => verify::verify(cluster, run),
        Command::RestoreFill(changelog) => restore::fill(cluster, changelog),
        Command::Restore(changelog) => restore::run(cluster, changelog),
        Command::Recovery(run) => recovery::run(cluster, run),
        Command::RecoveryMember(member) => recovery::member(cluster, member),
        Command::Table { results } => return table::print(results),
        Command::Overhead { results } => return overhead::print(results),
        Command::Collect => return collect::run().map(|()| String::new()),
    }?;
    Ok(line.to_string())
}
