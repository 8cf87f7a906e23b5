//! The three processors: they hand records to the rules, and what the rules say to the next node. Hot path.

use std::sync::Arc;
use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::telemetry::Placed;
use kstreams::{
    Error, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    StoreHandle, Timestamp,
};

use crate::business;
use crate::events::{Manager, WorkflowEvent};

use super::NAME;
use super::by_region::RegionRules;
use super::by_request::RequestRules;
use super::directory::{DirectoryEntry, directory_changes};
use super::edges;
use super::rules::{ManagerId, RegionInput, RegionOutput, RequestId, RequestInput, ToRegion};
use super::settings::Settings;
use super::stores::{RegionHandles, RegionStores, RequestHandles, RequestStores, directory_store};

/// What the by-region processor sends on, keyed by request.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // most are of the large kind: a box would cost them an allocation
pub(super) enum Decision {
    /// To `workflow-events`.
    Publish(WorkflowEvent),
    /// To the by-request task.
    Tell(RequestInput),
}

/// Which region has a request.
pub(super) struct ByRequest {
    settings: Arc<Settings>,
    handles: Option<RequestHandles>,
    out: Vec<ToRegion>,
}

impl ByRequest {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, handles: None, out: Vec::new() }
    }
}

type ByRequestContext<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, String, RegionInput>;

impl Processor<RequestId, RequestInput, String, RegionInput> for ByRequest {
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
        let now_ms = context.current_system_time().as_millis();
        self.out.clear(); // of a record that failed half-way
        if let RequestInput::Created(submission) = &record.value {
            business::request_created(&submission.region, submission.priority.as_str());
        }
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now_ms).apply(record.value)?;
        forward_all(&mut self.out, record.timestamp, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: ByRequestContext<'_, '_, '_>,
    ) -> Result<()> {
        let mut state = RequestStores { context, handles: opened(self.handles)? };
        RequestRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .punctuate()
            .map(drop)
    }
}

/// Which region has a manager.
#[derive(Default)]
pub(super) struct Directory {
    store: Option<StoreHandle<KeyValueStore<ManagerId, DirectoryEntry>>>,
}

impl Processor<String, Option<Manager>, String, RegionInput> for Directory {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, RegionInput>) -> Result<()> {
        self.store = Some(directory_store(context)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, Option<Manager>>,
        context: &mut ProcessorContext<'_, '_, String, RegionInput>,
    ) -> Result<()> {
        let id = manager_id(&record)?;
        let store = context.store(opened(self.store)?);
        let old = store.get(&id)?;
        let new = record.value.map(edges::of_manager);
        match &new {
            Some(entry) => store.put(&id, entry)?,
            None => store.delete(&id).map(drop)?,
        }
        let mut changes = directory_changes(id, old.as_ref(), new.as_ref());
        forward_all(&mut changes, record.timestamp, &record.headers, context)
    }
}

/// The key says who it is, also where the value is null.
fn manager_id(record: &Record<String, Option<Manager>>) -> Result<ManagerId> {
    let id: Option<ManagerId> = record.key.parse().ok().filter(|id| *id >= 0);
    let named = record.value.as_ref().map(|manager| manager.manager_id);
    match id {
        Some(id) if named.is_none_or(|named| named == id) => Ok(id),
        _ => Err(Error::bad_record(format!(
            "manager: found key \"{}\" for manager_id {named:?}, wanted the id as text",
            record.key
        ))),
    }
}

/// Which manager has a request.
pub(super) struct ByRegion {
    settings: Arc<Settings>,
    handles: Option<RegionHandles>,
    out: Vec<RegionOutput>,
    refreshed: bool,
    waiting: Placed,
}

impl ByRegion {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let waiting = Placed::new(business::REQUESTS_WAITING, &[]);
        Self { settings, handles: None, out: Vec::new(), refreshed: false, waiting }
    }
}

type ByRegionContext<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, RequestId, Decision>;

impl Processor<String, RegionInput, RequestId, Decision> for ByRegion {
    fn init(&mut self, context: ByRegionContext<'_, '_, '_>) -> Result<()> {
        self.handles = Some(RegionHandles::open(context)?);
        business::begin(NAME);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, RegionInput>,
        context: ByRegionContext<'_, '_, '_>,
    ) -> Result<()> {
        let (now, trace) = (context.current_system_time(), context.trace_context());
        self.out.clear(); // of a record that failed half-way
        let mut state = RegionStores { context, handles: opened(self.handles)? };
        RegionRules::new(&self.settings, &mut state, &mut self.out, now.as_millis())
            .traced(trace)
            .apply(&record.key, record.value)?;
        decide_all(&mut self.out, &self.settings, now, &record.headers, context)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: ByRegionContext<'_, '_, '_>,
    ) -> Result<()> {
        self.out.clear();
        let mut state = RegionStores { context, handles: opened(self.handles)? };
        let mut rules =
            RegionRules::new(&self.settings, &mut state, &mut self.out, now.as_millis());
        if !self.refreshed {
            rules.refresh()?;
        }
        self.waiting.set_count(rules.punctuate()?);
        decide_all(&mut self.out, &self.settings, now, &Headers::default(), context)?;
        self.refreshed = true;
        Ok(())
    }
}

fn forward_all(
    out: &mut Vec<ToRegion>,
    timestamp: Timestamp,
    headers: &Headers,
    context: &mut ProcessorContext<'_, '_, String, RegionInput>,
) -> Result<()> {
    for ToRegion { region, input } in out.drain(..) {
        context.forward(Record {
            key: region,
            value: input,
            timestamp,
            headers: headers.clone(),
        })?;
    }
    Ok(())
}

/// Events carry the moment of the decision, as envelope and as Kafka timestamp.
fn decide_all(
    out: &mut Vec<RegionOutput>,
    settings: &Settings,
    now: Timestamp,
    headers: &Headers,
    context: ByRegionContext<'_, '_, '_>,
) -> Result<()> {
    for output in out.drain(..) {
        let mut headers = headers.clone();
        if let Some(trace) = output.trace() {
            trace.put(&mut headers); // its own, not that of what set it free
        }
        let (key, value) = match output {
            RegionOutput::Assigned(assignment) => {
                let opened = settings.opened_at(assignment.priority, assignment.sla_deadline_ms);
                business::manager_assigned(assignment.attempt == 1, now.since(opened));
                (assignment.request_id, Decision::Publish(edges::assigned(assignment, now)))
            }
            RegionOutput::Escalated(escalation) => {
                business::sla_breached();
                (escalation.request_id, Decision::Publish(edges::escalated(&escalation, now)))
            }
            RegionOutput::Returned(returned) => {
                (returned.request_id, Decision::Tell(RequestInput::Returned(returned)))
            }
        };
        context.forward(Record { key, value, timestamp: now, headers })?;
    }
    Ok(())
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.punctuation_interval_ms)
}

fn opened<T>(handles: Option<T>) -> Result<T> {
    handles.ok_or_else(|| Error::invalid("a processor was called before its init"))
}
