//! Whose document is signed or paid. Keyed by document_id; warm path.
//!
//! ```text
//!   Created ──► expected ──(Signed for an act, Paid for an order)──► done ──(retention)──► forgotten
//!   Signed, Paid ──► early ──(Created)──► done, or a dead letter
//!                      └─(limit)─► ignored and counted
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{About, DocumentInput, DocumentKind, DocumentOutput, Payment, Refusal};
use super::settings::Settings;

/// How many due entries one punctuation works off at most, so that it never holds up records for long.
const DUE_MAX: usize = 10_000;

/// What is known of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentEntry {
    /// What it is about; `None` until we have made it.
    pub about: Option<About>,
    /// Whether it is done: the act signed, the order paid.
    pub done: bool,
    /// Whether a signature came before the document.
    signed_early: bool,
    /// A payment that came before the document.
    paid_early: Option<Payment>,
    /// When this entry may go; `None` while the document is open.
    forget_at_ms: Option<i64>,
}

/// The stores of the by-document task.
pub trait DocumentState {
    /// A store's failure.
    type Error;
    /// What is known of a document.
    fn document(&mut self, id: Uuid) -> Result<Option<DocumentEntry>, Self::Error>;
    /// Sets it.
    fn put_document(&mut self, id: Uuid, entry: &DocumentEntry) -> Result<(), Self::Error>;
    /// Forgets it.
    fn remove_document(&mut self, id: Uuid) -> Result<(), Self::Error>;
    /// Notes when an entry may go.
    fn put_due(&mut self, at_ms: i64, id: Uuid) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_due(&mut self, at_ms: i64, id: Uuid) -> Result<(), Self::Error>;
    /// The documents that may go at `now_ms`, oldest first, at most `limit`.
    fn due(&mut self, now_ms: i64, limit: usize) -> Result<Vec<(i64, Uuid)>, Self::Error>;
}

/// The by-document rules, on the state and outputs of one record or punctuation.
pub struct DocumentRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<DocumentOutput>,
    now_ms: i64,
}

impl<'a, S: DocumentState> DocumentRules<'a, S> {
    /// Rules at a moment of the wall clock; outputs are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<DocumentOutput>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, id: Uuid, input: DocumentInput) -> Result<(), S::Error> {
        let mut entry = self.state.document(id)?.unwrap_or_default();
        let before = entry.clone();
        match (entry.about, input) {
            (Some(_), DocumentInput::Created(_)) => {} // told again
            (None, DocumentInput::Created(about)) => {
                entry.about = Some(about);
                self.forget(id, &mut entry, None)?;
                if std::mem::take(&mut entry.signed_early) {
                    self.signed(id, &mut entry, about)?;
                }
                if let Some(payment) = entry.paid_early.take() {
                    self.paid(id, &mut entry, about, payment)?;
                }
            }
            (Some(about), DocumentInput::Signed) => self.signed(id, &mut entry, about)?,
            (Some(about), DocumentInput::Paid(payment)) => {
                self.paid(id, &mut entry, about, payment)?;
            }
            (None, input) => {
                match input {
                    DocumentInput::Paid(payment) => entry.paid_early = Some(payment),
                    DocumentInput::Signed | DocumentInput::Created(_) => entry.signed_early = true,
                }
                if entry.forget_at_ms.is_none() {
                    self.forget(id, &mut entry, Some(self.settings.document_wait_ms))?;
                }
            }
        }
        if entry != before {
            self.state.put_document(id, &entry)?;
        }
        Ok(())
    }

    /// Works off what is due.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<(), S::Error> {
        for (at_ms, id) in self.state.due(self.now_ms, DUE_MAX)? {
            self.state.remove_due(at_ms, id)?;
            let entry = self.state.document(id)?;
            if entry.is_some_and(|entry| entry.about.is_none()) {
                self.out.push(DocumentOutput::Unmatched("unknown_document"));
            }
            self.state.remove_document(id)?;
        }
        Ok(())
    }

    fn signed(
        &mut self,
        id: Uuid,
        entry: &mut DocumentEntry,
        about: About,
    ) -> Result<(), S::Error> {
        match about.kind {
            DocumentKind::CompletionAct => self.done(id, entry, about),
            DocumentKind::PaymentOrder => {
                self.out.push(DocumentOutput::Unmatched("signed_order"));
                Ok(())
            }
        }
    }

    fn paid(
        &mut self,
        id: Uuid,
        entry: &mut DocumentEntry,
        about: About,
        payment: Payment,
    ) -> Result<(), S::Error> {
        let (found, wanted) = (payment.contractor_id, about.contractor_id);
        match about.kind {
            DocumentKind::CompletionAct => {
                self.out.push(DocumentOutput::Unmatched("paid_act"));
                Ok(())
            }
            DocumentKind::PaymentOrder if found != wanted => {
                let refusal = Refusal::WrongContractor { found, wanted };
                self.out.push(DocumentOutput::Refuse(refusal, payment.original));
                Ok(())
            }
            DocumentKind::PaymentOrder => self.done(id, entry, about),
        }
    }

    fn done(&mut self, id: Uuid, entry: &mut DocumentEntry, about: About) -> Result<(), S::Error> {
        if std::mem::replace(&mut entry.done, true) {
            self.out.push(DocumentOutput::Unmatched("repeated"));
            return Ok(());
        }
        self.out.push(DocumentOutput::Done(about));
        self.forget(id, entry, Some(self.settings.closed_retention_ms))
    }

    /// Forgets the entry after so long; `None` keeps it.
    fn forget(
        &mut self,
        id: Uuid,
        entry: &mut DocumentEntry,
        after_ms: Option<u64>,
    ) -> Result<(), S::Error> {
        if let Some(at_ms) = entry.forget_at_ms.take() {
            self.state.remove_due(at_ms, id)?;
        }
        let Some(after_ms) = after_ms else { return Ok(()) };
        let at_ms = self.now_ms.saturating_add_unsigned(after_ms);
        entry.forget_at_ms = Some(at_ms);
        self.state.put_due(at_ms, id)
    }
}
