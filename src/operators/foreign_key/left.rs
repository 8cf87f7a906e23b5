//! The left side: which right row a row wants to hear of, and what becomes of the answer.

use std::sync::Arc;

use super::murmur3::{Hash128, hash128};
use super::pseudo_topic;
use super::wire::{Instruction, Response, Subscription};
use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::operators::Change;
use crate::operators::join::{GetterSupplier, ValueGetter};
use crate::processor::{Processor, ProcessorContext};
use crate::record::Record;
use crate::serdes::{Encoded, Serde};

/// Hashes left values as they are serialised.
struct ValueHasher<V> {
    values: Serde<V>,
    topic: Arc<str>,
    buffer: Vec<u8>,
}

impl<V> ValueHasher<V> {
    fn hash(&mut self, value: &V) -> Result<Hash128> {
        self.buffer.clear();
        match self.values.serializer().serialize(&self.topic, value, &mut self.buffer)? {
            Encoded::Bytes => Ok(hash128(&self.buffer)),
            Encoded::Null => {
                Err(Error::bad_record("found a row that is written as null, wanted a value"))
            }
        }
    }
}

/// A foreign key, null where a left join's row has none, and what to do with it.
type Sent<KO> = (Option<KO>, Instruction);

/// Sends the left rows' subscriptions. Source: `SubscriptionSendProcessorSupplier`.
pub(crate) struct SubscriptionSend<KO, V, E> {
    extractor: Arc<E>,
    left_join: bool,
    is_versioned: bool,
    foreign_keys: Serde<KO>,
    subscription_topic: Arc<str>,
    foreign_topic: Arc<str>,
    hasher: ValueHasher<V>,
    /// Serialised foreign keys, old and new.
    buffers: [Vec<u8>; 2],
}

impl<KO, V, E> SubscriptionSend<KO, V, E> {
    pub(crate) fn new(
        extractor: Arc<E>,
        left_join: bool,
        foreign_keys: Serde<KO>,
        values: Serde<V>,
        subscription_topic: Arc<str>,
    ) -> Self {
        let none: Arc<str> = "".into();
        let hasher = ValueHasher { values, topic: none.clone(), buffer: Vec::new() };
        let buffers = Default::default();
        let foreign_topic = none;
        Self {
            extractor,
            left_join,
            is_versioned: false,
            foreign_keys,
            subscription_topic,
            foreign_topic,
            hasher,
            buffers,
        }
    }

    /// The left table is versioned: what comes out of order is no change of it (KIP-914).
    pub(crate) fn of_versioned(self, is_versioned: bool) -> Self {
        Self { is_versioned, ..self }
    }

    fn is_same(&mut self, old: &KO, new: &KO) -> Result<bool> {
        let mut nulls = 0;
        for (buffer, key) in self.buffers.iter_mut().zip([old, new]) {
            buffer.clear();
            let keys = self.foreign_keys.serializer();
            nulls +=
                usize::from(keys.serialize(&self.foreign_topic, key, buffer)? == Encoded::Null);
        }
        // One null and one empty key differ, though neither has bytes.
        Ok(nulls != 1 && self.buffers[0] == self.buffers[1])
    }

    /// What to send: to which foreign key which instruction, in order.
    fn instructions(&mut self, old: Option<KO>, new: Option<KO>) -> Result<[Option<Sent<KO>>; 2]> {
        use Instruction::*;
        let moved = match (&old, &new) {
            (Some(old), Some(new)) => !self.is_same(old, new)?,
            _ => old.is_some(),
        };
        let leave = |old| Some((old, DeleteKeyNoPropagate));
        if self.left_join {
            // Every change is answered, also where there is no key to subscribe to: that answer comes from anywhere.
            let first = if moved { leave(old) } else { None };
            return Ok([first, Some((new, PropagateNullIfNoForeignValue))]);
        }
        Ok(match (old, new) {
            (None, None) => [None, None],
            (Some(old), None) => [Some((Some(old), DeleteKeyAndPropagate)), None],
            (Some(old), new) if moved => {
                [leave(Some(old)), Some((new, PropagateNullIfNoForeignValue))]
            }
            (_, new) => [Some((new, PropagateOnlyIfForeignValue)), None],
        })
    }
}

impl<K, V, KF, E> Processor<K, Change<V>, Option<KF::NonNull>, Subscription<K>>
    for SubscriptionSend<KF::NonNull, V, (Arc<E>, std::marker::PhantomData<fn() -> KF>)>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    KF: Nullable,
    E: Fn(&K, &V) -> KF + Send + Sync + 'static,
{
    fn init(
        &mut self,
        context: &mut ProcessorContext<'_, '_, Option<KF::NonNull>, Subscription<K>>,
    ) -> Result<()> {
        let name =
            |suffix| pseudo_topic(context.application_id(), &self.subscription_topic, suffix);
        (self.foreign_topic, self.hasher.topic) = (name("fk"), name("vh"));
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, Option<KF::NonNull>, Subscription<K>>,
    ) -> Result<()> {
        let Record { key, value: Change { new, old, is_latest }, timestamp, headers } = record;
        if self.is_versioned && !is_latest {
            context.drop_record("out_of_order");
            return Ok(());
        }
        if self.left_join && new.is_none() && old.is_none() {
            return Ok(());
        }
        let foreign_key = |value: &V| (self.extractor.0)(&key, value).into_non_null();
        let old_key = old.as_ref().and_then(foreign_key);
        let new_key = new.as_ref().and_then(foreign_key);
        if !self.left_join && new.is_some() && new_key.is_none() {
            context.drop_record("null_foreign_key");
        }
        let instructions = self.instructions(old_key, new_key)?;
        if instructions.iter().all(Option::is_none) {
            return Ok(());
        }
        let hash = new.as_ref().map(|new| self.hasher.hash(new)).transpose()?;
        let primary_partition = Some(context.task_id().partition);
        for (foreign_key, instruction) in instructions.into_iter().flatten() {
            let primary_key = key.clone();
            let value = Subscription { hash, instruction, primary_key, primary_partition };
            let headers = headers.clone();
            context.forward(Record { key: foreign_key, value, timestamp, headers })?;
        }
        Ok(())
    }
}

/// Joins an answer with the row that asked, if that is still the same. Source: `ResponseJoinProcessorSupplier`.
pub(crate) struct ResponseJoin<K, V, J> {
    getter: GetterSupplier<K, V>,
    opened: Option<Box<dyn ValueGetter<K, V>>>,
    subscription_topic: Arc<str>,
    hasher: ValueHasher<V>,
    joiner: Arc<J>,
    left_join: bool,
}

impl<K, V, J> ResponseJoin<K, V, J> {
    pub(crate) fn new(
        getter: GetterSupplier<K, V>,
        values: Serde<V>,
        subscription_topic: Arc<str>,
        joiner: Arc<J>,
        left_join: bool,
    ) -> Self {
        let hasher = ValueHasher { values, topic: "".into(), buffer: Vec::new() };
        Self { getter, opened: None, subscription_topic, hasher, joiner, left_join }
    }
}

impl<K, V, VO, VR, J> Processor<K, Response<VO>, Option<K>, Option<VR>> for ResponseJoin<K, V, J>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
    VO: Clone + Send + 'static,
    VR: Clone + Send + 'static,
    J: Fn(&V, Option<&VO>) -> Option<VR> + Send + Sync + 'static,
{
    fn init(
        &mut self,
        context: &mut ProcessorContext<'_, '_, Option<K>, Option<VR>>,
    ) -> Result<()> {
        self.hasher.topic = pseudo_topic(context.application_id(), &self.subscription_topic, "vh");
        let node = context.node;
        self.opened = Some((self.getter)(context.frame, node)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Response<VO>>,
        context: &mut ProcessorContext<'_, '_, Option<K>, Option<VR>>,
    ) -> Result<()> {
        let Record { key, value: response, timestamp, headers } = record;
        let getter = self.opened.as_mut().expect("init opened the getter");
        let current = getter.get(context.frame, &key)?.map(|(value, _)| value);
        let hash = current.as_ref().map(|value| self.hasher.hash(value)).transpose()?;
        if hash != response.hash {
            context.drop_record("stale_response");
            return Ok(());
        }
        let value = match (&current, &response.value) {
            (Some(_), None) if !self.left_join => None,
            (Some(current), found) => (self.joiner)(current, found.as_ref()),
            (None, _) => None,
        };
        context.forward(Record { key: Some(key), value, timestamp, headers })
    }
}
