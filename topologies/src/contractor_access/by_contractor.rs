//! Who is verified for what, and who has access. Keyed by contractor_id; hot path.
//!
//! ```text
//!            Decide, contractor unknown                      allowed
//!  (none) ────────────────────────────► waiting ───────────────────────────► granted
//!    │ │                                   └─(limit, not allowed, Release)─► denied
//!    │ └─ Decide, allowed ─► granted ──(Rejected, expiry, Release)─────────► revoked
//!    └─── Decide, not allowed ─► denied
//! ```

use serde::{Deserialize, Serialize};

use super::rules::{
    Cause, ContractorId, ContractorInput, Decision, Denial, End, ReleaseReason, RequestId,
    Revocation, Verdict,
};
use super::settings::Settings;

/// How many due entries one punctuation works off at most, so that it never holds up records for long.
const DUE_MAX: usize = 10_000;
/// How many grants and waiting decisions of a contractor one record or due entry touches at most; the rest is swept later.
const SWEEP_MAX: usize = 1_000;

/// What is known of a contractor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractorEntry {
    /// Whether the contractor may work.
    pub standing: Standing,
    /// The verification or rejection that says so.
    pub cause: Cause,
    /// When this entry may go; `None` for a verification in force.
    forget_at_ms: Option<i64>,
}

/// Whether a contractor may work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Yes.
    Verified {
        /// Where; empty: everywhere.
        regions: Vec<String>,
        /// Until when; `None`: without end.
        valid_until_ms: Option<i64>,
    },
    /// The verification is over.
    Expired,
    /// No.
    Rejected {
        /// Why.
        reason: String,
    },
}

/// A decision that waits, because nothing is known of its contractor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingDecision {
    /// The assignment.
    pub cause: Cause,
    /// The request's region.
    pub region: String,
    /// Until when it waits, on the wall clock.
    pub until_ms: i64,
}

/// A contractor's access to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The assignment.
    pub cause: Cause,
    /// Since when there is access, on the wall clock.
    pub since_ms: i64,
}

/// What is due at a time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A decision has waited long enough.
    Wait(ContractorId, RequestId),
    /// More of a contractor's access is to be looked at.
    Sweep(ContractorId),
    /// A verification ends.
    Expiry(ContractorId),
    /// An entry may go.
    Forget(ContractorId),
}

/// The stores of the by-contractor task.
pub trait ContractorState {
    /// A store's failure.
    type Error;
    /// What is known of a contractor.
    fn contractor(&mut self, id: ContractorId) -> Result<Option<ContractorEntry>, Self::Error>;
    /// Sets it.
    fn put_contractor(
        &mut self,
        id: ContractorId,
        entry: &ContractorEntry,
    ) -> Result<(), Self::Error>;
    /// Forgets it.
    fn remove_contractor(&mut self, id: ContractorId) -> Result<(), Self::Error>;
    /// A decision that waits.
    fn waiting(
        &mut self,
        id: ContractorId,
        of: RequestId,
    ) -> Result<Option<WaitingDecision>, Self::Error>;
    /// Sets it.
    fn put_waiting(
        &mut self,
        id: ContractorId,
        of: RequestId,
        waiting: &WaitingDecision,
    ) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_waiting(&mut self, id: ContractorId, of: RequestId) -> Result<(), Self::Error>;
    /// Those of a contractor, by request, at most `limit`.
    fn all_waiting(
        &mut self,
        id: ContractorId,
        limit: usize,
    ) -> Result<Vec<(RequestId, WaitingDecision)>, Self::Error>;
    /// An open grant.
    fn grant(&mut self, id: ContractorId, of: RequestId) -> Result<Option<Grant>, Self::Error>;
    /// Sets it.
    fn put_grant(
        &mut self,
        id: ContractorId,
        of: RequestId,
        grant: &Grant,
    ) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_grant(&mut self, id: ContractorId, of: RequestId) -> Result<(), Self::Error>;
    /// Those of a contractor, by request, at most `limit`.
    fn all_grants(
        &mut self,
        id: ContractorId,
        limit: usize,
    ) -> Result<Vec<(RequestId, Grant)>, Self::Error>;
    /// Notes what will be due.
    fn put_due(&mut self, at_ms: i64, due: Due) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_due(&mut self, at_ms: i64, due: Due) -> Result<(), Self::Error>;
    /// What is due at `now_ms`, oldest first, at most `limit`.
    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, Due)>, Self::Error>;
}

/// The by-contractor rules, on the state and outputs of one record or punctuation.
pub struct ContractorRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<Decision>,
    now_ms: i64,
}

impl<'a, S: ContractorState> ContractorRules<'a, S> {
    /// Rules at a moment of the wall clock; decisions are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<Decision>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, id: ContractorId, input: ContractorInput) -> Result<(), S::Error> {
        match input {
            ContractorInput::Verified { regions, valid_until_ms, cause } => {
                self.stands(id, Standing::Verified { regions, valid_until_ms }, cause)
            }
            ContractorInput::Rejected { reason, cause } => {
                self.stands(id, Standing::Rejected { reason }, cause)
            }
            ContractorInput::Decide { request_id, region, cause } => {
                self.decide(id, request_id, region, cause)
            }
            ContractorInput::Region { request_id, region } => {
                match self.state.waiting(id, request_id)? {
                    Some(waiting) => {
                        let waiting = WaitingDecision { region, ..waiting };
                        self.state.put_waiting(id, request_id, &waiting)
                    }
                    None => Ok(()),
                }
            }
            ContractorInput::Release { request_id, reason, cause } => {
                self.release(id, request_id, reason, cause)
            }
        }
    }

    /// Works off what is due.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<(), S::Error> {
        for (at_ms, due) in self.state.due(self.now_ms, DUE_MAX)? {
            self.state.remove_due(at_ms, due)?;
            match due {
                Due::Forget(id) => self.state.remove_contractor(id)?,
                Due::Expiry(id) => {
                    if let Some(entry) = self.state.contractor(id)? {
                        self.expire(id, entry)?;
                    }
                }
                Due::Sweep(id) => {
                    if let Some(entry) = self.state.contractor(id)? {
                        self.settle(id, &entry)?;
                    }
                }
                Due::Wait(id, of) => {
                    if let Some(waiting) = self.state.waiting(id, of)? {
                        self.state.remove_waiting(id, of)?;
                        self.deny(id, of, Denial::NotVerified, None, waiting.cause);
                    }
                }
            }
        }
        Ok(())
    }

    /// A verification or a rejection, if it is the latest known.
    fn stands(
        &mut self,
        id: ContractorId,
        standing: Standing,
        cause: Cause,
    ) -> Result<(), S::Error> {
        let order = |standing: &Standing, cause: &Cause| {
            let (timestamp_ms, event_id) = cause.order();
            (timestamp_ms, matches!(standing, Standing::Rejected { .. }), event_id)
        };
        if let Some(old) = self.state.contractor(id)? {
            if order(&standing, &cause) <= order(&old.standing, &old.cause) {
                return Ok(());
            }
            self.remove_dues(id, &old)?;
        }
        let mut entry = ContractorEntry { standing, cause, forget_at_ms: None };
        match &entry.standing {
            Standing::Verified { valid_until_ms: Some(until_ms), .. } => {
                if *until_ms <= self.now_ms {
                    return self.expire(id, entry);
                }
                self.state.put_due(*until_ms, Due::Expiry(id))?;
            }
            Standing::Verified { .. } => {}
            Standing::Expired | Standing::Rejected { .. } => self.forget_later(id, &mut entry)?,
        }
        self.state.put_contractor(id, &entry)?;
        self.settle(id, &entry)
    }

    fn decide(
        &mut self,
        id: ContractorId,
        of: RequestId,
        region: String,
        cause: Cause,
    ) -> Result<(), S::Error> {
        // Assigned again: the access is there, or its decision under way.
        if self.state.grant(id, of)?.is_some() || self.state.waiting(id, of)?.is_some() {
            return Ok(());
        }
        let Some(mut entry) = self.state.contractor(id)? else {
            let until_ms = self.now_ms.saturating_add_unsigned(self.settings.verification_wait_ms);
            self.state.put_due(until_ms, Due::Wait(id, of))?;
            return self.state.put_waiting(id, of, &WaitingDecision { cause, region, until_ms });
        };
        if let Standing::Verified { valid_until_ms: Some(until_ms), .. } = entry.standing
            && until_ms <= cause.timestamp_ms.max(self.now_ms)
        {
            self.remove_dues(id, &entry)?;
            entry.standing = Standing::Expired;
            self.expire(id, entry.clone())?;
        }
        self.answer(id, of, &region, cause, &entry.standing)
    }

    /// Grants or denies, by a standing that is known.
    fn answer(
        &mut self,
        id: ContractorId,
        of: RequestId,
        region: &str,
        cause: Cause,
        standing: &Standing,
    ) -> Result<(), S::Error> {
        match standing {
            Standing::Rejected { reason } => {
                self.deny(id, of, Denial::Rejected, Some(reason.clone()), cause);
            }
            Standing::Expired => self.deny(id, of, Denial::Expired, None, cause),
            Standing::Verified { regions, .. }
                if !regions.is_empty() && !regions.iter().any(|allowed| allowed == region) =>
            {
                self.deny(id, of, Denial::RegionNotAllowed, Some(region.to_owned()), cause);
            }
            Standing::Verified { .. } => {
                let grant = Grant { cause: cause.clone(), since_ms: self.now_ms };
                self.state.put_grant(id, of, &grant)?;
                let correlation_id = cause.correlation_id;
                self.publish(id, of, Verdict::Granted, None, (cause, correlation_id));
            }
        }
        Ok(())
    }

    fn release(
        &mut self,
        id: ContractorId,
        of: RequestId,
        reason: ReleaseReason,
        cause: Cause,
    ) -> Result<(), S::Error> {
        if let Some(waiting) = self.state.waiting(id, of)? {
            self.state.remove_waiting(id, of)?;
            self.state.remove_due(waiting.until_ms, Due::Wait(id, of))?;
            let denial = match reason {
                ReleaseReason::Ended(_) => Denial::RequestClosed,
                ReleaseReason::Reassigned => Denial::Reassigned,
            };
            self.deny(id, of, denial, None, waiting.cause);
        } else if let Some(grant) = self.state.grant(id, of)? {
            let revocation = match reason {
                ReleaseReason::Ended(End::Cancelled) => Revocation::RequestCancelled,
                ReleaseReason::Ended(End::Completed) => Revocation::RequestCompleted,
                ReleaseReason::Ended(End::Closed) => Revocation::RequestClosed,
                ReleaseReason::Reassigned => Revocation::Reassigned,
            };
            self.revoke(id, of, &grant, revocation, (cause, None))?;
        }
        Ok(())
    }

    /// The verification of `entry` is over.
    fn expire(&mut self, id: ContractorId, mut entry: ContractorEntry) -> Result<(), S::Error> {
        entry.standing = Standing::Expired;
        self.forget_later(id, &mut entry)?;
        self.state.put_contractor(id, &entry)?;
        self.settle(id, &entry)
    }

    /// Decides what has waited for this, and revokes what may be no more.
    fn settle(&mut self, id: ContractorId, entry: &ContractorEntry) -> Result<(), S::Error> {
        let waiting = self.state.all_waiting(id, SWEEP_MAX)?;
        // An assignment of a time after the verification's end, which the wall clock has not reached.
        if let Standing::Verified { valid_until_ms: Some(end_ms), .. } = entry.standing
            && waiting.iter().any(|(_, waiting)| waiting.cause.timestamp_ms >= end_ms)
        {
            self.remove_dues(id, entry)?;
            return self.expire(id, entry.clone());
        }
        let mut left = SWEEP_MAX - waiting.len();
        for (of, WaitingDecision { cause, region, until_ms }) in waiting {
            self.state.remove_waiting(id, of)?;
            self.state.remove_due(until_ms, Due::Wait(id, of))?;
            self.answer(id, of, &region, cause, &entry.standing)?;
        }
        let revocation = match &entry.standing {
            Standing::Verified { .. } => None,
            Standing::Expired => Some((Revocation::Expired, None)),
            Standing::Rejected { reason } => Some((Revocation::Rejected, Some(reason.clone()))),
        };
        if let Some((revocation, detail)) = revocation {
            let grants = self.state.all_grants(id, left)?;
            left -= grants.len();
            for (of, grant) in grants {
                let cause = (entry.cause.clone(), detail.clone());
                self.revoke(id, of, &grant, revocation, cause)?;
            }
        }
        if left == 0 {
            self.state.put_due(self.now_ms, Due::Sweep(id))?;
        }
        Ok(())
    }

    fn revoke(
        &mut self,
        id: ContractorId,
        of: RequestId,
        grant: &Grant,
        reason: Revocation,
        (cause, detail): (Cause, Option<String>),
    ) -> Result<(), S::Error> {
        self.state.remove_grant(id, of)?;
        let correlation_id = grant.cause.correlation_id.or(cause.correlation_id);
        self.publish(id, of, Verdict::Revoked(reason), detail, (cause, correlation_id));
        Ok(())
    }

    fn deny(
        &mut self,
        id: ContractorId,
        of: RequestId,
        reason: Denial,
        detail: Option<String>,
        cause: Cause,
    ) {
        let correlation_id = cause.correlation_id;
        self.publish(id, of, Verdict::Denied(reason), detail, (cause, correlation_id));
    }

    fn publish(
        &mut self,
        contractor_id: ContractorId,
        request_id: RequestId,
        verdict: Verdict,
        detail: Option<String>,
        (cause, correlation_id): (Cause, Option<uuid::Uuid>),
    ) {
        let decision =
            Decision { contractor_id, request_id, verdict, detail, cause, correlation_id };
        self.out.push(decision);
    }

    fn forget_later(
        &mut self,
        id: ContractorId,
        entry: &mut ContractorEntry,
    ) -> Result<(), S::Error> {
        let at_ms = self.now_ms.saturating_add_unsigned(self.settings.contractor_retention_ms);
        entry.forget_at_ms = Some(at_ms);
        self.state.put_due(at_ms, Due::Forget(id))
    }

    fn remove_dues(&mut self, id: ContractorId, entry: &ContractorEntry) -> Result<(), S::Error> {
        if let Standing::Verified { valid_until_ms: Some(until_ms), .. } = entry.standing {
            self.state.remove_due(until_ms, Due::Expiry(id))?;
        }
        match entry.forget_at_ms {
            Some(at_ms) => self.state.remove_due(at_ms, Due::Forget(id)),
            None => Ok(()),
        }
    }
}
