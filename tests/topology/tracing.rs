//! `traceparent` on everything that is derived, and the spans that say how; without tracing, headers as Kafka Streams leaves them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::telemetry::{
    Span, SpanContext, SpanKind, SpanSink, TRACEPARENT, TRACESTATE, Tracing,
};
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{
    Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, RawRecord, Record, Result,
    StoreHandle, Stores, StreamsBuilder, Timestamp, Topology,
};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<Span>>);

impl SpanSink for Kept {
    fn take(&self, spans: Vec<Span>) {
        self.0.lock().unwrap().extend(spans);
    }
}

impl Kept {
    fn drain(&self) -> Vec<Span> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn driver(topology: Topology, sample_ratio: f64) -> (TopologyTestDriver, Arc<Kept>) {
    let kept = Arc::<Kept>::default();
    let tracing = Some(Tracing { sample_ratio, sink: kept.clone() });
    let settings = TestSettings { tracing, ..TestSettings::default() };
    (TopologyTestDriver::with_settings(topology, settings).unwrap(), kept)
}

/// Two hops: over a repartition topic, and a fan-out to two sinks. `"bad"` fails.
fn two_hops() -> Topology {
    let builder = StreamsBuilder::new();
    let parts = builder
        .stream::<String, String>("in")
        .map_values(|_, value| {
            assert_ne!(value, "bad", "refused");
            value
        })
        .select_key(|_, value| value.clone());
    parts.group_by_key().count().to_stream().to("counts");
    parts.to("copies");
    builder.build().unwrap()
}

fn headers(traceparent: Option<&str>, state: Option<&str>) -> Headers {
    let mut headers = Headers::default();
    headers.add("other", Some("x"));
    for (name, value) in [(TRACEPARENT, traceparent), (TRACESTATE, state)] {
        if let Some(value) = value {
            headers.add(name, Some(value.to_owned()));
        }
    }
    headers
}

fn pipe(driver: &TopologyTestDriver, value: &str, headers: Headers) {
    let at = Timestamp::from_millis(1);
    driver.pipe_raw("in", Some(b"k"), Some(value.as_bytes()), at, headers).unwrap();
}

fn read(driver: &TopologyTestDriver, topic: &str) -> RawRecord {
    driver.read_raw(topic).unwrap()
}

fn text(headers: &Headers, name: &str) -> Option<String> {
    headers.last(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

#[test]
fn a_sampled_record_leaves_one_chain_of_spans_over_all_its_hops() {
    let (driver, kept) = driver(two_hops(), 0.0);
    pipe(&driver, "a", headers(Some(SAMPLED), Some("vendor=1")));
    let spans = kept.drain();
    let incoming = SpanContext::parse(SAMPLED.as_bytes()).unwrap();
    assert!(spans.iter().all(|span| span.context.trace_id == incoming.trace_id), "{spans:#?}");

    let consume = one(&spans, "consume in");
    assert_eq!((consume.parent, consume.kind), (Some(incoming.span_id), SpanKind::Consumer));
    let process = spans.iter().find(|span| span.parent == Some(consume.context.span_id)).unwrap();
    assert_eq!((&*process.name, process.kind), ("process test 0", SpanKind::Internal));
    let copies = one(&spans, "produce copies");
    assert_eq!((copies.parent, copies.kind), (Some(process.context.span_id), SpanKind::Producer));
    let hop = spans
        .iter()
        .find(|span| span.name.contains("repartition") && span.kind == SpanKind::Producer);
    let hop = hop.unwrap();
    let next = spans.iter().find(|span| span.parent == Some(hop.context.span_id)).unwrap();
    assert_eq!(next.kind, SpanKind::Consumer);
    let counts = one(&spans, "produce counts");
    for (topic, span) in [("copies", copies), ("counts", counts)] {
        let record = read(&driver, topic);
        assert_eq!(SpanContext::of(&record.headers), Some(span.context), "{topic}");
        assert_eq!(text(&record.headers, TRACESTATE).as_deref(), Some("vendor=1"));
        assert_eq!(text(&record.headers, "other").as_deref(), Some("x"));
        let places = record.headers.iter().filter(|header| &*header.key == TRACEPARENT);
        assert_eq!(places.count(), 1);
    }
    assert!(spans.iter().all(|span| span.start <= span.end && span.error.is_none()));
}

#[test]
fn an_unsampled_record_is_passed_on_and_told_of_nowhere() {
    let (driver, kept) = driver(two_hops(), 1.0);
    pipe(&driver, "a", headers(Some(UNSAMPLED), None));
    assert_eq!(kept.drain(), []);
    for topic in ["copies", "counts"] {
        assert_eq!(text(&read(&driver, topic).headers, TRACEPARENT).as_deref(), Some(UNSAMPLED));
    }
}

#[test]
fn a_record_without_a_trace_begins_one_as_often_as_the_ratio_says() {
    let (driver, kept) = driver(two_hops(), 1.0);
    pipe(&driver, "a", headers(None, None));
    let spans = kept.drain();
    assert_eq!(one(&spans, "consume in").parent, None);
    let context = SpanContext::of(&read(&driver, "copies").headers);
    assert_eq!(context, Some(one(&spans, "produce copies").context));

    let (driver, kept) = self::driver(two_hops(), 0.0);
    pipe(&driver, "a", headers(None, None));
    assert_eq!(kept.drain(), []);
    assert_eq!(read(&driver, "copies").headers, headers(None, None));
}

#[test]
fn without_tracing_headers_are_kafka_streams() {
    let driver = TopologyTestDriver::new(two_hops()).unwrap();
    let as_it_came = headers(Some(SAMPLED), Some("vendor=1"));
    pipe(&driver, "a", as_it_came.clone());
    for topic in ["copies", "counts"] {
        assert_eq!(read(&driver, topic).headers, as_it_came);
    }
}

#[test]
fn a_bad_record_says_why_and_its_dead_letter_keeps_its_place() {
    let (driver, kept) = driver(two_hops(), 0.0);
    pipe(&driver, "bad", headers(Some(SAMPLED), None));
    let spans = kept.drain();
    let process = one(&spans, "process test 0");
    assert!(process.error.as_ref().unwrap().contains("refused"), "{process:?}");
    assert!(!spans.iter().any(|span| span.kind == SpanKind::Producer), "{spans:#?}");
    let letter = read(&driver, "test-in-dlq");
    assert_eq!(text(&letter.headers, TRACEPARENT).as_deref(), Some(SAMPLED));
}

#[test]
fn a_record_that_cannot_be_read_says_why() {
    let (driver, kept) = driver(two_hops(), 0.0);
    let (at, headers) = (Timestamp::from_millis(1), headers(Some(SAMPLED), None));
    driver.pipe_raw("in", Some(b"k"), Some(&[0xff, 0xfe]), at, headers).unwrap();
    driver.pipe_raw("in", Some(b"k"), Some(b"a"), at, Headers::default()).unwrap();
    let spans = kept.drain();
    let process = one(&spans, "process test 0");
    assert!(process.error.is_some(), "{process:?}");
    assert_eq!(spans.len(), 2, "nothing of the next record, which has no trace: {spans:#?}");
}

/// Forwards each value a second later, with the place of the record that it came in.
struct Later {
    store: Option<StoreHandle<KeyValueStore<String, String>>>,
}

impl Processor<String, String, String, String> for Later {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, String>) -> Result<()> {
        self.store = Some(context.state_store("kept")?);
        context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let place = context.trace_context().map_or_else(String::new, |place| place.to_string());
        context.store(self.store.unwrap()).put(&record.key, &place)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        assert_eq!(context.trace_context(), None);
        let store = context.store(self.store.unwrap());
        let kept: Vec<_> = store.range(..)?.collect::<Result<_>>()?;
        for (key, place) in kept {
            let mut record = Record::new(key, "late".to_owned(), now);
            if let Some(place) = SpanContext::parse(place.as_bytes()) {
                place.put(&mut record.headers);
            }
            context.forward(record)?;
        }
        Ok(())
    }
}

#[test]
fn what_is_written_later_belongs_to_the_record_whose_place_was_kept() {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<String, String>("kept"));
    builder.stream::<String, String>("in").process(|| Later { store: None }, &["kept"]).to("out");
    let (driver, kept) = driver(builder.build().unwrap(), 0.0);
    pipe(&driver, "a", headers(Some(SAMPLED), None));
    let process = one(&kept.drain(), "process test 0").context;
    driver.advance_wall_clock_time(Duration::from_secs(1)).unwrap();
    let spans = kept.drain();
    let produce = one(&spans, "produce out");
    assert_eq!(produce.parent, Some(process.span_id));
    assert_eq!(SpanContext::of(&read(&driver, "out").headers), Some(produce.context));
}
