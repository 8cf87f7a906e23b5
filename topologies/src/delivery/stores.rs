//! The outbox's state port on kstreams' stores. Hot path.
//!
//! | store | key | value |
//! |---|---|---|
//! | `delivery-ids` | message id (16) | where it lies, or that it is settled |
//! | `delivery-alarms` | moment, ms (8), message id (16) | – |
//! | `delivery-lanes` | channel (1), recipient | first and next place, when it is due |
//! | `delivery-outbox` | channel (1), length of recipient (4), recipient, place (8) | the message |
//! | `delivery-due` | channel (1), moment, ms (8), recipient | – |
//! | `delivery-recipients` | recipient | how to reach |
//! | `delivery-requests` | request_id (8), message id (16) | what is shown of the message |
//!
//! Numbers in keys are big-endian, moments with the sign bit turned over. The due index lives in memory: its head is deleted all the time.

use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::{Error, ProcessorContext, Result, StoreHandle, Stores, StreamsBuilder};
use uuid::Uuid;

use crate::codec::{Present, internal, ordered, traced, unordered, wrong_key};
use crate::events::Channel;
use crate::recipients::Entry;

use super::outbox::OutboxState;
use super::rules::{Known, Lane, Pending, Shown};

const IDS: &str = "delivery-ids";
const ALARMS: &str = "delivery-alarms";
const LANES: &str = "delivery-lanes";
const OUTBOX: &str = "delivery-outbox";
const DUE: &str = "delivery-due";
const RECIPIENTS: &str = "delivery-recipients";
/// Messages by the request they are about.
pub(super) const REQUESTS: &str = "delivery-requests";

/// Stores of the processor.
pub(super) const STORES: &[&str] = &[IDS, ALARMS, LANES, OUTBOX, DUE, RECIPIENTS, REQUESTS];

/// Keys in order, no values.
type Index = KeyValueStore<Vec<u8>, Present>;
type Values<V> = KeyValueStore<Vec<u8>, V>;

/// Adds all stores; the processor connects to them by name.
pub(super) fn add_stores(builder: &StreamsBuilder) {
    let bytes = <Vec<u8> as DefaultSerde>::serde;
    let index = |name| Stores::key_value_store_with(name, bytes(), Present::serde());
    builder
        .add_state_store(Stores::key_value_store_with(IDS, bytes(), internal::<Known>()))
        .add_state_store(index(ALARMS))
        .add_state_store(Stores::key_value_store_with(LANES, bytes(), internal::<Lane>()))
        .add_state_store(Stores::key_value_store_with(OUTBOX, bytes(), traced::<Pending>()))
        .add_state_store(index(DUE).in_memory())
        .add_state_store(Stores::key_value_store_with(
            RECIPIENTS,
            String::serde(),
            internal::<Entry>(),
        ))
        .add_state_store(Stores::key_value_store_with(REQUESTS, bytes(), internal::<Shown>()));
}

/// Handles of the processor.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    ids: StoreHandle<Values<Known>>,
    alarms: StoreHandle<Index>,
    lanes: StoreHandle<Values<Lane>>,
    outbox: StoreHandle<Values<Pending>>,
    due: StoreHandle<Index>,
    recipients: StoreHandle<KeyValueStore<String, Entry>>,
    requests: StoreHandle<Values<Shown>>,
}

impl Handles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            ids: context.state_store(IDS)?,
            alarms: context.state_store(ALARMS)?,
            lanes: context.state_store(LANES)?,
            outbox: context.state_store(OUTBOX)?,
            due: context.state_store(DUE)?,
            recipients: context.state_store(RECIPIENTS)?,
            requests: context.state_store(REQUESTS)?,
        })
    }

    /// About how many messages wait.
    pub(super) fn outbox_size<K, V>(self, context: &mut ProcessorContext<'_, '_, K, V>) -> u64 {
        context.store(self.outbox).approximate_entries()
    }
}

/// The outbox within one call.
pub(super) struct OutboxStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: Handles,
}

impl<K, V> OutboxStores<'_, '_, '_, K, V> {
    fn set<T: 'static>(
        &mut self,
        store: StoreHandle<Values<T>>,
        key: Vec<u8>,
        value: Option<&T>,
    ) -> Result<()> {
        let store = self.context.store(store);
        match value {
            Some(value) => store.put(&key, value),
            None => store.delete(&key).map(drop),
        }
    }
}

impl<K, V> OutboxState for OutboxStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn known(&mut self, id: Uuid) -> Result<Option<Known>> {
        self.context.store(self.handles.ids).get(&id.as_bytes().to_vec())
    }

    fn put_known(&mut self, id: Uuid, known: Option<&Known>) -> Result<()> {
        self.set(self.handles.ids, id.as_bytes().to_vec(), known)
    }

    fn lane(&mut self, channel: Channel, recipient: &str) -> Result<Option<Lane>> {
        self.context.store(self.handles.lanes).get(&lane_key(channel, recipient))
    }

    fn put_lane(&mut self, channel: Channel, recipient: &str, lane: Option<&Lane>) -> Result<()> {
        self.set(self.handles.lanes, lane_key(channel, recipient), lane)
    }

    fn pending(&mut self, channel: Channel, who: &str, place: u64) -> Result<Option<Pending>> {
        self.context.store(self.handles.outbox).get(&place_key(channel, who, place))
    }

    fn put_pending(
        &mut self,
        channel: Channel,
        recipient: &str,
        place: u64,
        pending: Option<&Pending>,
    ) -> Result<()> {
        self.set(self.handles.outbox, place_key(channel, recipient, place), pending)
    }

    fn put_due(&mut self, channel: Channel, at_ms: i64, who: &str) -> Result<()> {
        self.context.store(self.handles.due).put(&due_key(channel, at_ms, who), &Present)
    }

    fn remove_due(&mut self, channel: Channel, at_ms: i64, who: &str) -> Result<()> {
        self.context.store(self.handles.due).delete(&due_key(channel, at_ms, who)).map(drop)
    }

    fn due(&mut self, channel: Channel, to_ms: i64, limit: usize) -> Result<Vec<String>> {
        let from = vec![byte_of(channel)];
        let end = due_key(channel, to_ms.saturating_add(1), "");
        let keys = self.context.store(self.handles.due).range(from..end)?;
        let read = |key: &[u8]| std::str::from_utf8(key.get(9..)?).map(str::to_owned).ok();
        keys.take(limit)
            .map(|entry| read(&entry?.0).ok_or_else(|| wrong_key("lane that is due")))
            .collect()
    }

    fn put_alarm(&mut self, at_ms: i64, id: Uuid) -> Result<()> {
        self.context.store(self.handles.alarms).put(&alarm_key(at_ms, id), &Present)
    }

    fn remove_alarm(&mut self, at_ms: i64, id: Uuid) -> Result<()> {
        self.context.store(self.handles.alarms).delete(&alarm_key(at_ms, id)).map(drop)
    }

    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, Uuid)>> {
        let end = ordered(to_ms.saturating_add(1)).to_vec();
        let keys = self.context.store(self.handles.alarms).range(..end)?;
        let read = |key: &[u8]| {
            let (at_ms, id) = key.split_first_chunk()?;
            Some((unordered(*at_ms), Uuid::from_slice(id).ok()?))
        };
        keys.take(limit)
            .map(|entry| read(&entry?.0).ok_or_else(|| wrong_key("message's alarm")))
            .collect()
    }

    fn put_shown(&mut self, request_id: i64, id: Uuid, shown: Option<&Shown>) -> Result<()> {
        let key = [&ordered(request_id)[..], id.as_bytes()].concat();
        self.set(self.handles.requests, key, shown)
    }

    fn entry(&mut self, recipient: &str) -> Result<Option<Entry>> {
        self.context.store(self.handles.recipients).get(&recipient.to_owned())
    }

    fn put_entry(&mut self, recipient: &str, entry: &Entry) -> Result<()> {
        let store = self.context.store(self.handles.recipients);
        match entry.is_empty() {
            true => store.delete(&recipient.to_owned()).map(drop),
            false => store.put(&recipient.to_owned(), entry),
        }
    }
}

const fn byte_of(channel: Channel) -> u8 {
    match channel {
        Channel::Email => 1,
        Channel::Telegram => 2,
        Channel::Sms => 3,
        Channel::Unknown => 0,
    }
}

fn lane_key(channel: Channel, recipient: &str) -> Vec<u8> {
    [&[byte_of(channel)], recipient.as_bytes()].concat()
}

fn place_key(channel: Channel, recipient: &str, place: u64) -> Vec<u8> {
    let length = u32::try_from(recipient.len()).expect("a record is far smaller than 4 GiB");
    let parts: [&[u8]; 4] =
        [&[byte_of(channel)], &length.to_be_bytes(), recipient.as_bytes(), &place.to_be_bytes()];
    parts.concat()
}

fn due_key(channel: Channel, at_ms: i64, recipient: &str) -> Vec<u8> {
    [&[byte_of(channel)], &ordered(at_ms)[..], recipient.as_bytes()].concat()
}

fn alarm_key(at_ms: i64, id: Uuid) -> Vec<u8> {
    [&ordered(at_ms)[..], id.as_bytes()].concat()
}
