//! A foreign producer and a foreign reader: Python's own serializers and partitioner, the registry between us.

use aggregator::events::derived_id;
use serde_json::{Value, json};
use test_support::{DEADLINE, run_python};

use crate::python::{Told, correlation, event_id as id, script};
use crate::site::Site;

/// Events on their way through the foreign client.
struct Story {
    told: Told,
}

impl Story {
    fn manager(&mut self, id: i64, region: &str, capacity: i64) {
        let value = json!({
            "manager_id": id, "name": format!("Manager {id}"), "email": "m@example.org",
            "region": region, "capacity": capacity, "active": true,
        });
        self.told.reference("managers", "manager", &id.to_string(), value);
    }

    /// Gives the event's time.
    fn request(
        &mut self,
        event: u64,
        request: i64,
        urgency: &str,
        region: &str,
        revision: i32,
    ) -> i64 {
        let event_type = if revision == 1 { "request.created" } else { "request.updated" };
        let fields = json!({
            "request_id": request, "customer_id": 456, "title": "Leaking tap",
            "description": "In the kitchen", "urgency": urgency, "region": region, "city": "Riga",
            "address": "Brīvības 1", "category": "repair", "revision": revision,
        });
        self.told.event((event, request), ("request-events", event_type), region, fields)
    }

    fn cancelled(&mut self, event: u64, request: i64, region: &str) {
        let fields = json!({
            "request_id": request, "customer_id": 456, "region": region, "reason": "moved",
            "cancelled_by": "customer:456",
        });
        let of_type = ("request-events", "request.cancelled");
        self.told.event((event, request), of_type, region, fields);
    }

    fn status(&mut self, event: u64, request: i64, to: &str) {
        let fields = json!({
            "request_id": request, "from_status": "assigned", "to_status": to, "reason": null,
        });
        let of_type = ("workflow-events", "workflow.status_changed");
        self.told.event((event, request), of_type, &request.to_string(), fields);
    }

    /// Writes what was told so far; then waits for the answers.
    fn tell(&mut self, assignments: usize) -> Vec<Value> {
        self.told.write();
        let count = assignments.to_string();
        let read = run_python(&script(), &["read", "workflow-events", &count]);
        let events = read.lines().map(|line| serde_json::from_str(line).unwrap());
        events.filter(|event: &Value| event["value"]["source"] == "manager-assignment").collect()
    }
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
    let mut story = Story { told: Told::new(site.folder()) };
    story.manager(7, "север", 1);
    story.manager(8, "south", 5);
    let now_ms = story.request(1, 101, "critical", "север", 1);
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
