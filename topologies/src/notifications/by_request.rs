//! What is known of a request, and what waits for that. Keyed by request_id; hot path.
//!
//! ```text
//!             any event                       final event, or nothing heard
//!   (unknown) ─────────► known ◄─┐ any event  ──────────────────────────────► (forgotten)
//!                          └─────┘            after a retention
//! ```
//!
//! Each request has one alarm: the earliest moment at which something is to be done about it, be it that somebody has waited long enough,
//! or that it is forgotten.

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};

use super::cases::Case;
use super::rules::{
    Ask, Cause, Failure, Notice, Parameters, RequestId, RequestInput, Submission, Who,
    notification_id,
};
use super::settings::Settings;
use crate::codec::Traced;
use crate::recipients;

/// How many alarms one punctuation serves at most, so that it never holds up records for long.
pub const ALARMS_MAX: usize = 10_000;
/// How many notifications of one request wait at most; one more goes out, or fails, at once.
const WAITING_MAX: usize = 100;

/// What is remembered of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    submission: Option<Submission>,
    customer_id: Option<i64>,
    manager: Option<(i32, i64)>,
    /// Whether its creation was told of.
    created: bool,
    is_final: bool,
    waiting: Vec<Waiting>,
    heard_at_ms: i64,
    alarm_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    ask: Ask,
    until_ms: i64,
}

impl Traced for RequestEntry {
    fn trace(&self) -> Option<SpanContext> {
        self.waiting.last()?.ask.cause.trace
    }

    fn set_trace(&mut self, context: SpanContext) {
        self.waiting.iter_mut().for_each(|waiting| waiting.ask.cause.trace = Some(context));
    }
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
    /// Sets an alarm.
    fn put_alarm(&mut self, at_ms: i64, id: RequestId) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_alarm(&mut self, at_ms: i64, id: RequestId) -> Result<(), Self::Error>;
    /// The alarms up to a time, that included, earliest first, at most `limit`.
    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, RequestId)>, Self::Error>;
}

/// What the by-request task decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutput {
    /// Tell somebody.
    Tell {
        /// Whom.
        recipient: String,
        /// What.
        notice: Notice,
    },
    /// Nobody knows whom.
    Failed(Failure),
}

impl RequestOutput {
    /// The event that led to it.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Tell { notice, .. } => &notice.cause,
            Self::Failed(failure) => &failure.notice.cause,
        }
    }
}

/// The by-request rules, on the state and outputs of one record or punctuation.
pub struct RequestRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<RequestOutput>,
    now_ms: i64,
}

impl<'a, S: RequestState> RequestRules<'a, S> {
    /// Rules at a moment of the wall clock; decisions are appended to `out`.
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
        let id = input.request_id;
        let known = self.state.request(id)?;
        let old_alarm = known.as_ref().map(|entry| entry.alarm_at_ms);
        let mut entry = known.unwrap_or_default();
        let is_repeated = input.is_created && entry.created;
        let asks = entry.learn(input);
        let waiting = std::mem::take(&mut entry.waiting);
        for Waiting { ask, until_ms } in waiting {
            self.tell_or_wait(id, &mut entry, ask, until_ms);
        }
        let until_ms = self.now_ms.saturating_add(signed(self.settings.facts_wait_ms));
        for ask in asks {
            if !(is_repeated && ask.case == Case::RequestCreated) {
                self.tell_or_wait(id, &mut entry, ask, until_ms);
            }
        }
        entry.heard_at_ms = self.now_ms;
        self.store(id, entry, old_alarm)
    }

    /// Serves what has waited long enough, and forgets.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<(), S::Error> {
        for (at_ms, id) in self.state.alarms(self.now_ms, ALARMS_MAX)? {
            let Some(mut entry) = self.state.request(id)? else {
                self.state.remove_alarm(at_ms, id)?;
                continue;
            };
            let now_ms = self.now_ms;
            let over: Vec<Waiting> =
                entry.waiting.extract_if(.., |waiting| waiting.until_ms <= now_ms).collect();
            for Waiting { ask, .. } in over {
                self.give_up(id, &entry, ask);
            }
            if entry.waiting.is_empty() && entry.forget_at_ms(self.settings) <= now_ms {
                self.state.remove_request(id)?;
                self.state.remove_alarm(at_ms, id)?;
            } else {
                self.store(id, entry, Some(at_ms))?;
            }
        }
        Ok(())
    }

    fn tell_or_wait(&mut self, id: RequestId, entry: &mut RequestEntry, ask: Ask, until_ms: i64) {
        match entry.recipient(&ask.who) {
            Some(recipient) if entry.submission.is_some() => self.tell(id, entry, recipient, ask),
            _ if until_ms <= self.now_ms || entry.waiting.len() >= WAITING_MAX => {
                self.give_up(id, entry, ask);
            }
            _ => entry.waiting.push(Waiting { ask, until_ms }),
        }
    }

    /// Sends without the facts where somebody can be told, fails where not.
    fn give_up(&mut self, id: RequestId, entry: &RequestEntry, ask: Ask) {
        if let Some(recipient) = entry.recipient(&ask.who) {
            return self.tell(id, entry, recipient, ask);
        }
        let whom = if ask.who == Who::Manager { "manager" } else { "customer" };
        let recipient = format!("request:{id}");
        let notice = Notice {
            id: notification_id(ask.cause.event_id, ask.case, &format!("{whom}:{recipient}")),
            case: ask.case,
            cause: ask.cause,
            request_id: Some(id),
            parameters: ask.parameters,
        };
        let error = format!(
            "the {whom} of request {id} is not known; no event has named one within {} ms",
            self.settings.facts_wait_ms
        );
        self.out.push(RequestOutput::Failed(Failure { recipient, notice, error }));
    }

    fn tell(&mut self, id: RequestId, entry: &RequestEntry, recipient: String, ask: Ask) {
        let Ask { case, cause, mut parameters, .. } = ask;
        entry.describe(id, case, &mut parameters);
        let notice = Notice::new(&recipient, case, cause, Some(id), parameters);
        self.out.push(RequestOutput::Tell { recipient, notice });
    }

    fn store(
        &mut self,
        id: RequestId,
        mut entry: RequestEntry,
        old_alarm: Option<i64>,
    ) -> Result<(), S::Error> {
        let waiting = entry.waiting.iter().map(|waiting| waiting.until_ms).min();
        entry.alarm_at_ms = waiting.unwrap_or_else(|| entry.forget_at_ms(self.settings));
        if old_alarm != Some(entry.alarm_at_ms) {
            if let Some(old) = old_alarm {
                self.state.remove_alarm(old, id)?;
            }
            self.state.put_alarm(entry.alarm_at_ms, id)?;
        }
        self.state.put_request(id, &entry)
    }
}

impl RequestEntry {
    /// Takes in what an event says; returns what it asks for.
    fn learn(&mut self, input: RequestInput) -> Vec<Ask> {
        let RequestInput { submission, is_created, customer_id, manager, is_final, asks, .. } =
            input;
        let newest = self.submission.as_ref().map(|known| known.revision);
        let newer = |found: &Submission| newest.is_none_or(|known| found.revision > known);
        if let Some(submission) = submission.filter(newer) {
            self.submission = Some(submission);
        }
        self.customer_id = self.customer_id.or(customer_id);
        let known = self.manager.map(|(attempt, _)| attempt);
        let newer = |found: &(i32, i64)| known.is_none_or(|known| found.0 > known);
        if let Some(manager) = manager.filter(newer) {
            self.manager = Some(manager);
        }
        self.created |= is_created;
        self.is_final |= is_final;
        asks
    }

    fn recipient(&self, who: &Who) -> Option<String> {
        match who {
            Who::Recipient(recipient) => Some(recipient.clone()),
            Who::Manager => self.manager.map(|(_, id)| recipients::manager(id)),
            Who::Customer => {
                let submitted = self.submission.as_ref().map(|known| known.customer_id);
                submitted.or(self.customer_id).map(recipients::customer)
            }
        }
    }

    /// Adds what the case wants of the request, where the event has not said it itself.
    fn describe(&self, id: RequestId, case: Case, parameters: &mut Parameters) {
        let mut add = |name: &str, value: &str| {
            if case.parameters().contains(&name) && !parameters.contains_key(name) {
                parameters.insert(name.to_owned(), value.to_owned());
            }
        };
        add("request_id", &id.to_string());
        if let Some(submission) = &self.submission {
            add("title", &submission.title);
            add("city", &submission.city);
            add("address", &submission.address);
        }
    }

    fn forget_at_ms(&self, settings: &Settings) -> i64 {
        let retention_ms = match self.is_final {
            true => settings.closed_retention_ms,
            false => settings.open_retention_ms,
        };
        self.heard_at_ms.saturating_add(signed(retention_ms))
    }
}

/// Milliseconds of a setting.
pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
