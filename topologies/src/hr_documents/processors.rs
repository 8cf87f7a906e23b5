//! The three processors: they hand records to the rules, and what the rules say to the next node. Hot path.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kstreams::store::KeyValueStore;
use kstreams::{
    Error, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    StoreHandle, Timestamp,
};
use uuid::Uuid;

use crate::business;
use crate::edge::Letter;
use crate::events::{Event as _, HrEvent};

use super::by_document::DocumentRules;
use super::by_request::{RequestRules, WAITING_MAX, word};
use super::contracts::Contract;
use super::edges;
use super::rules::{
    About, Cause, ContractorId, DocumentInput, DocumentOutput, RequestId, RequestInput,
    RequestOutput,
};
use super::settings::Settings;
use super::stores::{
    DocumentHandles, DocumentStores, RequestHandles, RequestStores, contract_store,
};

/// What a processor sends on.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // most are of the large kind: a box would cost them an allocation
pub(super) enum Outcome {
    /// To `hr-events`, under its contractor.
    Publish(String, HrEvent),
    /// To a dead-letter topic, under its key.
    Refuse(Bytes, Letter),
    /// To the by-document task.
    TellDocument(Uuid, DocumentInput),
    /// To the by-request task.
    TellRequest(RequestId, RequestInput),
}

type Context<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, (), Outcome>;

/// Joins completions with requests and assignments.
pub(super) struct ByRequest {
    settings: Arc<Settings>,
    handles: Option<RequestHandles>,
    out: Vec<RequestOutput>,
}

impl ByRequest {
    /// The node's name.
    pub(super) const NODE: &'static str = "request-paperwork";

    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }

    fn send(&mut self, headers: &Headers, context: Context<'_, '_, '_>) -> Result<()> {
        let now = context.current_system_time();
        for output in self.out.drain(..) {
            match output {
                RequestOutput::Create(document) => {
                    business::document_created(word(document.about.kind));
                    let (id, about) = (document.document_id, document.about);
                    let event = edges::document(document, now);
                    let key = event.key().unwrap_or_default();
                    forward(Outcome::Publish(key, event.into()), now, headers, context)?;
                    let created = Outcome::TellDocument(id, DocumentInput::Created(about));
                    forward(created, now, headers, context)?;
                }
                RequestOutput::Refuse(id, refusal, original) => {
                    business::completion_refused(refusal.word());
                    let wait_ms = self.settings.completion_wait_ms;
                    let error = edges::refused_completion(id, refusal, wait_ms, WAITING_MAX);
                    forward_letter(original.refuse(&error, Self::NODE, context), context)?;
                }
                RequestOutput::Closed(open_for_ms) => {
                    let open_for_ms = u64::try_from(open_for_ms).unwrap_or(0);
                    business::paperwork_closed(Duration::from_millis(open_for_ms));
                }
            }
        }
        Ok(())
    }
}

impl Processor<RequestId, RequestInput, (), Outcome> for ByRequest {
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
        self.send(&record.headers, context)
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
        self.send(&Headers::default(), context)
    }
}

/// Whose document is signed or paid.
pub(super) struct ByDocument {
    settings: Arc<Settings>,
    handles: Option<DocumentHandles>,
    out: Vec<DocumentOutput>,
}

impl ByDocument {
    /// The node's name.
    pub(super) const NODE: &'static str = "documents";

    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }

    fn send(&mut self, id: Uuid, headers: &Headers, context: Context<'_, '_, '_>) -> Result<()> {
        let now = context.current_system_time();
        for output in self.out.drain(..) {
            match output {
                DocumentOutput::Done(About { request_id, kind, .. }) => {
                    let done = RequestInput::Done { request_id, kind };
                    forward(Outcome::TellRequest(request_id, done), now, headers, context)?;
                }
                DocumentOutput::Refuse(refusal, original) => {
                    let error = edges::refused_payment(id, refusal);
                    forward_letter(original.refuse(&error, Self::NODE, context), context)?;
                }
                DocumentOutput::Unmatched(reason) => business::unmatched(reason),
            }
        }
        Ok(())
    }
}

impl Processor<Vec<u8>, DocumentInput, (), Outcome> for ByDocument {
    fn init(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        self.handles = Some(DocumentHandles::open(context)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Vec<u8>, DocumentInput>,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let now_ms = context.current_system_time().as_millis();
        let id = Uuid::from_slice(&record.key).map_err(|error| {
            Error::bad_record("found a key that is no document's id").with_source(error)
        })?;
        self.out.clear(); // of a record that failed half-way
        let mut state = DocumentStores { context, handles: opened(self.handles)? };
        DocumentRules::new(&self.settings, &mut state, &mut self.out, now_ms)
            .apply(id, record.value)?;
        self.send(id, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = DocumentStores { context, handles: opened(self.handles)? };
        DocumentRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()?;
        self.send(Uuid::nil(), &Headers::default(), context)
    }
}

/// Makes each contractor's contract, once.
#[derive(Default)]
pub(super) struct Contracts {
    store: Option<StoreHandle<KeyValueStore<ContractorId, Contract>>>,
}

impl Processor<ContractorId, Cause, (), Outcome> for Contracts {
    fn init(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        self.store = Some(contract_store(context)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<ContractorId, Cause>,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let store = context.store(opened(self.store)?);
        if store.get(&record.key)?.is_some() {
            return Ok(());
        }
        let contract = Contract::new(record.key, record.value);
        store.put(&record.key, &contract)?;
        business::contract_generated();
        let now = context.current_system_time();
        let event = edges::contract(record.key, &contract, now);
        let key = event.key().unwrap_or_default();
        forward(Outcome::Publish(key, event.into()), now, &record.headers, context)
    }
}

/// Events carry the moment of the decision, as envelope and as Kafka timestamp.
fn forward(
    value: Outcome,
    now: Timestamp,
    headers: &Headers,
    context: Context<'_, '_, '_>,
) -> Result<()> {
    context.forward(Record { key: (), value, timestamp: now, headers: headers.clone() })
}

/// A letter keeps the record's own time and headers.
fn forward_letter(letter: Record<Bytes, Letter>, context: Context<'_, '_, '_>) -> Result<()> {
    let Record { key, value, timestamp, headers } = letter;
    context.forward(Record { key: (), value: Outcome::Refuse(key, value), timestamp, headers })
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.punctuation_interval_ms)
}

fn opened<T>(handles: Option<T>) -> Result<T> {
    handles.ok_or_else(|| Error::invalid("a processor was called before its init"))
}
