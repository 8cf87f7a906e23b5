//! The rules' state ports on kstreams' stores. Hot path.
//!
//! The two indices live in memory: their heads are deleted all the time, and a scan over what RocksDB has deleted but not
//! compacted would grow slower and slower. Their changelogs restore them at start.

use kstreams::store::KeyValueStore;
use kstreams::{Error, ProcessorContext, Result, StoreHandle, Stores, StreamsBuilder};

use super::by_request::{RequestEntry, RequestState};
use super::directory::DirectoryEntry;
use super::region_state::{Held, Manager, Place, Queue, Rank, Region, RegionState, Tier};
use super::rules::{ManagerId, Priority, RequestId};
use super::serdes::{
    candidate_key, closed_key, manager_key, place_key, queue_prefix, read_candidate_key,
    read_closed_key, read_manager_key, read_place_key, tier_prefix,
};
use crate::codec::{Present, internal, traced};

pub(super) const REQUESTS: &str = "requests";
const CLOSED: &str = "closed-requests";
pub(super) const DIRECTORY: &str = "directory";
const REGIONS: &str = "regions";
pub(super) const MANAGERS: &str = "region-managers";
const CANDIDATES: &str = "region-candidates";
pub(super) const HELD: &str = "region-requests";
pub(super) const PLACES: &str = "region-places";

/// Stores of the by-request processor.
pub(super) const REQUEST_STORES: &[&str] = &[REQUESTS, CLOSED];
/// Stores of the directory processor.
pub(super) const DIRECTORY_STORES: &[&str] = &[DIRECTORY];
/// Stores of the by-region processor.
pub(super) const REGION_STORES: &[&str] = &[REGIONS, MANAGERS, CANDIDATES, HELD, PLACES];

/// An index: keys in order, no values.
type Index = KeyValueStore<Vec<u8>, Present>;

/// Adds all stores; processors connect to them by name.
pub(super) fn add_stores(builder: &StreamsBuilder) {
    let bytes = <Vec<u8> as kstreams::serdes::DefaultSerde>::serde;
    let text = <String as kstreams::serdes::DefaultSerde>::serde;
    let number = <i64 as kstreams::serdes::DefaultSerde>::serde;
    let index = |name| Stores::key_value_store_with(name, bytes(), Present::serde());
    builder
        .add_state_store(Stores::key_value_store_with(
            REQUESTS,
            number(),
            internal::<RequestEntry>(),
        ))
        .add_state_store(index(CLOSED))
        .add_state_store(Stores::key_value_store_with(
            DIRECTORY,
            number(),
            internal::<DirectoryEntry>(),
        ))
        .add_state_store(Stores::key_value_store_with(REGIONS, text(), internal::<Region>()))
        .add_state_store(Stores::key_value_store_with(MANAGERS, bytes(), internal::<Manager>()))
        .add_state_store(index(CANDIDATES).in_memory())
        .add_state_store(Stores::key_value_store_with(HELD, number(), traced::<Held>()))
        .add_state_store(index(PLACES).in_memory());
}

/// The store of the directory processor.
pub(super) fn directory_store<K, V>(
    context: &mut ProcessorContext<'_, '_, K, V>,
) -> Result<StoreHandle<KeyValueStore<ManagerId, DirectoryEntry>>> {
    context.state_store(DIRECTORY)
}

/// Handles of the by-request processor.
#[derive(Clone, Copy)]
pub(super) struct RequestHandles {
    requests: StoreHandle<KeyValueStore<RequestId, RequestEntry>>,
    closed: StoreHandle<Index>,
}

impl RequestHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self { requests: context.state_store(REQUESTS)?, closed: context.state_store(CLOSED)? })
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

    fn put_closed(&mut self, at_ms: i64, id: RequestId) -> Result<()> {
        self.context.store(self.handles.closed).put(&closed_key(at_ms, id), &Present)
    }

    fn remove_closed(&mut self, at_ms: i64, id: RequestId) -> Result<()> {
        self.context.store(self.handles.closed).delete(&closed_key(at_ms, id)).map(drop)
    }

    fn closed_before(&mut self, before_ms: i64, limit: usize) -> Result<Vec<(i64, RequestId)>> {
        let end = closed_key(before_ms, RequestId::MIN);
        let keys = self.context.store(self.handles.closed).range(..end)?;
        keys.take(limit).map(|entry| read_closed_key(&entry?.0)).collect()
    }
}

/// Handles of the by-region processor.
#[derive(Clone, Copy)]
pub(super) struct RegionHandles {
    regions: StoreHandle<KeyValueStore<String, Region>>,
    managers: StoreHandle<KeyValueStore<Vec<u8>, Manager>>,
    candidates: StoreHandle<Index>,
    held: StoreHandle<KeyValueStore<RequestId, Held>>,
    places: StoreHandle<Index>,
}

impl RegionHandles {
    pub(super) fn open<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) -> Result<Self> {
        Ok(Self {
            regions: context.state_store(REGIONS)?,
            managers: context.state_store(MANAGERS)?,
            candidates: context.state_store(CANDIDATES)?,
            held: context.state_store(HELD)?,
            places: context.state_store(PLACES)?,
        })
    }
}

/// The by-region state within one call.
pub(super) struct RegionStores<'c, 'f, 'a, K, V> {
    pub(super) context: &'c mut ProcessorContext<'f, 'a, K, V>,
    pub(super) handles: RegionHandles,
}

impl<K, V> RegionState for RegionStores<'_, '_, '_, K, V> {
    type Error = Error;

    fn region(&mut self, region: &str) -> Result<Option<Region>> {
        self.context.store(self.handles.regions).get(&region.to_owned())
    }

    fn put_region(&mut self, region: &str, summary: &Region) -> Result<()> {
        self.context.store(self.handles.regions).put(&region.to_owned(), summary)
    }

    fn regions(&mut self) -> Result<Vec<String>> {
        let regions = self.context.store(self.handles.regions).all()?;
        regions.map(|entry| Ok(entry?.0)).collect()
    }

    fn manager(&mut self, region: &str, id: ManagerId) -> Result<Option<Manager>> {
        self.context.store(self.handles.managers).get(&manager_key(region, id))
    }

    fn put_manager(&mut self, region: &str, id: ManagerId, manager: &Manager) -> Result<()> {
        self.context.store(self.handles.managers).put(&manager_key(region, id), manager)
    }

    fn remove_manager(&mut self, region: &str, id: ManagerId) -> Result<()> {
        self.context.store(self.handles.managers).delete(&manager_key(region, id)).map(drop)
    }

    fn managers(&mut self) -> Result<Vec<(String, ManagerId)>> {
        let managers = self.context.store(self.handles.managers).all()?;
        managers.map(|entry| read_manager_key(&entry?.0)).collect()
    }

    fn first_candidate(&mut self, region: &str, tier: Tier) -> Result<Option<(Rank, ManagerId)>> {
        let prefix = tier_prefix(region, tier);
        let first = self.context.store(self.handles.candidates).prefix_scan(&prefix)?.next();
        first.map(|entry| read_candidate_key(&entry?.0, &prefix, tier)).transpose()
    }

    fn put_candidate(&mut self, region: &str, rank: &Rank, id: ManagerId) -> Result<()> {
        let key = candidate_key(region, rank, id);
        self.context.store(self.handles.candidates).put(&key, &Present)
    }

    fn remove_candidate(&mut self, region: &str, rank: &Rank, id: ManagerId) -> Result<()> {
        let key = candidate_key(region, rank, id);
        self.context.store(self.handles.candidates).delete(&key).map(drop)
    }

    fn request(&mut self, id: RequestId) -> Result<Option<Held>> {
        self.context.store(self.handles.held).get(&id)
    }

    fn put_request(&mut self, held: &Held) -> Result<()> {
        self.context.store(self.handles.held).put(&held.ticket.request_id, held)
    }

    fn remove_request(&mut self, id: RequestId) -> Result<()> {
        self.context.store(self.handles.held).delete(&id).map(drop)
    }

    fn first_place(
        &mut self,
        region: &str,
        queue: Queue,
        priority: Option<Priority>,
    ) -> Result<Option<Place>> {
        let prefix = queue_prefix(region, queue, priority);
        let first = self.context.store(self.handles.places).prefix_scan(&prefix)?.next();
        first.map(|entry| read_place_key(&entry?.0, region, queue)).transpose()
    }

    fn places(&mut self, region: &str, queue: Queue) -> Result<Vec<Place>> {
        let prefix = queue_prefix(region, queue, None);
        let places = self.context.store(self.handles.places).prefix_scan(&prefix)?;
        places.map(|entry| read_place_key(&entry?.0, region, queue)).collect()
    }

    fn put_place(&mut self, region: &str, place: &Place) -> Result<()> {
        self.context.store(self.handles.places).put(&place_key(region, place), &Present)
    }

    fn remove_place(&mut self, region: &str, place: &Place) -> Result<()> {
        self.context.store(self.handles.places).delete(&place_key(region, place)).map(drop)
    }
}
