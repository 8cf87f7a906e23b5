//! The rules' state ports on kstreams' stores. Hot path.
//!
//! What is due soon lies in memory: heads of an index are deleted all the time, and a scan over what RocksDB has deleted but
//! not compacted would grow slower and slower. What is due in days, and there is much of, lies on the disk.
//!
//! | key | bytes, numbers as in [`codec`](crate::codec) |
//! |---|---|
//! | grant, waiting decision | contractor_id (8), request_id (8) |
//! | due | time in ms (8), kind (1), request_id or contractor_id (8), request_id of a waiting decision (8) |

use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::{Error, ProcessorContext, Result, StoreHandle, Stores, StreamsBuilder};

use crate::codec::{Present, internal, ordered, unordered, wrong_key};

use super::by_contractor::{self, ContractorEntry, ContractorState, Grant, WaitingDecision};
use super::by_request::{self, RequestEntry, RequestState};
use super::rules::{ContractorId, RequestId};

pub(super) const REQUESTS: &str = "requests";
const REQUEST_WAITS: &str = "request-waits";
const CLOSED: &str = "closed-requests";
pub(super) const CONTRACTORS: &str = "contractors";
pub(super) const GRANTS: &str = "grants";
pub(super) const WAITING: &str = "waiting-decisions";
const DECISION_WAITS: &str = "decision-waits";
const ENDS: &str = "contractor-ends";

/// Stores of the by-request processor.
pub(super) const REQUEST_STORES: &[&str] = &[REQUESTS, REQUEST_WAITS, CLOSED];
/// Stores of the by-contractor processor.
pub(super) const CONTRACTOR_STORES: &[&str] = &[CONTRACTORS, GRANTS, WAITING, DECISION_WAITS, ENDS];

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
        .add_state_store(index(REQUEST_WAITS).in_memory())
        .add_state_store(index(CLOSED))
        .add_state_store(Stores::key_value_store_with(
            CONTRACTORS,
            number(),
            internal::<ContractorEntry>(),
        ))
        .add_state_store(Stores::key_value_store_with(GRANTS, bytes(), internal::<Grant>()))
        .add_state_store(Stores::key_value_store_with(
            WAITING,
            bytes(),
            internal::<WaitingDecision>(),
        ))
        .add_state_store(index(DECISION_WAITS).in_memory())
        .add_state_store(index(ENDS));
}

/// Handles of the by-request processor.
#[derive(Clone, Copy)]
pub(super) struct RequestHandles {
    requests: StoreHandle<KeyValueStore<RequestId, RequestEntry>>,
    waits: StoreHandle<Index>,
    closed: StoreHandle<Index>,
}

impl RequestHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            requests: context.state_store(REQUESTS)?,
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
    fn index(&mut self, due: by_request::Due) -> &mut Index {
        let handle = match due {
            by_request::Due::Wait(_) => self.handles.waits,
            by_request::Due::Forget(_) => self.handles.closed,
        };
        self.context.store(handle)
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

    fn put_due(&mut self, at_ms: i64, due: by_request::Due) -> Result<()> {
        self.index(due).put(&request_due_key(at_ms, due), &Present)
    }

    fn remove_due(&mut self, at_ms: i64, due: by_request::Due) -> Result<()> {
        self.index(due).delete(&request_due_key(at_ms, due)).map(drop)
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, by_request::Due)>> {
        let mut all = due_keys(self.context.store(self.handles.waits), now_ms, limit)?;
        let left = limit - all.len();
        all.extend(due_keys(self.context.store(self.handles.closed), now_ms, left)?);
        all.iter().map(|key| read_request_due_key(key)).collect()
    }
}

/// Handles of the by-contractor processor.
#[derive(Clone, Copy)]
pub(super) struct ContractorHandles {
    contractors: StoreHandle<KeyValueStore<ContractorId, ContractorEntry>>,
    grants: StoreHandle<KeyValueStore<Vec<u8>, Grant>>,
    waiting: StoreHandle<KeyValueStore<Vec<u8>, WaitingDecision>>,
    waits: StoreHandle<Index>,
    ends: StoreHandle<Index>,
}

impl ContractorHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            contractors: context.state_store(CONTRACTORS)?,
            grants: context.state_store(GRANTS)?,
            waiting: context.state_store(WAITING)?,
            waits: context.state_store(DECISION_WAITS)?,
            ends: context.state_store(ENDS)?,
        })
    }
}

/// The by-contractor state within one call.
pub(super) struct ContractorStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: ContractorHandles,
}

impl<K, V> ContractorStores<'_, '_, '_, K, V> {
    fn index(&mut self, due: by_contractor::Due) -> &mut Index {
        use by_contractor::Due;
        let handle = match due {
            Due::Wait(..) | Due::Sweep(_) => self.handles.waits,
            Due::Expiry(_) | Due::Forget(_) => self.handles.ends,
        };
        self.context.store(handle)
    }
}

impl<K, V> ContractorState for ContractorStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn contractor(&mut self, id: ContractorId) -> Result<Option<ContractorEntry>> {
        self.context.store(self.handles.contractors).get(&id)
    }

    fn put_contractor(&mut self, id: ContractorId, entry: &ContractorEntry) -> Result<()> {
        self.context.store(self.handles.contractors).put(&id, entry)
    }

    fn remove_contractor(&mut self, id: ContractorId) -> Result<()> {
        self.context.store(self.handles.contractors).delete(&id).map(drop)
    }

    fn waiting(&mut self, id: ContractorId, of: RequestId) -> Result<Option<WaitingDecision>> {
        self.context.store(self.handles.waiting).get(&pair_key(id, of))
    }

    fn put_waiting(
        &mut self,
        id: ContractorId,
        of: RequestId,
        waiting: &WaitingDecision,
    ) -> Result<()> {
        self.context.store(self.handles.waiting).put(&pair_key(id, of), waiting)
    }

    fn remove_waiting(&mut self, id: ContractorId, of: RequestId) -> Result<()> {
        self.context.store(self.handles.waiting).delete(&pair_key(id, of)).map(drop)
    }

    fn all_waiting(
        &mut self,
        id: ContractorId,
        limit: usize,
    ) -> Result<Vec<(RequestId, WaitingDecision)>> {
        of_contractor(self.context.store(self.handles.waiting), id, limit)
    }

    fn grant(&mut self, id: ContractorId, of: RequestId) -> Result<Option<Grant>> {
        self.context.store(self.handles.grants).get(&pair_key(id, of))
    }

    fn put_grant(&mut self, id: ContractorId, of: RequestId, grant: &Grant) -> Result<()> {
        self.context.store(self.handles.grants).put(&pair_key(id, of), grant)
    }

    fn remove_grant(&mut self, id: ContractorId, of: RequestId) -> Result<()> {
        self.context.store(self.handles.grants).delete(&pair_key(id, of)).map(drop)
    }

    fn all_grants(&mut self, id: ContractorId, limit: usize) -> Result<Vec<(RequestId, Grant)>> {
        of_contractor(self.context.store(self.handles.grants), id, limit)
    }

    fn put_due(&mut self, at_ms: i64, due: by_contractor::Due) -> Result<()> {
        self.index(due).put(&contractor_due_key(at_ms, due), &Present)
    }

    fn remove_due(&mut self, at_ms: i64, due: by_contractor::Due) -> Result<()> {
        self.index(due).delete(&contractor_due_key(at_ms, due)).map(drop)
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, by_contractor::Due)>> {
        let mut all = due_keys(self.context.store(self.handles.ends), now_ms, limit)?;
        let left = limit - all.len();
        all.extend(due_keys(self.context.store(self.handles.waits), now_ms, left)?);
        all.iter().map(|key| read_contractor_due_key(key)).collect()
    }
}

/// The key of what is between a contractor and a request; those of a contractor share their beginning.
pub(super) fn pair_key(id: ContractorId, of: RequestId) -> Vec<u8> {
    [ordered(id), ordered(of)].concat()
}

fn of_contractor<T: 'static>(
    store: &mut KeyValueStore<Vec<u8>, T>,
    id: ContractorId,
    limit: usize,
) -> Result<Vec<(RequestId, T)>> {
    let all = store.prefix_scan(&ordered(id))?;
    all.take(limit)
        .map(|entry| {
            let (key, value) = entry?;
            let of = key.last_chunk().ok_or_else(|| wrong_key("grant"))?;
            Ok((unordered(*of), value))
        })
        .collect()
}

fn due_keys(index: &mut Index, now_ms: i64, limit: usize) -> Result<Vec<Vec<u8>>> {
    let end = ordered(now_ms.saturating_add(1)).to_vec();
    index.range(..end)?.take(limit).map(|entry| Ok(entry?.0)).collect()
}

fn due_key(at_ms: i64, kind: u8, ids: &[i64]) -> Vec<u8> {
    let mut key = ordered(at_ms).to_vec();
    key.push(kind);
    key.extend(ids.iter().flat_map(|id| ordered(*id)));
    key
}

/// Time, kind and ids of a key.
fn read_due_key(key: &[u8]) -> Option<(i64, u8, i64, Option<i64>)> {
    let (at_ms, rest) = key.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (first, rest) = rest.split_first_chunk()?;
    let second = match rest {
        [] => None,
        rest => Some(unordered(rest.try_into().ok()?)),
    };
    Some((unordered(*at_ms), *kind, unordered(*first), second))
}

fn request_due_key(at_ms: i64, due: by_request::Due) -> Vec<u8> {
    match due {
        by_request::Due::Wait(id) => due_key(at_ms, 0, &[id]),
        by_request::Due::Forget(id) => due_key(at_ms, 1, &[id]),
    }
}

fn read_request_due_key(key: &[u8]) -> Result<(i64, by_request::Due)> {
    match read_due_key(key) {
        Some((at_ms, 0, id, None)) => Ok((at_ms, by_request::Due::Wait(id))),
        Some((at_ms, 1, id, None)) => Ok((at_ms, by_request::Due::Forget(id))),
        _ => Err(wrong_key("due request")),
    }
}

fn contractor_due_key(at_ms: i64, due: by_contractor::Due) -> Vec<u8> {
    use by_contractor::Due;
    match due {
        Due::Expiry(id) => due_key(at_ms, 0, &[id]),
        Due::Sweep(id) => due_key(at_ms, 1, &[id]),
        Due::Wait(id, of) => due_key(at_ms, 2, &[id, of]),
        Due::Forget(id) => due_key(at_ms, 3, &[id]),
    }
}

fn read_contractor_due_key(key: &[u8]) -> Result<(i64, by_contractor::Due)> {
    use by_contractor::Due;
    let (at_ms, kind, id, of) = read_due_key(key).ok_or_else(|| wrong_key("due contractor"))?;
    let due = match (kind, of) {
        (0, None) => Due::Expiry(id),
        (1, None) => Due::Sweep(id),
        (2, Some(of)) => Due::Wait(id, of),
        (3, None) => Due::Forget(id),
        _ => return Err(wrong_key("due contractor")),
    };
    Ok((at_ms, due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_sort_by_time() {
        use by_contractor::Due;
        let all = [
            (-1, Due::Forget(9)),
            (5, Due::Expiry(2)),
            (5, Due::Sweep(1)),
            (5, Due::Wait(1, 7)),
            (6, Due::Expiry(1)),
        ];
        let keys = all.map(|(at_ms, due)| contractor_due_key(at_ms, due));
        assert!(keys.is_sorted());
        for (key, due) in keys.iter().zip(all) {
            assert_eq!(read_contractor_due_key(key).unwrap(), due);
        }
        let hex: String = keys[3].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "80000000000000050280000000000000018000000000000007");
        for due in [by_request::Due::Wait(3), by_request::Due::Forget(3)] {
            assert_eq!(read_request_due_key(&request_due_key(8, due)).unwrap(), (8, due));
        }
        assert!(read_request_due_key(b"no").is_err());
        assert!(read_contractor_due_key(&due_key(1, 2, &[1])).is_err());
    }
}
