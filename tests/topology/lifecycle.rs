//! What processors are told of commits and of suspension.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Error, Named, Processor, ProcessorContext, Record, Result, StoreHandle, Stores, StreamsBuilder,
    Timestamp,
};

/// Stores what comes; forwards what it has when suspended.
struct Keeper {
    store: Option<StoreHandle<KeyValueStore<String, String>>>,
    seen: Arc<Mutex<Vec<&'static str>>>,
    fails: Arc<AtomicUsize>,
}

impl Processor<String, String, String, String> for Keeper {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, String>) -> Result<()> {
        self.store = Some(context.state_store("kept")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        self.seen.lock().unwrap().push("process");
        context.store(self.store.unwrap()).put(&record.key, &record.value)
    }

    fn committed(&mut self) {
        self.seen.lock().unwrap().push("committed");
    }

    fn suspend(&mut self, context: &mut ProcessorContext<'_, '_, String, String>) -> Result<()> {
        self.seen.lock().unwrap().push("suspend");
        let store = context.store(self.store.unwrap());
        let kept: Vec<_> = store.all()?.collect::<Result<_>>()?;
        for (key, value) in kept {
            context.store(self.store.unwrap()).delete(&key)?;
            let timestamp = context.current_system_time();
            context.forward(Record::new(key, value, timestamp))?;
        }
        match self.fails.load(Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Error::bad_record("on purpose")),
        }
    }
}

type Seen = Arc<Mutex<Vec<&'static str>>>;

fn driver() -> (TopologyTestDriver, Seen, Arc<AtomicUsize>) {
    let (seen, fails) = (Seen::default(), Arc::<AtomicUsize>::default());
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<String, String>("kept"));
    let supplier = {
        let (seen, fails) = (seen.clone(), fails.clone());
        move || Keeper { store: None, seen: seen.clone(), fails: fails.clone() }
    };
    builder
        .stream::<String, String>("in")
        .process_named(supplier, &Named::new("keeper"), &["kept"])
        .to("out");
    (TopologyTestDriver::new(builder.build().unwrap()).unwrap(), seen, fails)
}

fn pipe(driver: &TopologyTestDriver, value: &str) {
    let input = driver.input_topic::<String, String>("in");
    input.pipe_at("k".into(), value.into(), Timestamp::from_millis(1)).unwrap();
}

fn out(driver: &TopologyTestDriver) -> Vec<(String, String)> {
    driver.output_topic::<String, String>("out").read_key_values().unwrap()
}

#[test]
fn a_commit_is_told_after_what_it_made_durable() {
    let (driver, seen, _) = driver();
    seen.lock().unwrap().clear();
    pipe(&driver, "v");
    assert_eq!(seen.lock().unwrap()[..2], ["process", "committed"]);
    driver.advance_wall_clock_time(Duration::from_secs(1)).unwrap();
    assert_eq!(seen.lock().unwrap().last(), Some(&"committed"));
}

#[test]
fn what_suspend_forwards_and_stores_is_kept_and_the_task_goes_on() {
    let (driver, seen, _) = driver();
    pipe(&driver, "1");
    seen.lock().unwrap().clear();
    driver.suspend().unwrap();
    assert_eq!(seen.lock().unwrap()[..2], ["suspend", "committed"]);
    assert_eq!(out(&driver), [("k".to_owned(), "1".to_owned())]);
    pipe(&driver, "2");
    driver.suspend().unwrap();
    assert_eq!(out(&driver), [("k".to_owned(), "2".to_owned())]);
    driver.suspend().unwrap();
    assert_eq!(out(&driver), []);
}

#[test]
fn a_suspend_that_fails_is_undone_and_holds_nothing_up() {
    let (driver, _, fails) = driver();
    pipe(&driver, "1");
    fails.store(1, Ordering::SeqCst);
    driver.suspend().unwrap();
    assert_eq!(out(&driver), []);
    fails.store(0, Ordering::SeqCst);
    driver.suspend().unwrap();
    assert_eq!(out(&driver), [("k".to_owned(), "1".to_owned())]);
}
