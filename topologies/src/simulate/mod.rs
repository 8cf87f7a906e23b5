//! A simulator of customers, managers and contractors, for the local mode and for a real cluster.
//!
//! It is a producer like any other: Avro in Confluent's frame, ids asked of the registry, murmur2 partitions, the envelope's
//! timestamps. `world` decides what is sent, pure and seeded; `traffic` sends it and listens to the assignments.

mod contractors;
mod customers;
mod poison;
mod random;
mod reader;
mod regions;
mod traffic;
mod verification;
mod world;

pub use world::WorldSettings;

pub(crate) use reader::TopicsReader;
pub(crate) use traffic::{Sent, Surroundings, run as run_traffic};

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::serdes::{HttpRegistry, SchemaCache};
use kstreams::{Clock, Error, Result, SystemClock};

use crate::settings::Settings;
use crate::signals::Signals;
use crate::{commands, events};

/// What is simulated.
#[derive(Debug, Clone, Args)]
pub struct TrafficArgs {
    /// New requests per second
    #[arg(long, default_value_t = 20.0, value_name = "NUMBER")]
    pub rate: f64,
    /// Decides the content of everything that is simulated
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Share of requests that nobody can process, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub poison: f64,
}

impl TrafficArgs {
    /// The settings of the world, checked.
    ///
    /// # Errors
    /// `Invalid` naming the argument, what was found and what is wanted.
    pub fn world(&self, first_request_id: i64) -> kstreams::Result<WorldSettings> {
        let Self { rate, seed, poison } = *self;
        let settings = WorldSettings { seed, rate, poison, first_request_id };
        settings.validate()?;
        Ok(settings)
    }
}

/// Arguments of `aggregator simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    #[command(flatten)]
    /// What is simulated.
    pub traffic: TrafficArgs,
    /// Stop after so many seconds; without it, Ctrl-C does
    #[arg(long, value_name = "NUMBER")]
    pub seconds: Option<u64>,
    /// Id of the first request; by default made of the time, so that runs do not share requests
    #[arg(long, value_name = "NUMBER")]
    pub first_request_id: Option<i64>,
}

/// Sends traffic to the cluster of the settings until its time is over or a signal comes. Prints to standard output.
///
/// # Errors
/// `Invalid` for arguments, missing topics and contracts that are not registered; whatever sending fails with.
pub fn run(args: &SimulateArgs, settings: &Settings) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    // A thousand requests' worth of ids for each millisecond.
    let first_request_id =
        args.first_request_id.unwrap_or_else(|| clock.now().as_millis().saturating_mul(1_000));
    let world = args.traffic.world(first_request_id)?;
    let clients = LibrdkafkaClients::new(settings.client_settings("aggregator-simulate"))?;
    commands::check_topics(settings, &traffic::TOPICS)?;
    let registry = Arc::new(HttpRegistry::new(settings.registry_config())?);
    let schemas = SchemaCache::new(registry, clock.clone());
    events::check_registered(&schemas, &traffic::TOPICS)?;
    let serdes = events::serdes(&schemas, &clock)?;
    let surroundings = Surroundings { clients: Arc::new(clients), serdes, clock: clock.clone() };
    let signals = Signals::listen()?;
    let (stop, sent) = (AtomicBool::new(false), Sent::default());
    let begin = clock.monotonic();
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| run_traffic(&surroundings, world, &stop, &sent));
        let mut told = Ok(());
        while !traffic.is_finished() && signals.count() == 0 && told.is_ok() {
            let elapsed = clock.monotonic().saturating_sub(begin).as_secs();
            if args.seconds.is_some_and(|seconds| elapsed >= seconds) {
                break;
            }
            std::thread::park_timeout(Duration::from_secs(1));
            told = tell(&sent);
        }
        stop.store(true, Ordering::SeqCst);
        traffic.join().unwrap_or_else(|_| Err(Error::fatal("the simulator panicked")))?;
        told.and_then(|()| tell(&sent))
    })
}

fn tell(sent: &Sent) -> Result<()> {
    let (requests, records) = (sent.requests(), sent.records());
    writeln!(std::io::stdout(), "sent {requests} requests, {records} records")
        .map_err(|error| Error::fatal("cannot write to standard output").with_source(error))
}
