//! A processor that fails, in every topology: the record is tried again as configured, then set aside with all its effects undone, and
//! processing goes on.

use std::sync::atomic::AtomicU64;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::*;

/// A topic and the type of an event on it.
type Event = (&'static str, &'static str);

/// Events that lead to one that makes the topology write.
const STORIES: &[(&str, &[Event], Event)] = &[
    ("manager-assignment", &[("managers", "manager")], ("request-events", "request.created")),
    (
        "contractor-access",
        &[
            ("request-events", "request.created"),
            ("security-events", "security.contractor_verified"),
        ],
        ("workflow-events", "workflow.contractor_assigned"),
    ),
    ("hr-documents", &[], ("security-events", "security.contractor_verified")),
    (
        "notifications",
        &[("managers", "manager"), ("request-events", "request.created")],
        ("workflow-events", "workflow.manager_assigned"),
    ),
    ("audit-fanout", &[], ("request-events", "request.created")),
];

impl World {
    fn tell(&self, (topic, event_type): Event) {
        let (_, schema) = Self::contracts(topic).find(|(of, _)| *of == event_type).unwrap();
        let datum = datum(schema, event_type, self.now.as_millis(), Content::Good).unwrap();
        self.pipe(topic, Some(&self.registry.frame(topic, schema, &datum))).unwrap();
    }

    /// The dead letters since the last call, of whatever topic, the engine's own included.
    fn set_aside(&self) -> Vec<RawRecord> {
        let topics = self.driver.produced_topics().into_iter().map(|(topic, _)| topic);
        let letters = topics.filter(|topic| topic.ends_with("-dlq"));
        letters.flat_map(|topic| std::iter::from_fn(move || self.driver.read_raw(&topic))).collect()
    }

    /// The only dead letter, which must say that a processor failed; puts it back to where it came from.
    #[track_caller]
    fn redrive(&self) {
        let letters = self.set_aside();
        let [letter] = &letters[..] else { panic!("{}: {letters:?}", self.spec.name) };
        let headers = ErrorHeaders::read(&letter.headers);
        assert_eq!(headers.get("class"), Some("panic"), "{headers:?}");
        assert_eq!(headers.get("stage"), Some("process"), "{headers:?}");
        assert!(headers.get("message").unwrap().contains("a processor's bug"), "{headers:?}");
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        let topic = headers.get("topic").unwrap();
        self.driver.pipe_raw(topic, key, value, letter.timestamp, Headers::default()).unwrap();
    }
}

#[test]
fn a_record_whose_processor_panics_is_set_aside_and_has_no_effect() {
    for (name, before, last) in STORIES {
        let spec = CATALOG.iter().find(|spec| spec.name == *name).unwrap();
        let world = World::new(spec);
        before.iter().for_each(|event| world.tell(*event));
        let written = world.written();
        world.registry.panics.store(1, Ordering::SeqCst);
        world.tell(*last);
        assert_eq!(world.registry.panics.load(Ordering::SeqCst), 0, "{name} has not failed");
        assert_eq!(world.written(), written, "{name}");
        // Put back, it does what it should have done: the stores know nothing of the first time.
        world.redrive();
        assert_eq!(world.set_aside(), [], "{name}");
        assert_ne!(world.written(), written, "{name}");
    }
}

#[test]
fn a_processor_that_fails_once_is_tried_again_as_configured() {
    for (name, before, last) in STORIES {
        let spec = CATALOG.iter().find(|spec| spec.name == *name).unwrap();
        for (retries, panics, letters) in [(2, 2, 0), (2, 3, 1)] {
            let world = World::with_retries(spec, retries);
            before.iter().for_each(|event| world.tell(*event));
            world.registry.panics.store(panics, Ordering::SeqCst);
            world.tell(*last);
            assert_eq!(
                world.set_aside().len(),
                letters,
                "{name}, {retries} retries, {panics} panics"
            );
        }
    }
}

/// Commands as they are counted; the first one is too much.
#[derive(Default)]
struct Commands {
    has_failed: AtomicBool,
    accepted: AtomicU64,
    duplicates: AtomicU64,
}

/// The counter of commands with one result.
struct Counted {
    is_accepted: bool,
    commands: Arc<Commands>,
}

impl CounterFn for Counted {
    fn increment(&self, count: u64) {
        let Commands { has_failed, accepted, duplicates } = &*self.commands;
        assert!(count == 0 || has_failed.swap(true, Ordering::SeqCst), "a processor's bug");
        let counted = if self.is_accepted { accepted } else { duplicates };
        counted.fetch_add(count, Ordering::SeqCst);
    }

    fn absolute(&self, _: u64) {}
}

struct Broken(Arc<Commands>);

impl Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "svc_delivery_commands_total" {
            return Counter::noop();
        }
        let is_accepted = key.labels().any(|label| label.value() == "accepted");
        Counter::from_arc(Arc::new(Counted { is_accepted, commands: self.0.clone() }))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Delivery writes by the clock and not for a record; what fails is the counting of a command that is in the outbox by then.
#[test]
fn a_command_whose_taking_in_panics_is_set_aside_and_not_in_the_outbox() {
    let spec = CATALOG.iter().find(|spec| spec.name == "notification-delivery").unwrap();
    let commands = Arc::<Commands>::default();
    metrics::with_local_recorder(&Broken(commands.clone()), || {
        let world = World::new(spec);
        world.tell(("notification-commands", "notification.command"));
        assert!(commands.has_failed.load(Ordering::SeqCst));
        assert_eq!(commands.accepted.load(Ordering::SeqCst), 0);
        world.redrive();
    });
    assert_eq!(commands.accepted.load(Ordering::SeqCst), 1);
    assert_eq!(commands.duplicates.load(Ordering::SeqCst), 0);
}
