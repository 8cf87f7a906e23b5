//! The processors: events and letters to audit events, and what they count. Hot path.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::{
    Error, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    StoreHandle, Timestamp,
};

use crate::business;
use crate::codec::{ordered, wrong_key};
use crate::events::{AuditEvent, TopicEvent, known};

use super::edges;
use super::figures::{Figures, window_start_ms};
use super::letters::letter;
use super::rules::{Audited, Kind};
use super::settings::Settings;
use super::{NAME, PARTS, TOTALS, WATCHED};

/// How many windows one punctuation reports at most.
const WINDOWS_MAX: usize = 1_000;

/// An audit event on its way out, and what it counts as.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    event: AuditEvent,
    /// The topic whose figures it belongs to.
    topic: String,
    /// `None` for a dead letter, which is no event of the topic.
    age_ms: Option<u64>,
    is_failure: bool,
}

/// Turns the events of a topic into audit events, keyed by entity.
pub(super) struct Fanout<E>(PhantomData<fn(E)>);

impl<E> Fanout<E> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: TopicEvent + Audited + 'static> Processor<String, E, String, Seen> for Fanout<E> {
    fn process(
        &mut self,
        record: Record<String, E>,
        context: &mut ProcessorContext<'_, '_, String, Seen>,
    ) -> Result<()> {
        let Some(event) = known(NAME, record.value) else { return Ok(()) };
        let (Some(envelope), Some(finding)) = (event.envelope(), event.finding()) else {
            return Ok(());
        };
        let place = context.record_metadata().ok_or_else(no_place)?;
        let age_ms = context.current_system_time().since(envelope.timestamp).as_millis();
        let seen = Seen {
            topic: place.topic.to_string(),
            age_ms: Some(u64::try_from(age_ms).unwrap_or(u64::MAX)),
            is_failure: finding.kind == Kind::ErrorOccurred,
            event: edges::of_event(envelope, finding, &place),
        };
        forward(seen, record.headers, context)
    }
}

/// Turns dead letters into audit events.
pub(super) struct Letters;

type Bytes = Option<Vec<u8>>;

impl Processor<Bytes, Bytes, String, Seen> for Letters {
    fn process(
        &mut self,
        record: Record<Bytes, Bytes>,
        context: &mut ProcessorContext<'_, '_, String, Seen>,
    ) -> Result<()> {
        let place = context.record_metadata().ok_or_else(no_place)?;
        let letter = letter(&place.topic, &record.headers);
        // A letter's own time is that of the record set aside, which may be what is wrong with it.
        let at = letter.at.unwrap_or_else(|| context.current_system_time());
        let event = edges::of_letter(letter.finding, at, &place);
        // Why it failed stands in the details; the rest of the headers is the record's own.
        let mut headers = Headers::default();
        if let Some(trace) = record.headers.last("traceparent") {
            headers.add("traceparent", Some(trace.clone()));
        }
        let topic = letter.source_topic;
        forward(Seen { event, topic, age_ms: None, is_failure: true }, headers, context)
    }
}

fn forward(
    seen: Seen,
    headers: Headers,
    context: &mut ProcessorContext<'_, '_, String, Seen>,
) -> Result<()> {
    let key = seen.event.key().unwrap_or_default();
    let timestamp =
        seen.event.envelope().map_or_else(|| context.current_system_time(), |e| e.timestamp);
    context.forward(Record { key, value: seen, timestamp, headers })
}

/// What the counting processor sends on.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // most are of the large kind: a box would cost them an allocation
pub(super) enum Counted {
    /// To `audit-events`, keyed by entity.
    Event(AuditEvent),
    /// To the task that adds up, keyed by topic.
    Part(Figures),
}

/// Counts what passes, and hands over each task's part of a window.
pub(super) struct Count {
    settings: Arc<Settings>,
    parts: Option<StoreHandle<KeyValueStore<String, Figures>>>,
}

impl Count {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, parts: None }
    }

    fn hand_over(
        topic: String,
        part: Figures,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, Counted>,
    ) -> Result<()> {
        let value = Counted::Part(part);
        context.forward(Record { key: topic, value, timestamp: now, headers: Headers::default() })
    }
}

impl Processor<String, Seen, String, Counted> for Count {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, Counted>) -> Result<()> {
        self.parts = Some(context.state_store(PARTS)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, Seen>,
        context: &mut ProcessorContext<'_, '_, String, Counted>,
    ) -> Result<()> {
        let parts = self.parts.ok_or_else(no_init)?;
        let now = context.current_system_time();
        let start_ms = window_start_ms(now.as_millis(), window_ms(&self.settings));
        let Record { key, value: Seen { event, topic, age_ms, is_failure }, timestamp, headers } =
            record;
        let known = context.store(parts).get(&topic)?;
        let (ended, mut part) = match known {
            Some(part) if part.window_start_ms >= start_ms => (None, part),
            ended => (ended, Figures::empty(start_ms)),
        };
        if let Some(age_ms) = age_ms {
            part.add_event(age_ms);
        }
        if is_failure {
            part.add_failure();
        }
        context.store(parts).put(&topic, &part)?;
        if let Some(ended) = ended {
            Self::hand_over(topic, ended, now, context)?;
        }
        count(&event);
        context.forward(Record { key, value: Counted::Event(event), timestamp, headers })
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, Counted>,
    ) -> Result<()> {
        let parts = self.parts.ok_or_else(no_init)?;
        let start_ms = window_start_ms(now.as_millis(), window_ms(&self.settings));
        let known: Vec<(String, Figures)> =
            context.store(parts).all()?.collect::<Result<Vec<_>>>()?;
        // A topic of which nothing comes has figures too: zeros.
        for topic in WATCHED {
            if !known.iter().any(|(known, _)| known == topic) {
                context.store(parts).put(&(*topic).to_owned(), &Figures::empty(start_ms))?;
            }
        }
        for (topic, part) in known {
            if part.window_start_ms >= start_ms {
                continue;
            }
            match WATCHED.contains(&topic.as_str()) {
                true => context.store(parts).put(&topic, &Figures::empty(start_ms))?,
                false => context.store(parts).delete(&topic).map(drop)?,
            }
            Self::hand_over(topic, part, now, context)?;
        }
        Ok(())
    }
}

/// Adds the parts up by topic, and reports each window once.
pub(super) struct Report {
    settings: Arc<Settings>,
    totals: Option<StoreHandle<KeyValueStore<Vec<u8>, Figures>>>,
}

impl Report {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, totals: None }
    }
}

/// Entries of the totals: open windows by start and topic, and for each topic the last window reported.
const OPEN: u8 = 0;
const REPORTED: u8 = 1;

impl Processor<String, Figures, String, AuditEvent> for Report {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, AuditEvent>) -> Result<()> {
        self.totals = Some(context.state_store(TOTALS)?);
        context.schedule(interval(&self.settings), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, Figures>,
        context: &mut ProcessorContext<'_, '_, String, AuditEvent>,
    ) -> Result<()> {
        let totals = self.totals.ok_or_else(no_init)?;
        let (topic, part) = (record.key, record.value);
        let reported = context.store(totals).get(&reported_key(&topic))?;
        // A part that comes after its window was reported (its task was down) counts in the next one, so that sums stay true.
        let next_ms = reported.map(|last| last.window_start_ms + window_ms(&self.settings));
        let start_ms = part.window_start_ms.max(next_ms.unwrap_or(i64::MIN));
        let key = open_key(start_ms, &topic);
        let known = context.store(totals).get(&key)?;
        let mut total = known.unwrap_or_else(|| Figures::empty(start_ms));
        total.add(&part);
        context.store(totals).put(&key, &total)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, AuditEvent>,
    ) -> Result<()> {
        let totals = self.totals.ok_or_else(no_init)?;
        let window_ms = window_ms(&self.settings);
        let grace_ms = i64::try_from(self.settings.window_grace_ms).unwrap_or(i64::MAX);
        let before_ms = now.as_millis().saturating_sub(window_ms).saturating_sub(grace_ms);
        let due = context.store(totals).range(..open_key(before_ms.saturating_add(1), ""))?;
        let due: Vec<_> = due.take(WINDOWS_MAX).collect::<Result<_>>()?;
        for (key, total) in due {
            let topic = topic_of(&key)?;
            context.store(totals).delete(&key)?;
            context
                .store(totals)
                .put(&reported_key(&topic), &Figures::empty(total.window_start_ms))?;
            for event in edges::of_figures(&topic, &total, window_ms, now) {
                count(&event);
                let key = event.key().unwrap_or_default();
                let headers = Headers::default();
                context.forward(Record { key, value: event, timestamp: now, headers })?;
            }
        }
        Ok(())
    }
}

fn count(event: &AuditEvent) {
    if let Some(envelope) = event.envelope() {
        business::audited(&envelope.event_type);
    }
}

fn open_key(start_ms: i64, topic: &str) -> Vec<u8> {
    [&[OPEN][..], &ordered(start_ms), topic.as_bytes()].concat()
}

fn reported_key(topic: &str) -> Vec<u8> {
    [&[REPORTED][..], topic.as_bytes()].concat()
}

fn topic_of(key: &[u8]) -> Result<String> {
    let topic = key.get(9..).and_then(|topic| std::str::from_utf8(topic).ok());
    topic.map(str::to_owned).ok_or_else(|| wrong_key("window"))
}

fn window_ms(settings: &Settings) -> i64 {
    i64::try_from(settings.window_ms).unwrap_or(i64::MAX)
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.punctuation_interval_ms)
}

fn no_place() -> Error {
    Error::invalid("a source's record has no place")
}

fn no_init() -> Error {
    Error::invalid("a processor was called before its init")
}
