//! A stream split in several, by the first predicate that holds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::params::Named;
use super::stream::KStream;
use crate::operators::{Branch, BranchPredicate, BranchTo, Peek};
use crate::topology::Topology;

/// The branches of one stream, in order; the splitting node is written once all are known.
type Branches<K, V> = Rc<RefCell<Vec<BranchTo<K, V>>>>;

/// A stream that is being split. Source: `BranchedKStream`.
///
/// Deviation: each call returns its branch, where Java collects them in a map.
///
/// ```
/// let builder = kstreams::StreamsBuilder::new();
/// let mut amounts = builder.stream::<String, i64>("amounts").split();
/// amounts.branch(|_, amount| *amount >= 1000).to("large");
/// amounts.default_branch().to("small");
/// assert!(builder.build().unwrap().describe().contains("KSTREAM-BRANCH-00000000011"));
/// ```
pub struct BranchedKStream<K, V> {
    stream: KStream<K, V>,
    node: usize,
    name: Arc<str>,
    branches: Branches<K, V>,
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Splits the stream: each record goes to the first branch whose predicate holds, or to the default branch.
    pub fn split(&self) -> BranchedKStream<K, V> {
        self.split_named(&Named::default())
    }

    /// As [`split`](Self::split); the branches' names begin with the node's.
    pub fn split_named(&self, named: &Named) -> BranchedKStream<K, V> {
        let branches = Branches::<K, V>::default();
        let mut plan = self.plan.borrow_mut();
        let name = plan.node_name(named.0.as_ref(), "KSTREAM-BRANCH-");
        let write = {
            let (name, branches) = (name.clone(), branches.clone());
            move |topology: &mut Topology, parents: &[&str]| {
                let branches: Arc<[_]> = branches.take().into();
                let supplier = move || Branch { branches: branches.clone(), children: Vec::new() };
                topology.add_processor::<K, V, K, V, _>(&name, supplier, parents, &[])
            }
        };
        let node = plan.add(name.clone(), &[self.node], Box::new(write));
        drop(plan);
        BranchedKStream { stream: self.clone(), node, name, branches }
    }
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> BranchedKStream<K, V> {
    /// The records for which `predicate` holds and no earlier one did.
    pub fn branch(
        &mut self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KStream<K, V> {
        let suffix = (self.branches.borrow().len() + 1).to_string();
        self.child(&suffix, Some(Arc::new(predicate)))
    }

    /// As [`branch`](Self::branch); the node is called as the splitting one, and then `name`.
    pub fn branch_named(
        &mut self,
        name: &str,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.child(name, Some(Arc::new(predicate)))
    }

    /// The records that no branch took; without this call they are dropped.
    pub fn default_branch(self) -> KStream<K, V> {
        self.child("0", None)
    }

    /// As [`default_branch`](Self::default_branch); the node is called as the splitting one, and then `name`.
    pub fn default_branch_named(self, name: &str) -> KStream<K, V> {
        self.child(name, None)
    }

    fn child(&self, suffix: &str, predicate: Option<BranchPredicate<K, V>>) -> KStream<K, V> {
        let name: Arc<str> = format!("{}{suffix}", self.name).into();
        self.branches.borrow_mut().push((name.clone(), predicate));
        let mut plan = self.stream.plan.borrow_mut();
        plan.new_name(""); // a number is used up all the same
        let write = {
            let name = name.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                let supplier = || Peek(Arc::new(|_: &K, _: &V| ()));
                topology.add_processor::<K, V, K, V, _>(&name, supplier, parents, &[])
            }
        };
        let node = plan.add(name.clone(), &[self.node], Box::new(write));
        drop(plan);
        let KStream { plan, serdes, sources, repartition_required, .. } = &self.stream;
        let (serdes, sources) = (serdes.clone(), sources.clone());
        KStream::new(plan.clone(), node, name, serdes, sources, *repartition_required)
    }
}
