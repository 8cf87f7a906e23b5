//! Which manager has a request. Keyed by region; hot path.
//!
//! A region keeps its managers, the requests it holds, and two indices: *candidates*, managers that may take a request, best
//! first, and *places*, waiting requests, first in line first. A decision looks only at the heads of the indices.
//!
//! Invariants after each input, but for a queue of more than `SETTLED_AT_ONCE`: no request waits while a manager is free; no
//! escalated request waits while a manager has overload left; a manager's `open` is the number of requests held with that manager; `waiting` is the number of places.
//! [`RegionRules::refresh`] restores them should settings have changed between two runs.

use kstreams::telemetry::SpanContext;

use super::region_state::{Held, Manager, Place, Queue, Rank, Region, RegionState, Tier};
use super::rules::{
    Assignment, Escalation, ManagerId, Priority, RegionInput, RegionOutput, RequestId, Returned,
    Terms, Ticket,
};
use super::settings::Settings;

/// Requests assigned by one input. A manager without limit who joins a region with a long queue would else hold up the
/// transaction until it times out.
const SETTLED_AT_ONCE: usize = 2_000;

/// The by-region rules, on the state and outputs of one record or punctuation.
pub struct RegionRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<RegionOutput>,
    now_ms: i64,
    trace: Option<SpanContext>,
}

impl<'a, S: RegionState> RegionRules<'a, S> {
    /// Rules at a moment of the wall clock; decisions are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<RegionOutput>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms, trace: None }
    }

    /// The same, for a record with a place in a trace.
    pub fn traced(self, trace: Option<SpanContext>) -> Self {
        Self { trace, ..self }
    }

    /// Takes one input of `region`.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, region: &str, input: RegionInput) -> Result<(), S::Error> {
        match input {
            RegionInput::Open(ticket) => self.open(region, ticket),
            RegionInput::Amend { request_id, epoch, terms } => {
                self.amend(region, request_id, epoch, terms)
            }
            RegionInput::Recall { request_id, epoch } => {
                if let Some(held) = self.held(region, request_id, epoch)? {
                    self.give_back(&held);
                    self.release(region, held)?;
                }
                Ok(())
            }
            RegionInput::Close { request_id, epoch } => {
                match self.held(region, request_id, epoch)? {
                    Some(held) => self.release(region, held),
                    None => Ok(()),
                }
            }
            RegionInput::Manager { manager_id, capacity, active } => {
                let old = self.state.manager(region, manager_id)?;
                let new = Manager { capacity, active, present: true, ..old.unwrap_or_default() };
                self.change_manager(region, manager_id, new)
            }
            RegionInput::ManagerLeft(manager_id) => {
                match self.state.manager(region, manager_id)? {
                    Some(old) => {
                        let new = Manager { active: false, present: false, ..old };
                        self.change_manager(region, manager_id, new)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Ranks all managers anew; to be called once when a task starts, since the overload setting may have changed.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn refresh(&mut self) -> Result<(), S::Error> {
        for (region, id) in self.state.managers()? {
            if let Some(manager) = self.state.manager(&region, id)? {
                self.put_manager(&region, id, manager)?;
            }
        }
        Ok(())
    }

    /// Wall-clock work: escalates what is past its SLA, assigns what can be, hands over where there is no manager. Says how many
    /// requests wait then.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<u64, S::Error> {
        let mut waiting = 0;
        for region in self.state.regions()? {
            if self.region(&region)?.waiting == 0 {
                continue;
            }
            for priority in Priority::ALL {
                self.escalate_due(&region, priority)?;
            }
            self.settle(&region)?;
            self.hand_over_due(&region)?;
            waiting += u64::from(self.region(&region)?.waiting);
        }
        Ok(waiting)
    }

    fn open(&mut self, region: &str, ticket: Ticket) -> Result<(), S::Error> {
        if let Some(held) = self.state.request(ticket.request_id)? {
            // Only a repeated message (at-least-once) can meet its own ticket, and only a lost one an older ticket.
            if held.ticket.epoch >= ticket.epoch {
                return Ok(());
            }
            let held_by = held.region.clone();
            self.release(&held_by, held)?;
        }
        let mut held = Held {
            ticket,
            region: region.to_owned(),
            arrived_at_ms: self.now_ms,
            manager_id: None,
            trace: self.trace,
        };
        // A queue beside a free manager is one that was too long to be assigned at once: nobody jumps it.
        let queues = self.region(region)?.waiting > 0 && self.pick(region, false)?.is_some();
        if !queues && let Some(manager_id) = self.pick(region, held.ticket.escalated)? {
            return self.assign(&mut held, manager_id);
        }
        self.state.put_request(&held)?;
        self.state.put_place(region, &place_of(&held))?;
        let mut summary = self.region(region)?;
        summary.waiting += 1;
        self.state.put_region(region, &summary)?;
        if summary.active_managers == 0 {
            self.hand_over(&held)?;
        }
        if queues { self.settle(region) } else { Ok(()) }
    }

    fn amend(
        &mut self,
        region: &str,
        id: RequestId,
        epoch: u32,
        terms: Terms,
    ) -> Result<(), S::Error> {
        let Some(mut held) = self.held(region, id, epoch)? else { return Ok(()) };
        if held.manager_id.is_none() {
            self.state.remove_place(region, &place_of(&held))?;
        }
        held.ticket.terms = terms;
        if held.manager_id.is_none() {
            self.state.put_place(region, &place_of(&held))?;
        }
        self.state.put_request(&held)
    }

    /// Lets a request go: its manager is free for another, or its place is.
    fn release(&mut self, region: &str, held: Held) -> Result<(), S::Error> {
        self.state.remove_request(held.ticket.request_id)?;
        let Some(manager_id) = held.manager_id else {
            self.leave_queue(region, &held)?;
            return Ok(());
        };
        if let Some(old) = self.state.manager(region, manager_id)? {
            let new = Manager { open: old.open.saturating_sub(1), ..old };
            self.put_manager(region, manager_id, new)?;
        }
        self.settle(region)
    }

    fn change_manager(
        &mut self,
        region: &str,
        id: ManagerId,
        new: Manager,
    ) -> Result<(), S::Error> {
        let was_active = self.state.manager(region, id)?.is_some_and(|old| old.active);
        let is_active = new.active;
        self.put_manager(region, id, new)?;
        if was_active != is_active {
            let mut summary = self.region(region)?;
            summary.active_managers = if is_active {
                summary.active_managers + 1
            } else {
                summary.active_managers.saturating_sub(1)
            };
            self.state.put_region(region, &summary)?;
        }
        self.settle(region)?;
        self.hand_over_due(region)
    }

    /// Assigns waiting requests as long as there is someone to take them, up to a bound: what is left after it has its turn
    /// with the region's next input, or with the next [`punctuate`](Self::punctuate).
    fn settle(&mut self, region: &str) -> Result<(), S::Error> {
        for _ in 0..SETTLED_AT_ONCE {
            if self.region(region)?.waiting == 0 {
                break;
            }
            let escalated = self.state.first_place(region, Queue::Escalated, None)?;
            let ordinary = self.state.first_place(region, Queue::Ordinary, None)?;
            let (manager_id, place) = match self.pick(region, false)? {
                Some(free) => (free, escalated.into_iter().chain(ordinary).min_by_key(Place::turn)),
                None if escalated.is_some() => match self.pick(region, true)? {
                    Some(overloaded) => (overloaded, escalated),
                    None => return Ok(()),
                },
                None => return Ok(()),
            };
            let Some(place) = place else { return Ok(()) };
            match self.state.request(place.request_id)? {
                Some(mut held) => {
                    self.leave_queue(region, &held)?;
                    self.assign(&mut held, manager_id)?;
                }
                // Cannot be while the stores agree; a place without request must not stop the queue.
                None => self.state.remove_place(region, &place)?,
            }
        }
        Ok(())
    }

    /// The manager whose turn it is: one below capacity, or for an escalated request one below the overload limit.
    fn pick(&mut self, region: &str, escalated: bool) -> Result<Option<ManagerId>, S::Error> {
        let tiers: &[Tier] = if escalated { &[Tier::Free, Tier::Overload] } else { &[Tier::Free] };
        for &tier in tiers {
            if let Some((_, id)) = self.state.first_candidate(region, tier)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn assign(&mut self, held: &mut Held, manager_id: ManagerId) -> Result<(), S::Error> {
        let region = held.region.clone();
        let mut summary = self.region(&region)?;
        summary.assignments += 1;
        self.state.put_region(&region, &summary)?;
        let old = self.state.manager(&region, manager_id)?.unwrap_or_default();
        let new = Manager { open: old.open + 1, last_assigned: summary.assignments, ..old };
        self.put_manager(&region, manager_id, new)?;
        held.manager_id = Some(manager_id);
        held.ticket.attempts += 1;
        self.state.put_request(held)?;
        let Ticket { request_id, attempts, escalated, terms, cause_id, correlation_id, .. } =
            held.ticket;
        self.out.push(RegionOutput::Assigned(Assignment {
            request_id,
            manager_id,
            region,
            priority: terms.priority,
            sla_deadline_ms: self.deadline_ms(&terms),
            attempt: attempts,
            escalated,
            cause_id,
            correlation_id,
            trace: held.trace,
        }));
        Ok(())
    }

    fn escalate_due(&mut self, region: &str, priority: Priority) -> Result<(), S::Error> {
        // Within one priority the oldest is the first to be due, so the first that is not ends the search.
        while let Some(place) = self.state.first_place(region, Queue::Ordinary, Some(priority))? {
            let due = self.settings.sla_deadline_ms(priority, place.opened_at_ms) < self.now_ms;
            if !due {
                break;
            }
            self.state.remove_place(region, &place)?;
            let Some(mut held) = self.state.request(place.request_id)? else { continue };
            held.ticket.escalated = true;
            self.state.put_place(region, &place_of(&held))?;
            self.state.put_request(&held)?;
            let Ticket { request_id, attempts, terms, cause_id, correlation_id, .. } = held.ticket;
            self.out.push(RegionOutput::Escalated(Escalation {
                request_id,
                was_assigned: attempts > 0,
                sla_deadline_ms: self.deadline_ms(&terms),
                cause_id,
                correlation_id,
                trace: held.trace,
            }));
        }
        Ok(())
    }

    /// Hands over what has waited long enough in a region without active manager.
    fn hand_over_due(&mut self, region: &str) -> Result<(), S::Error> {
        let summary = self.region(region)?;
        if summary.active_managers > 0 || summary.waiting == 0 {
            return Ok(());
        }
        for queue in [Queue::Escalated, Queue::Ordinary] {
            for place in self.state.places(region, queue)? {
                if let Some(held) = self.state.request(place.request_id)? {
                    self.hand_over(&held)?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, held: &Held) -> Result<(), S::Error> {
        let terms = &held.ticket.terms;
        let due_ms = held.arrived_at_ms.saturating_add(self.settings.handover_pause_ms(terms.hops));
        if !terms.has_fallback || self.now_ms < due_ms {
            return Ok(());
        }
        self.state.remove_request(held.ticket.request_id)?;
        self.leave_queue(&held.region, held)?;
        self.give_back(held);
        Ok(())
    }

    fn give_back(&mut self, held: &Held) {
        let Ticket { request_id, epoch, attempts, escalated, .. } = held.ticket;
        let returned = Returned { request_id, epoch, attempts, escalated };
        self.out.push(RegionOutput::Returned(returned));
    }

    fn leave_queue(&mut self, region: &str, held: &Held) -> Result<(), S::Error> {
        self.state.remove_place(region, &place_of(held))?;
        let mut summary = self.region(region)?;
        summary.waiting = summary.waiting.saturating_sub(1);
        self.state.put_region(region, &summary)
    }

    /// Writes a manager and moves its entry in the index; forgets who has left and has nothing open.
    fn put_manager(
        &mut self,
        region: &str,
        id: ManagerId,
        mut manager: Manager,
    ) -> Result<(), S::Error> {
        let old_rank = self.state.manager(region, id)?.and_then(|old| old.rank);
        manager.rank = self.rank(&manager);
        if manager.rank != old_rank {
            if let Some(rank) = &old_rank {
                self.state.remove_candidate(region, rank, id)?;
            }
            if let Some(rank) = &manager.rank {
                self.state.put_candidate(region, rank, id)?;
            }
        }
        if !manager.present && manager.open == 0 {
            return self.state.remove_manager(region, id);
        }
        self.state.put_manager(region, id, &manager)
    }

    fn rank(&self, manager: &Manager) -> Option<Rank> {
        let Manager { open, capacity, active, last_assigned, .. } = *manager;
        let tier = match () {
            () if !active => return None,
            () if open < capacity => Tier::Free,
            () if open < self.settings.overload_limit(capacity) => Tier::Overload,
            () => return None,
        };
        Some(Rank { tier, open, last_assigned })
    }

    fn held(&mut self, region: &str, id: RequestId, epoch: u32) -> Result<Option<Held>, S::Error> {
        let held = self.state.request(id)?;
        Ok(held.filter(|held| held.ticket.epoch == epoch && held.region == region))
    }

    fn region(&mut self, region: &str) -> Result<Region, S::Error> {
        Ok(self.state.region(region)?.unwrap_or_default())
    }

    fn deadline_ms(&self, terms: &Terms) -> i64 {
        self.settings.sla_deadline_ms(terms.priority, terms.opened_at_ms)
    }
}

fn place_of(held: &Held) -> Place {
    let Ticket { request_id, escalated, terms, .. } = held.ticket;
    Place {
        queue: if escalated { Queue::Escalated } else { Queue::Ordinary },
        priority: terms.priority,
        opened_at_ms: terms.opened_at_ms,
        request_id,
    }
}
