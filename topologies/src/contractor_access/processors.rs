//! The two processors: they hand records to the rules, and what the rules say to the next node. Hot path.

use std::sync::Arc;
use std::time::Duration;

use kstreams::{
    Error, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    Timestamp,
};

use crate::events::{AuditEvent, SecurityEvent};

use super::by_contractor::ContractorRules;
use super::by_request::RequestRules;
use super::edges;
use super::rules::{ContractorId, ContractorInput, Decision, Output, RequestId, RequestInput};
use super::settings::Settings;
use super::stores::{ContractorHandles, ContractorStores, RequestHandles, RequestStores};

/// What a processor sends on, keyed by contractor.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // all are large: a box would cost each an allocation
pub(super) enum Outcome {
    /// To `security-events`.
    Access(SecurityEvent),
    /// To `audit-events`.
    Audit(AuditEvent),
    /// To the by-contractor task.
    Tell(ContractorInput),
}

type Context<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, ContractorId, Outcome>;

/// Where a request is and who has the job.
pub(super) struct ByRequest {
    settings: Arc<Settings>,
    handles: Option<RequestHandles>,
    out: Vec<Output>,
}

impl ByRequest {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }

    fn send(
        &mut self,
        headers: &Headers,
        timestamp: Timestamp,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let now = context.current_system_time();
        for output in self.out.drain(..) {
            match output {
                Output::Tell(key, input) => context.forward(Record {
                    key,
                    value: Outcome::Tell(input),
                    timestamp,
                    headers: headers.clone(),
                })?,
                Output::Publish(decision) => publish(decision, now, headers, context)?,
            }
        }
        Ok(())
    }
}

impl Processor<RequestId, RequestInput, ContractorId, Outcome> for ByRequest {
    fn init(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        self.handles = Some(RequestHandles::open(context)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<RequestId, RequestInput>,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let now_ms = context.current_system_time().as_millis();
        self.out.clear(); // of a record that failed half-way
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now_ms).apply(record.value)?;
        self.send(&record.headers, record.timestamp, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()?;
        self.send(&Headers::default(), now, context)
    }
}

/// Who has access.
pub(super) struct ByContractor {
    settings: Arc<Settings>,
    handles: Option<ContractorHandles>,
    out: Vec<Decision>,
}

impl ByContractor {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }
}

impl Processor<ContractorId, ContractorInput, ContractorId, Outcome> for ByContractor {
    fn init(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        self.handles = Some(ContractorHandles::open(context)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<ContractorId, ContractorInput>,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let now = context.current_system_time();
        self.out.clear(); // of a record that failed half-way
        let mut state = ContractorStores { context, handles: opened(self.handles)? };
        ContractorRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .apply(record.key, record.value)?;
        publish_all(&mut self.out, now, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = ContractorStores { context, handles: opened(self.handles)? };
        ContractorRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()?;
        publish_all(&mut self.out, now, &Headers::default(), context)
    }
}

fn publish_all(
    out: &mut Vec<Decision>,
    now: Timestamp,
    headers: &Headers,
    context: Context<'_, '_, '_>,
) -> Result<()> {
    out.drain(..).try_for_each(|decision| publish(decision, now, headers, context))
}

/// Events carry the moment of the decision, as envelope and as Kafka timestamp.
fn publish(
    decision: Decision,
    now: Timestamp,
    headers: &Headers,
    context: Context<'_, '_, '_>,
) -> Result<()> {
    let key = decision.contractor_id;
    let (access, audit) = edges::published(decision, now);
    for value in [Outcome::Access(access), Outcome::Audit(audit)] {
        context.forward(Record { key, value, timestamp: now, headers: headers.clone() })?;
    }
    Ok(())
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.punctuation_interval_ms)
}

fn opened<T>(handles: Option<T>) -> Result<T> {
    handles.ok_or_else(|| Error::invalid("a processor was called before its init"))
}
