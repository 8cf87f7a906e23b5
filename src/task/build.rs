//! Makes tasks out of the topology.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::global_task::GlobalTask;
use super::handover::TopicHandles;
use super::partition_group::PartitionGroup;
use super::spans::TaskSpans;
use super::stream_task::{Changelog, StreamTask};
use super::task_store::{TaskStore, Watched};
use crate::dlq::ErrorHandlers;
use crate::error::{Error, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::CommittedOffset;
use crate::processor::{
    Caches, CurrentRecord, NodeIndex, NodeKind, NodeSlot, OutputBuffer, PunctuationQueue,
    SharedStore, TaskState, TaskTimes,
};
use crate::store::{CacheBudget, Engines, MemoryEngines, StateStore};
use crate::telemetry::{StoreMetrics, TaskMetrics, Tracing};
use crate::time::Clock;
use crate::topology::{
    PartitionCounts, PartitionPlan, Role, StoreBuilder, StoreKind, Subtopology, TopicName,
    Topology, changelog_topic,
};

/// What all tasks of an application have in common.
#[derive(Clone)]
pub(crate) struct TaskSettings {
    pub(crate) application_id: Arc<str>,
    /// `None`: never wait (`max.task.idle.ms = -1`).
    pub(crate) max_task_idle: Option<Duration>,
    /// What the record caches of the thread's tasks share.
    pub(crate) record_cache: CacheBudget,
    /// Row cache of each store, in bytes.
    pub(crate) row_cache_bytes_max: usize,
    pub(crate) handlers: Arc<ErrorHandlers>,
    /// The shortest wall-clock time between two searches for results of closed windows.
    pub(crate) emit_interval: Duration,
    /// How long input has to be silent before time goes on by the wall clock.
    pub(crate) idle_timeout: Option<Duration>,
    /// How far ahead of the wall clock a record may be.
    pub(crate) future_skew_max: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Ends the sleep of the thread that runs a task.
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
    /// The `transactional.id` of the thread's producer, which is told beside every committed offset; `None` without transactions.
    pub(crate) writer: Option<Arc<str>>,
    /// Where persistent stores live.
    pub(crate) engines: Arc<dyn Engines>,
    /// Whether and how records are traced.
    pub(crate) tracing: Option<Tracing>,
}

/// Builds tasks and their stores. Names are resolved to indices here, once.
#[derive(Clone)]
pub(crate) struct TaskBuilder {
    pub(crate) topology: Arc<Topology>,
    pub(crate) subtopologies: Arc<Vec<Subtopology>>,
    pub(crate) plan: Arc<PartitionPlan>,
    pub(crate) settings: TaskSettings,
    pub(crate) global_stores: Vec<(Arc<str>, SharedStore)>,
}

impl TaskBuilder {
    pub(crate) fn new(
        topology: Arc<Topology>,
        plan: Arc<PartitionPlan>,
        settings: TaskSettings,
    ) -> Self {
        let subtopologies = Arc::new(topology.subtopologies());
        Self { topology, subtopologies, plan, settings, global_stores: Vec::new() }
    }

    /// Whether the engine made this topic to repartition a stream.
    pub(crate) fn is_repartition_topic(&self, topic: &str) -> bool {
        self.plan.source_topics.contains_key(topic)
            && self.plan.internal_topics.iter().any(|internal| &*internal.name == topic)
    }

    /// A task's input partitions, in the order that the task numbers them.
    pub(crate) fn source_partitions(&self, id: TaskId) -> Vec<TopicPartition> {
        self.sources(id).into_iter().map(|(_, partition)| partition).collect()
    }

    fn sources(&self, id: TaskId) -> Vec<(usize, TopicPartition)> {
        let nodes = &self.subtopologies[id.subtopology as usize].nodes;
        let mut sources = Vec::new();
        for node in nodes {
            for topic in self.topology.source_topics_of(*node) {
                let topic = topic.resolve(&self.settings.application_id);
                let partitions = self.plan.source_topics.get(&topic);
                if partitions.is_some_and(|partitions| id.partition < *partitions) {
                    sources.push((*node, TopicPartition::new(topic, id.partition)));
                }
            }
        }
        sources
    }

    /// The stores of a task, by name.
    pub(crate) fn store_names(&self, id: TaskId) -> Vec<Arc<str>> {
        let nodes = &self.subtopologies[id.subtopology as usize].nodes;
        let used =
            |name: &&Arc<str>| self.topology.users_of(name).any(|user| nodes.contains(&user));
        self.topology.stores.keys().filter(used).cloned().collect()
    }

    /// Whether a task has a store with a changelog.
    pub(crate) fn has_logged_store(&self, id: TaskId) -> bool {
        let is_logged = |name: &Arc<str>| {
            self.topology.source_changelogs.contains_key(name)
                || self.topology.stores[name].builder.changelog().is_some()
        };
        self.store_names(id).iter().any(is_logged)
    }

    /// How many stores there are over all tasks of the application, and global ones: they share one budget of row caches.
    /// Tasks without a store, such as those before a repartition topic, take none of it.
    pub(crate) fn store_instances(&self) -> usize {
        let of_tasks: usize = self.plan.task_ids().map(|id| self.store_names(id).len()).sum();
        of_tasks + self.topology.global_stores.len()
    }

    /// Opens the stores of a task in `folder` (in memory ones need none). Slow: disk.
    pub(crate) fn open_stores(&self, id: TaskId, folder: &Path) -> Result<Vec<TaskStore>> {
        self.store_names(id).iter().map(|name| self.open_store(name, folder)).collect()
    }

    /// Opens one store.
    pub(crate) fn open_store(&self, name: &str, folder: &Path) -> Result<TaskStore> {
        let builder = &self.topology.stores[name].builder;
        let source = self.topology.source_changelogs.get(name).cloned();
        let is_source = source.is_some();
        let logged = is_source || builder.changelog().is_some();
        let changelog =
            source.unwrap_or_else(|| changelog_topic(&self.settings.application_id, name));
        let engine = self.engines(builder.as_ref()).open(folder, name)?;
        let view = engine.view();
        let store = builder.build(engine, &changelog, self.settings.row_cache_bytes_max)?;
        let position = store.position().unwrap_or(0);
        let changelog = logged.then_some(changelog);
        let has_property = |property: &str| view.property(property).is_some();
        let metrics = StoreMetrics::new(&self.settings.application_id, name, has_property);
        Ok(TaskStore { store, changelog, is_source, position, watched: Watched { metrics, view } })
    }

    /// Deletes a store's files.
    pub(crate) fn wipe_store(&self, name: &str, folder: &Path) -> Result<()> {
        self.engines(self.topology.stores[name].builder.as_ref()).wipe(folder, name)
    }

    /// Whether a store's state outlives the process.
    pub(crate) fn is_persistent(&self, name: &str) -> bool {
        self.engines(self.topology.stores[name].builder.as_ref()).is_persistent()
    }

    fn engines(&self, builder: &dyn StoreBuilder) -> Arc<dyn Engines> {
        match builder.kind() {
            StoreKind::Persistent => self.settings.engines.clone(),
            StoreKind::InMemory => Arc::new(MemoryEngines),
        }
    }

    /// Builds a task on restored stores, and initialises its processors.
    ///
    /// `committed` is what the group has for each input partition, in the task's order: stream time goes on from there.
    /// `partition_count` answers sinks with a partitioner of their own.
    pub(crate) fn build(
        &self,
        id: TaskId,
        stores: Vec<TaskStore>,
        committed: &[Option<CommittedOffset>],
        partition_count: &PartitionCounts,
    ) -> Result<StreamTask> {
        let members = &self.subtopologies[id.subtopology as usize].nodes;
        let nodes = self.node_slots(members, partition_count);
        let sources = self.sources(id);
        // In the test driver topics join by and by; on a cluster there is no such task.
        if sources.is_empty() && self.topology.patterns().next().is_none() {
            return Err(Error::invalid(format!("task {id} has no input partition")));
        }
        let local = |node: usize| {
            let index = members.iter().position(|member| *member == node);
            NodeIndex(index.expect("a source is a member of its subtopology"))
        };
        let source_nodes: Vec<NodeIndex> = sources.iter().map(|(node, _)| local(*node)).collect();
        let slots = (0..sources.len())
            .map(|index| {
                source_nodes[..index].iter().filter(|node| **node == source_nodes[index]).count()
            })
            .collect();
        let partitions: Vec<TopicPartition> =
            sources.into_iter().map(|(_, partition)| partition).collect();
        let application_id = &self.settings.application_id;
        let dead_letter_topics = partitions
            .iter()
            .map(|partition| (self.settings.handlers.topic)(application_id, &partition.topic))
            .collect();
        let store_names = stores.iter().map(|store| store.store.name().clone()).collect();
        let input_of = |store: &TaskStore| {
            let topic = store.changelog.as_ref().filter(|_| store.is_source)?;
            partitions.iter().position(|partition| partition.topic == *topic)
        };
        let changelogs = stores.iter().map(|store| Changelog {
            topic: store.changelog.clone(),
            input: input_of(store),
            handle: None,
            position: store.position,
            unacknowledged: 0,
        });
        let changelogs: Vec<Changelog> = changelogs.collect();
        let pending_nodes = pending_nodes(&nodes);
        let names = nodes.iter().map(|slot| &slot.name);
        let metrics = TaskMetrics::new(application_id, id, &partitions, names);
        let (stores, watched): (Vec<Box<dyn StateStore>>, _) =
            stores.into_iter().map(|store| (store.store, store.watched)).unzip();
        let tells_stream_time = stores.iter().any(|store| store.needs_stream_time());
        let mut task = StreamTask {
            nodes,
            changelogs,
            stores,
            watched,
            group: PartitionGroup::new(&source_nodes, self.settings.max_task_idle),
            handlers: self.settings.handlers.clone(),
            future_skew_max: self.settings.future_skew_max,
            writer: self.settings.writer.clone(),
            dead_letter_handles: vec![None; partitions.len()],
            dead_letter_topics,
            handles: TopicHandles::default(),
            metrics,
            attempt: 0,
            has_effects: false,
            pending_nodes,
            tells_stream_time,
            slots,
            cache_metrics: Vec::new(),
            latency_samples: Vec::new(),
            punctuation_time: Duration::ZERO,
            spans: self.spans(id),
            state: self.task_state(id, members, partitions, store_names),
        };
        task.go_on_from(committed);
        task.init()?;
        task.open_cache_metrics();
        Ok(task)
    }

    /// The source by pattern that would read a topic; none for what the application makes for itself.
    pub(crate) fn pattern_source_of(&self, task: &StreamTask, topic: &str) -> Option<usize> {
        let is_dead_letters = task.dead_letter_topics.iter().any(|own| &**own == topic);
        let source = self.topology.pattern_source_of(topic, &self.settings.application_id);
        source.filter(|_| !is_dead_letters)
    }

    /// Lets a running task read one more topic, of a source by pattern.
    pub(crate) fn add_input(&self, task: &mut StreamTask, node: usize, input: TopicPartition) {
        let members = &self.subtopologies[task.id().subtopology as usize].nodes;
        let source = members.iter().position(|member| *member == node).map(NodeIndex);
        let source = source.expect("the source is a member of the task's subtopology");
        let handlers = &self.settings.handlers;
        task.slots.push(task.group.queues.iter().filter(|queue| queue.source == source).count());
        task.group.add(source);
        task.dead_letter_topics.push((handlers.topic)(&self.settings.application_id, &input.topic));
        task.dead_letter_handles.push(None);
        task.state.partitions.push(input);
    }

    /// Builds the task that feeds a global store, which it opens in `folder`.
    pub(crate) fn build_global(&self, index: usize, folder: &Path) -> Result<GlobalTask> {
        let spec = &self.topology.global_stores[index];
        let members = vec![spec.source, spec.processor];
        let unavailable: PartitionCounts = Arc::new(|topic| {
            Err(Error::invalid(format!("global stores cannot write to \"{topic}\"")))
        });
        let nodes = self.node_slots(&members, &unavailable);
        let topic = self.topology.source_topics_of(spec.source)[0].short().clone();
        let builder = spec.builder.as_ref();
        let engine = self.engines(builder).open(folder, builder.name())?;
        let store = builder.build(engine, &topic, self.settings.row_cache_bytes_max)?;
        let id = TaskId { subtopology: u32::MAX, partition: -1 };
        let names = vec![builder.name().clone()];
        let state = self.task_state(id, &members, Vec::new(), names);
        GlobalTask::new(topic, nodes, state, store)
    }

    fn task_state(
        &self,
        task_id: TaskId,
        members: &[usize],
        partitions: Vec<TopicPartition>,
        store_names: Vec<Arc<str>>,
    ) -> TaskState {
        let node_stores =
            members.iter().map(|node| self.topology.nodes[*node].stores.clone()).collect();
        TaskState {
            task_id,
            application_id: self.settings.application_id.clone(),
            clock: self.settings.clock.clone(),
            partitions,
            stream_time: None,
            current: CurrentRecord::default(),
            current_node: NodeIndex(0),
            trace: None,
            outputs: OutputBuffer::default(),
            punctuations: PunctuationQueue::default(),
            times: TaskTimes::default(),
            emit_interval: self.settings.emit_interval,
            idle_timeout: self.settings.idle_timeout,
            silent_since: None,
            aborts: 0,
            wake: self.settings.wake.clone(),
            commit_requested: false,
            dropped: Vec::new(),
            caches: self.caches(&store_names),
            store_names,
            global_stores: self.global_stores.clone(),
            node_stores,
        }
    }

    fn spans(&self, task: TaskId) -> Option<TaskSpans> {
        let tracing = self.settings.tracing.clone()?;
        let application_id = self.settings.application_id.clone();
        Some(TaskSpans::new(tracing, self.settings.clock.clone(), application_id, task))
    }

    fn caches(&self, store_names: &[Arc<str>]) -> Caches {
        let is_caching = |name: &Arc<str>| {
            let store = self.topology.stores.get(name); // a global one has nobody to forward to
            store.is_some_and(|store| store.builder.is_caching())
        };
        Caches::new(
            self.settings.record_cache.clone(),
            store_names.iter().map(is_caching).collect(),
        )
    }

    fn node_slots(&self, members: &[usize], partition_count: &PartitionCounts) -> Vec<NodeSlot> {
        let slot = |node: &usize| {
            let spec = &self.topology.nodes[*node];
            let children = spec.children.iter().filter_map(|child| {
                members.iter().position(|member| member == child).map(NodeIndex)
            });
            let node = match &spec.role {
                Role::Source { factory, .. } => NodeKind::Source(RefCell::new(factory())),
                Role::Processor { factory } => NodeKind::Processor(RefCell::new(factory())),
                Role::Sink { topic, factory } => {
                    let resolve = |topic: &TopicName| topic.resolve(&self.settings.application_id);
                    let resolved = topic.as_ref().map(resolve);
                    NodeKind::Processor(RefCell::new(factory(resolved, partition_count.clone())))
                }
            };
            let (name, children) = (spec.name.clone(), children.collect());
            NodeSlot { name, children, node, records: Cell::default() }
        };
        members.iter().map(slot).collect()
    }
}

fn pending_nodes(nodes: &[NodeSlot]) -> Vec<NodeIndex> {
    let is_pending = |slot: &NodeSlot| match &slot.node {
        NodeKind::Processor(node) => node.borrow_mut().pending().is_some(),
        NodeKind::Source(_) => false,
    };
    let numbered = nodes.iter().enumerate().filter(|(_, slot)| is_pending(slot));
    numbered.map(|(index, _)| NodeIndex(index)).collect()
}
