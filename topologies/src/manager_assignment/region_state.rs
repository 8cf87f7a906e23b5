//! What a region's task keeps, and the port to its stores.
//!
//! One entry per manager, request and index key, so that a record rewrites a few small entries, however many requests
//! are open. The index entries have no value: [`Rank`] and [`Place`] are their keys, and order them.

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};

use super::rules::{ManagerId, Priority, RequestId, Ticket};
use crate::codec::Traced;

/// Counters of a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Managers that take requests.
    pub active_managers: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Assignments ever made: the order of assignment, whatever clocks say.
    pub assignments: u64,
}

/// A manager in a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Open requests at a time.
    pub capacity: u32,
    /// Whether the manager takes requests.
    pub active: bool,
    /// Whether the region is the manager's home; where not, the entry lasts as long as requests are open.
    pub present: bool,
    /// Requests assigned here and not finished.
    pub open: u32,
    /// The number of the newest assignment ([`Region::assignments`]), 0 for none.
    pub last_assigned: u64,
    /// The index entry as written, so that it is found again whatever the settings are by then.
    pub rank: Option<Rank>,
}

/// Whether a manager may take any request or only escalated ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Below capacity.
    Free,
    /// At capacity, below the overload limit.
    Overload,
}

/// A candidate's place in the order of choice; ties go to the smallest manager id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    /// Free ones first.
    pub tier: Tier,
    /// Then the least loaded.
    pub open: u32,
    /// Then the one assigned longest ago.
    pub last_assigned: u64,
}

/// A request in the hands of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// As it came; attempts, escalation and terms are kept current.
    pub ticket: Ticket,
    /// The region.
    pub region: String,
    /// Wall-clock time of its coming.
    pub arrived_at_ms: i64,
    /// Who has it; `None` while it waits.
    pub manager_id: Option<ManagerId>,
    /// Where what opened it stands in a trace.
    #[serde(skip)]
    pub trace: Option<SpanContext>,
}

impl Traced for Held {
    fn trace(&self) -> Option<SpanContext> {
        self.trace
    }

    fn set_trace(&mut self, context: SpanContext) {
        self.trace = Some(context);
    }
}

/// Ordinary requests need a manager below capacity, escalated ones may overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// Within the SLA.
    Ordinary,
    /// Past it.
    Escalated,
}

/// A waiting request's key in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of the two queues.
    pub queue: Queue,
    /// P1 first.
    pub priority: Priority,
    /// Then the oldest.
    pub opened_at_ms: i64,
    /// Then the smallest id.
    pub request_id: RequestId,
}

impl Place {
    /// The order among all that wait, escalated or not.
    pub fn turn(&self) -> (Priority, i64, RequestId) {
        (self.priority, self.opened_at_ms, self.request_id)
    }
}

/// The stores of a by-region task.
pub trait RegionState {
    /// A store's failure.
    type Error;
    /// A region's counters.
    fn region(&mut self, region: &str) -> Result<Option<Region>, Self::Error>;
    /// Sets them.
    fn put_region(&mut self, region: &str, summary: &Region) -> Result<(), Self::Error>;
    /// All regions of this task, in a fixed order.
    fn regions(&mut self) -> Result<Vec<String>, Self::Error>;
    /// A manager of a region.
    fn manager(&mut self, region: &str, id: ManagerId) -> Result<Option<Manager>, Self::Error>;
    /// Sets it.
    fn put_manager(
        &mut self,
        region: &str,
        id: ManagerId,
        manager: &Manager,
    ) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_manager(&mut self, region: &str, id: ManagerId) -> Result<(), Self::Error>;
    /// All managers of all regions of this task.
    fn managers(&mut self) -> Result<Vec<(String, ManagerId)>, Self::Error>;
    /// The best candidate of a tier.
    fn first_candidate(
        &mut self,
        region: &str,
        tier: Tier,
    ) -> Result<Option<(Rank, ManagerId)>, Self::Error>;
    /// Adds a candidate.
    fn put_candidate(
        &mut self,
        region: &str,
        rank: &Rank,
        id: ManagerId,
    ) -> Result<(), Self::Error>;
    /// Removes a candidate.
    fn remove_candidate(
        &mut self,
        region: &str,
        rank: &Rank,
        id: ManagerId,
    ) -> Result<(), Self::Error>;
    /// A request in this task's hands.
    fn request(&mut self, id: RequestId) -> Result<Option<Held>, Self::Error>;
    /// Sets it.
    fn put_request(&mut self, held: &Held) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_request(&mut self, id: RequestId) -> Result<(), Self::Error>;
    /// The first in line of a queue, or of one priority in it.
    fn first_place(
        &mut self,
        region: &str,
        queue: Queue,
        priority: Option<Priority>,
    ) -> Result<Option<Place>, Self::Error>;
    /// Everybody in a queue, in order.
    fn places(&mut self, region: &str, queue: Queue) -> Result<Vec<Place>, Self::Error>;
    /// Adds a place.
    fn put_place(&mut self, region: &str, place: &Place) -> Result<(), Self::Error>;
    /// Removes a place.
    fn remove_place(&mut self, region: &str, place: &Place) -> Result<(), Self::Error>;
}
