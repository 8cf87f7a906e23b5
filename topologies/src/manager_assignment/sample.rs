//! In-memory state and short constructors for the tests of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use uuid::Uuid;

use super::by_request::{RequestEntry, RequestState};
use super::region_state::{Held, Manager, Place, Queue, Rank, Region, RegionState, Tier};
use super::rules::{
    ManagerId, Priority, RegionInput, RequestId, Submission, Terms, Ticket, ToRegion,
};

/// An event id that tells request and revision.
pub(super) fn event_id(request_id: RequestId, revision: i32) -> Uuid {
    Uuid::from_u64_pair(request_id as u64, revision as u64)
}

/// A submission filed at 1,000 ms + revision.
pub(super) fn submission(
    request_id: RequestId,
    revision: i32,
    region: &str,
    priority: Priority,
) -> Submission {
    Submission {
        request_id,
        revision,
        region: region.to_owned(),
        priority,
        timestamp_ms: 1_000 + i64::from(revision),
        event_id: event_id(request_id, revision),
        correlation_id: Some(Uuid::from_u128(request_id as u128)),
    }
}

/// Terms at home without fallback.
pub(super) fn terms(priority: Priority, opened_at_ms: i64) -> Terms {
    Terms { priority, opened_at_ms, hops: 0, has_fallback: false }
}

/// A ticket fresh from the customer.
pub(super) fn ticket(request_id: RequestId, terms: Terms) -> Ticket {
    Ticket {
        request_id,
        epoch: 1,
        attempts: 0,
        escalated: false,
        terms,
        cause_id: event_id(request_id, 1),
        correlation_id: None,
    }
}

/// A recall.
pub(super) fn recall_of(region: &str, request_id: RequestId, epoch: u32) -> ToRegion {
    ToRegion { region: region.to_owned(), input: RegionInput::Recall { request_id, epoch } }
}

/// The stores of one task of each kind, as maps.
#[derive(Debug, Default)]
pub(super) struct MemoryState {
    pub(super) entries: BTreeMap<RequestId, RequestEntry>,
    closed: BTreeSet<(i64, RequestId)>,
    pub(super) regions: BTreeMap<String, Region>,
    pub(super) managers: BTreeMap<(String, ManagerId), Manager>,
    pub(super) candidates: BTreeSet<(String, Rank, ManagerId)>,
    pub(super) held: BTreeMap<RequestId, Held>,
    pub(super) places: BTreeSet<(String, Place)>,
}

impl MemoryState {
    /// Entries that the by-request stores hold.
    pub(super) fn entries(&self) -> usize {
        self.entries.len() + self.closed.len()
    }
}

impl RequestState for MemoryState {
    type Error = Infallible;

    fn request(&mut self, id: RequestId) -> Result<Option<RequestEntry>, Infallible> {
        Ok(self.entries.get(&id).cloned())
    }

    fn put_request(&mut self, id: RequestId, entry: &RequestEntry) -> Result<(), Infallible> {
        self.entries.insert(id, entry.clone());
        Ok(())
    }

    fn remove_request(&mut self, id: RequestId) -> Result<(), Infallible> {
        self.entries.remove(&id);
        Ok(())
    }

    fn put_closed(&mut self, at_ms: i64, id: RequestId) -> Result<(), Infallible> {
        self.closed.insert((at_ms, id));
        Ok(())
    }

    fn remove_closed(&mut self, at_ms: i64, id: RequestId) -> Result<(), Infallible> {
        self.closed.remove(&(at_ms, id));
        Ok(())
    }

    fn closed_before(
        &mut self,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<(i64, RequestId)>, Infallible> {
        Ok(self.closed.range(..(before_ms, i64::MIN)).take(limit).copied().collect())
    }
}

impl RegionState for MemoryState {
    type Error = Infallible;

    fn region(&mut self, region: &str) -> Result<Option<Region>, Infallible> {
        Ok(self.regions.get(region).copied())
    }

    fn put_region(&mut self, region: &str, summary: &Region) -> Result<(), Infallible> {
        self.regions.insert(region.to_owned(), *summary);
        Ok(())
    }

    fn regions(&mut self) -> Result<Vec<String>, Infallible> {
        Ok(self.regions.keys().cloned().collect())
    }

    fn manager(&mut self, region: &str, id: ManagerId) -> Result<Option<Manager>, Infallible> {
        Ok(self.managers.get(&(region.to_owned(), id)).copied())
    }

    fn put_manager(
        &mut self,
        region: &str,
        id: ManagerId,
        manager: &Manager,
    ) -> Result<(), Infallible> {
        self.managers.insert((region.to_owned(), id), *manager);
        Ok(())
    }

    fn remove_manager(&mut self, region: &str, id: ManagerId) -> Result<(), Infallible> {
        self.managers.remove(&(region.to_owned(), id));
        Ok(())
    }

    fn managers(&mut self) -> Result<Vec<(String, ManagerId)>, Infallible> {
        Ok(self.managers.keys().cloned().collect())
    }

    fn first_candidate(
        &mut self,
        region: &str,
        tier: Tier,
    ) -> Result<Option<(Rank, ManagerId)>, Infallible> {
        let mut of_tier = self.candidates.iter().filter(|c| c.0 == region && c.1.tier == tier);
        Ok(of_tier.next().map(|&(_, rank, id)| (rank, id)))
    }

    fn put_candidate(
        &mut self,
        region: &str,
        rank: &Rank,
        id: ManagerId,
    ) -> Result<(), Infallible> {
        self.candidates.insert((region.to_owned(), *rank, id));
        Ok(())
    }

    fn remove_candidate(
        &mut self,
        region: &str,
        rank: &Rank,
        id: ManagerId,
    ) -> Result<(), Infallible> {
        let removed = self.candidates.remove(&(region.to_owned(), *rank, id));
        assert!(removed, "an index entry that is not there: {region} {rank:?} {id}");
        Ok(())
    }

    fn request(&mut self, id: RequestId) -> Result<Option<Held>, Infallible> {
        Ok(self.held.get(&id).cloned())
    }

    fn put_request(&mut self, held: &Held) -> Result<(), Infallible> {
        self.held.insert(held.ticket.request_id, held.clone());
        Ok(())
    }

    fn remove_request(&mut self, id: RequestId) -> Result<(), Infallible> {
        self.held.remove(&id);
        Ok(())
    }

    fn first_place(
        &mut self,
        region: &str,
        queue: Queue,
        priority: Option<Priority>,
    ) -> Result<Option<Place>, Infallible> {
        let places = RegionState::places(self, region, queue)?;
        Ok(places.into_iter().find(|place| priority.is_none_or(|wanted| place.priority == wanted)))
    }

    fn places(&mut self, region: &str, queue: Queue) -> Result<Vec<Place>, Infallible> {
        let of_queue = self.places.iter().filter(|(r, place)| r == region && place.queue == queue);
        Ok(of_queue.map(|&(_, place)| place).collect())
    }

    fn put_place(&mut self, region: &str, place: &Place) -> Result<(), Infallible> {
        self.places.insert((region.to_owned(), *place));
        Ok(())
    }

    fn remove_place(&mut self, region: &str, place: &Place) -> Result<(), Infallible> {
        let removed = self.places.remove(&(region.to_owned(), *place));
        assert!(removed, "a place that is not there: {region} {place:?}");
        Ok(())
    }
}
