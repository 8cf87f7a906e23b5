//! How a recipient is reached, what waits for that, and which notifications were made. Keyed by recipient; hot path.

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::by_request::{ALARMS_MAX, signed};
use super::rules::{Cause, Failure, Notice, RecipientInput};
use super::settings::Settings;
use crate::codec::Traced;
use crate::events::Channel;
use crate::recipients::Entry;

/// How many notifications of one recipient wait at most; one more fails at once.
pub const WAITING_MAX: usize = 1_000;

/// What is remembered of a recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// How the recipient is reached.
    pub entry: Entry,
    /// Oldest first; the first one's time is the recipient's alarm.
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    notice: Notice,
    until_ms: i64,
}

impl Recipient {
    fn alarm_at_ms(&self) -> Option<i64> {
        self.waiting.first().map(|waiting| waiting.until_ms)
    }
}

impl Traced for Recipient {
    fn trace(&self) -> Option<SpanContext> {
        self.waiting.last()?.notice.cause.trace
    }

    fn set_trace(&mut self, context: SpanContext) {
        self.waiting.iter_mut().for_each(|waiting| waiting.notice.cause.trace = Some(context));
    }
}

/// The stores of the by-recipient task.
pub trait RecipientState {
    /// A store's failure.
    type Error;
    /// What is known of a recipient.
    fn recipient(&mut self, name: &str) -> Result<Option<Recipient>, Self::Error>;
    /// Sets it; nothing known and nothing waiting is forgotten.
    fn put_recipient(&mut self, name: &str, recipient: &Recipient) -> Result<(), Self::Error>;
    /// Sets an alarm.
    fn put_alarm(&mut self, at_ms: i64, name: &str) -> Result<(), Self::Error>;
    /// Removes it.
    fn remove_alarm(&mut self, at_ms: i64, name: &str) -> Result<(), Self::Error>;
    /// The alarms up to a time, that included, earliest first, at most `limit`.
    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, String)>, Self::Error>;
    /// Notes that a notification was made; `false` where it was before.
    fn note_made(&mut self, id: Uuid, at_ms: i64) -> Result<bool, Self::Error>;
    /// Forgets notifications made before a time, at most `limit`.
    fn forget_made(&mut self, before_ms: i64, limit: usize) -> Result<(), Self::Error>;
}

/// What the by-recipient task decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientOutput {
    /// Publish a command.
    Command {
        /// For whom.
        recipient: String,
        /// On which channel.
        channel: Channel,
        /// In which language.
        locale: String,
        /// What.
        notice: Notice,
    },
    /// Publish `notification.failed`: the recipient cannot be reached.
    Failed(Failure),
    /// Publish `notification.failed`: nobody knows who is to be told.
    NobodyKnown(Failure),
}

impl RecipientOutput {
    /// The event that led to it.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Command { notice, .. } => &notice.cause,
            Self::Failed(failure) | Self::NobodyKnown(failure) => &failure.notice.cause,
        }
    }
}

/// The by-recipient rules, on the state and outputs of one record or punctuation.
pub struct RecipientRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<RecipientOutput>,
    now_ms: i64,
}

impl<'a, S: RecipientState> RecipientRules<'a, S> {
    /// Rules at a moment of the wall clock; decisions are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<RecipientOutput>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, name: &str, input: RecipientInput) -> Result<(), S::Error> {
        let mut recipient = match input {
            RecipientInput::Notice(notice) => {
                if !self.state.note_made(notice.id, self.now_ms)? {
                    return Ok(());
                }
                let recipient = self.state.recipient(name)?.unwrap_or_default();
                return self.take(name, recipient, notice);
            }
            RecipientInput::NobodyKnown(failure) => {
                if self.state.note_made(failure.notice.id, self.now_ms)? {
                    self.out.push(RecipientOutput::NobodyKnown(failure));
                }
                return Ok(());
            }
            RecipientInput::Change(change) => {
                let mut recipient = self.state.recipient(name)?.unwrap_or_default();
                recipient.entry.apply(change);
                recipient
            }
        };
        let old_alarm = recipient.alarm_at_ms();
        for Waiting { notice, until_ms } in std::mem::take(&mut recipient.waiting) {
            if let Some(notice) = self.command(name, &recipient, notice) {
                recipient.waiting.push(Waiting { notice, until_ms });
            }
        }
        self.store(name, &recipient, old_alarm)
    }

    /// Serves what has waited long enough, and forgets.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<(), S::Error> {
        for (at_ms, name) in self.state.alarms(self.now_ms, ALARMS_MAX)? {
            let mut recipient = self.state.recipient(&name)?.unwrap_or_default();
            let now_ms = self.now_ms;
            let over: Vec<Waiting> =
                recipient.waiting.extract_if(.., |waiting| waiting.until_ms <= now_ms).collect();
            for Waiting { notice, .. } in over {
                self.fail(&name, notice, "no way to reach the recipient is known");
            }
            self.store(&name, &recipient, Some(at_ms))?;
        }
        let retention_ms = signed(self.settings.made_retention_ms);
        self.state.forget_made(self.now_ms.saturating_sub(retention_ms), ALARMS_MAX)
    }

    fn take(
        &mut self,
        name: &str,
        mut recipient: Recipient,
        notice: Notice,
    ) -> Result<(), S::Error> {
        let Some(notice) = self.command(name, &recipient, notice) else { return Ok(()) };
        if recipient.waiting.len() >= WAITING_MAX {
            self.fail(name, notice, "too many notifications wait for a way to reach the recipient");
            return Ok(());
        }
        let old_alarm = recipient.alarm_at_ms();
        let until_ms = self.now_ms.saturating_add(signed(self.settings.contact_wait_ms));
        recipient.waiting.push(Waiting { notice, until_ms });
        self.store(name, &recipient, old_alarm)
    }

    /// Makes the command; gives the notice back where the recipient cannot be reached.
    fn command(&mut self, name: &str, recipient: &Recipient, notice: Notice) -> Option<Notice> {
        let reach = recipient.entry.reach();
        let Some(channel) = reach.channel(notice.case.channel()) else { return Some(notice) };
        let locale = reach.locale.filter(|locale| !locale.trim().is_empty());
        let locale = locale.unwrap_or_else(|| self.settings.default_locale.clone());
        let recipient = name.to_owned();
        self.out.push(RecipientOutput::Command { recipient, channel, locale, notice });
        None
    }

    fn fail(&mut self, name: &str, notice: Notice, error: &str) {
        let failure = Failure { recipient: name.to_owned(), notice, error: error.to_owned() };
        self.out.push(RecipientOutput::Failed(failure));
    }

    fn store(
        &mut self,
        name: &str,
        recipient: &Recipient,
        old_alarm: Option<i64>,
    ) -> Result<(), S::Error> {
        let alarm = recipient.alarm_at_ms();
        if old_alarm != alarm {
            if let Some(old) = old_alarm {
                self.state.remove_alarm(old, name)?;
            }
            if let Some(new) = alarm {
                self.state.put_alarm(new, name)?;
            }
        }
        self.state.put_recipient(name, recipient)
    }
}
