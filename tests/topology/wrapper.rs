//! Code around processors (KIP-1112): which of them, stores that it brings, and what becomes of its errors.

use std::sync::{Arc, Mutex};

use kstreams::processor::{
    FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Invocation, ProcessorWrapper,
    WrappedProcessor, WrappedProcessorSupplier,
};
use kstreams::serdes::DefaultSerde;
use kstreams::store::{KeyValueStore, StoreBuilder};
use kstreams::testing::TopologyTestDriver;
use kstreams::topology::{SourceOptions, StoreFeed};
use kstreams::{
    Error, Joined, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record,
    Repartitioned, Result, StoreHandle, Stores, StreamsBuilder, TimeWindows, Timestamp, Topology,
};

/// Notes every call as `<processor>:<what>`.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, call: &Invocation<'_, '_>, what: &str) {
        self.0.lock().unwrap().push(format!("{}:{what}", call.processor()));
    }

    fn of(&self, what: &str) -> Vec<String> {
        let notes = self.0.lock().unwrap();
        let noted = notes.iter().filter_map(|note| note.split_once(':'));
        noted.filter(|(_, call)| *call == what).map(|(name, _)| name.to_owned()).collect()
    }
}

struct Around(Noting);

impl ProcessorWrapper for Noting {
    fn wrap(&self, _: &str) -> Option<Arc<dyn WrappedProcessorSupplier>> {
        let noting = self.clone();
        Some(Arc::new(move || Around(noting.clone())))
    }
}

impl WrappedProcessor for Around {
    fn init(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        self.0.note(call, "init");
        call.proceed()
    }

    fn process(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        self.0.note(call, "process");
        call.proceed()
    }

    fn punctuate(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        self.0.note(call, "punctuate");
        call.proceed()
    }

    fn close(&mut self) {
        self.0.0.lock().unwrap().push("any:close".to_owned());
    }
}

#[derive(Default)]
struct Ticking(u64);

impl Processor<String, i64, String, i64> for Ticking {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, i64>) -> Result<()> {
        context.schedule(std::time::Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        context.forward(record)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        self.0 += 1;
        context.forward(Record::new("tick".to_owned(), 0, now))
    }
}

struct Same;

impl FixedKeyProcessor<String, i64, i64> for Same {
    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, String, i64>,
    ) -> Result<()> {
        context.forward(record)
    }
}

/// The processors that `describe` shows, but for those of the sub-topology of a global store.
fn described(text: &str) -> Vec<String> {
    let tasks = text.split("Sub-topology").filter(|part| !part.contains("for global store"));
    let lines =
        tasks.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("Processor: "));
    let mut names: Vec<String> =
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_processor_of_every_task_is_wrapped_and_no_other_node() {
    let noting = Noting::default();
    let builder = StreamsBuilder::with_processor_wrapper(noting.clone());
    let global = builder.global_table::<String, String>("names");
    let table = builder.table::<String, i64>("limits");
    let stream = builder
        .stream::<String, i64>("in")
        .select_key(|_, value| value.to_string())
        .process::<String, i64, _>(Ticking::default, &[])
        .process_values(|| Same, &[])
        .repartition(Repartitioned::default());
    stream.join(&table, |_, one, two| one + two, Joined::default()).to("joined");
    stream.join_global(&global, |key, _| key.clone(), |_, one, _| one).to("named");
    let minutes = TimeWindows::of_size_with_no_grace(std::time::Duration::from_secs(60));
    stream.group_by_key().windowed_by(minutes).count().to_stream().foreach(|_, _| ());
    let topology = builder.build().unwrap();
    let text = topology.describe();

    let driver = TopologyTestDriver::new(topology).unwrap();
    let mut initialised = noting.of("init");
    initialised.sort();
    assert_eq!(initialised, described(&text), "{text}");

    driver.input_topic::<String, i64>("in").pipe("k".into(), 7).unwrap();
    let selected = "KSTREAM-KEY-SELECT-0000000007".to_owned();
    assert!(noting.of("process").contains(&selected), "{:?} of {text}", noting.of("process"));
    driver.advance_wall_clock_time(std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(noting.of("punctuate"), ["KSTREAM-PROCESSOR-0000000008"], "{text}");
    driver.close().unwrap();
    assert_eq!(noting.of("close").len(), described(&text).len());
}

/// Brings a store, and counts in it by processor and outcome; fails on the value 13.
struct Counting;

struct Counts {
    handle: Option<StoreHandle<KeyValueStore<String, i64>>>,
}

struct CountsSupplier(Arc<dyn StoreBuilder>);

impl WrappedProcessorSupplier for CountsSupplier {
    fn get(&self) -> Box<dyn WrappedProcessor> {
        Box::new(Counts { handle: None })
    }

    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        vec![self.0.clone()]
    }
}

impl ProcessorWrapper for Counting {
    fn wrap(&self, processor: &str) -> Option<Arc<dyn WrappedProcessorSupplier>> {
        let store = Stores::key_value_store::<String, i64>(&format!("{processor}-counts"));
        (processor != "last").then(|| Arc::new(CountsSupplier(Arc::new(store))) as Arc<_>)
    }
}

impl WrappedProcessor for Counts {
    fn init(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        let name = format!("{}-counts", call.processor());
        self.handle = Some(call.state_store(&name)?);
        call.proceed()
    }

    fn process(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        let (key, value) = (call.key::<String>().cloned(), call.value::<i64>().copied());
        assert_eq!(call.value::<String>(), None, "the value has another type");
        let (timestamp, headers) = call.envelope().unwrap();
        *timestamp = *timestamp + std::time::Duration::from_millis(1);
        headers.add("seen-by", Some("counts"));
        let store = call.store(self.handle.unwrap());
        let key = key.unwrap();
        let count = store.get(&key)?.unwrap_or_default();
        store.put(&key, &(count + 1))?;
        if value == Some(13) {
            return Err(Error::bad_record("injected"));
        }
        if value == Some(0) {
            return Ok(()); // left out
        }
        call.proceed()?;
        assert!(call.envelope().is_none() && call.timestamp().is_none(), "the record has gone on");
        call.proceed() // does nothing
    }
}

#[test]
fn a_wrapper_brings_stores_and_its_errors_undo_the_record() {
    let mut topology = Topology::with_processor_wrapper(Counting);
    let (key, value) = (String::serde(), i64::serde());
    let options = SourceOptions::default();
    topology.add_source("source", &["in"], key.clone(), value.clone(), options).unwrap();
    let ticking = Ticking::default;
    topology.add_processor::<_, _, String, i64, _>("first", ticking, &["source"], &[]).unwrap();
    topology.add_processor::<_, _, String, i64, _>("last", ticking, &["first"], &[]).unwrap();
    topology.add_sink("sink", "out", key.clone(), value.clone(), None, &["last"]).unwrap();
    assert!(topology.describe().contains("Processor: first (stores: [first-counts])"));
    let driver = TopologyTestDriver::new(topology).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for number in [5, 13, 0] {
        input.pipe_at("k".into(), number, Timestamp::from_millis(40)).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out").read_records().unwrap();
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!((out[0].value, out[0].timestamp), (5, Timestamp::from_millis(41)));
    assert_eq!(out[0].headers.last("seen-by").map(|by| &**by), Some(&b"counts"[..]));
    let look = |store: &mut KeyValueStore<String, i64>| store.get(&"k".to_owned()).unwrap();
    // The bad record has left nothing behind.
    assert_eq!(driver.with_store("first-counts", look).unwrap(), Some(2));
}

#[test]
fn processors_that_feed_global_and_read_only_stores_are_not_wrapped() {
    let noting = Noting::default();
    let mut topology = Topology::with_processor_wrapper(noting.clone());
    let feed = |store: &str| StoreFeed {
        source_name: format!("{store}-source"),
        topic: format!("{store}-topic"),
        key_serde: String::serde(),
        value_serde: i64::serde(),
        options: SourceOptions::default(),
        processor_name: format!("{store}-processor"),
    };
    struct Ignore;
    impl Processor<String, i64, (), ()> for Ignore {
        fn process(
            &mut self,
            _: Record<String, i64>,
            _: &mut ProcessorContext<'_, '_, (), ()>,
        ) -> Result<()> {
            Ok(())
        }
    }
    let store = Stores::key_value_store::<String, i64>;
    let global = store("global").logging_disabled();
    topology.add_global_store(global, feed("global"), || Ignore).unwrap();
    topology.add_read_only_state_store(store("local"), feed("local"), || Ignore).unwrap();
    let _driver = TopologyTestDriver::new(topology).unwrap();
    assert_eq!(noting.of("init"), Vec::<String>::new());
}
