//! The right side: keeps the subscriptions, and answers them when they come and when a right row changes.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::pseudo_topic;
use super::wire::{
    Instruction, Response, Subscription, primary_key_of, read_subscription, write_combined_key,
    write_foreign_key, write_subscription,
};
use crate::error::Result;
use crate::operators::Change;
use crate::operators::join::{GetterSupplier, ValueGetter};
use crate::processor::{Processor, ProcessorContext, StoreHandle};
use crate::record::Record;
use crate::serdes::Serde;
use crate::store::{Direction, KeyValueStore};

/// The subscriptions by combined key, as bytes: what they mean depends on names that are known only in a task.
pub(crate) type SubscriptionStore = KeyValueStore<Bytes, Bytes>;

/// How many answers of one right row are held in memory at a time.
const ANSWERS_MAX: usize = 256;

/// How keys of the subscription store are written. Source: `CombinedKeySchema`.
struct KeySchema<K, KO> {
    subscription_topic: Arc<str>,
    primary_keys: Serde<K>,
    foreign_keys: Serde<KO>,
    primary_topic: Arc<str>,
    foreign_topic: Arc<str>,
}

impl<K, KO> KeySchema<K, KO> {
    fn new(subscription_topic: Arc<str>, primary_keys: Serde<K>, foreign_keys: Serde<KO>) -> Self {
        let none: Arc<str> = "".into();
        let (primary_topic, foreign_topic) = (none.clone(), none);
        Self { subscription_topic, primary_keys, foreign_keys, primary_topic, foreign_topic }
    }

    fn init(&mut self, application_id: &str) {
        let name = |suffix| pseudo_topic(application_id, &self.subscription_topic, suffix);
        (self.primary_topic, self.foreign_topic) = (name("pk"), name("fk"));
    }
}

/// Keeps or deletes a subscription, and passes it on. Source: `SubscriptionReceiveProcessorSupplier`.
pub(crate) struct SubscriptionReceive<K, KO> {
    store: Arc<str>,
    handle: Option<StoreHandle<SubscriptionStore>>,
    schema: KeySchema<K, KO>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<K, KO> SubscriptionReceive<K, KO> {
    pub(crate) fn new(
        store: Arc<str>,
        subscription_topic: Arc<str>,
        primary_keys: Serde<K>,
        foreign_keys: Serde<KO>,
    ) -> Self {
        let schema = KeySchema::new(subscription_topic, primary_keys, foreign_keys);
        Self { store, handle: None, schema, key: Vec::new(), value: Vec::new() }
    }
}

impl<K, KO> Processor<Option<KO>, Subscription<K>, Option<KO>, Subscription<K>>
    for SubscriptionReceive<K, KO>
where
    K: Clone + Send + 'static,
    KO: Clone + Send + 'static,
{
    fn init(
        &mut self,
        context: &mut ProcessorContext<'_, '_, Option<KO>, Subscription<K>>,
    ) -> Result<()> {
        self.schema.init(context.application_id());
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Option<KO>, Subscription<K>>,
        context: &mut ProcessorContext<'_, '_, Option<KO>, Subscription<K>>,
    ) -> Result<()> {
        let subscription = &record.value;
        let Some(foreign_key) = &record.key else {
            // A left join has its row answered though there is nothing to subscribe to.
            if subscription.instruction == Instruction::PropagateNullIfNoForeignValue {
                return context.forward(record);
            }
            context.drop_record("null_foreign_key");
            return Ok(());
        };
        let schema = &self.schema;
        self.key.clear();
        write_combined_key(
            (&schema.foreign_keys, &schema.foreign_topic),
            foreign_key,
            (&schema.primary_keys, &schema.primary_topic),
            &subscription.primary_key,
            &mut self.key,
        )?;
        let store = context.store(self.handle.expect("init looked the store up")).bytes();
        match subscription.instruction {
            Instruction::DeleteKeyNoPropagate | Instruction::DeleteKeyAndPropagate => {
                if store.get(&self.key)?.is_some() {
                    store.delete(&self.key);
                }
            }
            _ => {
                self.value.clear();
                let (keys, topic) = (&schema.primary_keys, &schema.primary_topic);
                write_subscription(keys, topic, subscription, &mut self.value)?;
                store.put_with_timestamp(&self.key, &self.value, record.timestamp);
            }
        }
        context.forward(record)
    }
}

/// Answers a subscription with what the right row is now. Source: `SubscriptionJoinProcessorSupplier`.
pub(crate) struct SubscriptionJoin<KO, VO> {
    getter: GetterSupplier<KO, VO>,
    opened: Option<Box<dyn ValueGetter<KO, VO>>>,
}

impl<KO, VO> SubscriptionJoin<KO, VO> {
    pub(crate) fn new(getter: GetterSupplier<KO, VO>) -> Self {
        Self { getter, opened: None }
    }
}

impl<K, KO, VO> Processor<Option<KO>, Subscription<K>, K, Response<VO>> for SubscriptionJoin<KO, VO>
where
    K: Clone + Send + 'static,
    KO: Clone + Send + 'static,
    VO: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Response<VO>>) -> Result<()> {
        let node = context.node;
        self.opened = Some((self.getter)(context.frame, node)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Option<KO>, Subscription<K>>,
        context: &mut ProcessorContext<'_, '_, K, Response<VO>>,
    ) -> Result<()> {
        let Record { key: foreign_key, value: subscription, timestamp, headers } = record;
        let Subscription { hash, instruction, primary_key: key, primary_partition } = subscription;
        let getter = self.opened.as_mut().expect("init opened the getter");
        let found = match &foreign_key {
            Some(key) => getter.get(context.frame, key)?,
            None => None,
        };
        let (value, since) = found.unzip();
        let value = match instruction {
            Instruction::DeleteKeyNoPropagate => return Ok(()),
            Instruction::PropagateOnlyIfForeignValue if value.is_none() => return Ok(()),
            Instruction::DeleteKeyAndPropagate => None,
            Instruction::PropagateOnlyIfForeignValue
            | Instruction::PropagateNullIfNoForeignValue => value,
        };
        let timestamp = since.map_or(timestamp, |since| timestamp.max(since));
        let value = Response { hash, value, primary_partition };
        context.forward(Record { key, value, timestamp, headers })
    }
}

/// Answers all subscriptions to a right row that has changed. Source: `ForeignTableJoinProcessorSupplier`.
pub(crate) struct ForeignTableJoin<K, KO> {
    store: Arc<str>,
    handle: Option<StoreHandle<SubscriptionStore>>,
    schema: KeySchema<K, KO>,
    is_versioned: bool,
    /// The last combined key that was answered.
    from: Vec<u8>,
    prefix: Vec<u8>,
    answers: Vec<(Bytes, Bytes)>,
}

impl<K, KO> ForeignTableJoin<K, KO> {
    pub(crate) fn new(
        store: Arc<str>,
        subscription_topic: Arc<str>,
        primary_keys: Serde<K>,
        foreign_keys: Serde<KO>,
    ) -> Self {
        let schema = KeySchema::new(subscription_topic, primary_keys, foreign_keys);
        let (from, prefix) = (Vec::new(), Vec::new());
        Self { store, handle: None, schema, is_versioned: false, from, prefix, answers: Vec::new() }
    }

    /// The right table is versioned: what comes out of order is no change of it (KIP-914).
    pub(crate) fn of_versioned(self, is_versioned: bool) -> Self {
        Self { is_versioned, ..self }
    }

    /// Fills `answers` with the next subscriptions; the bound excludes those that have been answered.
    fn scan(&mut self, store: &mut SubscriptionStore, is_first: IsFirst) -> Result<()> {
        let from = match is_first {
            IsFirst::Yes => Bound::Included(&self.prefix[..]),
            IsFirst::No => Bound::Excluded(&self.from[..]),
        };
        self.answers.clear();
        for row in store.bytes().scan(from, Bound::Unbounded, Direction::Forward)? {
            let row = row?;
            if !row.key.starts_with(&self.prefix) || self.answers.len() == ANSWERS_MAX {
                break;
            }
            self.answers.push((row.key, row.value));
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum IsFirst {
    Yes,
    No,
}

impl<K, KO, VO> Processor<KO, Change<VO>, K, Response<VO>> for ForeignTableJoin<K, KO>
where
    K: Clone + Send + 'static,
    KO: Clone + Send + 'static,
    VO: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Response<VO>>) -> Result<()> {
        self.schema.init(context.application_id());
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<KO, Change<VO>>,
        context: &mut ProcessorContext<'_, '_, K, Response<VO>>,
    ) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        if self.is_versioned && !change.is_latest {
            context.drop_record("out_of_order");
            return Ok(());
        }
        self.prefix.clear();
        let (keys, topic) = (&self.schema.foreign_keys, &self.schema.foreign_topic);
        write_foreign_key(keys, topic, &key, &mut self.prefix)?;
        let handle = self.handle.expect("init looked the store up");
        let mut is_first = IsFirst::Yes;
        loop {
            self.scan(context.store(handle), is_first)?;
            for (combined, subscription) in &self.answers {
                let subscription = read_subscription(subscription)?;
                let (keys, topic) = (&self.schema.primary_keys, &self.schema.primary_topic);
                let bytes = primary_key_of(combined)?;
                let key = keys.deserializer().deserialize(topic, &headers, Some(&bytes))?;
                let value = Response {
                    hash: subscription.hash,
                    value: change.new.clone(),
                    primary_partition: subscription.primary_partition,
                };
                let headers = headers.clone();
                context.forward(Record { key, value, timestamp, headers })?;
            }
            match self.answers.last() {
                Some((last, _)) if self.answers.len() == ANSWERS_MAX => {
                    self.from.clear();
                    self.from.extend_from_slice(last);
                    is_first = IsFirst::No;
                }
                _ => return Ok(()),
            }
        }
    }
}
