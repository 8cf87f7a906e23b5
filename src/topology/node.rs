//! What the graph knows of a node: its name, its neighbours, its types, and how to make an instance.

use std::any::{TypeId, type_name};
use std::sync::Arc;

use super::internal_topics::TopicName;
use super::offset_reset::AutoOffsetReset;
use super::topic_pattern::TopicPattern;
pub(crate) use crate::processor::PartitionCounts;
use crate::processor::{Node, Source};

/// The type of the records on an edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypeTag {
    id: TypeId,
    name: &'static str,
}

impl TypeTag {
    pub(crate) fn of<K: 'static, V: 'static>() -> Self {
        Self { id: TypeId::of::<(K, V)>(), name: type_name::<(K, V)>() }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

impl PartialEq for TypeTag {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Makes a sink node for a resolved topic name (`None`: dynamic).
pub(crate) type SinkFactory =
    Arc<dyn Fn(Option<Arc<str>>, PartitionCounts) -> Box<dyn Node> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Role {
    /// Where a pattern is given, `topics` are those that it matched (`Topology::matching`).
    Source {
        topics: Vec<TopicName>,
        pattern: Option<TopicPattern>,
        offset_reset: Option<AutoOffsetReset>,
        factory: Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>,
    },
    Processor {
        factory: Arc<dyn Fn() -> Box<dyn Node> + Send + Sync>,
    },
    /// `topic` is `None` where a `TopicNameExtractor` decides.
    Sink {
        topic: Option<TopicName>,
        factory: SinkFactory,
    },
}

#[derive(Clone)]
pub(crate) struct NodeSpec {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) parents: Vec<usize>,
    pub(crate) children: Vec<usize>,
    /// Connected stores, in the order of connection.
    pub(crate) stores: Vec<Arc<str>>,
    pub(crate) output: Option<TypeTag>,
    /// Belongs to a global store: runs in the global thread and makes no task.
    pub(crate) global: bool,
}
