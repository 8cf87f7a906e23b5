//! A task's part in traces: the spans of the record in hand, and `traceparent` on everything that is written because of it.
//!
//! Only there where traces are on; without, no header is looked at and none is changed. Spans wait here for the commit: an aborted transaction's
//! go with it, since its records come again. Hot path: [`TaskSpans::begin`] and [`TaskSpans::stamp`] once a record; they allocate for sampled ones only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::stream_task::StreamTask;
use crate::ids::{TaskId, TopicPartition};
use crate::processor::OutputBuffer;
use crate::record::Headers;
use crate::telemetry::{
    Span, SpanContext, SpanIds, SpanKind, SpanValue, TRACEPARENT, TRACESTATE, Tracing,
};
use crate::time::Clock;

/// Spans of one transaction; what comes after is left out of its traces.
const SPANS_MAX: usize = 10_000;

/// Where a record came from, and when.
pub(super) struct Place<'a> {
    partition: &'a TopicPartition,
    index: usize,
    offset: i64,
}

pub(crate) struct TaskSpans {
    tracing: Tracing,
    clock: Arc<dyn Clock>,
    application_id: Arc<str>,
    subtopology: u32,
    task: Arc<str>,
    /// Of attributes.
    words: [Arc<str>; 3],
    ids: SpanIds,
    traceparent: Arc<str>,
    tracestate: Arc<str>,
    /// By input partition: the last offset of what came at once, and when.
    arrivals: Vec<VecDeque<(i64, Duration)>>,
    in_hand: Option<InHand>,
    /// They are over.
    ended: Vec<Span>,
    /// They last until the commit.
    produced: Vec<Span>,
}

/// The record in hand, which has a place in a trace.
pub(super) struct InHand {
    /// As it came.
    incoming: Option<SpanContext>,
    header: Option<Bytes>,
    state: Option<Bytes>,
    /// What its results belong to.
    parent: SpanContext,
    /// Where it is sampled.
    spans: Vec<Span>,
    start: (Duration, Duration),
}

impl StreamTask {
    /// Notes that what was pushed to a partition last has come now.
    pub(crate) fn note_arrival(&mut self, partition: usize) {
        let last = self.group.queues[partition].records.back().map(|record| record.offset);
        if let (Some(spans), Some(last)) = (&mut self.spans, last) {
            spans.arrived(partition, last);
        }
    }

    /// Takes the first record of a queue in hand, as far as traces are concerned.
    pub(super) fn begin_spans(&mut self, partition: usize) {
        let Some(spans) = &mut self.spans else { return };
        let Some(record) = self.group.queues[partition].records.front() else { return };
        let (source, offset) = (&self.state.partitions[partition], record.offset);
        let place = Place { partition: source, index: partition, offset };
        self.state.trace = spans.begin(&record.headers, Some(&place));
    }

    /// Takes the record out of hand, as far as traces are concerned.
    pub(super) fn release(&mut self) -> Option<InHand> {
        self.state.trace = None;
        self.spans.as_mut()?.release()
    }

    pub(super) fn end_spans(&mut self, in_hand: Option<InHand>, error: Option<String>) {
        if let Some(spans) = &mut self.spans {
            spans.end(in_hand, error);
        }
    }
}

impl TaskSpans {
    pub(super) fn new(
        tracing: Tracing,
        clock: Arc<dyn Clock>,
        application_id: Arc<str>,
        task: TaskId,
    ) -> Self {
        Self {
            tracing,
            clock,
            application_id,
            subtopology: task.subtopology,
            task: task.to_string().into(),
            words: ["kafka", "receive", "send"].map(Into::into),
            ids: SpanIds::default(),
            traceparent: TRACEPARENT.into(),
            tracestate: TRACESTATE.into(),
            arrivals: Vec::new(),
            in_hand: None,
            ended: Vec::new(),
            produced: Vec::new(),
        }
    }

    /// Notes that records up to `last` have come now.
    fn arrived(&mut self, index: usize, last: i64) {
        if self.arrivals.len() <= index {
            self.arrivals.resize_with(index + 1, VecDeque::new);
        }
        let now = self.now();
        self.arrivals[index].push_back((last, now));
    }

    /// Takes a record in hand; gives the place that its results belong to. `place`: of one from a topic.
    pub(super) fn begin(
        &mut self,
        headers: &Headers,
        place: Option<&Place<'_>>,
    ) -> Option<SpanContext> {
        self.in_hand = None;
        let arrived_at = place.and_then(|place| self.take_arrival(place));
        let incoming = SpanContext::of(headers);
        let is_full = self.is_full();
        let sampled = match incoming {
            Some(context) => Some(context).filter(SpanContext::is_sampled),
            // A result that comes later belongs to its record's trace, or to none.
            None if place.is_none() => None,
            None => self.ids.sample(self.tracing.sample_ratio),
        };
        let Some(root) = sampled.filter(|_| !is_full) else {
            let incoming = incoming?;
            let header = headers.last(TRACEPARENT).cloned();
            let state = headers.last(TRACESTATE).cloned();
            let (spans, start) = (Vec::new(), (Duration::ZERO, Duration::ZERO));
            let parent = incoming;
            let incoming = Some(incoming);
            self.in_hand = Some(InHand { incoming, header, state, parent, spans, start });
            return Some(parent);
        };
        let start = (self.now(), self.clock.monotonic());
        let mut spans = Vec::with_capacity(2);
        let mut parent = incoming.map(|context| context.span_id);
        let mut context = root;
        if let Some(place) = place {
            context = if incoming.is_some() { root.child(&mut self.ids) } else { root };
            spans.push(self.consume(place, context, parent, arrived_at.unwrap_or(start.0)));
            parent = Some(context.span_id);
        }
        let process = context.child(&mut self.ids);
        spans.push(self.process(process, parent, start.0));
        let (header, state) =
            (headers.last(TRACEPARENT).cloned(), headers.last(TRACESTATE).cloned());
        self.in_hand = Some(InHand { incoming, header, state, parent: process, spans, start });
        Some(process)
    }

    /// The record in hand, which is not in hand any more.
    pub(super) fn release(&mut self) -> Option<InHand> {
        self.in_hand.take()
    }

    /// The record that was in hand is done, or has failed for good.
    fn end(&mut self, in_hand: Option<InHand>, error: Option<String>) {
        let Some(InHand { spans, start, .. }) = in_hand.filter(|record| !record.spans.is_empty())
        else {
            return;
        };
        let end = start.0 + self.clock.monotonic().saturating_sub(start.1);
        self.ended.extend(spans.into_iter().map(|span| Span { end, error: error.clone(), ..span }));
    }

    /// Gives every output its place: below what it carries itself, if that is not the record in hand's; else below the record in hand.
    pub(super) fn stamp(&mut self, outputs: &mut OutputBuffer) {
        for index in 0..outputs.records.len() {
            let topic = outputs.records[index].topic;
            let headers = &mut outputs.records[index].headers;
            let own = SpanContext::of(headers);
            let record = self.in_hand.as_ref();
            let below = match (own, record) {
                (Some(own), Some(record)) if record.incoming == Some(own) => record.parent,
                (Some(own), _) => own,
                (None, Some(record)) => record.parent,
                (None, None) => continue,
            };
            if own.is_none()
                && let Some(state) = record.and_then(|record| record.state.clone())
                && headers.last(TRACESTATE).is_none()
            {
                headers.add(self.tracestate.clone(), Some(state));
            }
            if !below.is_sampled() || self.is_full() {
                if own.is_none()
                    && let Some(header) = record.and_then(|record| record.header.clone())
                {
                    headers.add(self.traceparent.clone(), Some(header));
                }
                continue;
            }
            let context = below.child(&mut self.ids);
            context.put(headers);
            let start = record.map(|record| record.start).filter(|start| start.0 > Duration::ZERO);
            let now = match start {
                Some(start) => start.0 + self.clock.monotonic().saturating_sub(start.1),
                None => self.now(),
            };
            let topic = outputs.topics()[topic].clone();
            let span = self.produce(&topic, context, below.span_id, now);
            self.produced.push(span);
        }
    }

    /// The transaction is committed: what it did may be told.
    pub(super) fn commit(&mut self) {
        if self.ended.is_empty() && self.produced.is_empty() {
            return;
        }
        let end = self.now();
        let mut spans = std::mem::take(&mut self.ended);
        let produced = self.produced.drain(..);
        spans.extend(produced.map(|span| Span { end: end.max(span.start), ..span }));
        self.tracing.sink.take(spans);
    }

    /// The transaction is aborted: its records come again.
    pub(super) fn abort(&mut self) {
        self.in_hand = None;
        self.ended.clear();
        self.produced.clear();
        self.arrivals.clear();
    }

    fn is_full(&self) -> bool {
        self.ended.len() + self.produced.len() >= SPANS_MAX
    }

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.now().as_millis()).unwrap_or(0))
    }

    fn take_arrival(&mut self, place: &Place<'_>) -> Option<Duration> {
        let batches = self.arrivals.get_mut(place.index)?;
        while batches.front().is_some_and(|(last, _)| *last < place.offset) {
            batches.pop_front();
        }
        batches.front().map(|(_, at)| *at)
    }

    /// From its coming here to the end of its processing.
    fn consume(
        &self,
        place: &Place<'_>,
        context: SpanContext,
        parent: Option<[u8; 8]>,
        start: Duration,
    ) -> Span {
        let TopicPartition { topic, partition } = place.partition;
        let attributes = vec![
            ("messaging.system", SpanValue::Text(self.words[0].clone())),
            ("messaging.operation.type", SpanValue::Text(self.words[1].clone())),
            ("messaging.consumer.group.name", SpanValue::Text(self.application_id.clone())),
            ("messaging.destination.name", SpanValue::Text(topic.clone())),
            ("messaging.destination.partition.id", SpanValue::Number((*partition).into())),
            ("messaging.kafka.offset", SpanValue::Number(place.offset)),
        ];
        let (name, kind) = (format!("consume {topic}"), SpanKind::Consumer);
        Span { name, kind, context, parent, start, end: start, attributes, error: None }
    }

    /// Its way through the subtopology.
    fn process(&self, context: SpanContext, parent: Option<[u8; 8]>, start: Duration) -> Span {
        let attributes = vec![("kstreams.task.id", SpanValue::Text(self.task.clone()))];
        let name = format!("process {} {}", self.application_id, self.subtopology);
        let kind = SpanKind::Internal;
        Span { name, kind, context, parent, start, end: start, attributes, error: None }
    }

    /// From its being handed to the producer to the commit that lets readers see it.
    fn produce(
        &self,
        topic: &Arc<str>,
        context: SpanContext,
        parent: [u8; 8],
        start: Duration,
    ) -> Span {
        let attributes = vec![
            ("messaging.system", SpanValue::Text(self.words[0].clone())),
            ("messaging.operation.type", SpanValue::Text(self.words[2].clone())),
            ("messaging.destination.name", SpanValue::Text(topic.clone())),
        ];
        let (name, kind, parent) = (format!("produce {topic}"), SpanKind::Producer, Some(parent));
        Span { name, kind, context, parent, start, end: start, attributes, error: None }
    }
}
