//! The command line: what may be said, and nothing of what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{acls, ask, clickhouse, dlq, doctor, reference, run, schemas, send, topics};
use crate::dev::DevArgs;
use crate::simulate::SimulateArgs;

/// The stream processor of a service aggregator.
#[derive(Debug, Parser)]
#[command(name = "aggregator", version, about, max_term_width = 100)]
pub struct Cli {
    /// Settings over the defaults.
    #[command(flatten)]
    pub layers: LayerArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where settings come from; the environment (`KAFKA_…`) lies between files and flags.
#[derive(Debug, Default, Args)]
pub struct LayerArgs {
    /// File with settings that differ from the defaults; repeatable, later ones win
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Vec<PathBuf>,
    /// One setting, such as kafka.state_dir=state; repeatable. `aggregator config` lists them
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, global = true)]
    pub set: Vec<(String, String)>,
    /// Addresses of brokers; the same as --set kafka.bootstrap_servers=…
    #[arg(long, value_name = "HOST:PORT,…", global = true)]
    pub bootstrap_servers: Option<String>,
    /// Addresses of the registry; the same as --set schema_registry.url=…
    #[arg(long, value_name = "URL,…", global = true)]
    pub schema_registry_url: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run topologies until SIGTERM or Ctrl-C, all of them where none is named
    Run(run::RunArgs),
    /// Run everything in this process and in memory, with simulated traffic and a live view
    Dev(DevArgs),
    /// Send simulated traffic to a cluster
    Simulate(SimulateArgs),
    /// Write one event by hand, as a service would
    Send(send::SendArgs),
    /// Create the topics, show how the cluster differs from them, or list them
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Check the Avro contracts, push them to the registry, or list what is registered
    #[command(subcommand)]
    Schemas(schemas::SchemasCommand),
    /// Look at everything that the application needs, and say what to do; exit code 1 where something fails
    Doctor(doctor::DoctorArgs),
    /// Look at dead letters
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Compare the directory of managers with a file, and write it
    #[command(subcommand)]
    Managers(reference::ReferenceCommand),
    /// Compare the contacts with a file, and write them
    #[command(subcommand)]
    Contacts(reference::ReferenceCommand),
    /// Make the tables and views of audit events
    #[command(subcommand)]
    Clickhouse(clickhouse::ClickHouseCommand),
    /// Ask the running application about a request, a manager or a contractor
    #[command(subcommand)]
    Get(ask::GetCommand),
    /// List the requests that no manager has taken yet, most urgent first
    Waiting(ask::WaitingArgs),
    /// List the documents of finished work
    Paperwork(ask::PaperworkArgs),
    /// Print the rights that topologies need on a cluster with access control
    Acls(acls::AclsArgs),
    /// Print the graph of a topology, as Kafka Streams prints it
    Describe {
        /// Its name; all where none is given
        topology: Option<String>,
    },
    /// Print the reference page of all metrics, as docs/metrics.md has it
    Metrics,
    /// Print the settings in effect and where each came from; secrets are hidden
    Config,
}

impl LayerArgs {
    /// The flags as keys and values, last one wins.
    pub fn flags(&self) -> Vec<(String, String)> {
        let mut flags = Vec::new();
        for (key, value) in [
            ("kafka.bootstrap_servers", &self.bootstrap_servers),
            ("schema_registry.url", &self.schema_registry_url),
        ] {
            flags.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        flags.extend(self.set.iter().cloned());
        flags
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.trim().is_empty());
    let (key, value) = pair.ok_or("wanted KEY=VALUE, such as log.level=debug")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_keys() {
        let line = ["aggregator", "config", "--set", "a.b=c=d", "--bootstrap-servers", "x:1"];
        let cli = Cli::try_parse_from(line).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            cli.layers.flags(),
            [pair("kafka.bootstrap_servers", "x:1"), pair("a.b", "c=d")]
        );
        assert!(Cli::try_parse_from(["aggregator", "config", "--set", "novalue"]).is_err());
    }
}
