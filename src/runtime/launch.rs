//! Starts the threads of a client, and ends them in order. Runs on the control thread; cold.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::components::{Components, task_settings};
use super::control::{ControlThread, Ended, ThreadHandle, subscription};
use super::directory::Directory;
use super::fencing::{Fencer, transactional_id};
use super::global_thread::GlobalThread;
use super::housekeeping::Housekeeping;
use super::matching::Matching;
use super::restore::{ReplyTo, RestoreThread, Restorer};
use super::shared::Shared;
use super::sink::{ProducerSink, RECORD_BYTES_MAX};
use super::standbys::{OwnPlace, StandbyThread};
use super::state::State;
use super::state_dir::StateDir;
use super::stream_thread::{self, NewSink, Report, StreamThread};
use super::threads::Thread;
use super::topics::{self, Prepared};
use crate::config::StreamsConfig;
use crate::error::{Error, Result};
use crate::kafka::{ConsumerPurpose, KafkaClients};
use crate::store::CacheBudget;
use crate::task::TaskBuilder;
use crate::telemetry::{RestoreMetrics, ThreadMetrics, TopicLabels};
use crate::time::Clock;
use crate::topology::{PartitionCounts, Topology};

/// What the control thread needs to start everything else.
pub(super) struct Launch {
    /// As it was written: with patterns where the prepared one has topics.
    pub(super) topology: Arc<Topology>,
    pub(super) config: Arc<StreamsConfig>,
    pub(super) components: Components,
    pub(super) prepared: Prepared,
    pub(super) state_dir: Arc<StateDir>,
    pub(super) shared: Arc<Shared>,
    pub(super) directory: Arc<Directory>,
}

/// Body of the control thread: starts the others, runs, and ends them in order.
pub(super) fn supervise(launch: Launch, shared: &Arc<Shared>) {
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
    /// Starts the global thread, and then everything else: once, or anew whenever the topics that patterns match have changed.
    fn run(mut self) -> Result<()> {
        let mut builder = self.task_builder();
        let mut others = Vec::new();
        others.extend(self.start_global(&mut builder)?);
        others.push(self.start_housekeeping()?);
        let outcome = loop {
            match self.run_on_topics(&builder) {
                Ok(Ended::Stopped) => break Ok(()),
                Ok(Ended::TopicsChanged(prepared)) => {
                    self.prepared = *prepared;
                    let global_stores = std::mem::take(&mut builder.global_stores);
                    builder = TaskBuilder { global_stores, ..self.task_builder() };
                    self.directory.renew(builder.clone());
                    self.shared.become_state(State::Rebalancing);
                }
                Err(error) => break Err(error),
            }
        };
        if outcome.is_err() {
            self.shared.request_failing_stop();
        }
        for thread in others {
            join(thread);
        }
        outcome
    }

    fn task_builder(&self) -> TaskBuilder {
        let settings = task_settings(&self.config, &self.components);
        let Prepared { topology, plan, .. } = self.prepared.clone();
        let mut builder = TaskBuilder::new(topology, plan, settings);
        builder.settings.row_cache_bytes_max /= builder.store_instances().max(1);
        builder
    }

    /// Fills the global stores and starts the thread that follows their topics, where there are any.
    fn start_global(&self, builder: &mut TaskBuilder) -> Result<Option<Thread>> {
        if self.topology.global_stores.is_empty() {
            return Ok(None);
        }
        let clients = &self.components.clients;
        let consumer = clients.consumer(ConsumerPurpose::Global)?;
        let mut admin = clients.admin()?;
        let folder = self.state_dir.folder();
        let (shared, timeout) = (self.shared.clone(), self.config.request_timeout);
        let mut global =
            GlobalThread::open(builder, folder, consumer, &mut *admin, shared, timeout)?;
        global.bootstrap()?;
        let thread = self.spawn("global", move || {
            global.run();
            Ok(())
        })?;
        Ok(Some(thread))
    }

    fn start_housekeeping(&self) -> Result<Thread> {
        let (admin, parts) = (self.components.clients.admin()?, &self.components);
        let (config, state_dir) = (self.config.clone(), self.state_dir.clone());
        let (shared, directory) = (self.shared.clone(), self.directory.clone());
        let housekeeping = Housekeeping::new(admin, directory, parts, config, state_dir, shared);
        self.spawn("housekeeping", move || {
            housekeeping.run();
            Ok(())
        })
    }

    fn topic_labels(&self) -> TopicLabels {
        let internal = self.prepared.plan.internal_topics.iter().map(|topic| topic.name.clone());
        TopicLabels::new(&self.config.application_id, internal)
    }

    /// Runs on the topics that were found, until the client stops or there are others.
    fn run_on_topics(&self, builder: &TaskBuilder) -> Result<Ended> {
        let Components { clients, clock, .. } = self.components.clone();
        let (restorer, restoring) = self.start_restorer(builder, &clients, &clock)?;
        let outcome = self.run_threads(builder, clients, &restorer, clock);
        restorer.stop();
        if outcome.is_err() {
            self.shared.request_failing_stop();
        }
        for thread in restoring {
            join(thread);
        }
        outcome
    }

    fn start_restorer(
        &self,
        builder: &TaskBuilder,
        clients: &Arc<dyn KafkaClients>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Restorer, Vec<Thread>)> {
        let consumers = (0..self.config.restore_threads)
            .map(|_| clients.consumer(ConsumerPurpose::Restore))
            .collect::<Result<Vec<_>>>()?;
        let (restorer, inboxes) = Restorer::new(&consumers);
        let mut threads = Vec::new();
        for (index, (consumer, commands)) in consumers.into_iter().zip(inboxes).enumerate() {
            let (config, writer) = (self.config.clone(), self.writer().to_owned());
            let restore = RestoreThread {
                builder: builder.clone(),
                consumer,
                commands,
                index,
                fencer: Fencer::new(clients.clone(), config, clock.clone(), writer),
                placements: restorer.placements(),
                state_dir: self.state_dir.clone(),
                recovery_lag: self.config.acceptable_recovery_lag,
                shared: self.shared.clone(),
                request_timeout: self.config.request_timeout,
                metrics: RestoreMetrics::new(&self.config.application_id),
            };
            let body = move || {
                restore.run();
                Ok(())
            };
            threads.push(self.spawn(&format!("restore-{index}"), body)?);
        }
        Ok((restorer, threads))
    }

    fn run_threads(
        &self,
        builder: &TaskBuilder,
        clients: Arc<dyn KafkaClients>,
        restorer: &Restorer,
        clock: Arc<dyn Clock>,
    ) -> Result<Ended> {
        let config = &self.config;
        let counts = topics::partition_counts(clients.admin()?, config.request_timeout);
        let (report, reports) = unbounded();
        let (mut handles, mut joins) = (Vec::new(), Vec::new());
        for index in 0..config.num_stream_threads {
            let (commands, inbox) = unbounded();
            let thread = self.stream_thread(
                index, builder, &clients, &clock, inbox, &commands, restorer, &report, &counts,
            )?;
            let handle = ThreadHandle {
                commands,
                wake: thread.consumer.waker(),
                alive_at_ms: thread.alive_at_ms.clone(),
            };
            handles.push(handle);
            joins.push(self.spawn(&format!("stream-{index}"), move || thread.run())?);
        }
        let (own_place, news) = unbounded();
        joins.extend(self.start_standbys(news, restorer)?);
        let topics = subscription(builder);
        let matching = match self.prepared.view.clone() {
            None => None,
            Some(view) => {
                Some(Matching::new(clients.admin()?, self.topology.clone(), view, &*clock))
            }
        };
        let mut control = ControlThread {
            membership: None,
            matching,
            started_at: clock.monotonic(),
            clients,
            topics,
            process: self.state_dir.process_id().to_owned(),
            builder: builder.clone(),
            config: config.clone(),
            threads: handles,
            reports,
            shared: self.shared.clone(),
            own_place: own_place.clone(),
            refused_since: None,
            join_at: None,
            placed: BTreeMap::new(),
        };
        let outcome = control.run();
        let _ = own_place.send(OwnPlace::Gone); // the thread may not have been started
        if outcome.is_err() {
            control.stop_threads();
        }
        for thread in joins {
            join(thread);
        }
        let left = control.leave();
        outcome.and_then(|ended| left.map(|()| ended))
    }

    fn start_standbys(
        &self,
        news: Receiver<OwnPlace>,
        restorer: &Restorer,
    ) -> Result<Option<Thread>> {
        let replicas = self.config.num_standby_replicas;
        if replicas == 0 {
            return Ok(None);
        }
        let (directory, shared) = (self.directory.clone(), self.shared.clone());
        let restorer = restorer.clone();
        let standbys = StandbyThread { news, directory, shared, restorer, replicas };
        let body = move || {
            standbys.run();
            Ok(())
        };
        self.spawn("standbys", body).map(Some)
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
        restorer: &Restorer,
        reports: &Sender<Report>,
        partition_counts: &PartitionCounts,
    ) -> Result<StreamThread> {
        let config = &self.config;
        let consumer = clients.consumer(ConsumerPurpose::Main)?;
        let new_sink = self.new_sink(index, clients.clone(), clock.clone());
        let reply = ReplyTo { commands: reply.clone(), wake: consumer.waker() };
        let alive_at_ms = u64::try_from(clock.monotonic().as_millis()).unwrap_or(0);
        let mut builder = builder.clone();
        builder.settings.wake = consumer.waker();
        builder.settings.writer = self.transactional_id(index).map(Into::into);
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
            restorer: restorer.clone(),
            reply,
            state_dir: self.state_dir.clone(),
            partition_counts: partition_counts.clone(),
            shared: self.shared.clone(),
            metrics: ThreadMetrics::new(&config.application_id, index),
            topic_labels: self.topic_labels(),
            alive_at_ms: Arc::new(AtomicU64::new(alive_at_ms)),
        })
    }

    /// What the transactional ids of this process are made of.
    fn writer(&self) -> &str {
        self.config.group_instance_id.as_deref().unwrap_or(self.state_dir.process_id())
    }

    /// Of a stream thread's producer; `None` without transactions.
    fn transactional_id(&self, index: usize) -> Option<String> {
        let id = || transactional_id(&self.config.application_id, self.writer(), index);
        self.config.is_exactly_once().then(id)
    }

    /// Makes the producers of a stream thread, all with one transactional id.
    fn new_sink(
        &self,
        index: usize,
        clients: Arc<dyn KafkaClients>,
        clock: Arc<dyn Clock>,
    ) -> NewSink {
        let (config, labels) = (self.config.clone(), self.topic_labels());
        let id = self.transactional_id(index);
        let record_bytes_max = config
            .producer
            .get("message.max.bytes")
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(RECORD_BYTES_MAX);
        Box::new(move || {
            let producer = clients.producer(id.as_deref())?;
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
    ) -> Result<Thread> {
        let (shared, thread) = (self.shared.clone(), name.to_owned());
        self.components.threads.spawn(name, move || match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => shared.fail(error.context(format!("thread {thread}"))),
            Err(_) => {
                let text = format!("thread {thread} panicked; no thread commits any more");
                shared.fail(Error::fatal(text));
            }
        })
    }
}

/// Waits for a thread; what made it fail is recorded already.
fn join(thread: Thread) {
    if thread.join().is_err() {
        tracing::error!("a thread could not be joined");
    }
}
