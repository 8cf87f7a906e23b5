//! The Rust types against the contracts, with bytes that a foreign library (Python's fastavro) wrote.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

use std::fmt::Debug;
use std::sync::Arc;

use aggregator::events::*;
use bytes::Bytes;
use kstreams::serdes::{
    AvroRecord, AvroSerde, MemoryRegistry, SchemaCache, SchemaRegistry, Serde, decode_json, wire,
};
use kstreams::{Clock, ErrorKind, Headers, MockClock, Timestamp};
use serde::Serialize;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_123);

#[derive(serde::Deserialize)]
struct Golden {
    topic: String,
    #[serde(rename = "type")]
    event_type: String,
    variant: String,
    schema: String,
    hex: String,
}

struct Fixture {
    registry: Arc<MemoryRegistry>,
    cache: Arc<SchemaCache>,
    serdes: Serdes,
}

fn fixture() -> Fixture {
    let registry = Arc::new(memory_registry().unwrap());
    let clock: Arc<dyn Clock> = Arc::new(MockClock::new(NOW));
    let cache = SchemaCache::new(registry.clone(), clock.clone());
    let serdes = serdes(&cache, &clock).unwrap();
    Fixture { registry, cache, serdes }
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden/fastavro.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

impl Fixture {
    /// The frame of a golden datum, its schema registered.
    fn frame(&self, golden: &Golden) -> Bytes {
        // Under a subject of its own: what is tried here is reading, not the registry's rules.
        let subject = format!("{}-{}-{}", golden.topic, golden.event_type, golden.variant);
        let id = self.registry.register(&subject, &golden.schema).unwrap();
        [&wire::header(id)[..], &bytes(&golden.hex)].concat().into()
    }

    fn golden(&self, event_type: &str, variant: &str) -> Bytes {
        let wanted = |g: &Golden| g.event_type == event_type && g.variant == variant;
        self.frame(&golden().into_iter().find(wanted).unwrap())
    }
}

fn read<T>(serde: &Serde<T>, frame: &Bytes) -> kstreams::Result<T> {
    serde.deserializer().deserialize("t", &Headers::default(), Some(frame))
}

fn write<T>(serde: &Serde<T>, value: &T) -> Bytes {
    let mut out = Vec::new();
    let _ = serde.serializer().serialize("t", value, &mut out).unwrap();
    out.into()
}

/// Reads all variants of a type, writes them again, and reads those; the first two must come out byte for byte.
fn check_type<T: AvroRecord + Serialize + PartialEq + Debug>(topic: &str, event_type: &str) {
    let fixture = fixture();
    let serde = AvroSerde::<T>::record(&fixture.cache, topic).unwrap().into_serde();
    let mut seen = 0;
    for golden in golden().iter().filter(|g| g.topic == topic && g.event_type == event_type) {
        let place = format!("{event_type} {}", golden.variant);
        let frame = fixture.frame(golden);
        let value = read(&serde, &frame).unwrap_or_else(|e| panic!("{place}: {e}"));
        let again = write(&serde, &value);
        assert_eq!(read(&serde, &again).unwrap(), value, "{place}");
        if matches!(golden.variant.as_str(), "full" | "minimal") {
            assert_eq!(again, frame, "{place}");
        }
        let json = decode_json(&fixture.cache, &frame).unwrap();
        assert_eq!(json.trailing_bytes, 0);
        seen += 1;
    }
    assert_eq!(seen, 4, "{event_type}");
}

#[test]
fn every_type_reads_and_writes_what_a_foreign_library_does() {
    macro_rules! events {
        ($($event:ident)+) => {
            $(check_type::<$event>($event::TOPIC, $event::TYPE);)+
            const COUNT: usize = [$(stringify!($event)),+].len();
        };
    }
    events! {
        RequestCreated RequestUpdated RequestCancelled RequestClarificationNeeded
        WorkflowManagerAssigned WorkflowSentToContractors WorkflowContractorAssigned
        WorkflowWorkStarted WorkflowWorkCompleted WorkflowStatusChanged
        NotificationEmailSent NotificationTelegramSent NotificationSmsSent NotificationFailed
        SecurityContractorVerified SecurityContractorRejected SecurityAccessGranted
        SecurityAccessRevoked HrDocumentCreated HrDocumentSigned HrContractGenerated
        HrPaymentProcessed AuditUserAction AuditSystemEvent AuditErrorOccurred
        AuditPerformanceMetric NotificationCommand
    }
    check_type::<Manager>("managers", "manager");
    check_type::<Contact>("contacts", "contact");
    assert_eq!(COUNT + 2, SCHEMAS.len());
}

#[test]
fn an_older_producer_gets_our_defaults_and_a_newer_one_the_unknown_symbol() {
    let fixture = fixture();
    let created =
        |variant| match read(&fixture.serdes.requests, &fixture.golden("request.created", variant))
            .unwrap()
        {
            RequestEvent::Created(created) => created,
            other => panic!("{other:?}"),
        };
    let full = created("full");
    assert_eq!((full.revision, full.envelope.version), (7, 7));
    assert_eq!(full.urgency, Urgency::Critical);
    assert_eq!(full.category.as_deref(), Some("Москва"));
    let stripped = created("stripped");
    assert_eq!((stripped.revision, stripped.envelope.version), (1, 1));
    assert_eq!((stripped.category, stripped.envelope.correlation_id), (None, None));
    let evolved = created("evolved");
    assert_eq!(evolved.urgency, Urgency::Unknown);
    assert_eq!(RequestCreated { urgency: Urgency::Critical, ..evolved }, full);
}

#[test]
fn money_keeps_its_sign_and_scale() {
    let fixture = fixture();
    for (variant, wanted) in [("full", "-1234567.89"), ("minimal", "1.28")] {
        let frame = fixture.golden("hr.payment_processed", variant);
        let HrEvent::PaymentProcessed(paid) = read(&fixture.serdes.hr, &frame).unwrap() else {
            panic!("another event");
        };
        assert_eq!(paid.amount.to_string(), wanted);
        assert_eq!(decode_json(&fixture.cache, &frame).unwrap().value["amount"], wanted);
    }
}

#[test]
fn a_topic_is_read_by_the_writers_record_name_and_unknown_events_are_not_poison() {
    let fixture = fixture();
    for (event_type, wanted) in [
        ("request.created", "request.created"),
        ("request.updated", "request.updated"),
        ("request.cancelled", "request.cancelled"),
        ("request.clarification_needed", "request.clarification_needed"),
    ] {
        let event = read(&fixture.serdes.requests, &fixture.golden(event_type, "full")).unwrap();
        let back = write(&fixture.serdes.requests, &event);
        let name = decode_json(&fixture.cache, &back).unwrap().name;
        let wanted: String =
            wanted.split(['.', '_']).map(|part| part[..1].to_uppercase() + &part[1..]).collect();
        assert_eq!(name, format!("aggregator.events.{wanted}"));
        assert_eq!(event.key().as_deref(), Some("Москва"));
    }
    let id = fixture
        .registry
        .register("x", r#"{"type":"record","name":"aggregator.events.RequestMerged","fields":[]}"#)
        .unwrap();
    let frame = Bytes::copy_from_slice(&wire::header(id));
    assert_eq!(read(&fixture.serdes.requests, &frame).unwrap(), RequestEvent::Unknown);
    // A topic with one record type has no place for another.
    let error = read(&fixture.serdes.managers, &frame).unwrap_err();
    assert!(
        error
            .message()
            .contains("found aggregator.events.RequestMerged, wanted aggregator.events.Manager"),
        "{error}"
    );
}

#[test]
fn bad_bytes_are_bad_records_that_say_found_and_wanted() {
    let fixture = fixture();
    let good = fixture.golden("request.created", "full");
    let with = |tail: &[u8]| Bytes::from([&good[..], tail].concat());
    let cases = [
        (Some(Bytes::from_static(b"garbage")), "found 0x67 as the first byte"),
        (Some(Bytes::from_static(&[0, 0, 0])), "found 3 bytes, wanted at least 5"),
        (Some(Bytes::from_static(&[0, 0, 0, 0x27, 0x0f, 1])), "unknown schema id 9999"),
        (Some(good.slice(..good.len() - 3)), "aggregator.events.RequestCreated (schema id"),
        (Some(good.slice(..5)), "at byte 0 of 0"),
        (Some(with(&[1, 2, 3])), "found 3 bytes after the record's end, wanted none"),
        (None, "found null, wanted an Avro record"),
    ];
    for (data, wanted) in cases {
        let error = fixture
            .serdes
            .requests
            .deserializer()
            .deserialize("request-events", &Headers::default(), data.as_ref())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadRecord);
        assert!(error.message().contains(wanted), "{error}");
    }
}

#[test]
fn a_schema_that_ours_cannot_read_is_refused_with_the_field() {
    let fixture = fixture();
    let schema = Manager::SCHEMA
        .replace(r#""name": "capacity", "type": "int""#, r#""name": "capacity", "type": "string""#);
    let id = fixture.registry.register("other", &schema).unwrap();
    let error = read(&fixture.serdes.managers, &Bytes::copy_from_slice(&wire::header(id)));
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("aggregator.events.Manager.capacity: found string, wanted int"),
        "{text}"
    );
}

#[test]
fn rules_are_checked_on_reading_and_name_the_field() {
    let fixture = fixture();
    let RequestEvent::Created(good) =
        read(&fixture.serdes.requests, &fixture.golden("request.created", "full")).unwrap()
    else {
        panic!("another event");
    };
    let hour = std::time::Duration::from_secs(3600);
    let later = |timestamp| RequestCreated {
        envelope: Envelope { timestamp, ..good.envelope.clone() },
        ..good.clone()
    };
    let accepted = [later(NOW + hour), RequestCreated { request_id: 0, ..good.clone() }];
    for event in accepted {
        read(&fixture.serdes.requests, &write(&fixture.serdes.requests, &event.into())).unwrap();
    }
    let refused = [
        (RequestCreated { request_id: -1, ..good.clone() }, "\"request_id\": found -1"),
        (RequestCreated { customer_id: -5, ..good.clone() }, "\"customer_id\": found -5"),
        (
            RequestCreated { region: String::new(), ..good.clone() },
            "\"region\": found an empty text",
        ),
        (later(NOW + hour + std::time::Duration::from_millis(1)), "at most one hour after now"),
    ];
    for (event, wanted) in refused {
        let frame = write(&fixture.serdes.requests, &event.into());
        let error = read(&fixture.serdes.requests, &frame).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadRecord);
        assert!(error.message().contains(wanted), "{error}");
        assert!(error.message().starts_with("request.created, field "), "{error}");
    }
}

#[test]
fn a_missing_registration_is_named_at_start() {
    let fixture = fixture();
    let topics = ["request-events", "managers"];
    check_registered(&fixture.cache, &topics).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(MockClock::new(NOW));
    let empty = SchemaCache::new(Arc::new(MemoryRegistry::new()), clock.clone());
    let error = check_registered(&empty, &topics).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("managers-aggregator.events.Manager"), "{error}");
    // Later, on a running processor, it is an outage: no record may be lost for it.
    let manager = Manager {
        manager_id: 1,
        name: "n".to_owned(),
        email: "e".to_owned(),
        region: "r".to_owned(),
        capacity: 1,
        active: true,
    };
    let mut out = vec![7];
    let serdes = serdes(&empty, &clock).unwrap();
    let error = serdes.managers.serializer().serialize("managers", &manager, &mut out).unwrap_err();
    assert_eq!((error.kind(), out), (ErrorKind::Retriable, vec![7]));
}

#[test]
fn derived_events_repeat_their_ids() {
    let cause = Uuid::from_u128(7);
    let id = derived_id(cause, WorkflowManagerAssigned::TYPE, "1");
    assert_eq!(id, derived_id(cause, WorkflowManagerAssigned::TYPE, "1"));
    assert_ne!(id, derived_id(cause, WorkflowStatusChanged::TYPE, "1"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

    /// Whatever is done to good bytes, reading ends soon, with an event or a bad record, and never with a panic.
    #[test]
    fn damaged_bytes_never_panic(
        which in 0usize..116,
        at in 0usize..600,
        with in proptest::collection::vec(proptest::num::u8::ANY, 0..12),
        cut in proptest::bool::ANY,
    ) {
        thread_local! {
            static FRAMES: (Fixture, Vec<Bytes>) = {
                let fixture = fixture();
                let frames = golden().iter().map(|golden| fixture.frame(golden)).collect();
                (fixture, frames)
            };
        }
        FRAMES.with(|(fixture, frames)| {
            let mut bytes = frames[which].to_vec();
            let at = at.min(bytes.len());
            let end = if cut { bytes.len() } else { (at + with.len()).min(bytes.len()) };
            bytes.splice(at..end, with);
            let frame = Bytes::from(bytes);
            let serdes = &fixture.serdes;
            let kinds = [
                read(&serdes.requests, &frame).err(),
                read(&serdes.workflow, &frame).err(),
                read(&serdes.hr, &frame).err(),
                read(&serdes.audit, &frame).err(),
                decode_json(&fixture.cache, &frame).err(),
            ];
            for error in kinds.into_iter().flatten() {
                assert_eq!(error.kind(), ErrorKind::BadRecord, "{error}");
            }
        });
    }
}
