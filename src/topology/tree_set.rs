//! A sorted set whose order may change while it is filled: where an entry comes to lie then depends on the shape of the tree.
//!
//! [`describe`](super::Topology::describe) prints what Java prints, which sorts by sizes that it is still adding up. So this is a red-black tree that
//! grows as `java.util.TreeMap` does. Cold.

use std::cmp::Ordering;

#[derive(Debug, Clone)]
struct Entry {
    value: usize,
    parent: Option<usize>,
    /// Left and right.
    children: [Option<usize>; 2],
    is_red: bool,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// A set of indices.
#[derive(Debug, Clone, Default)]
pub(super) struct TreeSet {
    entries: Vec<Entry>,
    root: Option<usize>,
}

impl TreeSet {
    /// Adds `value` where `compare`, which says how it stands to an entry, leads to now. Source: `TreeMap.put`.
    pub(super) fn insert(&mut self, value: usize, compare: impl Fn(usize) -> Ordering) {
        let (mut next, mut parent, mut side) = (self.root, None, LEFT);
        while let Some(at) = next {
            parent = Some(at);
            side = match compare(self.entries[at].value) {
                Ordering::Less => LEFT,
                Ordering::Greater => RIGHT,
                Ordering::Equal => return,
            };
            next = self.entries[at].children[side];
        }
        let new = self.entries.len();
        self.entries.push(Entry { value, parent, children: [None; 2], is_red: true });
        match parent {
            None => self.root = Some(new),
            Some(parent) => self.entries[parent].children[side] = Some(new),
        }
        self.balance(new);
    }

    /// The entries from left to right.
    pub(super) fn values(&self) -> Vec<usize> {
        let mut values = Vec::with_capacity(self.entries.len());
        let (mut path, mut next) = (Vec::new(), self.root);
        while next.is_some() || !path.is_empty() {
            while let Some(at) = next {
                path.push(at);
                next = self.entries[at].children[LEFT];
            }
            if let Some(at) = path.pop() {
                values.push(self.entries[at].value);
                next = self.entries[at].children[RIGHT];
            }
        }
        values
    }

    /// Source: `TreeMap.fixAfterInsertion`.
    fn balance(&mut self, new: usize) {
        let mut at = new;
        while let Some(parent) = self.entries[at].parent.filter(|parent| self.is_red(Some(*parent)))
        {
            let Some(grandparent) = self.entries[parent].parent else { break };
            let side = self.side_of(parent, grandparent);
            let uncle = self.entries[grandparent].children[1 - side];
            if let Some(uncle) = uncle.filter(|_| self.is_red(uncle)) {
                self.entries[parent].is_red = false;
                self.entries[uncle].is_red = false;
                self.entries[grandparent].is_red = true;
                at = grandparent;
                continue;
            }
            let mut upper = parent;
            if self.side_of(at, parent) != side {
                self.rotate(parent, side);
                (upper, at) = (at, parent);
            }
            self.entries[upper].is_red = false;
            self.entries[grandparent].is_red = true;
            self.rotate(grandparent, 1 - side);
        }
        if let Some(root) = self.root {
            self.entries[root].is_red = false;
        }
    }

    fn is_red(&self, entry: Option<usize>) -> bool {
        entry.is_some_and(|entry| self.entries[entry].is_red)
    }

    fn side_of(&self, child: usize, parent: usize) -> usize {
        if self.entries[parent].children[LEFT] == Some(child) { LEFT } else { RIGHT }
    }

    /// Moves an entry down to `side`, and its child of the other side up into its place.
    fn rotate(&mut self, down: usize, side: usize) {
        let Some(up) = self.entries[down].children[1 - side] else { return };
        let inner = self.entries[up].children[side];
        self.entries[down].children[1 - side] = inner;
        if let Some(inner) = inner {
            self.entries[inner].parent = Some(down);
        }
        let parent = self.entries[down].parent;
        self.entries[up].parent = parent;
        match parent {
            None => self.root = Some(up),
            Some(parent) => {
                let side = self.side_of(down, parent);
                self.entries[parent].children[side] = Some(up);
            }
        }
        self.entries[up].children[side] = Some(down);
        self.entries[down].parent = Some(up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: &[usize]) -> TreeSet {
        let mut set = TreeSet::default();
        for value in values {
            set.insert(*value, |entry| value.cmp(&entry));
        }
        set
    }

    #[test]
    fn values_are_sorted_once_each_and_the_tree_is_balanced() {
        // A permutation of 0..101, each value twice.
        let values: Vec<usize> = (0..202).map(|n| n * 37 % 101).collect();
        let set = filled(&values);
        assert_eq!(set.values(), (0..101).collect::<Vec<_>>());
        let depth = |mut at: usize| {
            let mut depth = 0;
            while let Some(parent) = set.entries[at].parent {
                (at, depth) = (parent, depth + 1);
            }
            depth
        };
        assert!((0..101).map(depth).max().unwrap() <= 13, "at most 2 log2(102)");
        assert!(filled(&[]).values().is_empty());
    }

    #[test]
    fn the_shape_is_that_of_javas_tree() {
        // Ascending insertion: 0..6 ends with 1 at the root, 3 red below it.
        let set = filled(&[0, 1, 2, 3, 4, 5, 6]);
        let root = set.root.unwrap();
        let right = set.entries[root].children[RIGHT].unwrap();
        assert_eq!((set.entries[root].value, set.entries[right].value), (1, 3));
        assert!(set.entries[right].is_red);
        // Whatever an entry says of its place now, the search goes by the tree.
        let mut set = filled(&[0, 1, 2]);
        set.insert(9, |entry| if entry == 1 { Ordering::Less } else { Ordering::Greater });
        assert_eq!(set.values(), [0, 9, 1, 2]);
    }
}
