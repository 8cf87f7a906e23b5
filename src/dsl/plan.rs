//! The logical plan: what the DSL calls have asked for, before it is written into a topology.
//!
//! Names are numbered when an operator is called; nodes are written at the end, lowest number first once all their parents
//! are written, so that later calls can still change earlier nodes (a join makes its table materialise).
//! Source: `InternalStreamsBuilder`.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::optimise::MergeableRepartition;
use crate::config::TopologyOptimization;
use crate::error::{Error, Result};
use crate::processor::ProcessorWrapper;
use crate::topology::{AutoOffsetReset, TopicPattern, Topology, TypeTag};

/// Writes a node below the given parents.
pub(super) type Write = Box<dyn FnOnce(&mut Topology, &[&str]) -> Result<()>>;

/// A node of the plan. `name` is the topology node that children hang below.
pub(super) struct PlanNode {
    pub(super) name: Arc<str>,
    /// Each once.
    pub(super) parents: Vec<usize>,
    /// Each once.
    pub(super) children: Vec<usize>,
    pub(super) priority: usize,
    write: Option<Write>,
    /// A left or outer join: null keys matter to it (KIP-962).
    relaxed_null_key: bool,
    /// A repartition node: whether its filter drops null keys, decided when the plan is complete.
    drops_null_keys: Option<Rc<Cell<bool>>>,
    /// For merging equal sources of streams.
    source: Option<StreamSource>,
    /// Whether the table behind the node is versioned; `None`: as its parents are.
    output_versioned: Option<bool>,
    /// A windowed aggregation: how long a window waits for late records after its end.
    grace: Option<Duration>,
    /// What an operator learns at the end: whether the table behind each parent is versioned.
    parents_versioned: Vec<Rc<Cell<bool>>>,
    pub(super) changes: Changes,
    /// The type of the records that it sends, where an optimisation asks.
    pub(super) output: Option<TypeTag>,
    pub(super) optimisable: Optimisable,
}

/// What a source of a stream reads.
#[derive(Clone)]
pub(super) struct StreamSource {
    pub(super) topics: SourceTopics,
    pub(super) types: TypeTag,
    pub(super) offset_reset: Option<AutoOffsetReset>,
}

#[derive(Clone, PartialEq)]
pub(super) enum SourceTopics {
    Named(Vec<String>),
    Matching(TopicPattern),
}

impl SourceTopics {
    /// Whether two sources have to be one. Patterns that differ may still match the same topic, which shows later.
    fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named(one), Self::Named(two)) => one.iter().any(|topic| two.contains(topic)),
            (Self::Matching(one), Self::Matching(two)) => one == two,
            (Self::Named(_), Self::Matching(_)) | (Self::Matching(_), Self::Named(_)) => false,
        }
    }
}

impl fmt::Display for SourceTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(topics) => write!(f, "{topics:?}"),
            Self::Matching(pattern) => write!(f, "\"{}\"", pattern.as_str()),
        }
    }
}

/// What a node does to the records' keys and values, as far as repartitioning cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    Nothing,
    Value,
    Key,
    /// Anything, for all that the plan knows: a processor of the user's own.
    Anything,
    /// It brings streams together.
    Merges,
}

/// What an optimisation can do with a node.
pub(super) enum Optimisable {
    No,
    Repartition(MergeableRepartition),
    StreamJoin(StreamJoinParts),
    /// A table's source: whether its store has the source topic as its changelog.
    TableSource(Rc<Cell<bool>>),
}

/// The nodes of a stream-stream join, for joining a stream with itself in one store.
pub(super) struct StreamJoinParts {
    pub(super) other_windowed: usize,
    pub(super) is_self_join: Rc<Cell<bool>>,
}

#[derive(Default)]
pub(super) struct Plan {
    index: usize,
    priority: usize,
    pub(super) nodes: Vec<PlanNode>,
    pub(super) copartitioned: Vec<Vec<Arc<str>>>,
    /// The first given name that cannot be one; told when the topology is built.
    bad_name: Option<Error>,
    /// What stands around each processor.
    pub(super) wrapper: Option<Arc<dyn ProcessorWrapper>>,
}

/// The longest name that is given to a node or store: a topic may be called after it.
const NAME_LENGTH_MAX: usize = 249;

/// The plan, shared by the builder and every stream and table made from it.
pub(super) type SharedPlan = Rc<RefCell<Plan>>;

impl Plan {
    /// `<prefix><10 digits>`; every call uses up a number. Source: `newProcessorName`.
    pub(super) fn new_name(&mut self, prefix: &str) -> Arc<str> {
        let name = format!("{prefix}{:010}", self.index);
        self.index += 1;
        name.into()
    }

    /// The given name of a store or topic, or a new one; a number is used up only in the second case.
    pub(super) fn name_or(&mut self, given: Option<&Arc<str>>, prefix: &str) -> Arc<str> {
        self.check_name(given);
        given.cloned().unwrap_or_else(|| self.new_name(prefix))
    }

    /// The given name of a node, or a new one; Java uses a number up in both cases. Source: `orElseGenerateWithPrefix`.
    pub(super) fn node_name(&mut self, given: Option<&Arc<str>>, prefix: &str) -> Arc<str> {
        self.check_name(given);
        let generated = self.new_name(prefix);
        given.cloned().unwrap_or(generated)
    }

    /// Keeps the error of a name that cannot be a topic's, or part of one. Source: `Named.validate`.
    pub(super) fn check_name(&mut self, given: Option<&Arc<str>>) {
        let Some(name) = given else { return };
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_good = !matches!(&**name, "" | "." | "..")
            && name.len() <= NAME_LENGTH_MAX
            && name.chars().all(is_legal);
        if !is_good {
            self.bad_name.get_or_insert_with(|| {
                Error::invalid(format!(
                    "found the name \"{name}\" of a node or store, wanted 1 to {NAME_LENGTH_MAX} of the characters a-z, A-Z, 0-9, \".\", \"_\" and \"-\", and not \".\" or \"..\" alone"
                ))
            });
        }
    }

    /// Adds a node; without parents it hangs below the root.
    pub(super) fn add(&mut self, name: Arc<str>, parents: &[usize], write: Write) -> usize {
        let index = self.nodes.len();
        self.priority += parents.len().max(1);
        let mut once = Vec::with_capacity(parents.len());
        for parent in parents {
            if !once.contains(parent) {
                once.push(*parent);
                self.nodes[*parent].children.push(index);
            }
        }
        self.nodes.push(PlanNode {
            name,
            parents: once,
            children: Vec::new(),
            priority: self.priority,
            write: Some(write),
            relaxed_null_key: false,
            drops_null_keys: None,
            source: None,
            output_versioned: None,
            grace: None,
            parents_versioned: Vec::new(),
            changes: Changes::Nothing,
            output: None,
            optimisable: Optimisable::No,
        });
        index
    }

    /// Adds a node once more, to the parents that it has: it will be written as late as if it had been added now.
    pub(super) fn add_again(&mut self, node: usize) {
        self.priority += 1;
        self.nodes[node].priority = self.priority;
    }

    /// Uses up the numbers of a repartition node's names where the node is there already.
    pub(super) fn use_up_repartition_names(&mut self) {
        for prefix in ["KSTREAM-SINK-", "KSTREAM-FILTER-", "KSTREAM-SOURCE-"] {
            self.new_name(prefix);
        }
    }

    /// Says what the node does to the records, and what it sends.
    pub(super) fn mark_changes(&mut self, node: usize, changes: Changes, output: TypeTag) {
        self.nodes[node].changes = changes;
        self.nodes[node].output = Some(output);
    }

    pub(super) fn mark_optimisable(&mut self, node: usize, optimisable: Optimisable) {
        self.nodes[node].optimisable = optimisable;
    }

    pub(super) fn mark_source(&mut self, node: usize, source: StreamSource) {
        self.nodes[node].source = Some(source);
    }

    pub(super) fn mark_relaxed_null_key(&mut self, node: usize) {
        self.nodes[node].relaxed_null_key = true;
    }

    pub(super) fn mark_repartition(&mut self, node: usize, drops_null_keys: Rc<Cell<bool>>) {
        self.nodes[node].drops_null_keys = Some(drops_null_keys);
    }

    /// Says that the table of `node` has a store, versioned or not. Source: `setOutputVersioned`.
    pub(super) fn set_output_versioned(&mut self, node: usize, versioned: bool) {
        self.nodes[node].output_versioned = Some(versioned);
    }

    /// Has an operator told whether its inputs are versioned, in the order of its parents. Source: `VersionedSemanticsGraphNode`.
    pub(super) fn mark_versioned_semantics(
        &mut self,
        node: usize,
        parents_versioned: Vec<Rc<Cell<bool>>>,
    ) {
        self.nodes[node].parents_versioned = parents_versioned;
    }

    /// Whether the table behind `node` is versioned: by its own store, or else by those of all its parents.
    /// Source: `isVersionedOrVersionedUpstream`.
    pub(super) fn is_output_versioned(&self, node: usize) -> bool {
        let PlanNode { output_versioned, parents, .. } = &self.nodes[node];
        output_versioned.unwrap_or_else(|| {
            !parents.is_empty() && parents.iter().all(|parent| self.is_output_versioned(*parent))
        })
    }

    /// Says that `node` is a windowed aggregation with this grace period; that of sessions includes their gap.
    /// Source: `GracePeriodGraphNode`.
    pub(super) fn mark_grace(&mut self, node: usize, grace: Duration) {
        self.nodes[node].grace = Some(grace);
    }

    /// The longest grace period of the windowed aggregations above `node`, itself included; `None` where a way up meets none.
    /// Source: `GraphGraceSearchUtil.findAndVerifyWindowGrace`.
    pub(super) fn find_grace(&self, node: usize) -> Option<Duration> {
        let PlanNode { grace, parents, .. } = &self.nodes[node];
        grace.or_else(|| {
            let graces = parents.iter().map(|parent| self.find_grace(*parent));
            graces.collect::<Option<Vec<_>>>()?.into_iter().max()
        })
    }

    pub(super) fn copartition(&mut self, sources: Vec<Arc<str>>) {
        self.copartitioned.push(sources);
    }

    /// Writes everything. Source: `buildAndOptimizeTopology`.
    pub(super) fn write(&mut self, optimization: TopologyOptimization) -> Result<Topology> {
        self.bad_name.take().map_or(Ok(()), Err)?;
        let merged = self.merge_equal_sources()?;
        let removed = self.optimise(optimization);
        self.decide_null_keys();
        self.decide_versioned_semantics();
        let mut topology = Topology::wrapped_by(self.wrapper.take());
        let mut queue: BinaryHeap<Reverse<(usize, usize)>> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| {
                let gone = merged.contains_key(index) || removed.contains(index);
                node.parents.is_empty() && !gone
            })
            .map(|(index, node)| Reverse((node.priority, index)))
            .collect();
        while let Some(Reverse((_, index))) = queue.pop() {
            let parents = self.nodes[index].parents.clone();
            let ready = parents.iter().all(|parent| self.nodes[*parent].write.is_none());
            if !ready {
                continue; // comes again with its last parent
            }
            if let Some(write) = self.nodes[index].write.take() {
                let names: Vec<Arc<str>> =
                    parents.iter().map(|parent| self.nodes[*parent].name.clone()).collect();
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                write(&mut topology, &names)?;
            }
            for child in &self.nodes[index].children {
                queue.push(Reverse((self.nodes[*child].priority, *child)));
            }
        }
        for group in &self.copartitioned {
            let mut group: Vec<Arc<str>> =
                group.iter().map(|name| self.surviving(name, &merged)).collect();
            group.sort();
            group.dedup();
            topology.copartition(&group)?;
        }
        Ok(topology)
    }

    /// Two streams of the same topics share one source. Source: `mergeDuplicateSourceNodes`.
    fn merge_equal_sources(&mut self) -> Result<BTreeMap<usize, usize>> {
        let mut merged = BTreeMap::new();
        for later in 0..self.nodes.len() {
            let Some(source) = self.nodes[later].source.clone() else { continue };
            let earlier = (0..later).find_map(|node| {
                let own =
                    self.nodes[node].source.as_ref().filter(|_| !merged.contains_key(&node))?;
                own.topics.overlap(&source.topics).then(|| (node, own.clone()))
            });
            let Some((earlier, own)) = earlier else { continue };
            let refused = if own.topics != source.topics || own.types != source.types {
                Some("but not the same topics with the same types")
            } else if own.offset_reset != source.offset_reset {
                Some("with different offset reset policies")
            } else {
                None
            };
            if let Some(refused) = refused {
                return Err(Error::invalid(format!(
                    "sources \"{}\" and \"{}\" both read one of {}, {refused}",
                    self.nodes[earlier].name, self.nodes[later].name, source.topics
                )));
            }
            let children = std::mem::take(&mut self.nodes[later].children);
            for child in &children {
                self.remove_parent(*child, later);
                self.add_child(earlier, *child);
            }
            merged.insert(later, earlier);
        }
        Ok(merged)
    }

    /// Hangs a node below another one, too.
    pub(super) fn add_child(&mut self, parent: usize, child: usize) {
        if !self.nodes[parent].children.contains(&child) {
            self.nodes[parent].children.push(child);
        }
        if !self.nodes[child].parents.contains(&parent) {
            self.nodes[child].parents.push(parent);
        }
    }

    /// Takes a node away from below another one.
    pub(super) fn remove_child(&mut self, parent: usize, child: usize) {
        self.nodes[parent].children.retain(|known| *known != child);
        self.remove_parent(child, parent);
    }

    fn remove_parent(&mut self, child: usize, parent: usize) {
        self.nodes[child].parents.retain(|known| *known != parent);
    }

    fn surviving(&self, name: &Arc<str>, merged: &BTreeMap<usize, usize>) -> Arc<str> {
        let found = merged.iter().find(|(gone, _)| self.nodes[**gone].name == *name);
        found.map_or_else(|| name.clone(), |(_, kept)| self.nodes[*kept].name.clone())
    }

    fn decide_versioned_semantics(&self) {
        for node in &self.nodes {
            let Some(last) = node.parents.last().copied() else { continue };
            // A table joined with itself is one parent of both sides.
            let parents = node.parents.iter().chain(std::iter::repeat(&last));
            for (parent, versioned) in parents.zip(&node.parents_versioned) {
                versioned.set(self.is_output_versioned(*parent));
            }
        }
    }

    /// A repartition node drops null keys unless a left or outer join lies below it. Source: `NodesWithRelaxedNullKeyJoinDownstream`.
    fn decide_null_keys(&mut self) {
        let mut known = vec![None; self.nodes.len()];
        for index in 0..self.nodes.len() {
            let relaxed = self.is_relaxed_below(index, &mut known);
            if let Some(drops) = &self.nodes[index].drops_null_keys {
                drops.set(!relaxed);
            }
        }
    }

    fn is_relaxed_below(&self, index: usize, known: &mut Vec<Option<bool>>) -> bool {
        if let Some(relaxed) = known[index] {
            return relaxed;
        }
        let relaxed = self.nodes[index].children.iter().any(|child| {
            self.nodes[*child].relaxed_null_key || self.is_relaxed_below(*child, known)
        });
        known[index] = Some(relaxed);
        relaxed
    }
}
