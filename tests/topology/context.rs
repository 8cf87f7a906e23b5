//! What a processor learns of its record, its task and the time, and where that time comes from.

use std::time::Duration;

use kstreams::processor::{NegativeTimestamp, TimestampExtractor};
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Consumed, Headers, Processor, ProcessorContext, PunctuationType, PunctuatorId, RawRecord,
    Record, Result, StreamsBuilder, TaskId, Timestamp,
};

/// Forwards what its context tells, as text.
struct Telling;

fn told(context: &ProcessorContext<'_, '_, String, String>) -> String {
    let origin = context.record_metadata();
    let origin = origin.map(|origin| (origin.topic.to_string(), origin.partition, origin.offset));
    let trace = context.headers().last("trace").map(|trace| trace.to_vec());
    let (stream, wall) = (context.current_stream_time(), context.current_system_time());
    format!("{origin:?} {trace:?} {:?} {}", stream.map(Timestamp::as_millis), wall.as_millis())
}

impl Processor<String, String, String, String> for Telling {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, String>) -> Result<()> {
        assert_eq!(context.task_id(), TaskId { subtopology: 0, partition: 0 });
        assert_eq!((&**context.application_id(), context.current_stream_time()), ("test", None));
        context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let text = told(context);
        context.forward(record.with_value(text))
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let text = told(context);
        context.forward(Record::new("punctuation".to_owned(), text, now))
    }
}

#[test]
fn a_context_tells_where_its_record_came_from_and_what_time_it_is() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("in").process::<String, String, _>(|| Telling, &[]).to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let pipe = |millis, trace: Option<&'static str>| {
        let mut headers = Headers::default();
        trace.into_iter().for_each(|trace| headers.add("trace", Some(trace)));
        let at = Timestamp::from_millis(millis);
        driver.pipe_raw("in", Some(b"k"), Some(b"v"), at, headers).unwrap();
    };
    pipe(70, Some("7"));
    pipe(60, None);
    driver.advance_wall_clock_time(Duration::from_secs(1)).unwrap();
    pipe(80, None);
    let out = driver.output_topic::<String, String>("out").read_key_values().unwrap();
    let told: Vec<&str> = out.iter().map(|(_, text)| &**text).collect();
    let expected = [
        "Some((\"in\", 0, 0)) Some([55]) Some(70) 0",
        "Some((\"in\", 0, 1)) None Some(70) 0",
        "None None Some(70) 1000", // a punctuation has no record
        "Some((\"in\", 0, 2)) None Some(80) 1000",
    ];
    assert_eq!(told, expected);
}

/// Takes the value for the time; what is negative goes as `negative` says.
struct ValueAsTime(NegativeTimestamp);

impl TimestampExtractor<String, i64> for ValueAsTime {
    fn extract(
        &self,
        _: &RawRecord,
        _: &String,
        value: &i64,
        _: Option<Timestamp>,
    ) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(*value))
    }

    fn on_negative(&self) -> NegativeTimestamp {
        self.0
    }
}

#[test]
fn a_negative_timestamp_fails_is_skipped_or_takes_its_partitions_time() {
    let times = |negative| {
        let builder = StreamsBuilder::new();
        let consumed =
            Consumed::<String, i64>::default().with_timestamp_extractor(ValueAsTime(negative));
        builder.stream_with(&["in"], consumed).to("out");
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        for value in [70, -1, 80] {
            let input = driver.input_topic::<String, i64>("in");
            input.pipe_at("k".into(), value, Timestamp::from_millis(5)).unwrap();
        }
        let out = driver.output_topic::<String, i64>("out").read_records().unwrap();
        let times = out.iter().map(|record| (record.value, record.timestamp.as_millis()));
        (times.collect::<Vec<_>>(), driver.read_raw("test-in-dlq").is_some())
    };
    assert_eq!(times(NegativeTimestamp::Fail), (vec![(70, 70), (80, 80)], true));
    assert_eq!(times(NegativeTimestamp::Skip), (vec![(70, 70), (80, 80)], false));
    let taken = vec![(70, 70), (-1, 70), (80, 80)];
    assert_eq!(times(NegativeTimestamp::UsePartitionTime), (taken, false));
}
