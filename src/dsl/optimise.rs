//! The rewritings of a plan that `topology.optimization` allows. Cold: when the topology is built.
//!
//! Source: `InternalStreamsBuilder.optimizeTopology`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::plan::{Changes, Optimisable, Plan, StreamJoinParts};
use super::repartition::{RepartitionNames, WriteRepartition};
use crate::config::TopologyOptimization;
use crate::topology::{Topology, TypeTag};

/// A repartition node that may give way to one of its key-changing ancestor.
pub(super) struct MergeableRepartition {
    pub(super) topic: Arc<str>,
    pub(super) types: TypeTag,
    /// Both serdes of its records are known.
    pub(super) has_serdes: bool,
    pub(super) write: Rc<RefCell<Option<WriteRepartition>>>,
}

/// Repartition nodes by the key-changing node that they are below, in the order in which those were added.
type Repartitions = Vec<(usize, Vec<usize>)>;

impl Plan {
    /// Rewrites what may be rewritten; returns the nodes that are gone.
    pub(super) fn optimise(&mut self, optimization: TopologyOptimization) -> Vec<usize> {
        let mut removed = Vec::new();
        if optimization.reuse_ktable_source_topics {
            for node in &self.nodes {
                if let Optimisable::TableSource(reuses_topic) = &node.optimisable {
                    reuses_topic.set(true);
                }
            }
        }
        if optimization.merge_repartition_topics {
            self.merge_repartition_topics(&mut removed);
        }
        if optimization.single_store_self_join {
            self.join_with_itself_in_one_store(&mut removed);
        }
        removed
    }

    /// Source: `mergeRepartitionTopics`.
    fn merge_repartition_topics(&mut self, removed: &mut Vec<usize>) {
        let of_key_changers = self.repartitions_of_key_changers();
        for (changer, repartitions) in self.move_below_merges(of_key_changers) {
            // Deviation: where another type arrives at the repartition than the key-changing node sends, Java merges all the same, and fails on the
            // first record.
            let types = self.nodes[changer].output;
            let fits = |node: &&usize| match &self.nodes[**node].optimisable {
                Optimisable::Repartition(repartition) => Some(repartition.types) == types,
                _ => false,
            };
            let fitting: Vec<usize> = repartitions.iter().filter(fits).copied().collect();
            if !fitting.is_empty() {
                self.merge_into_one(changer, &fitting);
                removed.extend(fitting);
            }
        }
    }

    fn repartitions_of_key_changers(&self) -> Repartitions {
        let mut found: Repartitions = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.changes == Changes::Key {
                found.push((index, Vec::new()));
            }
            if matches!(node.optimisable, Optimisable::Repartition(_))
                && let Some(changer) = self.key_changer_above(index)
                && let Some((_, repartitions)) = found.iter_mut().find(|(of, _)| *of == changer)
            {
                repartitions.push(index);
            }
        }
        found
    }

    /// The nearest node that changes the key, if none that changes something else is nearer. Source: `getKeyChangingParentNode`.
    fn key_changer_above(&self, repartition: usize) -> Option<usize> {
        let changes = |node: usize| {
            matches!(self.nodes[node].changes, Changes::Key | Changes::Value | Changes::Anything)
        };
        let nearest = self.find_above(repartition, &changes)?;
        (self.nodes[nearest].changes == Changes::Key).then_some(nearest)
    }

    /// The first node that is wanted, this one or above it, parents in their order and each with what is above it. Source:
    /// `findParentNodeMatching`.
    fn find_above(&self, from: usize, wanted: &dyn Fn(usize) -> bool) -> Option<usize> {
        if wanted(from) {
            return Some(from);
        }
        self.nodes[from].parents.iter().find_map(|parent| self.find_above(*parent, wanted))
    }

    /// The child of `top` that leads down to `node`, or `node` itself.
    fn child_on_the_way(&self, top: usize, node: usize) -> Option<usize> {
        self.find_above(node, &|candidate| self.nodes[candidate].parents.contains(&top))
    }

    /// Where all repartitions of several key-changing nodes lie below a merge of them, the topic comes below the merge. Source:
    /// `maybeUpdateKeyChangingRepartitionNodeMap`.
    fn move_below_merges(&self, mut found: Repartitions) -> Repartitions {
        let merges =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].changes == Changes::Merges);
        let moves: BTreeMap<usize, Vec<usize>> = merges
            .map(|merge| {
                let above = found.iter().filter(|(changer, repartitions)| {
                    let mut repartitions = repartitions.iter();
                    repartitions.all(|node| self.child_on_the_way(merge, *node).is_some())
                        && self.child_on_the_way(*changer, merge).is_some()
                });
                (merge, above.map(|(changer, _)| *changer).collect())
            })
            .collect();
        for (merge, changers) in &moves {
            let mut all = Vec::new();
            for (_, repartitions) in found.iter().filter(|(of, _)| changers.contains(of)) {
                all.extend(repartitions.iter().copied());
            }
            found.push((*merge, all));
        }
        let moved = |changer: &usize| moves.values().any(|changers| changers.contains(changer));
        found.retain(|(changer, _)| !moved(changer));
        found
    }

    /// Puts one repartition node right below `changer`, in the place of several further down.
    fn merge_into_one(&mut self, changer: usize, repartitions: &[usize]) {
        let merged = self.add_merged_repartition(changer, repartitions);
        for replaced in repartitions {
            let Some(child) = self.child_on_the_way(changer, *replaced) else { continue };
            self.add_child(merged, child);
            self.remove_child(changer, child);
            let parents = self.nodes[*replaced].parents.clone();
            for below in self.nodes[*replaced].children.clone() {
                for parent in &parents {
                    self.add_child(*parent, below);
                }
                self.remove_child(*replaced, below);
            }
            for parent in parents {
                self.remove_child(parent, *replaced);
            }
            let (gone, kept) =
                (self.nodes[*replaced].name.clone(), self.nodes[merged].name.clone());
            for name in self.copartitioned.iter_mut().flatten().filter(|name| **name == gone) {
                *name = kept.clone();
            }
        }
        self.add_child(changer, merged);
    }

    /// The new node has the first one's topic, and is written by the first one whose serdes are known.
    fn add_merged_repartition(&mut self, changer: usize, repartitions: &[usize]) -> usize {
        let of = |plan: &Self, node: usize| match &plan.nodes[node].optimisable {
            Optimisable::Repartition(repartition) => {
                let write = repartition.write.clone();
                (repartition.topic.clone(), repartition.has_serdes, write)
            }
            _ => unreachable!("only repartition nodes are merged"),
        };
        let known = repartitions.iter().find(|node| of(self, **node).1);
        let (topic, _, _) = of(self, repartitions[0]);
        let (_, _, write_first) = of(self, *known.unwrap_or(&repartitions[0]));
        let drops_null_keys: Rc<Cell<bool>> = Rc::default();
        let names = RepartitionNames::new(self, &topic, drops_null_keys.clone());
        let source = names.source().clone();
        let write = move |topology: &mut Topology, parents: &[&str]| {
            let write = write_first.take().expect("a repartition node is written once");
            write(topology, names, parents)
        };
        let merged = self.add(source, &[], Box::new(write));
        self.mark_repartition(merged, drops_null_keys);
        // Before everything else that is below the key-changing node.
        self.nodes[merged].priority = self.nodes[changer].priority;
        merged
    }

    /// Source: `rewriteSingleStoreSelfJoin`.
    fn join_with_itself_in_one_store(&mut self, removed: &mut Vec<usize>) {
        for index in 0..self.nodes.len() {
            let Optimisable::StreamJoin(parts) = &self.nodes[index].optimisable else { continue };
            let StreamJoinParts { other_windowed, is_self_join } = parts;
            let &[parent] = &self.nodes[index].parents[..] else { continue };
            is_self_join.set(true);
            let other = *other_windowed;
            self.remove_child(parent, other);
            removed.push(other);
        }
    }
}
