//! One run of the local mode: starts everything, shows it, ends it in order and sums up.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kstreams::dlq::dead_letter_topic;
use kstreams::kafka::KafkaClients;
use kstreams::kafka::librdkafka::{MockClients, MockCluster};
use kstreams::serdes::{HttpRegistry, SchemaCache};
use kstreams::{
    Clock, Components, Error, Handle, KafkaStreams, Result, State, SystemClock, client_settings,
};

use crate::catalog::{CATALOG, TopologySpec};
use crate::http::{self, HttpServer, Listener, Observed, Running};
use crate::queries::{self, Peers, QueryService};
use crate::settings::{Guarantee, HttpSettings, Settings};
use crate::signals::Signals;
use crate::simulate::{Sent, Surroundings, WorldSettings, run_traffic};
use crate::{events, manager_assignment, topics};

use super::DevArgs;
use super::messages::Messages;
use super::server::RegistryServer;
use super::standins::StandIns;
use super::summary::Summary;
use super::view::{Display, Screen, TopologyView};
use super::watch::Watch;

/// The time between two looks at everything; the live view is redrawn as often.
const TICK: Duration = Duration::from_millis(250);
/// Until when the topology must run.
const START_WITHIN: Duration = Duration::from_secs(60);
/// For so long nothing new must come before the topology counts as drained.
const QUIET: Duration = Duration::from_secs(1);
/// The longest wait for that.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// Until when the topology must have stopped.
const CLOSE_WITHIN: Duration = Duration::from_secs(15);
/// Rates and quantiles of the view are those of this time.
const RECENT: Duration = Duration::from_secs(3);
/// Milliseconds until a request of each urgency is escalated here: a minute and more would show nobody anything.
const SLA_MS: [u64; 4] = [3_000, 10_000, 30_000, 60_000];
/// The embedded broker looks for new records only when it answers, and it answers an empty fetch after this time.
const FETCH_WAIT_MS: &str = "5";

/// Runs the local mode until its time is over or a signal comes. Prints to standard output.
///
/// # Errors
/// `Invalid` for arguments and settings, `Fatal` where something fails or the summary does not add up.
pub fn run(args: &DevArgs, settings: Settings) -> Result<()> {
    let world = args.traffic.world(1)?;
    let title = format!("seed {}, {} requests/s, poison {}", world.seed, world.rate, world.poison);
    let signals = Signals::listen()?;
    let mut session = Session::start(settings)?;
    let mut out = std::io::stdout();
    let intro = session.intro();
    print(out.write_all((intro.join("\n") + "\n").as_bytes()))?;
    let traffic = session.traffic(world)?;
    let mut display = print_ok(Display::open())?;
    let mut shown = Shown::new(title, &session);
    while !traffic.has_begun() && !traffic.has_ended() && signals.count() == 0 {
        print(display.show(shown.screen(&session, Duration::ZERO, Some("STARTING"))))?;
        std::thread::park_timeout(TICK);
    }
    let begin = session.clock.monotonic();
    let ended = loop {
        std::thread::park_timeout(TICK);
        let elapsed = session.clock.monotonic().saturating_sub(begin);
        print(display.show(shown.screen(&session, elapsed, None)))?;
        let checked = session.check();
        let is_over = args.seconds.is_some_and(|seconds| elapsed.as_secs() >= seconds);
        if is_over || checked.is_err() || signals.count() > 0 || traffic.has_ended() {
            break checked;
        }
    };
    let lasted = session.clock.monotonic().saturating_sub(begin);
    let (sent, sending) = traffic.stop();
    let mut ended = ended.and(sending);
    let drain_begin = session.clock.monotonic();
    let mut quiet = Quiet::default();
    while ended.is_ok() && signals.count() < 2 {
        let now = session.clock.monotonic();
        if quiet.is_drained(&session, &sent, now) || now > drain_begin + DRAIN_WITHIN {
            break;
        }
        std::thread::park_timeout(TICK);
        let elapsed = session.clock.monotonic().saturating_sub(begin);
        print(display.show(shown.screen(&session, elapsed, Some("DRAINING"))))?;
        ended = session.check();
    }
    drop(display);
    let closed = session.close();
    ended.and(closed).and(session.watch.stop())?;
    let summary = Summary::of(&mut session.watch.tally(), sent.requests(), lasted);
    print(summary.print(&mut out))?;
    print(writeln!(out, "{}", session.messages.line()))?;
    if let Some(path) = &args.summary {
        summary.write(path)?;
    }
    summary.check()
}

fn print(outcome: std::io::Result<()>) -> Result<()> {
    print_ok(outcome)
}

fn print_ok<T>(outcome: std::io::Result<T>) -> Result<T> {
    outcome.map_err(|error| Error::fatal("cannot write to standard output").with_source(error))
}

/// Everything that runs but the traffic. Fields are dropped in this order: whoever uses another comes first.
struct Session {
    streams: Vec<KafkaStreams>,
    /// Every topology that runs, manager-assignment first.
    running: Vec<Running>,
    messages: Messages,
    watch: Watch,
    http: HttpServer,
    clients: Arc<MockClients>,
    serdes: events::Serdes,
    clock: Arc<dyn Clock>,
    cluster: Arc<MockCluster>,
    registry: RegistryServer,
    _folder: Folder,
}

impl Session {
    fn start(settings: Settings) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let folder = Folder::new()?;
        let registry = RegistryServer::start(Arc::new(events::memory_registry()?))?;
        let cluster = Arc::new(MockCluster::start(1)?);
        let stand_ins = StandIns::start()?;
        let mut settings = local(settings, cluster.bootstrap(), &registry.url(), &folder.0);
        stand_ins.configure(&mut settings.delivery);
        settings.validate()?;
        let clients =
            MockClients::new(cluster.clone(), settings.client_settings("aggregator-dev"))?;
        let clients = Arc::new(clients);
        let wanted = topics::wanted(&settings, 1)?;
        topics::apply(&mut *clients.admin()?, &wanted, settings.request_timeout())?;
        let http_registry = Arc::new(HttpRegistry::new(settings.registry_config())?);
        let schemas = SchemaCache::new(http_registry, clock.clone());
        let serdes = events::serdes(&schemas, &clock)?;
        let metrics = http::install_metrics()?;
        let (mut all, mut running) = (Vec::new(), Vec::new());
        for spec in topologies() {
            let streams = streams(&settings, spec, &cluster, &schemas, &clock)?;
            running.push(Running { name: spec.name.to_owned(), handle: streams.handle() });
            all.push(streams);
        }
        let observed = running.iter().map(|one| Arc::new(one.clone()) as Arc<dyn Observed>);
        let handles = running.iter().map(|one| (one.name.clone(), one.handle.clone()));
        let nobody_else = Peers::new(None, &HttpSettings::default(), settings.request_timeout())?;
        let service = QueryService::new(handles, |name| settings.application_id(name), nobody_else);
        let listener = Listener::bind("127.0.0.1:0")?;
        let more = queries::router(service);
        let http = HttpServer::serve(listener, metrics, observed.collect(), more)?;
        all.iter_mut().try_for_each(KafkaStreams::start)?;
        let mut letters = Vec::new();
        for Running { name, handle } in &running {
            wait_until_running(handle, &*clock)?;
            let topics = dead_letter_topics(handle, &settings.application_id(name));
            letters.extend(topics.into_iter().map(|topic| (topic, name.clone())));
        }
        let watch = Watch::start(&*clients, letters, serdes.clone(), clock.clone())?;
        let messages = Messages::start(stand_ins, clients.clone(), serdes.clone())?;
        Ok(Self {
            streams: all,
            running,
            messages,
            watch,
            http,
            clients,
            serdes,
            clock,
            cluster,
            registry,
            _folder: folder,
        })
    }

    /// What is printed before the view.
    fn intro(&self) -> Vec<String> {
        let (broker, http) = (self.cluster.bootstrap(), self.http.address());
        vec![
            "aggregator dev: everything in this process and in memory".to_owned(),
            "at-least-once: the embedded broker ignores transactions".to_owned(),
            format!("broker    {broker}"),
            format!("registry  {}", self.registry.url()),
            format!("http      http://{http}  /metrics /health/ready /topology /tasks /query"),
            format!("join in   {}", join_in(broker)),
            format!("shell     {}", shell(broker, &self.registry.url(), &http.to_string())),
        ]
    }

    fn traffic(&self, world: WorldSettings) -> Result<Traffic> {
        Traffic::start(
            Surroundings {
                clients: self.clients.clone(),
                serdes: self.serdes.clone(),
                clock: self.clock.clone(),
            },
            world,
        )
    }

    /// What manager-assignment is doing.
    fn state(&self) -> String {
        self.running.first().map_or_else(String::new, |one| one.handle.state().to_string())
    }

    /// Stops all topologies, one after the other; the first error counts.
    fn close(&mut self) -> Result<()> {
        let closed = self.streams.iter_mut().map(|streams| streams.close(CLOSE_WITHIN));
        closed.fold(Ok(()), Result::and)
    }

    /// # Errors
    /// Why a topology or the reader has failed.
    fn check(&mut self) -> Result<()> {
        for Running { name, handle } in &self.running {
            if let Some(failure) = handle.failure() {
                return Err(Error::fatal(format!("the topology {name} failed: {failure}")));
            }
        }
        self.messages.check()?;
        if self.watch.has_ended() {
            self.watch.stop()?;
            return Err(Error::fatal("the reader of the local mode has ended"));
        }
        Ok(())
    }
}

/// How to look at the assignments from outside; what Debian's kcat can do, without Avro.
fn join_in(broker: &str) -> String {
    format!("kcat -b {broker} -C -q -t workflow-events -f 'request %k, %S bytes\\n'")
}

/// What makes `aggregator send`, `get` and the others speak to this process.
fn shell(broker: &str, registry: &str, http: &str) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "aggregator".into());
    format!(
        "alias aggregator={}; export KAFKA_BOOTSTRAP_SERVERS={broker} KAFKA_SCHEMA_REGISTRY_URL={registry} KAFKA_HTTP_ADVERTISED={http}",
        program.display()
    )
}

/// The settings as the local mode needs them; what the user set otherwise stays.
fn local(mut settings: Settings, bootstrap: &str, registry: &str, folder: &Path) -> Settings {
    settings.kafka.bootstrap_servers = bootstrap.to_owned();
    settings.kafka.processing_guarantee = Guarantee::AtLeastOnce;
    settings.kafka.replication_factor = 1;
    settings.kafka.state_dir = folder.to_owned();
    settings.schema_registry.url = registry.to_owned();
    settings.schema_registry.basic_auth_user_info.clear();
    // Of the real cluster: encryption and passwords, which the embedded broker does not know.
    settings.client.clear();
    settings.consumer.insert("fetch.wait.max.ms".to_owned(), FETCH_WAIT_MS.to_owned());
    let rules = &mut settings.manager_assignment;
    if *rules == manager_assignment::settings::Settings::default() {
        [rules.sla_critical_ms, rules.sla_high_ms, rules.sla_medium_ms, rules.sla_low_ms] = SLA_MS;
    }
    settings
}

/// The topologies of the catalog; the one that the summary is about comes first.
fn topologies() -> impl Iterator<Item = &'static TopologySpec> {
    let (first, others): (Vec<_>, Vec<_>) =
        CATALOG.iter().partition(|spec| spec.name == manager_assignment::NAME);
    first.into_iter().chain(others)
}

fn streams(
    settings: &Settings,
    spec: &TopologySpec,
    cluster: &Arc<MockCluster>,
    schemas: &Arc<SchemaCache>,
    clock: &Arc<dyn Clock>,
) -> Result<KafkaStreams> {
    let config = settings.streams_config(spec.name);
    let clients = MockClients::new(cluster.clone(), client_settings(&config))?;
    let components = Components {
        tracing: None,
        clients: Arc::new(clients),
        clock: clock.clone(),
        ..Components::from_config(&config)?
    };
    KafkaStreams::with_components((spec.build)(settings, schemas)?, config, components)
}

fn wait_until_running(handle: &Handle, clock: &dyn Clock) -> Result<()> {
    let begin = clock.monotonic();
    // An instance without tasks is running too, for a moment at the start.
    while handle.state() != State::Running || handle.tasks().is_empty() {
        if let Some(failure) = handle.failure() {
            return Err(Error::fatal(format!("the topology failed: {failure}")));
        }
        if clock.monotonic() > begin + START_WITHIN {
            let (state, seconds) = (handle.state(), START_WITHIN.as_secs());
            return Err(Error::fatal(format!(
                "after {seconds} s a topology is {state}, wanted {}",
                State::Running
            )));
        }
        std::thread::park_timeout(TICK / 5);
    }
    Ok(())
}

/// The dead-letter topics of everything that the tasks read.
fn dead_letter_topics(handle: &Handle, application_id: &str) -> Vec<String> {
    let tasks = handle.tasks();
    let sources: BTreeSet<&str> =
        tasks.iter().flat_map(|task| task.partitions.iter().map(|p| &*p.topic)).collect();
    let letters = |source| dead_letter_topic(application_id, source).to_string();
    sources.into_iter().map(letters).collect()
}

/// The simulator's thread.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<Sent>,
    thread: JoinHandle<Result<()>>,
}

impl Traffic {
    fn start(surroundings: Surroundings, world: WorldSettings) -> Result<Self> {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<Sent>::default());
        let (stopping, counting) = (stop.clone(), sent.clone());
        let thread = std::thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || run_traffic(&surroundings, world, &stopping, &counting))
            .map_err(|error| Error::fatal("cannot start the simulator").with_source(error))?;
        Ok(Self { stop, sent, thread })
    }

    fn has_begun(&self) -> bool {
        self.sent.requests() > 0
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops, and waits until all that was sent is acknowledged.
    fn stop(self) -> (Arc<Sent>, Result<()>) {
        self.stop.store(true, Ordering::SeqCst);
        let outcome = self.thread.join().unwrap_or_else(|_| Err(Error::fatal("it panicked")));
        (self.sent, outcome.map_err(|error| error.context("the simulator")))
    }
}

/// Whether the topology has worked off everything.
#[derive(Default)]
struct Quiet {
    version: u64,
    since: Duration,
}

impl Quiet {
    /// Nothing is missing, and nothing new has come for a while.
    fn is_drained(&mut self, session: &Session, sent: &Sent, now: Duration) -> bool {
        let tally = session.watch.tally();
        if tally.version() != self.version {
            (self.version, self.since) = (tally.version(), now);
        }
        now >= self.since + QUIET
            && tally.missing().is_none()
            && tally.counts().requests >= sent.requests()
    }
}

/// What the view shows, with what it needs to remember for that.
struct Shown {
    screen: Screen,
    /// Time, requests and assignments of the last seconds.
    history: VecDeque<(Duration, u64, u64)>,
    turned_at: Duration,
}

impl Shown {
    fn new(title: String, session: &Session) -> Self {
        let (broker, registry) = (session.cluster.bootstrap(), session.registry.url());
        let join_in = vec![
            format!("broker {broker}   registry {registry}   at-least-once, in memory"),
            format!("http://{}/metrics", session.http.address()),
            join_in(broker),
        ];
        let screen = Screen { title, join_in, ..Screen::default() };
        Self { screen, history: VecDeque::new(), turned_at: Duration::ZERO }
    }

    fn screen(&mut self, session: &Session, elapsed: Duration, state: Option<&str>) -> &Screen {
        let mut tally = session.watch.tally();
        if elapsed >= self.turned_at + RECENT {
            self.turned_at = elapsed;
            tally.latencies().turn();
        }
        let screen = &mut self.screen;
        screen.uptime = elapsed;
        screen.state = state.map_or_else(|| session.state(), str::to_owned);
        screen.p50_ms = tally.latencies().recent_quantile_ms(0.5);
        screen.p99_ms = tally.latencies().recent_quantile_ms(0.99);
        screen.counts = tally.counts().clone();
        screen.messages = session.messages.line();
        screen.regions = tally.regions();
        screen.recent = tally.recent();
        screen.topologies = session
            .running
            .iter()
            .skip(1)
            .map(|Running { name, handle }| TopologyView {
                name: name.clone(),
                state: handle.state().to_string(),
                counts: tally.published_by(name),
            })
            .collect();
        drop(tally);
        let counts = &screen.counts;
        self.history.push_back((elapsed, counts.requests, counts.assigned));
        while self.history.front().is_some_and(|(at, ..)| *at + RECENT < elapsed) {
            self.history.pop_front();
        }
        if let Some((at, requests, assigned)) =
            self.history.front().filter(|(at, ..)| *at < elapsed)
        {
            let seconds = (elapsed - *at).as_secs_f64();
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            screen.requests_per_second = rate(screen.counts.requests, *requests);
            screen.assigned_per_second = rate(screen.counts.assigned, *assigned);
        }
        screen
    }
}

/// A folder for stores that goes with the process.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("aggregator-dev-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| {
            let path = path.display();
            Error::invalid(format!("cannot create the folder \"{path}\"; set TMPDIR to another"))
                .with_source(error)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
