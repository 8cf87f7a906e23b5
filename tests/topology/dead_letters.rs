//! Bad records: where they go, and that nothing else of them remains.

use kstreams::dlq::{Decision, ErrorHandlers, ErrorHeaders};
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{
    Error, Headers, Processor, ProcessorContext, Record, Result, StoreHandle, Stores,
    StreamsBuilder, Timestamp, Topology,
};

const DLQ: &str = "test-in-dlq";

/// Writes to its store, forwards, and only then fails on a bad value.
#[derive(Default)]
struct FailsLate {
    store: Option<StoreHandle<KeyValueStore<String, i64>>>,
}

impl Processor<String, i64, String, i64> for FailsLate {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, i64>) -> Result<()> {
        self.store = Some(context.state_store("sums")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let store = context.store(self.store.unwrap());
        let sum = store.get(&record.key)?.unwrap_or(0) + record.value;
        store.put(&record.key, &sum)?;
        let value = record.value;
        context.forward(record.with_value(sum))?;
        match value {
            13 => Err(Error::bad_record("found 13, wanted a lucky number")),
            666 => panic!("the devil is in the record"),
            _ => Ok(()),
        }
    }
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<String, i64>("sums"));
    builder
        .stream::<String, i64>("in")
        .process::<String, i64, _>(FailsLate::default, &["sums"])
        .to("out");
    builder.build().unwrap()
}

fn sums(driver: &TopologyTestDriver) -> Vec<(String, i64)> {
    driver
        .with_store("sums", |store: &mut KeyValueStore<String, i64>| {
            store.all().unwrap().collect::<Result<Vec<_>>>().unwrap()
        })
        .unwrap()
}

#[test]
fn failed_and_panicked_records_leave_no_effect_but_a_dead_letter() {
    let driver = TopologyTestDriver::new(topology()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for value in [1, 13, 666, 2] {
        input.pipe_at("k".into(), value, Timestamp::from_millis(value)).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out").read_key_values().unwrap();
    assert_eq!(out, [("k".to_owned(), 1), ("k".to_owned(), 3)]);
    assert_eq!(sums(&driver), [("k".to_owned(), 3)]);

    let letter = driver.read_raw(DLQ).unwrap();
    assert_eq!(letter.value.unwrap(), 13i64.to_be_bytes().to_vec());
    assert_eq!(letter.timestamp.as_millis(), 13);
    let why = ErrorHeaders::read(&letter.headers);
    assert_eq!(why.get("topic"), Some("in"));
    assert_eq!(why.get("offset"), Some("1"));
    assert_eq!(why.get("stage"), Some("process"));
    assert_eq!(why.get("processor.node.id"), Some("KSTREAM-PROCESSOR-0000000001"));
    assert_eq!(why.get("message"), Some("found 13, wanted a lucky number"));
    let why = ErrorHeaders::read(&driver.read_raw(DLQ).unwrap().headers);
    assert_eq!(why.get("class"), Some("panic"));
    assert!(driver.read_raw(DLQ).is_none());
}

#[test]
fn unreadable_and_null_records_are_dead_lettered_byte_for_byte() {
    let driver = TopologyTestDriver::new(topology()).unwrap();
    let mut headers = Headers::default();
    headers.add("trace", Some(b"abc".to_vec()));
    let now = Timestamp::from_millis(7);
    driver.pipe_raw("in", Some(b"k"), Some(b"short"), now, headers).unwrap();
    driver.pipe_raw("in", Some(b"k"), None, now, Headers::default()).unwrap();
    let letter = driver.read_raw(DLQ).unwrap();
    assert_eq!(letter.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(letter.value.as_deref(), Some(&b"short"[..]));
    assert_eq!(letter.headers.last("trace").map(|v| &v[..]), Some(&b"abc"[..]));
    let why = ErrorHeaders::read(&letter.headers);
    assert_eq!(why.get("stage"), Some("deserialize"));
    assert!(why.get("message").unwrap().contains("found 5 bytes"), "{why:?}");
    let letter = driver.read_raw(DLQ).unwrap();
    assert_eq!(letter.value, None);
    let input = driver.input_topic::<String, i64>("in");
    input.pipe("k".into(), 5).unwrap();
    assert_eq!(sums(&driver), [("k".to_owned(), 5)]);
}

#[test]
fn handlers_may_skip_or_fail() {
    let settings = |decision| TestSettings {
        handlers: ErrorHandlers {
            processing: std::sync::Arc::new(decision),
            ..ErrorHandlers::default()
        },
        ..TestSettings::default()
    };
    let skip = TopologyTestDriver::with_settings(topology(), settings(Decision::Skip)).unwrap();
    skip.input_topic::<String, i64>("in").pipe("k".into(), 13).unwrap();
    assert!(skip.read_raw(DLQ).is_none());
    let fail = TopologyTestDriver::with_settings(topology(), settings(Decision::Fail)).unwrap();
    let error = fail.input_topic::<String, i64>("in").pipe("k".into(), 13).unwrap_err();
    assert!(error.message().contains("in-0@0"), "{error}");
}
