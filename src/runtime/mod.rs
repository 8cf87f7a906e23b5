//! The runtime: clients, threads and commits around the tasks.
//!
//! ```text
//! KafkaStreams ─┬─ control thread   Membership: assigned, revoked, lost ──► commands
//!               ├─ stream thread …  Consumer + Producer + tasks: poll → process → punctuate → commit
//!               ├─ restore thread   changelogs → stores, for all stream threads
//!               └─ global thread    topics → global stores
//! ```
//!
//! Deliberately absent: what operators do. The runtime knows tasks, not windows or joins.

mod assignment;
mod components;
mod control;
mod directory;
mod global_thread;
mod handle;
mod host_info;
mod housekeeping;
mod queries;
mod rebalance;
mod reports;
mod restore;
mod shared;
mod sink;
mod state;
mod state_dir;
mod stream_thread;
mod topics;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use self::components::{fingerprint, task_settings};
use self::control::{ControlThread, ThreadHandle, subscription};
use self::directory::Directory;
use self::global_thread::GlobalThread;
use self::housekeeping::Housekeeping;
use self::restore::{ReplyTo, RestoreCommand, RestoreThread};
use self::shared::Shared;
use self::sink::{ProducerSink, RECORD_BYTES_MAX};
use self::state_dir::StateDir;
use self::stream_thread::{NewSink, Report, StreamThread};
use crate::config::StreamsConfig;
use crate::error::{Error, Result};
use crate::kafka::{ConsumerPurpose, KafkaClients};
use crate::store::CacheBudget;
use crate::task::TaskBuilder;
use crate::telemetry::{ClientMetrics, RestoreMetrics, ThreadMetrics, TopicLabels};
use crate::time::Clock;
use crate::topology::{PartitionCounts, PartitionPlan, Topology};

pub use self::components::{Components, client_settings};
pub use self::handle::Handle;
pub use self::host_info::{HostInfo, KeyQueryMetadata, LagInfo, StreamsMetadata};
pub use self::queries::StoreQueryParameters;
pub use self::shared::{TaskInfo, TaskState};
pub use self::state::State;

/// Runs a topology on a cluster. Source: `org.apache.kafka.streams.KafkaStreams`.
///
/// ```no_run
/// # fn main() -> kstreams::Result<()> {
/// use kstreams::{KafkaStreams, StreamsBuilder, StreamsConfig};
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, String>("in").to("out");
/// let config = StreamsConfig::new("copy", "127.0.0.1:9092");
/// let mut streams = KafkaStreams::new(builder.build()?, config)?;
/// streams.start()?;
/// streams.wait()
/// # }
/// ```
pub struct KafkaStreams {
    topology: Arc<Topology>,
    config: Arc<StreamsConfig>,
    components: Components,
    plan: Arc<PartitionPlan>,
    state_dir: Arc<StateDir>,
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    supervisor: Option<JoinHandle<()>>,
}

impl KafkaStreams {
    /// Prepares a client with the usual components.
    ///
    /// # Errors
    /// As [`with_components`](Self::with_components).
    pub fn new(topology: Topology, config: StreamsConfig) -> Result<Self> {
        config.validate()?;
        let components = Components::from_config(&config)?;
        Self::with_components(topology, config, components)
    }

    /// Checks settings and topics, creates internal topics, and locks the state folder. Nothing runs yet.
    ///
    /// # Errors
    /// `Invalid` for a setting, topic or folder that will not do, `Retriable` where no broker answers.
    pub fn with_components(
        topology: Topology,
        config: StreamsConfig,
        components: Components,
    ) -> Result<Self> {
        config.validate()?;
        let mut admin = components.clients.admin()?;
        let plan = topics::prepare(&topology, &config, &components.handlers, &mut *admin)?;
        let state_dir = Arc::new(StateDir::open(&config.state_dir, &config.application_id)?);
        let metrics = ClientMetrics::new(&config.application_id);
        let (topology, config, plan) = (Arc::new(topology), Arc::new(config), Arc::new(plan));
        let settings = task_settings(&config, &components);
        let builder = TaskBuilder::new(topology.clone(), plan.clone(), settings);
        metrics.set_info(
            &fingerprint(&topology.describe()),
            builder.subtopologies.len(),
            config.processing_guarantee.name(),
        );
        let shared = Shared::new(metrics, components.clock.clone());
        let directory = Directory::new(builder, config.clone(), components.clients.clone());
        Ok(Self {
            directory: Arc::new(directory),
            topology,
            config,
            components,
            plan,
            state_dir,
            shared: Arc::new(shared),
            supervisor: None,
        })
    }

    /// Starts the threads, and returns at once; [`state`](Self::state) says when they run.
    ///
    /// # Errors
    /// `Invalid` when called twice, `Fatal` where a client cannot be made.
    pub fn start(&mut self) -> Result<()> {
        if self.shared.state() != State::Created {
            return Err(Error::invalid("start was called twice; build another KafkaStreams"));
        }
        self.shared.become_state(State::Rebalancing);
        let launch = Launch {
            topology: self.topology.clone(),
            config: self.config.clone(),
            components: self.components.clone(),
            plan: self.plan.clone(),
            state_dir: self.state_dir.clone(),
            shared: self.shared.clone(),
        };
        let shared = self.shared.clone();
        let supervisor = std::thread::Builder::new()
            .name("kstreams-control".to_owned())
            .spawn(move || supervise(launch, &shared))
            .map_err(|e| Error::fatal("cannot start the control thread").with_source(e))?;
        self.supervisor = Some(supervisor);
        Ok(())
    }

    /// What the client is doing.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// A view for other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            topology: self.topology.clone(),
            directory: self.directory.clone(),
        }
    }

    /// Waits until the client has stopped.
    ///
    /// # Errors
    /// The failure that stopped it.
    pub fn wait(&mut self) -> Result<()> {
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            self.shared.fail(Error::fatal("the control thread panicked"));
        }
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Stops in order: commits, closes the tasks, leaves the group.
    ///
    /// # Errors
    /// `Fatal` where that takes longer than `timeout`; the failure, where one had stopped the client before.
    pub fn close(&mut self, timeout: Duration) -> Result<()> {
        if self.supervisor.is_none() {
            return Ok(());
        }
        self.shared.request_stop();
        let done = |state| matches!(state, State::NotRunning | State::Error);
        if !self.shared.wait_for(done, timeout) {
            return Err(Error::fatal(format!(
                "the client did not stop within {} ms; what is uncommitted will be processed again",
                timeout.as_millis()
            )));
        }
        self.wait()
    }
}

/// What the control thread needs to start everything else.
struct Launch {
    topology: Arc<Topology>,
    config: Arc<StreamsConfig>,
    components: Components,
    plan: Arc<PartitionPlan>,
    state_dir: Arc<StateDir>,
    shared: Arc<Shared>,
}

/// Body of the control thread: starts the others, runs, and ends them in order.
fn supervise(launch: Launch, shared: &Arc<Shared>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| launch.run()));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.fail(error),
        Err(_) => {
            shared.fail(Error::fatal("the control thread panicked; no thread commits any more"))
        }
    }
    shared.become_state(State::PendingShutdown);
    shared.become_state(State::NotRunning);
    shared.become_state(State::Error);
}

impl Launch {
    fn run(self) -> Result<()> {
        let Components { clients, clock, .. } = self.components.clone();
        let config = self.config.clone();
        let settings = task_settings(&config, &self.components);
        let mut builder = TaskBuilder::new(self.topology.clone(), self.plan.clone(), settings);
        builder.settings.row_cache_bytes_max /= builder.store_instances().max(1);
        let mut admin = clients.admin()?;
        let mut others = Vec::new();
        if !self.topology.global_stores.is_empty() {
            let consumer = clients.consumer(ConsumerPurpose::Global)?;
            let folder = self.state_dir.folder();
            let (shared, timeout) = (self.shared.clone(), config.request_timeout);
            let mut global =
                GlobalThread::open(&mut builder, folder, consumer, &mut *admin, shared, timeout)?;
            global.bootstrap()?;
            others.push(self.spawn("global", move || {
                global.run();
                Ok(())
            })?);
        }
        let (restore_commands, restore_inbox) = unbounded();
        let restore = RestoreThread {
            builder: builder.clone(),
            consumer: clients.consumer(ConsumerPurpose::Restore)?,
            commands: restore_inbox,
            shared: self.shared.clone(),
            request_timeout: config.request_timeout,
            metrics: RestoreMetrics::new(&config.application_id),
        };
        others.push(self.spawn("restore", move || {
            restore.run();
            Ok(())
        })?);
        others.push(self.start_housekeeping(clients.admin()?)?);
        let outcome = self.run_threads(&builder, clients, admin, &restore_commands, clock);
        let _ = restore_commands.send(RestoreCommand::Stop); // it may have ended with the client's failure
        if outcome.is_err() {
            self.shared.request_stop();
        }
        for thread in others {
            join(thread);
        }
        outcome
    }

    fn start_housekeeping(&self, admin: Box<dyn crate::kafka::Admin>) -> Result<JoinHandle<()>> {
        let (parts, state_dir) = (&self.components, self.state_dir.clone());
        let (config, shared) = (self.config.clone(), self.shared.clone());
        let housekeeping = Housekeeping::new(admin, &self.plan, parts, config, state_dir, shared);
        self.spawn("housekeeping", move || {
            housekeeping.run();
            Ok(())
        })
    }

    fn topic_labels(&self) -> TopicLabels {
        let internal = self.plan.internal_topics.iter().map(|topic| topic.name.clone());
        TopicLabels::new(&self.config.application_id, internal)
    }

    fn run_threads(
        &self,
        builder: &TaskBuilder,
        clients: Arc<dyn KafkaClients>,
        admin: Box<dyn crate::kafka::Admin>,
        restore: &Sender<RestoreCommand>,
        clock: Arc<dyn Clock>,
    ) -> Result<()> {
        let config = &self.config;
        let counts = topics::partition_counts(admin, config.request_timeout);
        let (report, reports) = unbounded();
        let (mut handles, mut joins) = (Vec::new(), Vec::new());
        for index in 0..config.num_stream_threads {
            let (commands, inbox) = unbounded();
            let thread = self.stream_thread(
                index, builder, &clients, &clock, inbox, &commands, restore, &report, &counts,
            )?;
            let handle = ThreadHandle {
                commands,
                wake: thread.consumer.waker(),
                alive_at_ms: thread.alive_at_ms.clone(),
            };
            handles.push(handle);
            joins.push(self.spawn(&format!("stream-{index}"), move || thread.run())?);
        }
        let topics = subscription(builder);
        let mut control = ControlThread {
            membership: None,
            started_at: clock.monotonic(),
            clients,
            topics,
            builder: builder.clone(),
            config: config.clone(),
            threads: handles,
            reports,
            shared: self.shared.clone(),
            placed: BTreeMap::new(),
        };
        let outcome = control.run();
        if outcome.is_err() {
            control.stop_threads();
        }
        for thread in joins {
            join(thread);
        }
        outcome.and(control.leave())
    }

    #[allow(clippy::too_many_arguments)] // wiring, called once
    fn stream_thread(
        &self,
        index: usize,
        builder: &TaskBuilder,
        clients: &Arc<dyn KafkaClients>,
        clock: &Arc<dyn Clock>,
        commands: Receiver<stream_thread::Command>,
        reply: &Sender<stream_thread::Command>,
        restore: &Sender<RestoreCommand>,
        reports: &Sender<Report>,
        partition_counts: &PartitionCounts,
    ) -> Result<StreamThread> {
        let config = &self.config;
        let consumer = clients.consumer(ConsumerPurpose::Main)?;
        let new_sink = self.new_sink(index, clients.clone(), clock.clone());
        let reply = ReplyTo { commands: reply.clone(), wake: consumer.waker() };
        let alive_at_ms = u64::try_from(clock.monotonic().as_millis()).unwrap_or(0);
        let mut builder = builder.clone();
        builder.settings.record_cache =
            CacheBudget::new(config.record_cache_bytes_max / config.num_stream_threads);
        Ok(StreamThread {
            index,
            builder,
            config: config.clone(),
            consumer,
            sink: new_sink()?,
            new_sink,
            committer: None,
            commands,
            reports: reports.clone(),
            restore: restore.clone(),
            reply,
            state_dir: self.state_dir.clone(),
            partition_counts: partition_counts.clone(),
            shared: self.shared.clone(),
            metrics: ThreadMetrics::new(&config.application_id, index),
            topic_labels: self.topic_labels(),
            alive_at_ms: Arc::new(AtomicU64::new(alive_at_ms)),
        })
    }

    /// Makes the producers of a stream thread, all with one transactional id.
    fn new_sink(
        &self,
        index: usize,
        clients: Arc<dyn KafkaClients>,
        clock: Arc<dyn Clock>,
    ) -> NewSink {
        let (config, labels) = (self.config.clone(), self.topic_labels());
        let member = config.group_instance_id.as_deref().unwrap_or(self.state_dir.process_id());
        let id = format!("{}-{member}-{index}", config.application_id);
        let record_bytes_max = config
            .producer
            .get("message.max.bytes")
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(RECORD_BYTES_MAX);
        Box::new(move || {
            let id = config.is_exactly_once().then_some(id.as_str());
            let producer = clients.producer(id)?;
            let timeout = config.request_timeout;
            let (clock, labels) = (clock.clone(), labels.clone());
            ProducerSink::new(producer, id.is_some(), record_bytes_max, timeout, clock, labels)
        })
    }

    /// Starts a thread whose error or panic fails the client.
    fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        let (shared, thread) = (self.shared.clone(), name.to_owned());
        std::thread::Builder::new()
            .name(format!("kstreams-{name}"))
            .spawn(move || match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.fail(error.context(format!("thread {thread}"))),
                Err(_) => {
                    let text = format!("thread {thread} panicked; no thread commits any more");
                    shared.fail(Error::fatal(text));
                }
            })
            .map_err(|e| Error::fatal(format!("cannot start thread {name}")).with_source(e))
    }
}

/// Waits for a thread; what made it fail is recorded already.
fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread could not be joined");
    }
}
