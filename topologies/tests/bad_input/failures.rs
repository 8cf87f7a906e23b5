//! A processor that fails, in every topology: the record is tried again as configured, then set aside with all its effects undone, and
//! processing goes on.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

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

/// Metrics whose first command counted is too much.
struct Broken(AtomicBool);

impl Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let fails =
            key.name() == "svc_delivery_commands_total" && self.0.swap(false, Ordering::SeqCst);
        assert!(!fails, "a processor's bug");
        Counter::noop()
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
    let world = World::new(spec);
    let command = ("notification-commands", "notification.command");
    let broken = Broken(AtomicBool::new(true));
    metrics::with_local_recorder(&broken, || world.tell(command));
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || world.redrive());
    let text = recorder.handle().render();
    assert!(text.contains("svc_delivery_commands_total{result=\"accepted\"} 1"), "{text}");
    assert!(!text.contains("duplicate"), "{text}");
}
