//! A stream split in several.

use std::sync::Arc;

use crate::error::Result;
use crate::processor::{ChildHandle, Processor, ProcessorContext};
use crate::record::Record;

/// Whether a record belongs to a branch.
pub(crate) type BranchPredicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// A branch: the name of its child node and its predicate; without one it takes everything.
pub(crate) type BranchTo<K, V> = (Arc<str>, Option<BranchPredicate<K, V>>);

/// Sends each record to the first branch whose predicate holds. Source: `KStreamBranch`.
pub(crate) struct Branch<K, V> {
    pub(crate) branches: Arc<[BranchTo<K, V>]>,
    pub(crate) children: Vec<ChildHandle>,
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, V> for Branch<K, V> {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, V>) -> Result<()> {
        let children = self.branches.iter().map(|(name, _)| context.child(name));
        self.children = children.collect::<Result<_>>()?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, V>,
    ) -> Result<()> {
        let holds = |predicate: &Option<BranchPredicate<K, V>>| {
            predicate.as_ref().is_none_or(|holds| holds(&record.key, &record.value))
        };
        match self.branches.iter().position(|(_, predicate)| holds(predicate)) {
            Some(branch) => context.forward_to(self.children[branch], record),
            None => Ok(()),
        }
    }
}
