//! What the commands do. Each returns what it has to say; `main` prints it.

pub mod acls;
pub mod ask;
pub mod clickhouse;
pub mod dlq;
pub mod doctor;
mod letter;
pub mod metrics;
pub mod reference;
pub mod run;
pub mod schemas;
pub mod send;
pub mod topics;

use std::sync::Arc;

use kstreams::kafka::KafkaClients as _;
use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::serdes::{HttpRegistry, SchemaCache, SchemaRegistry};
use kstreams::{Error, ErrorKind, Result, SystemClock};

use crate::cli::{Cli, Command};
use crate::schemas::WatchedRegistry;
use crate::settings::{Loaded, LogSettings, Origin, Settings};
use crate::{catalog, dev, events, logging, simulate};

/// What a command has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Whether all is as it should be; decides the exit code.
    pub good: bool,
}

impl Report {
    fn good(text: String) -> Self {
        Self { text, good: true }
    }
}

/// Does what the command line says.
///
/// # Errors
/// The first thing that is in the way: what was found, what is wanted, what to do.
pub fn execute(
    cli: &Cli,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Report> {
    let loaded = Loaded::load(&cli.layers.config, environment, &cli.layers.flags())?;
    let settings = &loaded.settings;
    logging::init(&log_settings(&cli.command, &loaded), loaded.mask())?;
    let done = do_command(cli, &loaded);
    done.map_err(|error| about_rights(error, settings)).map_err(|error| loaded.mask().error(error))
}

fn do_command(cli: &Cli, loaded: &Loaded) -> Result<Report> {
    let settings = &loaded.settings;
    let nothing = |()| Report::good(String::new());
    match &cli.command {
        Command::Run(args) => run::run(args, settings).map(nothing),
        Command::Dev(args) => dev::run(args, settings.clone()).map(nothing),
        Command::Simulate(args) => simulate::run(args, settings).map(nothing),
        Command::Send(args) => send::execute(args, settings),
        Command::Topics(command) => topics::execute(command, settings),
        Command::Schemas(command) => schemas::execute(command, settings),
        Command::Doctor(args) => doctor::execute(args, settings),
        Command::Dlq(command) => dlq::execute(command, settings),
        Command::Managers(command) => reference::managers(command, settings),
        Command::Contacts(command) => reference::contacts(command, settings),
        Command::Clickhouse(command) => clickhouse::execute(command, settings),
        Command::Get(command) => ask::get(command, settings),
        Command::Waiting(args) => ask::waiting(args, settings),
        Command::Paperwork(args) => ask::paperwork(args, settings),
        Command::Acls(args) => acls::execute(args, settings),
        Command::Describe { topology } => describe(topology.as_ref(), settings),
        Command::Metrics => Ok(Report::good(metrics::page())),
        Command::Config => Ok(Report::good(loaded.show())),
    }
}

/// The local mode has a screen, which lines of the log would tear, and counts what is unexpected there.
fn log_settings(command: &Command, loaded: &Loaded) -> LogSettings {
    let mut log = loaded.settings.log.clone();
    let is_default = loaded.values.get("log.level").is_none_or(|(_, o)| *o == Origin::Default);
    if matches!(command, Command::Dev(_)) && is_default {
        "error".clone_into(&mut log.level);
    }
    log
}

fn describe(topology: Option<&String>, settings: &Settings) -> Result<Report> {
    let names: Vec<String> = topology.cloned().into_iter().collect();
    let schemas = memory_schemas()?;
    let mut texts = Vec::new();
    for spec in catalog::select(&names)? {
        texts.push((spec.build)(settings, &schemas)?.describe());
    }
    Ok(Report::good(texts.join("\n")))
}

/// Clients for looking at the cluster.
fn clients(settings: &Settings) -> Result<LibrdkafkaClients> {
    LibrdkafkaClients::new(settings.client_settings("aggregator-tools"))
}

fn registry(settings: &Settings) -> Result<Arc<dyn SchemaRegistry>> {
    let registry = HttpRegistry::new(settings.registry_config())?;
    Ok(Arc::new(WatchedRegistry::new(registry)))
}

fn schema_cache(settings: &Settings) -> Result<Arc<SchemaCache>> {
    Ok(SchemaCache::new(registry(settings)?, Arc::new(SystemClock::default())))
}

/// Checks that topics are there before something is written to them: a producer would wait for them in silence.
///
/// # Errors
/// `Invalid` for one that is missing, `Fatal` where the brokers refuse us, `Retriable` where none answers.
pub(crate) fn check_topics(settings: &Settings, topics: &[&str]) -> Result<()> {
    let found = clients(settings)?.admin()?.describe_topics(topics, settings.request_timeout())?;
    match topics.iter().find(|topic| !found.contains_key(**topic)) {
        None => Ok(()),
        Some(missing) => Err(Error::invalid(format!(
            "found no topic \"{missing}\", wanted it to write to; run `aggregator topics apply`"
        ))),
    }
}

/// For commands that need the graph but no registry.
pub(crate) fn memory_schemas() -> Result<Arc<SchemaCache>> {
    let registry = Arc::new(events::memory_registry()?);
    Ok(SchemaCache::new(registry, Arc::new(SystemClock::default())))
}

/// Says where the rights can be had that a broker misses. Its code stands in the message, by librdkafka's name.
fn about_rights(error: Error, settings: &Settings) -> Error {
    if !error.message().contains("AuthorizationFailed") {
        return error;
    }
    let user = settings.client.get("sasl.username").map_or("NAME", String::as_str);
    let advice =
        format!("; `aggregator acls --principal User:{user}` prints those that are needed");
    Error::new(error.kind(), error.message().to_owned() + &advice)
}

/// Says what to do about a registry that does not answer.
fn about_registry(error: Error, settings: &Settings) -> Error {
    match error.kind() {
        ErrorKind::Retriable => {
            let url = &settings.schema_registry.url;
            let wanted = format!(
                "{}; wanted a schema registry at \"{url}\"; start it or correct schema_registry.url",
                error.message()
            );
            Error::new(ErrorKind::Retriable, wanted)
        }
        _ => error,
    }
}
