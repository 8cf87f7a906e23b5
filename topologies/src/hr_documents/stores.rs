//! The rules' state ports on kstreams' stores. Hot path.
//!
//! What is due soon lies in memory: heads of an index are deleted all the time, and a scan over what RocksDB has deleted but
//! not compacted would grow slower and slower. What is due in days, and there is much of, lies on the disk.
//!
//! | key | bytes, numbers as in [`codec`](crate::codec) |
//! |---|---|
//! | document | its UUID (16) |
//! | due request | time in ms (8), request_id (8) |
//! | due document | time in ms (8), UUID (16) |

use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::{Error, ProcessorContext, Result, StoreHandle, Stores, StreamsBuilder};
use uuid::Uuid;

use crate::codec::{Present, internal, ordered, unordered, wrong_key};

use super::by_document::{DocumentEntry, DocumentState};
use super::by_request::{Due, Paperwork, RequestEntry, RequestState};
use super::contracts::Contract;
use super::rules::{ContractorId, RequestId};

pub(super) const REQUESTS: &str = "requests";
pub(super) const PAPERWORK: &str = "paperwork";
const REQUEST_WAITS: &str = "request-waits";
const CLOSED: &str = "closed-requests";
const DOCUMENTS: &str = "documents";
const DOCUMENT_ENDS: &str = "document-ends";
pub(super) const CONTRACTS: &str = "contracts";

/// Stores of the by-request processor.
pub(super) const REQUEST_STORES: &[&str] = &[REQUESTS, PAPERWORK, REQUEST_WAITS, CLOSED];
/// Stores of the by-document processor.
pub(super) const DOCUMENT_STORES: &[&str] = &[DOCUMENTS, DOCUMENT_ENDS];
/// Stores of the contracts processor.
pub(super) const CONTRACT_STORES: &[&str] = &[CONTRACTS];

/// An index: keys in order, no values.
type Index = KeyValueStore<Vec<u8>, Present>;

/// Adds all stores; processors connect to them by name.
pub(super) fn add_stores(builder: &StreamsBuilder) {
    let (number, bytes) = (i64::serde, <Vec<u8>>::serde);
    let index = |name| Stores::key_value_store_with(name, bytes(), Present::serde());
    builder
        .add_state_store(Stores::key_value_store_with(
            REQUESTS,
            number(),
            internal::<RequestEntry>(),
        ))
        .add_state_store(Stores::key_value_store_with(PAPERWORK, number(), internal::<Paperwork>()))
        .add_state_store(index(REQUEST_WAITS).in_memory())
        .add_state_store(index(CLOSED))
        .add_state_store(Stores::key_value_store_with(
            DOCUMENTS,
            bytes(),
            internal::<DocumentEntry>(),
        ))
        .add_state_store(index(DOCUMENT_ENDS))
        .add_state_store(Stores::key_value_store_with(CONTRACTS, number(), internal::<Contract>()));
}

/// The store of the contracts processor.
pub(super) fn contract_store<K, V>(
    context: &mut ProcessorContext<'_, '_, K, V>,
) -> Result<StoreHandle<KeyValueStore<ContractorId, Contract>>> {
    context.state_store(CONTRACTS)
}

/// Handles of the by-request processor.
#[derive(Clone, Copy)]
pub(super) struct RequestHandles {
    requests: StoreHandle<KeyValueStore<RequestId, RequestEntry>>,
    paperwork: StoreHandle<KeyValueStore<RequestId, Paperwork>>,
    waits: StoreHandle<Index>,
    closed: StoreHandle<Index>,
}

impl RequestHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            requests: context.state_store(REQUESTS)?,
            paperwork: context.state_store(PAPERWORK)?,
            waits: context.state_store(REQUEST_WAITS)?,
            closed: context.state_store(CLOSED)?,
        })
    }
}

/// The by-request state within one call.
pub(super) struct RequestStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: RequestHandles,
}

impl<K, V> RequestStores<'_, '_, '_, K, V> {
    fn index(&mut self, due: Due) -> (&mut Index, RequestId) {
        let (handle, id) = match due {
            Due::Wait(id) => (self.handles.waits, id),
            Due::Forget(id) => (self.handles.closed, id),
        };
        (self.context.store(handle), id)
    }
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

    fn paperwork(&mut self, id: RequestId) -> Result<Option<Paperwork>> {
        self.context.store(self.handles.paperwork).get(&id)
    }

    fn put_paperwork(&mut self, id: RequestId, paperwork: &Paperwork) -> Result<()> {
        self.context.store(self.handles.paperwork).put(&id, paperwork)
    }

    fn remove_paperwork(&mut self, id: RequestId) -> Result<()> {
        self.context.store(self.handles.paperwork).delete(&id).map(drop)
    }

    fn put_due(&mut self, at_ms: i64, due: Due) -> Result<()> {
        let (index, id) = self.index(due);
        index.put(&due_key(at_ms, &ordered(id)), &Present)
    }

    fn remove_due(&mut self, at_ms: i64, due: Due) -> Result<()> {
        let (index, id) = self.index(due);
        index.delete(&due_key(at_ms, &ordered(id))).map(drop)
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, Due)>> {
        let waits = due_keys(self.context.store(self.handles.waits), now_ms, limit)?;
        let left = limit - waits.len();
        let closed = due_keys(self.context.store(self.handles.closed), now_ms, left)?;
        let read = |due: fn(RequestId) -> Due| {
            move |(at_ms, id): (i64, [u8; 8])| (at_ms, due(unordered(id)))
        };
        Ok(waits
            .into_iter()
            .map(read(Due::Wait))
            .chain(closed.into_iter().map(read(Due::Forget)))
            .collect())
    }
}

/// Handles of the by-document processor.
#[derive(Clone, Copy)]
pub(super) struct DocumentHandles {
    documents: StoreHandle<KeyValueStore<Vec<u8>, DocumentEntry>>,
    ends: StoreHandle<Index>,
}

impl DocumentHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            documents: context.state_store(DOCUMENTS)?,
            ends: context.state_store(DOCUMENT_ENDS)?,
        })
    }
}

/// The by-document state within one call.
pub(super) struct DocumentStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: DocumentHandles,
}

impl<K, V> DocumentState for DocumentStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn document(&mut self, id: Uuid) -> Result<Option<DocumentEntry>> {
        self.context.store(self.handles.documents).get(&id.as_bytes().to_vec())
    }

    fn put_document(&mut self, id: Uuid, entry: &DocumentEntry) -> Result<()> {
        self.context.store(self.handles.documents).put(&id.as_bytes().to_vec(), entry)
    }

    fn remove_document(&mut self, id: Uuid) -> Result<()> {
        self.context.store(self.handles.documents).delete(&id.as_bytes().to_vec()).map(drop)
    }

    fn put_due(&mut self, at_ms: i64, id: Uuid) -> Result<()> {
        self.context.store(self.handles.ends).put(&due_key(at_ms, id.as_bytes()), &Present)
    }

    fn remove_due(&mut self, at_ms: i64, id: Uuid) -> Result<()> {
        self.context.store(self.handles.ends).delete(&due_key(at_ms, id.as_bytes())).map(drop)
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, Uuid)>> {
        let due = due_keys(self.context.store(self.handles.ends), now_ms, limit)?;
        Ok(due.into_iter().map(|(at_ms, id)| (at_ms, Uuid::from_bytes(id))).collect())
    }
}

fn due_key(at_ms: i64, id: &[u8]) -> Vec<u8> {
    [&ordered(at_ms)[..], id].concat()
}

/// Times and ids of what is due.
fn due_keys<const N: usize>(
    index: &mut Index,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<(i64, [u8; N])>> {
    let end = ordered(now_ms.saturating_add(1)).to_vec();
    let read = |key: Vec<u8>| {
        let (at_ms, id) = key.split_first_chunk()?;
        Some((unordered(*at_ms), id.try_into().ok()?))
    };
    let keys = index.range(..end)?.take(limit);
    keys.map(|entry| read(entry?.0).ok_or_else(|| wrong_key("due entry"))).collect()
}
