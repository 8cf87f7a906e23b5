//! A join of a stream with a versioned table that waits for late table updates. Hot path.

use std::sync::Arc;

use super::join::StreamTableJoin;
use crate::error::Result;
use crate::nullable::Nullable;
use crate::processor::{CurrentRecord, Processor, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::store::{Buffered, JoinBuffer};

/// Holds each record back until stream time has passed it by the grace period, and joins it then, as of its own time.
/// Source: `KStreamKTableJoinProcessor` with a grace period (KIP-923).
///
/// Deviation: a left join answers a null key at once, as without grace; Java's task dies of it.
pub(crate) struct BufferedJoin<K: Nullable, V, VT, J> {
    pub(crate) join: StreamTableJoin<K, VT, J>,
    pub(crate) store: Arc<str>,
    pub(crate) handle: Option<StoreHandle<JoinBuffer<K, V>>>,
    /// Emptied by every record; kept for its memory.
    pub(crate) due: Vec<Buffered<K, V>>,
}

impl<K, V, VT, VO, J> Processor<K, V, K, VO> for BufferedJoin<K, V, VT, J>
where
    K: Nullable,
    V: Nullable,
    VT: 'static,
    VO: Clone + 'static,
    J: Fn(&K, V, Option<VT>) -> VO + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VO>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        self.join.init(context)
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()> {
        if record.key.as_non_null().is_none() || record.value.as_non_null().is_none() {
            return self.join.process(record, context);
        }
        let Record { key, value, timestamp, headers } = record;
        let (topic, partition, offset) = match context.record_metadata() {
            Some(origin) => (origin.topic, origin.partition, origin.offset),
            None => (Arc::from(""), -1, -1),
        };
        let record = Buffered { key, value, timestamp, headers, topic, partition, offset };
        let buffer = context.store(self.handle.expect("init looked the store up"));
        if !buffer.put(&record)? {
            let Buffered { key, value, timestamp, headers, .. } = record;
            return self.join.process(Record { key, value, timestamp, headers }, context);
        }
        let mut due = std::mem::take(&mut self.due);
        buffer.take_due(&mut due)?;
        for record in due.drain(..) {
            self.join_as_if_now(record, context)?;
        }
        self.due = due;
        Ok(())
    }
}

impl<K: Nullable, V: Nullable, VT: 'static, J> BufferedJoin<K, V, VT, J> {
    /// Joins a record that has waited; what is below sees its origin, not that of the record in hand.
    fn join_as_if_now<VO>(
        &mut self,
        record: Buffered<K, V>,
        context: &mut ProcessorContext<'_, '_, K, VO>,
    ) -> Result<()>
    where
        VO: Clone + 'static,
        J: Fn(&K, V, Option<VT>) -> VO + Send + Sync + 'static,
    {
        let Buffered { key, value, timestamp, headers, topic, partition, offset } = record;
        let task = &mut context.frame.task;
        let source = |known: &crate::ids::TopicPartition| {
            known.topic == topic && known.partition == partition
        };
        let origin = CurrentRecord {
            partition: task.partitions.iter().position(source),
            offset,
            timestamp,
            headers: headers.clone(),
            raw: None,
        };
        let in_hand = std::mem::replace(&mut task.current, origin);
        let result = self.join.process(Record { key, value, timestamp, headers }, context);
        context.frame.task.current = in_hand;
        result
    }
}
