//! The topology as text, equal to the last character to `Topology#describe()` of Kafka Streams.
//!
//! Java sorts nodes by the size of what hangs below them while it is still adding those sizes up, in the order of its hash
//! maps. So that operators can compare the two texts, this module walks in the same order: see [`hash_order`].

use std::cmp::Ordering;
use std::sync::Arc;

use super::builder::Topology;
use super::node::Role;
use super::subtopology::Subtopology;
use super::tree_set::TreeSet;

struct Described {
    size: i64,
    predecessors: TreeSet,
    successors: TreeSet,
}

impl Topology {
    /// The text that `Topology#describe()` prints for the same topology.
    pub fn describe(&self) -> String {
        let mut text = String::from("Topologies:\n ");
        for subtopology in self.subtopologies() {
            if subtopology.global {
                self.describe_global(&subtopology, &mut text);
            } else {
                self.describe_subtopology(&subtopology, &mut text);
            }
        }
        text
    }

    fn describe_global(&self, subtopology: &Subtopology, text: &mut String) {
        let id = subtopology.id;
        text.push_str(&format!(
            "  Sub-topology: {id} for global store (will not generate tasks)\n"
        ));
        for index in &subtopology.nodes {
            let node = &self.nodes[*index];
            let names = |indices: &[usize]| self.names(indices);
            text.push_str(&format!(
                "    {}\n",
                self.node_text(*index, &names(&node.parents), &names(&node.children))
            ));
        }
    }

    fn describe_subtopology(&self, subtopology: &Subtopology, text: &mut String) {
        let names: Vec<Arc<str>> =
            subtopology.nodes.iter().map(|index| self.nodes[*index].name.clone()).collect();
        // A set of names first (insertion order: as added), then a map filled in that set's order.
        let set = hash_order(&names, grown_capacity(names.len()));
        let in_set: Vec<Arc<str>> = set.iter().map(|index| names[*index].clone()).collect();
        let map = hash_order(&in_set, grown_capacity(names.len()));
        let order: Vec<usize> = map.iter().map(|index| subtopology.nodes[set[*index]]).collect();

        let mut described: Vec<Described> = self
            .nodes
            .iter()
            .map(|_| Described {
                size: 1,
                predecessors: TreeSet::default(),
                successors: TreeSet::default(),
            })
            .collect();
        for node in &order {
            for parent in &self.nodes[*node].parents {
                self.insert_sorted(&mut described, *node, *parent, |entry| &mut entry.predecessors);
                self.insert_sorted(&mut described, *parent, *node, |entry| &mut entry.successors);
                let size = described[*node].size;
                add_size(&mut described, *parent, size);
            }
        }
        let mut nodes = order;
        nodes.sort_by(|a, b| self.compare(&described, *a, *b));
        text.push_str(&format!("  Sub-topology: {}\n", subtopology.id));
        for node in nodes {
            let (before, after) = (
                self.names(&described[node].predecessors.values()),
                self.names(&described[node].successors.values()),
            );
            text.push_str(&format!("    {}\n", self.node_text(node, &before, &after)));
        }
        text.push('\n');
    }

    fn insert_sorted(
        &self,
        described: &mut [Described],
        of: usize,
        neighbour: usize,
        list: impl Fn(&mut Described) -> &mut TreeSet,
    ) {
        let mut entries = std::mem::take(list(&mut described[of]));
        entries.insert(neighbour, |entry| self.compare(described, neighbour, entry));
        *list(&mut described[of]) = entries;
    }

    fn compare(&self, described: &[Described], a: usize, b: usize) -> Ordering {
        let by_size = described[b].size.cmp(&described[a].size);
        by_size.then_with(|| self.nodes[a].name.cmp(&self.nodes[b].name))
    }

    fn node_text(&self, index: usize, before: &str, after: &str) -> String {
        let node = &self.nodes[index];
        let name = &node.name;
        match &node.role {
            Role::Source { pattern: Some(pattern), .. } => {
                format!("Source: {name} (topics: {})\n      --> {after}", pattern.as_str())
            }
            Role::Source { topics, .. } => {
                let topics: Vec<Arc<str>> =
                    topics.iter().map(|topic| topic.short().clone()).collect();
                let topics = joined(&topics, copied_capacity(topics.len()));
                format!("Source: {name} (topics: [{topics}])\n      --> {after}")
            }
            Role::Processor { .. } => {
                let grown = hash_order(&node.stores, grown_capacity(node.stores.len()));
                let stores: Vec<Arc<str>> =
                    grown.iter().map(|index| node.stores[*index].clone()).collect();
                let stores = joined(&stores, copied_capacity(stores.len()));
                format!(
                    "Processor: {name} (stores: [{stores}])\n      --> {after}\n      <-- {before}"
                )
            }
            Role::Sink { topic: Some(topic), .. } => {
                format!("Sink: {name} (topic: {})\n      <-- {before}", topic.short())
            }
            Role::Sink { topic: None, .. } => {
                format!("Sink: {name} (extractor class: dynamic)\n      <-- {before}")
            }
        }
    }

    fn names(&self, indices: &[usize]) -> String {
        if indices.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<&str> = indices.iter().map(|index| &*self.nodes[*index].name).collect();
        names.join(", ")
    }
}

fn add_size(described: &mut [Described], node: usize, delta: i64) {
    described[node].size += delta;
    for predecessor in described[node].predecessors.values() {
        add_size(described, predecessor, delta);
    }
}

fn joined(names: &[Arc<str>], capacity: usize) -> String {
    let order = hash_order(names, capacity);
    order.iter().map(|index| &*names[*index]).collect::<Vec<_>>().join(", ")
}

/// The order in which a `java.util.HashMap` of `capacity` buckets iterates over names put in this order.
fn hash_order(names: &[Arc<str>], capacity: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|index| {
        let hash = names[*index]
            .encode_utf16()
            .fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ (hash >> 16)) as usize & (capacity - 1)
    });
    order
}

/// Buckets of a map that grew to `entries` one by one.
fn grown_capacity(entries: usize) -> usize {
    let mut capacity = 16;
    while entries * 4 > capacity * 3 {
        capacity *= 2;
    }
    capacity
}

/// Buckets of a set made as a copy of `entries` others.
fn copied_capacity(entries: usize) -> usize {
    (entries * 4 / 3 + 1).max(16).next_power_of_two()
}
