//! The rules' state ports on kstreams' stores. Hot path.
//!
//! | store | key | value |
//! |---|---|---|
//! | `notification-requests` | request_id | what is known of it |
//! | `request-alarms` | moment, ms (8), request_id (8) | – |
//! | `notification-recipients` | recipient | how to reach, what waits |
//! | `recipient-alarms` | moment, ms (8), recipient | – |
//! | `made-notifications` | notification_id (16) | moment, ms |
//! | `made-times` | moment, ms (8), notification_id (16) | – |
//!
//! Numbers in keys as [`codec`](crate::codec) writes them. The indices whose heads are deleted all the time live in memory, for a scan over
//! what RocksDB has deleted but not compacted would grow slower and slower; their changelogs restore them at start.

use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::{Error, ProcessorContext, Result, StoreHandle, Stores, StreamsBuilder};
use uuid::Uuid;

use crate::codec::{Present, internal, ordered, traced, unordered, wrong_key};

use super::by_recipient::{Recipient, RecipientState};
use super::by_request::{RequestEntry, RequestState};
use super::rules::RequestId;

const REQUESTS: &str = "notification-requests";
const REQUEST_ALARMS: &str = "request-alarms";
const RECIPIENTS: &str = "notification-recipients";
const RECIPIENT_ALARMS: &str = "recipient-alarms";
const MADE: &str = "made-notifications";
const MADE_TIMES: &str = "made-times";

/// Stores of the by-request processor.
pub(super) const REQUEST_STORES: &[&str] = &[REQUESTS, REQUEST_ALARMS];
/// Stores of the by-recipient processor.
pub(super) const RECIPIENT_STORES: &[&str] = &[RECIPIENTS, RECIPIENT_ALARMS, MADE, MADE_TIMES];

/// Keys in order, no values.
type Index = KeyValueStore<Vec<u8>, Present>;

/// Adds all stores; processors connect to them by name.
pub(super) fn add_stores(builder: &StreamsBuilder) {
    let bytes = <Vec<u8> as DefaultSerde>::serde;
    let index = |name| Stores::key_value_store_with(name, bytes(), Present::serde());
    builder
        .add_state_store(Stores::key_value_store_with(
            REQUESTS,
            i64::serde(),
            traced::<RequestEntry>(),
        ))
        .add_state_store(index(REQUEST_ALARMS))
        .add_state_store(Stores::key_value_store_with(
            RECIPIENTS,
            String::serde(),
            traced::<Recipient>(),
        ))
        .add_state_store(index(RECIPIENT_ALARMS).in_memory())
        .add_state_store(Stores::key_value_store_with(MADE, bytes(), internal::<i64>()))
        .add_state_store(index(MADE_TIMES));
}

/// Handles of the by-request processor.
#[derive(Clone, Copy)]
pub(super) struct RequestHandles {
    requests: StoreHandle<KeyValueStore<RequestId, RequestEntry>>,
    alarms: StoreHandle<Index>,
}

impl RequestHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        let requests = context.state_store(REQUESTS)?;
        Ok(Self { requests, alarms: context.state_store(REQUEST_ALARMS)? })
    }
}

/// The by-request state within one call.
pub(super) struct RequestStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: RequestHandles,
}

impl<K, V> RequestState for RequestStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn request(&mut self, id: RequestId) -> Result<Option<RequestEntry>> {
        self.context.store(self.handles.requests).get(&id)
    }

    fn put_request(&mut self, id: RequestId, entry: &RequestEntry) -> Result<()> {
        self.context.store(self.handles.requests).put(&id, entry)
    }

    fn remove_request(&mut self, id: RequestId) -> Result<()> {
        self.context.store(self.handles.requests).delete(&id).map(drop)
    }

    fn put_alarm(&mut self, at_ms: i64, id: RequestId) -> Result<()> {
        self.context.store(self.handles.alarms).put(&timed(at_ms, &ordered(id)), &Present)
    }

    fn remove_alarm(&mut self, at_ms: i64, id: RequestId) -> Result<()> {
        self.context.store(self.handles.alarms).delete(&timed(at_ms, &ordered(id))).map(drop)
    }

    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, RequestId)>> {
        let keys = self.context.store(self.handles.alarms).range(..after(to_ms))?;
        let read = |key: &[u8]| {
            let (at_ms, id) = read_timed(key)?;
            Some((at_ms, unordered(id.try_into().ok()?)))
        };
        keys.take(limit)
            .map(|entry| read(&entry?.0).ok_or_else(|| wrong_key("request's alarm")))
            .collect()
    }
}

/// Handles of the by-recipient processor.
#[derive(Clone, Copy)]
pub(super) struct RecipientHandles {
    recipients: StoreHandle<KeyValueStore<String, Recipient>>,
    alarms: StoreHandle<Index>,
    made: StoreHandle<KeyValueStore<Vec<u8>, i64>>,
    made_times: StoreHandle<Index>,
}

impl RecipientHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            recipients: context.state_store(RECIPIENTS)?,
            alarms: context.state_store(RECIPIENT_ALARMS)?,
            made: context.state_store(MADE)?,
            made_times: context.state_store(MADE_TIMES)?,
        })
    }
}

/// The by-recipient state within one call.
pub(super) struct RecipientStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: RecipientHandles,
}

impl<K, V> RecipientState for RecipientStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn recipient(&mut self, name: &str) -> Result<Option<Recipient>> {
        self.context.store(self.handles.recipients).get(&name.to_owned())
    }

    fn put_recipient(&mut self, name: &str, recipient: &Recipient) -> Result<()> {
        let store = self.context.store(self.handles.recipients);
        match *recipient == Recipient::default() {
            true => store.delete(&name.to_owned()).map(drop),
            false => store.put(&name.to_owned(), recipient),
        }
    }

    fn put_alarm(&mut self, at_ms: i64, name: &str) -> Result<()> {
        self.context.store(self.handles.alarms).put(&timed(at_ms, name.as_bytes()), &Present)
    }

    fn remove_alarm(&mut self, at_ms: i64, name: &str) -> Result<()> {
        self.context.store(self.handles.alarms).delete(&timed(at_ms, name.as_bytes())).map(drop)
    }

    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, String)>> {
        let keys = self.context.store(self.handles.alarms).range(..after(to_ms))?;
        let read = |key: &[u8]| {
            let (at_ms, name) = read_timed(key)?;
            Some((at_ms, std::str::from_utf8(name).ok()?.to_owned()))
        };
        keys.take(limit)
            .map(|entry| read(&entry?.0).ok_or_else(|| wrong_key("recipient's alarm")))
            .collect()
    }

    fn note_made(&mut self, id: Uuid, at_ms: i64) -> Result<bool> {
        let key = id.as_bytes().to_vec();
        if self.context.store(self.handles.made).put_if_absent(&key, &at_ms)?.is_some() {
            return Ok(false);
        }
        self.context.store(self.handles.made_times).put(&timed(at_ms, &key), &Present)?;
        Ok(true)
    }

    fn forget_made(&mut self, before_ms: i64, limit: usize) -> Result<()> {
        let keys = self.context.store(self.handles.made_times).range(..timed(before_ms, &[]))?;
        let old: Vec<Vec<u8>> =
            keys.take(limit).map(|entry| Ok(entry?.0)).collect::<Result<_>>()?;
        for key in old {
            let (_, id) = read_timed(&key).ok_or_else(|| wrong_key("made notification"))?;
            self.context.store(self.handles.made).delete(&id.to_vec())?;
            self.context.store(self.handles.made_times).delete(&key)?;
        }
        Ok(())
    }
}

/// A key that sorts by time first.
fn timed(at_ms: i64, rest: &[u8]) -> Vec<u8> {
    [&ordered(at_ms), rest].concat()
}

/// The first key after all those of a moment.
fn after(at_ms: i64) -> Vec<u8> {
    timed(at_ms.saturating_add(1), &[])
}

fn read_timed(key: &[u8]) -> Option<(i64, &[u8])> {
    key.split_first_chunk().map(|(at_ms, rest)| (unordered(*at_ms), rest))
}
