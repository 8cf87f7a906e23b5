//! Events through a foreign client: Python's own serializers and partitioner (`broker/foreign.py`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kstreams::{Clock as _, SystemClock};
use serde_json::{Value, json};
use test_support::run_python;
use uuid::Uuid;

/// The script.
pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/foreign.py")
}

/// Events that are told, and then written in one go.
pub(crate) struct Told {
    /// Where the files for the script lie.
    folder: PathBuf,
    files: usize,
    events: Vec<Value>,
    /// How long ago that happened which is told next.
    pub(crate) ago_ms: i64,
}

impl Told {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: 0, events: Vec::new(), ago_ms: 0 }
    }

    /// A record of a compacted topic.
    pub(crate) fn reference(&mut self, topic: &str, event_type: &str, key: &str, value: Value) {
        self.events.push(json!({"topic": topic, "type": event_type, "key": key, "value": value}));
    }

    /// An event: its number and the request it is about (0: none) give its ids; `fields` are those beside the envelope.
    /// Gives its time.
    pub(crate) fn event(
        &mut self,
        (number, request): (u64, i64),
        (topic, event_type): (&str, &str),
        key: &str,
        fields: Value,
    ) -> i64 {
        let at_ms = SystemClock::default().now().as_millis() - self.ago_ms;
        let mut value = json!({
            "event_id": event_id(number), "event_type": event_type, "timestamp": at_ms,
            "source": "web", "version": 1, "causation_id": null,
            "correlation_id": (request != 0).then(|| correlation(request)),
        });
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        value.as_object_mut().unwrap().extend(fields);
        self.events.push(json!({
            "topic": topic, "type": event_type, "key": key, "value": value,
            "headers": {"traceparent": format!("00-{event_type}")},
        }));
        at_ms
    }

    /// Has Python write what was told so far.
    pub(crate) fn write(&mut self) {
        let file = self.folder.join(format!("events-{}.json", self.files));
        self.files += 1;
        let events = std::mem::take(&mut self.events);
        std::fs::write(&file, Value::from(events).to_string()).unwrap();
        run_python(&script(), &[OsString::from("write"), file.into()]);
    }
}

/// The id of event `number`.
pub(crate) fn event_id(number: u64) -> Uuid {
    Uuid::from_u64_pair(1, number)
}

/// The correlation id of a request.
pub(crate) fn correlation(request: i64) -> Uuid {
    Uuid::from_u64_pair(2, request.unsigned_abs())
}
