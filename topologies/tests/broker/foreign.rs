//! A foreign producer and a foreign reader: Python's own serializers and partitioner, the registry between us.

use std::path::{Path, PathBuf};

use aggregator::events::derived_id;
use kstreams::{Clock, SystemClock};
use serde_json::{Value, json};
use test_support::{DEADLINE, run_python};
use uuid::Uuid;

use crate::site::Site;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/foreign.py")
}

/// Events on their way through the foreign client.
struct Story<'a> {
    site: &'a Site,
    now_ms: i64,
    events: Vec<Value>,
    files: usize,
}

impl Story<'_> {
    fn manager(&mut self, id: i64, region: &str, capacity: i64) {
        let value = json!({
            "manager_id": id, "name": format!("Manager {id}"), "email": "m@example.org",
            "region": region, "capacity": capacity, "active": true,
        });
        let key = id.to_string();
        self.events
            .push(json!({"topic": "managers", "type": "manager", "key": key, "value": value}));
    }

    fn envelope(&self, event_type: &str, event: u64, request: i64) -> Value {
        json!({
            "event_id": id(event), "event_type": event_type, "timestamp": self.now_ms,
            "source": "web", "version": 1, "correlation_id": correlation(request),
            "causation_id": null,
        })
    }

    fn push(&mut self, topic: &str, event_type: &str, key: &str, mut value: Value, fields: Value) {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        value.as_object_mut().unwrap().extend(fields);
        self.events.push(json!({
            "topic": topic, "type": event_type, "key": key, "value": value,
            "headers": {"traceparent": format!("00-{event_type}")},
        }));
    }

    fn request(&mut self, event: u64, request: i64, urgency: &str, region: &str, revision: i32) {
        let event_type = if revision == 1 { "request.created" } else { "request.updated" };
        let fields = json!({
            "request_id": request, "customer_id": 456, "title": "Leaking tap",
            "description": "In the kitchen", "urgency": urgency, "region": region, "city": "Riga",
            "address": "Brīvības 1", "category": "repair", "revision": revision,
        });
        let envelope = self.envelope(event_type, event, request);
        self.push("request-events", event_type, region, envelope, fields);
    }

    fn cancelled(&mut self, event: u64, request: i64, region: &str) {
        let fields = json!({
            "request_id": request, "customer_id": 456, "region": region, "reason": "moved",
            "cancelled_by": "customer:456",
        });
        let envelope = self.envelope("request.cancelled", event, request);
        self.push("request-events", "request.cancelled", region, envelope, fields);
    }

    fn status(&mut self, event: u64, request: i64, to: &str) {
        let fields = json!({
            "request_id": request, "from_status": "assigned", "to_status": to, "reason": null,
        });
        let envelope = self.envelope("workflow.status_changed", event, request);
        let key = request.to_string();
        self.push("workflow-events", "workflow.status_changed", &key, envelope, fields);
    }

    /// Writes what was told so far; then waits for the answers.
    fn tell(&mut self, assignments: usize) -> Vec<Value> {
        let file = self.site.folder().join(format!("events-{}.json", self.files));
        self.files += 1;
        let events = std::mem::take(&mut self.events);
        std::fs::write(&file, Value::from(events).to_string()).unwrap();
        let text = |text: &str| std::ffi::OsString::from(text);
        run_python(&script(), &[text("write"), file.into()]);
        let count = text(&assignments.to_string());
        let read = run_python(&script(), &[text("read"), text("workflow-events"), count]);
        let events = read.lines().map(|line| serde_json::from_str(line).unwrap());
        events.filter(|event: &Value| event["value"]["source"] == "manager-assignment").collect()
    }
}

fn id(event: u64) -> Uuid {
    Uuid::from_u64_pair(1, event)
}

fn correlation(request: i64) -> Uuid {
    Uuid::from_u64_pair(2, request.unsigned_abs())
}

/// Finds the one assignment of a request with this attempt.
#[track_caller]
fn assignment(events: &[Value], request: i64, attempt: i64) -> &Value {
    let fits = |event: &&Value| {
        event["value"]["request_id"] == request && event["value"]["attempt"] == attempt
    };
    let found: Vec<&Value> = events.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "assignment {attempt} of request {request} in {events:?}");
    found[0]
}

#[test]
fn python_writes_the_events_and_reads_the_assignments() {
    let site = Site::new();
    let mut app = site.start("state", &[]);
    let now_ms = SystemClock::default().now().as_millis();
    let mut story = Story { site: &site, now_ms, events: Vec::new(), files: 0 };
    story.manager(7, "север", 1);
    story.manager(8, "south", 5);
    story.request(1, 101, "critical", "север", 1);
    let events = story.tell(1);
    check_first(assignment(&events, 101, 1), now_ms);

    // Manager 7 is busy: two wait, one of them gives up, and the first one's end frees the manager.
    story.request(2, 102, "low", "север", 1);
    story.request(3, 103, "high", "север", 1);
    story.request(4, 104, "medium", "south", 1);
    story.request(5, 104, "medium", "south", 1); // filed twice
    story.cancelled(6, 103, "север");
    assert_eq!(story.tell(2).len(), 2);
    story.status(7, 101, "closed");
    let events = story.tell(3);
    assert_eq!(assignment(&events, 102, 1)["value"]["manager_id"], 7);
    let traced = assignment(&events, 104, 1);
    assert_eq!(traced["value"]["manager_id"], 8);
    assert_eq!(traced["headers"]["traceparent"], "00-request.created", "{traced}");

    // The customer moves: the old region releases the request, the new one assigns it.
    story.request(8, 102, "critical", "south", 2);
    let events = story.tell(4);
    let moved = &assignment(&events, 102, 2)["value"];
    assert_eq!((&moved["manager_id"], &moved["region"]), (&json!(8), &json!("south")));
    assert_eq!(moved["causation_id"], json!(id(8)));
    assert_eq!((moved["priority"].as_str(), events.len()), (Some("P1"), 4), "{events:?}");
    app.process.wait_for_line("\"to\":\"RUNNING\"", DEADLINE);
    app.stop();
}

/// Every field of an assignment.
fn check_first(event: &Value, now_ms: i64) {
    let value = &event["value"];
    let wanted = json!({
        "event_id": derived_id(id(1), "workflow.manager_assigned", "101:1"),
        "event_type": "workflow.manager_assigned",
        "timestamp": value["timestamp"],
        "source": "manager-assignment",
        "version": 1,
        "correlation_id": correlation(101),
        "causation_id": id(1),
        "request_id": 101,
        "manager_id": 7,
        "region": "север",
        "priority": "P1",
        "sla_deadline": now_ms + 60_000,
        "attempt": 1,
        "escalated": false,
    });
    assert_eq!(*value, wanted);
    assert_eq!(event["key"], "101");
    assert_eq!(event["timestamp"], value["timestamp"], "Kafka's timestamp is the event's");
    assert!(value["timestamp"].as_i64().unwrap() >= now_ms - 1000);
}
