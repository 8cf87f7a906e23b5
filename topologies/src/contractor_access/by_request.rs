//! Where a request is, whether it is open, and who has the job. Keyed by request_id; hot path.
//!
//! ```text
//!  assignment of a request that is …
//!    unknown ──► Waiting ──(Known)──► Told ──(Ended, another contractor)──► Release
//!                  │  └─(limit, Ended, another contractor)─► denied
//!    open ───────► Told
//!    ended ──────► denied
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{
    Cause, ContractorId, ContractorInput, Decision, Denial, End, Output, ReleaseReason, RequestId,
    RequestInput, Verdict,
};
use super::settings::Settings;

/// Assignments of a request that are remembered, to tell duplicates; older ones count as seen.
pub const SEEN_MAX: usize = 64;
/// How many due entries one punctuation works off at most, so that it never holds up records for long.
const DUE_MAX: usize = 10_000;

/// What is known of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// Where it is, by its highest revision; `None` until `request.created` or `request.updated` was seen.
    pub region: Option<String>,
    /// That revision.
    pub revision: i32,
    /// How it ended; final.
    pub end: Option<End>,
    /// Who has the job, or had it last.
    pub assigned: Option<Assigned>,
    /// The request's correlation id, for assignments that carry none.
    pub correlation_id: Option<Uuid>,
    /// Timestamp and id of assignments, oldest first, at most [`SEEN_MAX`].
    seen: Vec<(i64, Uuid)>,
    /// Assignments up to this one are forgotten and count as seen.
    forgotten: Option<(i64, Uuid)>,
    /// When this entry may go; `None` while the request is open.
    forget_at_ms: Option<i64>,
}

/// The assignment that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Who.
    pub contractor_id: ContractorId,
    /// The assignment that is decided.
    pub cause: Cause,
    /// Of this contractor's assignments in a row, the latest.
    latest: (i64, Uuid),
    /// How far it is.
    pub stage: Stage,
}

/// How far an assignment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its request is not known yet.
    Waiting {
        /// Until when, on the wall clock.
        until_ms: i64,
    },
    /// The contractor's task knows of it.
    Told,
    /// It was denied here.
    Denied,
}

/// What is due at a time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// An assignment has waited long enough.
    Wait(RequestId),
    /// An entry may go.
    Forget(RequestId),
}

/// The stores of the by-request task.
pub trait RequestState {
    /// A store's failure.
    type Error;
    /// What is known of a request.
    fn request(&mut self, id: RequestId) -> Result<Option<RequestEntry>, Self::Error>;
    /// Sets it.
    fn put_request(&mut self, id: RequestId, entry: &RequestEntry) -> Result<(), Self::Error>;
    /// Forgets it.
    fn remove_request(&mut self, id: RequestId) -> Result<(), Self::Error>;
    /// Notes what will be due.
    fn put_due(&mut self, at_ms: i64, due: Due) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_due(&mut self, at_ms: i64, due: Due) -> Result<(), Self::Error>;
    /// What is due at `now_ms`, oldest first, at most `limit`.
    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, Due)>, Self::Error>;
}

/// The by-request rules, on the state and outputs of one record or punctuation.
pub struct RequestRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<Output>,
    now_ms: i64,
}

impl<'a, S: RequestState> RequestRules<'a, S> {
    /// Rules at a moment of the wall clock; outputs are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<Output>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, input: RequestInput) -> Result<(), S::Error> {
        let id = input.request_id();
        let mut entry = self.state.request(id)?.unwrap_or_default();
        let before = entry.clone();
        match input {
            RequestInput::Known { revision, region, correlation_id, .. } => {
                entry.correlation_id = entry.correlation_id.or(correlation_id);
                self.known(id, &mut entry, revision, region)?;
            }
            RequestInput::Ended { end, cause, .. } => self.ended(id, &mut entry, end, &cause)?,
            RequestInput::Assigned { contractor_id, mut cause, .. } => {
                cause.correlation_id = cause.correlation_id.or(entry.correlation_id);
                self.assigned(id, &mut entry, contractor_id, cause)?;
            }
        }
        if entry != before {
            self.state.put_request(id, &entry)?;
        }
        Ok(())
    }

    /// Works off what is due.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<(), S::Error> {
        for (at_ms, due) in self.state.due(self.now_ms, DUE_MAX)? {
            self.state.remove_due(at_ms, due)?;
            match due {
                Due::Forget(id) => self.state.remove_request(id)?,
                Due::Wait(id) => {
                    let Some(mut entry) = self.state.request(id)? else { continue };
                    self.deny_waiting(id, &mut entry, Denial::UnknownRequest);
                    self.forget_later(id, &mut entry)?;
                    self.state.put_request(id, &entry)?;
                }
            }
        }
        Ok(())
    }

    fn known(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        revision: i32,
        region: String,
    ) -> Result<(), S::Error> {
        if entry.region.is_some() && revision <= entry.revision {
            return Ok(());
        }
        entry.revision = revision;
        let moved = entry.region.as_ref() != Some(&region);
        entry.region = Some(region.clone());
        if entry.end.is_some() {
            return Ok(());
        }
        // It was known by an assignment alone, and would have been forgotten.
        if let Some(at_ms) = entry.forget_at_ms.take() {
            self.state.remove_due(at_ms, Due::Forget(id))?;
        }
        let Some(assigned) = &mut entry.assigned else { return Ok(()) };
        match assigned.stage {
            Stage::Waiting { until_ms } => {
                self.state.remove_due(until_ms, Due::Wait(id))?;
                assigned.stage = Stage::Told;
                assigned.cause.correlation_id =
                    assigned.cause.correlation_id.or(entry.correlation_id);
                self.decide(id, region, assigned);
            }
            Stage::Told if moved => {
                let input = ContractorInput::Region { request_id: id, region };
                self.out.push(Output::Tell(assigned.contractor_id, input));
            }
            Stage::Told | Stage::Denied => {}
        }
        Ok(())
    }

    fn ended(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        end: End,
        cause: &Cause,
    ) -> Result<(), S::Error> {
        if entry.end.is_some() {
            return Ok(());
        }
        entry.end = Some(end);
        self.release(id, entry, ReleaseReason::Ended(end), cause)?;
        self.forget_later(id, entry)
    }

    fn assigned(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        contractor_id: ContractorId,
        cause: Cause,
    ) -> Result<(), S::Error> {
        if !note(entry, cause.order()) {
            return Ok(());
        }
        let latest = cause.order();
        if let Some(last) = &mut entry.assigned {
            let is_same = last.contractor_id == contractor_id;
            if latest < last.latest {
                let reason = match entry.end {
                    Some(_) => Denial::RequestClosed,
                    None => Denial::Reassigned,
                };
                if !is_same {
                    self.deny(id, contractor_id, cause, reason);
                }
                return Ok(());
            }
            if is_same && matches!(last.stage, Stage::Waiting { .. }) {
                last.latest = latest;
                return Ok(());
            }
            if !is_same {
                self.release(id, entry, ReleaseReason::Reassigned, &cause)?;
            }
        }
        let stage = match (&entry.region, entry.end) {
            (_, Some(_)) => {
                self.deny(id, contractor_id, cause.clone(), Denial::RequestClosed);
                Stage::Denied
            }
            (Some(_), None) => Stage::Told,
            (None, None) => {
                if let Some(at_ms) = entry.forget_at_ms.take() {
                    self.state.remove_due(at_ms, Due::Forget(id))?;
                }
                let until_ms = self.now_ms.saturating_add_unsigned(self.settings.request_wait_ms);
                self.state.put_due(until_ms, Due::Wait(id))?;
                Stage::Waiting { until_ms }
            }
        };
        let assigned = Assigned { contractor_id, cause, latest, stage };
        if let (Stage::Told, Some(region)) = (stage, &entry.region) {
            self.decide(id, region.clone(), &assigned);
        }
        entry.assigned = Some(assigned);
        Ok(())
    }

    /// Takes the job from whoever has it.
    fn release(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        reason: ReleaseReason,
        cause: &Cause,
    ) -> Result<(), S::Error> {
        let Some(assigned) = &entry.assigned else { return Ok(()) };
        match assigned.stage {
            Stage::Waiting { until_ms } => {
                self.state.remove_due(until_ms, Due::Wait(id))?;
                let denial = match reason {
                    ReleaseReason::Ended(_) => Denial::RequestClosed,
                    ReleaseReason::Reassigned => Denial::Reassigned,
                };
                self.deny_waiting(id, entry, denial);
            }
            Stage::Told => {
                let cause = cause.clone();
                let input = ContractorInput::Release { request_id: id, reason, cause };
                self.out.push(Output::Tell(assigned.contractor_id, input));
            }
            Stage::Denied => {}
        }
        Ok(())
    }

    fn decide(&mut self, request_id: RequestId, region: String, assigned: &Assigned) {
        let cause = assigned.cause.clone();
        let input = ContractorInput::Decide { request_id, region, cause };
        self.out.push(Output::Tell(assigned.contractor_id, input));
    }

    fn deny_waiting(&mut self, id: RequestId, entry: &mut RequestEntry, reason: Denial) {
        let Some(assigned) = &mut entry.assigned else { return };
        if matches!(assigned.stage, Stage::Waiting { .. }) {
            assigned.stage = Stage::Denied;
            let (contractor_id, cause) = (assigned.contractor_id, assigned.cause.clone());
            self.deny(id, contractor_id, cause, reason);
        }
    }

    fn deny(&mut self, id: RequestId, contractor_id: ContractorId, cause: Cause, reason: Denial) {
        self.out.push(Output::Publish(Decision {
            contractor_id,
            request_id: id,
            verdict: Verdict::Denied(reason),
            detail: None,
            correlation_id: cause.correlation_id,
            cause,
        }));
    }

    fn forget_later(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        if let Some(at_ms) = entry.forget_at_ms {
            self.state.remove_due(at_ms, Due::Forget(id))?;
        }
        let at_ms = self.now_ms.saturating_add_unsigned(self.settings.closed_retention_ms);
        entry.forget_at_ms = Some(at_ms);
        self.state.put_due(at_ms, Due::Forget(id))
    }
}

/// Notes an assignment; says whether it is new.
fn note(entry: &mut RequestEntry, assignment: (i64, Uuid)) -> bool {
    if entry.forgotten.is_some_and(|last| assignment <= last) {
        return false;
    }
    let Err(place) = entry.seen.binary_search(&assignment) else { return false };
    entry.seen.insert(place, assignment);
    if entry.seen.len() > SEEN_MAX {
        entry.forgotten = Some(entry.seen.remove(0));
    }
    true
}
