//! The connected parts of the graph: nodes joined by edges or by a shared store.

use super::builder::Topology;

/// A connected part of the topology; its instances on partitions are the tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtopology {
    /// Its number, in the order in which the first of its nodes was added.
    pub id: u32,
    /// Its nodes, in the order in which they were added.
    pub(crate) nodes: Vec<usize>,
    /// Whether it feeds a global store, and so makes no task.
    pub(crate) global: bool,
}

impl Topology {
    /// The subtopologies, numbered as `InternalTopologyBuilder.makeNodeGroups` does.
    pub fn subtopologies(&self) -> Vec<Subtopology> {
        let mut root: Vec<usize> = (0..self.nodes.len()).collect();
        let join = |root: &mut Vec<usize>, a: usize, b: usize| {
            let (a, b) = (root[a], root[b]);
            if a != b {
                let (keep, drop) = (a.min(b), a.max(b));
                for entry in root.iter_mut().filter(|entry| **entry == drop) {
                    *entry = keep;
                }
            }
        };
        for (index, node) in self.nodes.iter().enumerate() {
            for parent in &node.parents {
                join(&mut root, index, *parent);
            }
        }
        for store in self.stores.keys() {
            let users: Vec<usize> = self.users_of(store).collect();
            for pair in users.windows(2) {
                join(&mut root, pair[0], pair[1]);
            }
        }
        let mut groups: Vec<(usize, Subtopology)> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            match groups.iter_mut().find(|(group, _)| *group == root[index]) {
                Some((_, group)) => group.nodes.push(index),
                None => {
                    let id = u32::try_from(groups.len()).expect("a topology has few subtopologies");
                    let group = Subtopology { id, nodes: vec![index], global: node.global };
                    groups.push((root[index], group));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}
