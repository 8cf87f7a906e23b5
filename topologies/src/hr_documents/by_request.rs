//! Joins completions with requests and assignments, and knows which paperwork is open. Keyed by request_id; hot path.
//!
//! ```text
//!  completion ──► waits for an assignment ──► accepted, waits for the request ──► documents ──► closed
//!                    └─(limit, another contractor)─► dead letter ◄─(limit)─┘
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{
    About, Cause, Completion, ContractorId, Document, DocumentKind, Refusal, RequestId,
    RequestInput, RequestOutput,
};
use super::settings::Settings;
use crate::events::derived_id;

/// Completions of one request that may wait for its assignment.
pub const WAITING_MAX: usize = 8;
/// How many due entries one punctuation works off at most, so that it never holds up records for long.
const DUE_MAX: usize = 10_000;

/// What is known of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// Who filed it; `None` until an event of request-events was seen.
    pub customer_id: Option<i64>,
    /// Who has the job, and since which assignment.
    pub assigned: Option<(ContractorId, (i64, Uuid))>,
    /// Completions that came before any assignment, and until when they wait.
    pub waiting: Vec<(i64, Completion)>,
    /// The completion that waits for the request alone, and until when.
    pub accepted: Option<(i64, Completion)>,
    /// Who completed it; its documents were made.
    pub completed_by: Option<ContractorId>,
    correlation_id: Option<Uuid>,
    /// It was cancelled, or has another final status.
    finished: bool,
    /// When this entry may go; `None` while there is more to come.
    forget_at_ms: Option<i64>,
}

/// The open paperwork of a request; it is closed by being deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paperwork {
    /// Who filed the request.
    pub customer_id: i64,
    /// Who did the work.
    pub contractor_id: ContractorId,
    /// The act to be signed.
    pub completion_act: Uuid,
    /// The order to be paid.
    pub payment_order: Uuid,
    /// Whether the act is signed.
    pub signed: bool,
    /// Whether the order is paid.
    pub paid: bool,
    /// What is to be paid, in hundredths of the currency.
    pub amount_hundredths: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Since when it is open, on the wall clock.
    pub created_at_ms: i64,
}

/// What is due at a time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Completions of a request may have waited long enough.
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
    /// The open paperwork of a request.
    fn paperwork(&mut self, id: RequestId) -> Result<Option<Paperwork>, Self::Error>;
    /// Sets it.
    fn put_paperwork(&mut self, id: RequestId, paperwork: &Paperwork) -> Result<(), Self::Error>;
    /// Closes it.
    fn remove_paperwork(&mut self, id: RequestId) -> Result<(), Self::Error>;
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
    out: &'a mut Vec<RequestOutput>,
    now_ms: i64,
}

impl<'a, S: RequestState> RequestRules<'a, S> {
    /// Rules at a moment of the wall clock; outputs are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<RequestOutput>,
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
            RequestInput::Known { customer_id, correlation_id, is_final, .. } => {
                entry.correlation_id = entry.correlation_id.or(correlation_id);
                if entry.customer_id.is_none() {
                    entry.customer_id = Some(customer_id);
                    // It was known by its workflow alone, and would have been forgotten.
                    if !entry.finished {
                        self.keep(id, &mut entry)?;
                    }
                    if let Some((_, completion)) = entry.accepted.take() {
                        self.create(id, &mut entry, customer_id, completion)?;
                    }
                }
                if is_final {
                    self.finish(id, &mut entry)?;
                }
            }
            RequestInput::Final(_) => self.finish(id, &mut entry)?,
            RequestInput::Assigned { contractor_id, cause, .. } => {
                self.assigned(id, &mut entry, contractor_id, &cause)?;
                self.forget_unknown(id, &mut entry)?;
            }
            RequestInput::Completed { completion, .. } => {
                self.completed(id, &mut entry, completion)?;
                self.forget_unknown(id, &mut entry)?;
            }
            RequestInput::Done { kind, .. } => self.done(id, &mut entry, kind)?,
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
            let (Due::Wait(id) | Due::Forget(id)) = due;
            let Some(mut entry) = self.state.request(id)? else { continue };
            match due {
                Due::Wait(_) => self.give_up(id, &mut entry)?,
                // What is open is a fact, however old.
                Due::Forget(_) if self.is_busy(id, &entry)? => {
                    entry.forget_at_ms = None;
                    self.forget_later(id, &mut entry)?;
                }
                Due::Forget(_) => {
                    self.state.remove_request(id)?;
                    continue;
                }
            }
            self.state.put_request(id, &entry)?;
        }
        Ok(())
    }

    fn assigned(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        contractor_id: ContractorId,
        cause: &Cause,
    ) -> Result<(), S::Error> {
        let order = (cause.timestamp_ms, cause.event_id);
        if entry.assigned.is_some_and(|(_, known)| known >= order) {
            return Ok(());
        }
        entry.assigned = Some((contractor_id, order));
        for (_, completion) in std::mem::take(&mut entry.waiting) {
            self.completed(id, entry, completion)?;
        }
        Ok(())
    }

    fn completed(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        completion: Completion,
    ) -> Result<(), S::Error> {
        let found = completion.contractor_id;
        let accepted = entry.accepted.as_ref().map(|(_, accepted)| accepted.contractor_id);
        let settled = entry.completed_by.or(accepted);
        let assigned = entry.assigned.map(|(contractor_id, _)| contractor_id);
        match (settled.or(assigned), settled) {
            (Some(wanted), _) if wanted != found => {
                self.refuse(id, Refusal::WrongContractor { found, wanted }, completion);
                Ok(())
            }
            (Some(_), Some(_)) => Ok(()), // told again
            (Some(_), None) => match entry.customer_id {
                Some(customer_id) => self.create(id, entry, customer_id, completion),
                None => {
                    let until_ms = self.wait(id)?;
                    entry.accepted = Some((until_ms, completion));
                    Ok(())
                }
            },
            (None, _) => self.wait_for_assignment(id, entry, completion),
        }
    }

    fn wait_for_assignment(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        completion: Completion,
    ) -> Result<(), S::Error> {
        let event_id = completion.cause.event_id;
        if entry.waiting.iter().any(|(_, known)| known.cause.event_id == event_id) {
            return Ok(());
        }
        if entry.waiting.len() == WAITING_MAX {
            self.refuse(id, Refusal::TooMany, completion);
            return Ok(());
        }
        let until_ms = self.wait(id)?;
        entry.waiting.push((until_ms, completion));
        Ok(())
    }

    fn wait(&mut self, id: RequestId) -> Result<i64, S::Error> {
        let until_ms = self.now_ms.saturating_add_unsigned(self.settings.completion_wait_ms);
        self.state.put_due(until_ms, Due::Wait(id))?;
        Ok(until_ms)
    }

    /// Dead-letters what has waited long enough.
    fn give_up(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        let now_ms = self.now_ms;
        let is_over = |until_ms: i64| until_ms <= now_ms;
        if let Some((_, completion)) = entry.accepted.take_if(|(until_ms, _)| is_over(*until_ms)) {
            self.refuse(id, Refusal::NoRequest, completion);
        }
        while entry.waiting.first().is_some_and(|(until_ms, _)| is_over(*until_ms)) {
            let (_, completion) = entry.waiting.remove(0);
            self.refuse(id, Refusal::NoAssignment, completion);
        }
        Ok(())
    }

    fn create(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        customer_id: i64,
        completion: Completion,
    ) -> Result<(), S::Error> {
        let Completion { contractor_id, amount_hundredths, currency, mut cause, .. } = completion;
        cause.correlation_id = cause.correlation_id.or(entry.correlation_id);
        entry.completed_by = Some(contractor_id);
        let mut document = |kind| {
            let document_id = derived_id(cause.event_id, "document", word(kind));
            self.out.push(RequestOutput::Create(Document {
                document_id,
                about: About { request_id: id, contractor_id, kind },
                customer_id,
                amount_hundredths,
                currency: currency.clone(),
                cause: cause.clone(),
            }));
            document_id
        };
        let paperwork = Paperwork {
            customer_id,
            contractor_id,
            completion_act: document(DocumentKind::CompletionAct),
            payment_order: document(DocumentKind::PaymentOrder),
            signed: false,
            paid: false,
            amount_hundredths,
            currency,
            created_at_ms: self.now_ms,
        };
        self.keep(id, entry)?;
        self.state.put_paperwork(id, &paperwork)
    }

    fn done(
        &mut self,
        id: RequestId,
        entry: &mut RequestEntry,
        kind: DocumentKind,
    ) -> Result<(), S::Error> {
        let Some(mut paperwork) = self.state.paperwork(id)? else { return Ok(()) };
        match kind {
            DocumentKind::CompletionAct => paperwork.signed = true,
            DocumentKind::PaymentOrder => paperwork.paid = true,
        }
        if !(paperwork.signed && paperwork.paid) {
            return self.state.put_paperwork(id, &paperwork);
        }
        let open_for_ms = self.now_ms.saturating_sub(paperwork.created_at_ms);
        self.out.push(RequestOutput::Closed(open_for_ms));
        self.state.remove_paperwork(id)?;
        self.forget_later(id, entry)
    }

    /// Nothing more is to come, unless its paperwork is open.
    fn finish(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        match entry.completed_by {
            None if !std::mem::replace(&mut entry.finished, true) => self.forget_later(id, entry),
            _ => Ok(()),
        }
    }

    /// The request itself may never come.
    fn forget_unknown(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        match (entry.customer_id, entry.forget_at_ms) {
            (None, None) => self.forget_later(id, entry),
            _ => Ok(()),
        }
    }

    fn is_busy(&mut self, id: RequestId, entry: &RequestEntry) -> Result<bool, S::Error> {
        let waits = entry.accepted.is_some() || !entry.waiting.is_empty();
        Ok(waits || self.state.paperwork(id)?.is_some())
    }

    fn refuse(&mut self, id: RequestId, refusal: Refusal, completion: Completion) {
        self.out.push(RequestOutput::Refuse(id, refusal, completion.original));
    }

    fn keep(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        match entry.forget_at_ms.take() {
            Some(at_ms) => self.state.remove_due(at_ms, Due::Forget(id)),
            None => Ok(()),
        }
    }

    fn forget_later(&mut self, id: RequestId, entry: &mut RequestEntry) -> Result<(), S::Error> {
        self.keep(id, entry)?;
        let at_ms = self.now_ms.saturating_add_unsigned(self.settings.closed_retention_ms);
        entry.forget_at_ms = Some(at_ms);
        self.state.put_due(at_ms, Due::Forget(id))
    }
}

/// What tells the documents of a completion apart.
pub(super) fn word(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::CompletionAct => "completion_act",
        DocumentKind::PaymentOrder => "payment_order",
    }
}
