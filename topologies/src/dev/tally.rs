//! What an independent reader of the topics makes of them: counts, latencies, and whether everything is accounted for.
//!
//! Pure; fed by `watch`, shown by `view` and `summary`. It reads the same topics as any other consumer would and asks neither
//! the simulator nor the topology. Topics overtake each other, so what a request is follows from all that is known of
//! it, not from the order in which that came.
//!
//! **Requests** are the records of `request-events` that are a `request.created`, or that nobody can read. Each is exactly one of:
//!
//! | class | meaning |
//! |---|---|
//! | dead letter | it lies, by its topic, partition and offset, in the dead-letter topic |
//! | duplicate | an earlier `request.created` has the same request id |
//! | assigned | a manager was assigned, in the region that the request was last known to be in |
//! | cancelled | not assigned, and cancelled or closed |
//! | waiting | neither; rightly so only where no active manager of its region has room |
//!
//! What is left over is missing: a record that cannot be read and is no dead letter, or a request that waits although a
//! manager of its region is free.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use kstreams::Timestamp;

use crate::events::{
    Manager, Priority, RequestCreated, RequestEvent, RequestStatus, WorkflowEvent,
    WorkflowManagerAssigned,
};

use super::latency::Latencies;

/// Requests remembered; above it the oldest closed ones are forgotten (a duplicate of one would count as a new request).
const REQUESTS_MAX: usize = 1_000_000;
/// Positions of dead letters remembered, to tell repeated ones.
const LETTERS_MAX: usize = 1_000_000;
/// Assignments shown.
const RECENT: usize = 4;

/// Partition and offset of a record of `request-events`.
pub(crate) type Position = (i32, i64);

/// Counts of requests by class, and of other things of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) assigned: u64,
    pub(crate) waiting: u64,
    pub(crate) cancelled: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead_letters: u64,
    /// Dead letters of other records than requests.
    pub(crate) other_dead_letters: u64,
    /// Requests that were escalated, each once.
    pub(crate) escalated: u64,
    /// Requests completed.
    pub(crate) completed: u64,
    /// Records on the topics that the topology reads.
    pub(crate) records: u64,
}

/// An assignment to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) request_id: i64,
    pub(crate) manager_id: i64,
    pub(crate) region: String,
    pub(crate) priority: Priority,
    pub(crate) attempt: i32,
    pub(crate) latency_ms: Option<i64>,
}

/// A region to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegionView {
    pub(crate) name: String,
    /// Active managers.
    pub(crate) managers: u32,
    /// Their capacity.
    pub(crate) capacity: i64,
    /// Requests that they are busy with.
    pub(crate) open: i64,
    pub(crate) waiting: i64,
    /// Whether a manager has room.
    pub(crate) free: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Assigned,
    Waiting,
    Cancelled,
    DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cancelled,
    Finished,
}

#[derive(Debug, Default)]
struct Request {
    /// A `request.created` of it was seen, and counts.
    created: bool,
    created_at: Option<Timestamp>,
    /// Where its newest revision says that it is.
    region: Option<Arc<str>>,
    revision: i32,
    attempt: i32,
    /// Where and to whom it was assigned last.
    assigned: Option<(Arc<str>, i64)>,
    end: Option<End>,
    dead: bool,
    escalated: bool,
}

impl Request {
    /// The manager that has it, and where. Not the one of a region that the request has left: that one releases it.
    fn holder(&self) -> Option<&(Arc<str>, i64)> {
        let there = |(region, _): &&(Arc<str>, i64)| {
            self.region.as_ref().is_none_or(|known| known == region)
        };
        self.assigned.as_ref().filter(there)
    }

    fn class(&self) -> Option<Class> {
        if !self.created {
            return None;
        }
        let was_assigned = match self.end {
            Some(End::Finished) => self.attempt > 0,
            _ => self.holder().is_some(),
        };
        Some(match (self.dead, was_assigned, self.end) {
            (true, ..) => Class::DeadLetter,
            (_, true, _) => Class::Assigned,
            (_, _, Some(_)) => Class::Cancelled,
            (_, _, None) => Class::Waiting,
        })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Counts,
    requests: HashMap<i64, Request>,
    /// Ids in the order of arrival, for forgetting.
    arrived: VecDeque<i64>,
    /// Requests that nobody can read and whose dead letters were not seen yet.
    unread: BTreeSet<Position>,
    /// Dead letters of `request-events` seen.
    letters: BTreeSet<Position>,
    managers: BTreeMap<i64, Manager>,
    /// Open requests of a manager in a region.
    open: BTreeMap<(Arc<str>, i64), i64>,
    waiting: BTreeMap<Arc<str>, i64>,
    regions: BTreeSet<Arc<str>>,
    latencies: Latencies,
    recent: VecDeque<Recent>,
    /// What each topology published, by its name and what it was. As many entries as there are event types.
    published: BTreeMap<(String, String), u64>,
    /// Grows with every record.
    version: u64,
}

impl Tally {
    /// A record of `request-events`; `None` where nobody can read it.
    pub(crate) fn request(&mut self, position: Position, event: Option<RequestEvent>) {
        self.version += 1;
        self.counts.records += 1;
        match event {
            None => {
                self.counts.requests += 1;
                if self.letters.contains(&position) {
                    self.counts.dead_letters += 1;
                } else {
                    self.unread.insert(position);
                }
            }
            Some(RequestEvent::Created(event)) => self.created(position, event),
            Some(RequestEvent::Updated(event)) => {
                let region = self.region(&event.region);
                self.change(event.request_id, |request| {
                    if event.revision > request.revision {
                        request.revision = event.revision;
                        request.region = Some(region);
                    }
                });
            }
            Some(RequestEvent::Cancelled(event)) => self.end(event.request_id, End::Cancelled),
            Some(RequestEvent::ClarificationNeeded(_) | RequestEvent::Unknown) => {}
        }
    }

    fn created(&mut self, position: Position, event: RequestCreated) {
        self.counts.requests += 1;
        if self.requests.get(&event.request_id).is_some_and(|known| known.created) {
            if self.letters.contains(&position) {
                self.counts.dead_letters += 1;
            } else {
                self.counts.duplicates += 1;
            }
            return;
        }
        let dead = self.letters.contains(&position);
        let region = self.region(&event.region);
        self.change(event.request_id, |request| {
            request.created = true;
            request.created_at = Some(event.envelope.timestamp);
            request.dead = dead;
            if event.revision > request.revision {
                request.revision = event.revision;
                request.region = Some(region);
            }
        });
    }

    /// A record of `workflow-events`, read at `now`; `None` where nobody can read it.
    pub(crate) fn workflow(&mut self, event: Option<WorkflowEvent>, now: Timestamp) {
        self.version += 1;
        self.counts.records += 1;
        match event {
            Some(WorkflowEvent::ManagerAssigned(event)) => self.assigned(&event, now),
            Some(WorkflowEvent::WorkCompleted(event)) => {
                self.counts.completed += 1;
                self.end(event.request_id, End::Finished);
            }
            Some(WorkflowEvent::StatusChanged(event)) if event.to_status.is_final() => {
                self.end(event.request_id, End::Finished);
            }
            Some(WorkflowEvent::StatusChanged(event))
                if event.to_status == RequestStatus::Escalated =>
            {
                let mut first = false;
                self.change(event.request_id, |request| {
                    first = !std::mem::replace(&mut request.escalated, true);
                });
                self.counts.escalated += u64::from(first);
            }
            _ => {}
        }
    }

    fn assigned(&mut self, event: &WorkflowManagerAssigned, now: Timestamp) {
        let region = self.region(&event.region);
        let mut created_at = None;
        let mut is_new = false;
        self.change(event.request_id, |request| {
            // The same one again: this mode is at-least-once.
            is_new = event.attempt > request.attempt;
            if is_new {
                request.attempt = event.attempt;
                request.assigned = Some((region, event.manager_id));
                created_at = request.created_at;
            }
        });
        if !is_new {
            return;
        }
        let latency = created_at.map(|at| now.since(at)).filter(|_| event.attempt == 1);
        if let Some(latency) = latency {
            self.latencies.add(latency);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            request_id: event.request_id,
            manager_id: event.manager_id,
            region: event.region.clone(),
            priority: event.priority,
            attempt: event.attempt,
            latency_ms: latency.and_then(|latency| i64::try_from(latency.as_millis()).ok()),
        });
    }

    /// A record of `managers`.
    pub(crate) fn manager(&mut self, id: i64, manager: Option<Manager>) {
        self.version += 1;
        self.counts.records += 1;
        match manager {
            Some(manager) => {
                self.region(&manager.region);
                self.managers.insert(id, manager);
            }
            None => drop(self.managers.remove(&id)),
        }
    }

    /// A dead letter of `request-events`, with the place it came from and its value, where one can read it.
    pub(crate) fn request_letter(&mut self, source: Position, event: Option<RequestEvent>) {
        self.version += 1;
        if !self.letters.insert(source) {
            return; // told again
        }
        if self.letters.len() > LETTERS_MAX {
            self.letters.pop_first();
        }
        if self.unread.remove(&source) {
            self.counts.dead_letters += 1;
            return;
        }
        match event {
            // Readable, but its processing failed.
            Some(RequestEvent::Created(event)) => {
                let known = self.requests.get(&event.request_id).map(Request::class);
                match known.flatten() {
                    Some(Class::Waiting) => self.change(event.request_id, |r| r.dead = true),
                    // The first one was good: this one was a duplicate until now.
                    Some(_) => {
                        self.counts.duplicates = self.counts.duplicates.saturating_sub(1);
                        self.counts.dead_letters += 1;
                    }
                    // Not seen yet in its own topic; counted when it is.
                    None => {}
                }
            }
            Some(_) => self.counts.other_dead_letters += 1,
            None => {} // as above
        }
    }

    /// Something that a topology published.
    pub(crate) fn published(&mut self, topology: &str, what: &str) {
        self.version += 1;
        *self.published.entry((topology.to_owned(), what.to_owned())).or_default() += 1;
    }

    /// What a topology published so far, by name.
    pub(crate) fn published_by(&self, topology: &str) -> Vec<(String, u64)> {
        let own = self.published.iter().filter(|((name, _), _)| name == topology);
        own.map(|((_, what), count)| (what.clone(), *count)).collect()
    }

    /// What all topologies published so far: topology, what, how often.
    pub(crate) fn published_by_all(&self) -> Vec<(String, String, u64)> {
        let all = self.published.iter();
        all.map(|((name, what), count)| (name.clone(), what.clone(), *count)).collect()
    }

    /// A dead letter of another topic.
    pub(crate) fn other_letter(&mut self) {
        self.version += 1;
        self.counts.other_dead_letters += 1;
    }

    fn end(&mut self, id: i64, end: End) {
        self.change(id, |request| {
            request.end.get_or_insert(end);
        });
    }

    /// Changes a request, and all counts that depend on it.
    fn change(&mut self, id: i64, change: impl FnOnce(&mut Request)) {
        let request = self.requests.entry(id).or_insert_with(|| {
            self.arrived.push_back(id);
            Request::default()
        });
        count(request, -1, &mut self.counts, &mut self.open, &mut self.waiting);
        change(request);
        count(request, 1, &mut self.counts, &mut self.open, &mut self.waiting);
        if self.requests.len() > REQUESTS_MAX {
            self.forget();
        }
    }

    /// Forgets the oldest request where it is closed; its class stays counted.
    fn forget(&mut self) {
        let Some(id) = self.arrived.pop_front() else { return };
        match self.requests.get(&id) {
            Some(request) if request.end.is_none() && !request.dead => self.arrived.push_back(id),
            _ => drop(self.requests.remove(&id)),
        }
    }

    fn region(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.regions.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.regions.insert(name.clone());
        name
    }

    /// The counts.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// From the timestamp of `request.created` to the reading of its first `workflow.manager_assigned`.
    pub(crate) fn latencies(&mut self) -> &mut Latencies {
        &mut self.latencies
    }

    /// The last assignments, the newest last.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        self.recent.iter().cloned().collect()
    }

    /// Grows with every record; equal means that nothing came.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// All regions with their managers and loads, as this reader knows them.
    pub(crate) fn regions(&self) -> Vec<RegionView> {
        let view = |region: &Arc<str>| {
            let waiting = self.waiting.get(region).copied().unwrap_or(0);
            let name = region.to_string();
            let mut view = RegionView { name, waiting, ..RegionView::default() };
            for manager in self.managers.values() {
                let open = self.open.get(&(region.clone(), manager.manager_id));
                let open = open.copied().unwrap_or(0);
                view.open += open;
                if manager.active && *manager.region == **region {
                    view.managers += 1;
                    view.capacity += i64::from(manager.capacity);
                    view.free |= open < i64::from(manager.capacity);
                }
            }
            view
        };
        self.regions.iter().map(view).collect()
    }

    /// What is not accounted for: requests that nobody can read and that are no dead letters, and requests that wait although
    /// a manager is free.
    pub(crate) fn missing(&self) -> Missing {
        let free = self.regions().into_iter().filter(|region| region.free);
        let forgotten = free.map(|region| region.waiting.unsigned_abs()).sum();
        Missing { unread: self.unread.len() as u64, forgotten }
    }
}

/// Requests that are not accounted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Nobody can read them, and they are no dead letters.
    pub(crate) unread: u64,
    /// They wait although a manager is free.
    pub(crate) forgotten: u64,
}

impl Missing {
    /// Whether nothing is missing.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Adds a request to what is counted, or takes it out again. Left out of `self`, whose map it borrows.
fn count(
    request: &Request,
    sign: i64,
    counts: &mut Counts,
    open: &mut BTreeMap<(Arc<str>, i64), i64>,
    waiting: &mut BTreeMap<Arc<str>, i64>,
) {
    let add = |number: &mut u64| *number = number.wrapping_add_signed(sign);
    match request.class() {
        Some(Class::Assigned) => add(&mut counts.assigned),
        Some(Class::Cancelled) => add(&mut counts.cancelled),
        Some(Class::DeadLetter) => add(&mut counts.dead_letters),
        Some(Class::Waiting) => {
            add(&mut counts.waiting);
            if let Some(region) = &request.region {
                *waiting.entry(region.clone()).or_default() += sign;
            }
        }
        None => {}
    }
    if let Some(holder) = request.holder().filter(|_| request.end.is_none()) {
        *open.entry(holder.clone()).or_default() += sign;
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
