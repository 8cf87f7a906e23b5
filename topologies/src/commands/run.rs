//! `aggregator run`: topologies from start to ordered stop.
//!
//! Each client has a thread that waits for its end; this one waits for signals and for those threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use clap::Args;
use kstreams::connect::SinkHandle;
use kstreams::kafka::KafkaClients as _;
use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::telemetry::Tracing;
use kstreams::{
    Clock, Components, Error, KafkaStreams, Result, StreamsConfig, SystemClock, Topology,
    client_settings,
};

use crate::catalog::{self, TopologySpec};
use crate::clickhouse::{self, Sink};
use crate::http::{HttpServer, Listener, Observed, Running, install_metrics};
use crate::queries::{self, Peers, QueryService};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{events, topics, traces};

/// What to run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Names of topologies, or clickhouse-sink; all where none is given
    pub topologies: Vec<String>,
}

/// The name of a topology that has ended, and how.
type Ended = (&'static str, Result<()>);

/// Asks one of them to stop in order.
type Stop = Box<dyn Fn()>;

/// Between two looks at the signals.
const LOOK: Duration = Duration::from_millis(50);

/// Runs until a signal or a failure.
///
/// # Errors
/// What was in the way of the start, the first topology's failure, or that the stop took too long.
pub(super) fn run(args: &RunArgs, settings: &Settings) -> Result<()> {
    let (specs, with_sink) = select(&args.topologies, settings)?;
    let metrics = install_metrics()?;
    let mut settings = settings.clone();
    // First, because the clients tell the group where this instance can be asked.
    let listener = match settings.http.bind.as_str() {
        "" => None,
        bind => Some(
            Listener::bind(bind)?
                .secured(&settings.http)?
                .ready_within(settings.http.ready_lag_max_records)
                .showing(&settings.metrics),
        ),
    };
    if let Some(listener) = &listener {
        settings.http.bind = listener.address().to_string();
    }
    let settings = &settings;
    let clients = start(&specs, settings)?;
    // Not before: until here there is nothing to stop in order, and a signal ends the process at once.
    let signals = Signals::listen()?;
    let (ended, inbox) = channel();
    let running: Vec<Running> = clients
        .iter()
        .map(|(name, client)| Running { name: (*name).to_owned(), handle: client.handle() })
        .collect();
    let sink = match with_sink {
        true => Some((SinkHandle::default(), sink(settings)?)),
        false => None,
    };
    let mut observed: Vec<Arc<dyn Observed>> =
        running.iter().map(|one| Arc::new(one.clone()) as Arc<dyn Observed>).collect();
    observed.extend(sink.iter().map(|(handle, _)| Arc::new(handle.clone()) as Arc<dyn Observed>));
    let server = match listener {
        None => None,
        Some(listener) => {
            let more = queries::router(query_service(&running, settings)?);
            Some(HttpServer::serve(listener, metrics, observed, more)?)
        }
    };
    if let Some(server) = &server {
        tracing::info!(address = %server.address(), "serving /metrics, /health, /topology, /tasks, /query");
    }
    let mut stops: Vec<Stop> = Vec::new();
    for Running { handle, .. } in running {
        stops.push(Box::new(move || handle.close()));
    }
    for (name, client) in clients {
        launch(name, client, ended.clone())?;
    }
    if let Some((handle, sink)) = sink {
        launch_sink(sink, handle.clone(), ended.clone())?;
        stops.push(Box::new(move || handle.close()));
    }
    let timeout = Duration::from_millis(settings.kafka.close_timeout_ms);
    let ended = wait(&inbox, &signals, &stops, timeout);
    traces::finish(Duration::from_millis(settings.tracing.request_timeout_ms));
    ended
}

/// The topologies that were named, and whether the sink was: without names all, and the sink where it has an address.
fn select(names: &[String], settings: &Settings) -> Result<(Vec<&'static TopologySpec>, bool)> {
    let is_configured = !settings.clickhouse.url.is_empty();
    if names.is_empty() {
        return Ok((catalog::select(names)?, is_configured));
    }
    let (sink, topologies): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| name == clickhouse::NAME);
    if !sink.is_empty() && !is_configured {
        return Err(Error::invalid(format!(
            "setting clickhouse.url: found nothing, wanted the address that {} writes to",
            clickhouse::NAME
        )));
    }
    let specs = if topologies.is_empty() { Vec::new() } else { catalog::select(&topologies)? };
    Ok((specs, !sink.is_empty()))
}

/// Checks what the sink needs of Kafka and the registry; ClickHouse itself is waited for.
fn sink(settings: &Settings) -> Result<Sink> {
    let config = settings.streams_config(clickhouse::NAME);
    let clients = LibrdkafkaClients::new(client_settings(&config))?;
    let found =
        clients.admin()?.describe_topics(&[clickhouse::TOPIC], settings.request_timeout())?;
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "found no topic \"{}\", wanted by {}; run `aggregator topics apply`",
            clickhouse::TOPIC,
            clickhouse::NAME
        )));
    }
    let schemas = super::schema_cache(settings)?;
    events::check_registered(&schemas, &[clickhouse::TOPIC])
        .map_err(|error| super::about_registry(error, settings))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Ok(Sink {
        clients: Arc::new(clients),
        serde: events::serdes(&schemas, &clock)?.audit,
        settings: settings.clickhouse.clone(),
        request_timeout: settings.request_timeout(),
    })
}

fn launch_sink(sink: Sink, handle: SinkHandle, inbox: Sender<Ended>) -> Result<()> {
    let run = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| sink.run(&handle)))
            .unwrap_or_else(|_| Err(Error::fatal("the sink panicked")));
        let _ = inbox.send((clickhouse::NAME, ended)); // as with the topologies
    };
    std::thread::Builder::new()
        .name(clickhouse::NAME.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| Error::fatal("cannot start a thread").with_source(error))
}

/// Answers questions with what runs here, and the other instances of every topology.
fn query_service(running: &[Running], settings: &Settings) -> Result<QueryService> {
    let handles = running.iter().map(|one| (one.name.clone(), one.handle.clone()));
    let clients = Some(super::clients(settings)?);
    let peers = Peers::new(clients, &settings.http, settings.request_timeout())?;
    Ok(QueryService::new(handles, |topology| settings.application_id(topology), peers))
}

/// Checks everything that the topologies need, and prepares their clients.
fn start(
    specs: &[&'static TopologySpec],
    settings: &Settings,
) -> Result<Vec<(&'static str, KafkaStreams)>> {
    let schemas = super::schema_cache(settings)?;
    let mut admin = super::clients(settings)?.admin()?;
    for spec in specs {
        topics::check(&mut *admin, spec, settings.request_timeout())?;
        // Nobody needs the answer: a missing right is told here, before threads run into it. A group that has no coordinator yet, as on
        // a new cluster, is the threads' to wait for. Where nobody logs in, nothing is asked: librdkafka 2.12 fails an assertion when a
        // coordinator is found after the request for it has timed out.
        let group = settings.application_id(spec.name);
        if settings.client.contains_key("security.protocol")
            && let Err(error) = admin.describe_group(&group, settings.request_timeout())
            && error.kind() == kstreams::ErrorKind::Fatal
        {
            return Err(error);
        }
        let topics: Vec<&str> = spec.sources.iter().chain(spec.sinks).copied().collect();
        events::check_registered(&schemas, &topics)
            .map_err(|error| super::about_registry(error, settings))?;
    }
    let tracing = traces::start(&settings.tracing)?;
    let mut clients = Vec::new();
    for spec in specs {
        let topology = (spec.build)(settings, &schemas)?;
        let config = settings.streams_config(spec.name);
        tracing::info!(
            topology = spec.name,
            application_id = config.application_id,
            bootstrap_servers = config.bootstrap_servers,
            processing_guarantee = ?config.processing_guarantee,
            threads = config.num_stream_threads,
            "starting"
        );
        let client = client(topology, config, tracing.clone());
        let client = client.map_err(|e| e.context(spec.name))?;
        clients.push((spec.name, client));
    }
    Ok(clients)
}

fn client(
    topology: Topology,
    config: StreamsConfig,
    tracing: Option<Tracing>,
) -> Result<KafkaStreams> {
    let components = Components { tracing, ..Components::from_config(&config)? };
    KafkaStreams::with_components(topology, config, components)
}

fn launch(name: &'static str, mut client: KafkaStreams, inbox: Sender<Ended>) -> Result<()> {
    client.start().map_err(|error| error.context(name))?;
    let wait = move || {
        let ended = client.wait();
        // Nobody listens any more where the stop took too long.
        let _ = inbox.send((name, ended));
    };
    std::thread::Builder::new()
        .name(format!("wait-{name}"))
        .spawn(wait)
        .map_err(|error| Error::fatal("cannot start a thread").with_source(error))?;
    Ok(())
}

/// Waits for the end of all clients; the first signal or failure stops the others in order.
fn wait(
    inbox: &Receiver<Ended>,
    signals: &Signals,
    stops: &[Stop],
    timeout: Duration,
) -> Result<()> {
    let clock = SystemClock::default();
    let mut deadline: Option<Duration> = None;
    let mut outcome = Ok(());
    let mut running = stops.len();
    while running > 0 {
        match inbox.recv_timeout(LOOK) {
            Ok((name, ended)) => {
                running -= 1;
                tracing::info!(topology = name, "stopped");
                outcome = outcome.and(ended.map_err(|error| error.context(name)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return outcome,
        }
        let count = signals.count();
        if count > 1 && running > 0 {
            return Err(Error::fatal(
                "stopped at once by a second signal; what is uncommitted will be processed again",
            ));
        }
        let now = clock.monotonic();
        match deadline {
            None if count > 0 || running < stops.len() => {
                if running > 0 {
                    tracing::info!("stopping in order; a second signal stops at once");
                }
                deadline = Some(now + timeout);
                stops.iter().for_each(|stop| stop());
            }
            Some(deadline) if now > deadline && running > 0 => {
                return outcome.and(Err(Error::fatal(format!(
                    "{running} topologies did not stop within close_timeout_ms = {}; \
                     what is uncommitted will be processed again",
                    timeout.as_millis()
                ))));
            }
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Two topologies, one of which has ended so; `second` is what the other one does when it is asked to stop.
    fn stopped(
        first_ended: Result<()>,
        second: impl Fn(&Sender<Ended>) + 'static,
        timeout_ms: u64,
    ) -> (String, usize) {
        let (ended, inbox) = channel();
        let asked = Arc::<AtomicUsize>::default();
        let count = |asked: &Arc<AtomicUsize>| asked.fetch_add(1, Ordering::SeqCst);
        let (first, other, answer) = (asked.clone(), asked.clone(), ended.clone());
        let stops: Vec<Stop> = vec![
            Box::new(move || {
                count(&first);
            }),
            Box::new(move || {
                count(&other);
                second(&answer);
            }),
        ];
        ended.send(("one", first_ended)).unwrap();
        let signals = Signals::listen().unwrap();
        let outcome = wait(&inbox, &signals, &stops, Duration::from_millis(timeout_ms));
        (outcome.unwrap_err().to_string(), asked.load(Ordering::SeqCst))
    }

    #[test]
    fn the_failure_of_one_stops_the_others_in_order() {
        let failed = Err(Error::fatal("broken"));
        let stop = |answer: &Sender<Ended>| answer.send(("two", Ok(()))).unwrap();
        let (error, asked) = stopped(failed, stop, 60_000);
        assert!(error.contains("broken"), "{error}");
        assert_eq!(asked, 2);
    }

    #[test]
    fn one_that_does_not_drain_is_left_behind_at_the_deadline() {
        let (error, asked) = stopped(Ok(()), |_| (), 100);
        let wanted = "1 topologies did not stop within close_timeout_ms = 100";
        assert!(error.contains(wanted), "{error}");
        assert_eq!(asked, 2, "each is asked once");
    }
}
