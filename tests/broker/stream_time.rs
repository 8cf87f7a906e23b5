//! Stream time lies beside the committed offsets, and so outlives the process.

use kstreams::{Processor, ProcessorContext, Record, Result, StreamsBuilder, Timestamp, Topology};
use test_support::{
    DEADLINE, Message, Outcome, Topic, create_topic, produce, read_committed, unique, wait_until,
};

use super::runtime::{config, started};

/// Answers every record with the stream time as of it.
struct Clock;

impl Processor<String, String, String, i64> for Clock {
    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let now = context.current_stream_time().map_or(-1, Timestamp::as_millis);
        context.forward(record.with_value(now))
    }
}

fn clock(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>(input).process(|| Clock, &[]).to(output);
    builder.build().unwrap()
}

#[test]
fn stream_time_goes_on_where_the_last_run_stopped() {
    let application = unique("clock");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    create_topic(Topic { name: &input, partitions: 1, config: &[] });
    create_topic(Topic { name: &output, partitions: 1, config: &[] });
    for (round, time) in [5_000, 1_000, 7_000].into_iter().enumerate() {
        let message = Message {
            timestamp_ms: Some(time),
            key: Some(b"key".to_vec()),
            value: Some(b"value".to_vec()),
            ..Message::default()
        };
        produce(&input, &[message], Outcome::Plain);
        let state = tempfile::tempdir().unwrap();
        let mut streams = started(clock(&input, &output), config(&application, state.path()));
        wait_until("the answer", DEADLINE, || read_committed(&output).len() > round);
        streams.close(DEADLINE).unwrap();
    }
    let times = read_committed(&output).into_iter().map(|message| message.value.unwrap());
    let times: Vec<i64> = times.map(|time| i64::from_be_bytes(time.try_into().unwrap())).collect();
    assert_eq!(times, [5_000, 5_000, 7_000]);
}
