//! The two processors: they hand records to the rules, and what the rules say to the next node. Hot path.

use std::sync::Arc;
use std::time::Duration;

use kstreams::{
    Error, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    Timestamp,
};

use crate::business;
use crate::events::{NotificationCommand, NotificationEvent};

use super::by_recipient::{RecipientOutput, RecipientRules};
use super::by_request::{RequestOutput, RequestRules};
use super::edges;
use super::rules::{Cause, Failure, RecipientInput, RequestId, RequestInput};
use super::settings::Settings;
use super::stores::{RecipientHandles, RecipientStores, RequestHandles, RequestStores};

/// What the by-recipient processor publishes, keyed by recipient.
#[derive(Debug, Clone)]
pub(super) enum Published {
    /// To `notification-commands`.
    Command(NotificationCommand),
    /// To `notification-events`.
    Failed(NotificationEvent),
}

/// What is known of requests.
pub(super) struct ByRequest {
    settings: Arc<Settings>,
    handles: Option<RequestHandles>,
    out: Vec<RequestOutput>,
}

impl ByRequest {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }
}

type ByRequestContext<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, String, RecipientInput>;

impl Processor<RequestId, RequestInput, String, RecipientInput> for ByRequest {
    fn init(&mut self, context: ByRequestContext<'_, '_, '_>) -> Result<()> {
        self.handles = Some(RequestHandles::open(context)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<RequestId, RequestInput>,
        context: ByRequestContext<'_, '_, '_>,
    ) -> Result<()> {
        let (now, trace) = (context.current_system_time(), context.trace_context());
        let mut input = record.value;
        input.asks.iter_mut().for_each(|ask| ask.cause.trace = trace);
        self.out.clear(); // of a record that failed half-way
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .apply(input)?;
        tell_all(&mut self.out, now, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: ByRequestContext<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()?;
        tell_all(&mut self.out, now, &Headers::default(), context)
    }
}

/// How recipients are reached, and which notifications were made.
pub(super) struct ByRecipient {
    settings: Arc<Settings>,
    handles: Option<RecipientHandles>,
    out: Vec<RecipientOutput>,
}

impl ByRecipient {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }
}

type ByRecipientContext<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, String, Published>;

impl Processor<String, RecipientInput, String, Published> for ByRecipient {
    fn init(&mut self, context: ByRecipientContext<'_, '_, '_>) -> Result<()> {
        self.handles = Some(RecipientHandles::open(context)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, RecipientInput>,
        context: ByRecipientContext<'_, '_, '_>,
    ) -> Result<()> {
        let (now, trace) = (context.current_system_time(), context.trace_context());
        let mut input = record.value;
        match &mut input {
            RecipientInput::Notice(notice) => notice.cause.trace = trace,
            RecipientInput::NobodyKnown(failure) => failure.notice.cause.trace = trace,
            RecipientInput::Change(_) => {}
        }
        self.out.clear(); // of a record that failed half-way
        let mut state = RecipientStores { context, handles: opened(self.handles)? };
        RecipientRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .apply(&record.key, input)?;
        publish_all(&mut self.out, now, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: ByRecipientContext<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = RecipientStores { context, handles: opened(self.handles)? };
        RecipientRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()?;
        publish_all(&mut self.out, now, &Headers::default(), context)
    }
}

fn tell_all(
    out: &mut Vec<RequestOutput>,
    now: Timestamp,
    headers: &Headers,
    context: ByRequestContext<'_, '_, '_>,
) -> Result<()> {
    for output in out.drain(..) {
        let headers = placed(headers, output.cause());
        let (key, value) = match output {
            RequestOutput::Tell { recipient, notice } => {
                (recipient, RecipientInput::Notice(notice))
            }
            RequestOutput::Failed(failure) => {
                (failure.recipient.clone(), RecipientInput::NobodyKnown(failure))
            }
        };
        context.forward(Record { key, value, timestamp: now, headers })?;
    }
    Ok(())
}

/// Events carry the moment of the decision, as envelope and as Kafka timestamp.
fn publish_all(
    out: &mut Vec<RecipientOutput>,
    now: Timestamp,
    headers: &Headers,
    context: ByRecipientContext<'_, '_, '_>,
) -> Result<()> {
    for output in out.drain(..) {
        let headers = placed(headers, output.cause());
        let (key, value) = match output {
            RecipientOutput::Command { recipient, channel, locale, notice } => {
                business::notified(notice.case.template(), channel.as_str());
                let command = edges::command(recipient.clone(), channel, locale, notice, now);
                (recipient, Published::Command(command))
            }
            RecipientOutput::Failed(failure) => failed(failure, "unreachable", now),
            RecipientOutput::NobodyKnown(failure) => failed(failure, "nobody_known", now),
        };
        context.forward(Record { key, value, timestamp: now, headers })?;
    }
    Ok(())
}

/// Headers of what an event led to: its own place in a trace, not that of what set it free.
fn placed(headers: &Headers, cause: &Cause) -> Headers {
    let mut headers = headers.clone();
    if let Some(trace) = cause.trace {
        trace.put(&mut headers);
    }
    headers
}

fn failed(failure: Failure, why: &'static str, now: Timestamp) -> (String, Published) {
    business::notified(failure.notice.case.template(), why);
    (failure.recipient.clone(), Published::Failed(edges::failed(failure, now)))
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.punctuation_interval_ms)
}

fn opened<T>(handles: Option<T>) -> Result<T> {
    handles.ok_or_else(|| Error::invalid("a processor was called before its init"))
}
