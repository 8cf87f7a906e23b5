//! Tests of the tally: every class, in several orders of arrival.

use super::*;
use crate::events::{
    CompletionData, Envelope, Event, Money, RequestCancelled, RequestUpdated, Urgency,
    WorkflowStatusChanged, WorkflowWorkCompleted,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_772_366_400_000 + ms)
}

fn envelope(event_type: &'static str) -> Envelope {
    Envelope::new(uuid::Uuid::from_u128(1), event_type, at(0), "test", None)
}

fn created(request_id: i64, region: &str) -> RequestEvent {
    let text = String::new;
    RequestEvent::Created(RequestCreated {
        envelope: envelope(RequestCreated::TYPE),
        request_id,
        customer_id: 1,
        title: text(),
        description: text(),
        urgency: Urgency::High,
        region: region.to_owned(),
        city: text(),
        address: text(),
        category: None,
        revision: 1,
    })
}

fn moved(request_id: i64, region: &str) -> RequestEvent {
    let RequestEvent::Created(old) = created(request_id, region) else { unreachable!() };
    RequestEvent::Updated(RequestUpdated {
        envelope: envelope(RequestUpdated::TYPE),
        request_id,
        customer_id: 1,
        title: old.title,
        description: old.description,
        urgency: old.urgency,
        region: old.region,
        city: old.city,
        address: old.address,
        category: None,
        revision: 2,
    })
}

fn cancelled(request_id: i64) -> RequestEvent {
    RequestEvent::Cancelled(RequestCancelled {
        envelope: envelope(RequestCancelled::TYPE),
        request_id,
        customer_id: 1,
        region: "north".to_owned(),
        reason: String::new(),
        cancelled_by: "customer:1".to_owned(),
    })
}

fn assigned(request_id: i64, region: &str, attempt: i32) -> WorkflowEvent {
    WorkflowEvent::ManagerAssigned(WorkflowManagerAssigned {
        envelope: envelope(WorkflowManagerAssigned::TYPE),
        request_id,
        manager_id: 1,
        region: region.to_owned(),
        priority: Priority::P2,
        sla_deadline: at(9),
        attempt,
        escalated: false,
    })
}

fn completed(request_id: i64) -> WorkflowEvent {
    WorkflowEvent::WorkCompleted(WorkflowWorkCompleted {
        envelope: envelope(WorkflowWorkCompleted::TYPE),
        request_id,
        contractor_id: 1,
        completion_data: CompletionData {
            completed_at: at(0),
            summary: String::new(),
            amount: Money::default(),
            currency: "EUR".to_owned(),
            hours: None,
            photos: Vec::new(),
        },
    })
}

fn escalated(request_id: i64) -> WorkflowEvent {
    WorkflowEvent::StatusChanged(WorkflowStatusChanged {
        envelope: envelope(WorkflowStatusChanged::TYPE),
        request_id,
        from_status: RequestStatus::New,
        to_status: RequestStatus::Escalated,
        reason: None,
    })
}

fn manager(manager_id: i64, region: &str, capacity: i32) -> Option<Manager> {
    let (name, email) = (String::new(), String::new());
    Some(Manager { manager_id, name, email, region: region.to_owned(), capacity, active: true })
}

#[derive(Clone)]
enum Seen {
    Request(Position, Option<RequestEvent>),
    Workflow(WorkflowEvent),
    Letter(Position, Option<RequestEvent>),
}

fn tally(seen: impl IntoIterator<Item = Seen>) -> Tally {
    let mut tally = Tally::default();
    for one in seen {
        match one {
            Seen::Request(position, event) => tally.request(position, event),
            Seen::Workflow(event) => tally.workflow(Some(event), at(25)),
            Seen::Letter(source, event) => tally.request_letter(source, event),
        }
    }
    tally
}

fn classes(tally: &Tally) -> [u64; 6] {
    let counts = tally.counts();
    [
        counts.requests,
        counts.assigned,
        counts.waiting,
        counts.cancelled,
        counts.duplicates,
        counts.dead_letters,
    ]
}

/// Checks the classes for all orders in which the topics can overtake each other.
#[track_caller]
fn check(seen: &[Seen], expected: [u64; 6]) {
    let is_request = |one: &&Seen| matches!(one, Seen::Request(..));
    let is_workflow = |one: &&Seen| matches!(one, Seen::Workflow(..));
    let is_letter = |one: &&Seen| matches!(one, Seen::Letter(..));
    let topics: [Vec<Seen>; 3] = [
        seen.iter().filter(is_request).cloned().collect(),
        seen.iter().filter(is_workflow).cloned().collect(),
        seen.iter().filter(is_letter).cloned().collect(),
    ];
    assert_eq!(classes(&tally(seen.iter().cloned())), expected, "in the given order");
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let tally = tally(order.into_iter().flat_map(|topic| topics[topic].clone()));
        assert_eq!(classes(&tally), expected, "topics in order {order:?}");
    }
}

fn request(offset: i64, event: RequestEvent) -> Seen {
    Seen::Request((0, offset), Some(event))
}

#[test]
fn every_request_has_one_class_in_every_order_of_arrival() {
    let seen = [
        request(0, created(1, "north")),
        request(1, created(1, "north")),
        request(2, created(2, "north")),
        Seen::Request((0, 3), None),
        request(4, created(4, "north")),
        request(5, cancelled(4)),
        Seen::Workflow(assigned(1, "north", 1)),
        Seen::Letter((0, 3), None),
    ];
    check(&seen, [5, 1, 1, 1, 1, 1]);
}

#[test]
fn an_assigned_request_stays_assigned_when_it_is_cancelled_or_completed_later() {
    let seen = [
        request(0, created(1, "north")),
        Seen::Workflow(assigned(1, "north", 1)),
        request(1, cancelled(1)),
        request(2, created(2, "north")),
        Seen::Workflow(assigned(2, "north", 1)),
        Seen::Workflow(completed(2)),
    ];
    check(&seen, [2, 2, 0, 0, 0, 0]);
}

#[test]
fn a_request_that_has_moved_waits_until_its_new_region_assigns_it() {
    let mut seen = vec![
        request(0, created(1, "north")),
        Seen::Workflow(assigned(1, "north", 1)),
        request(1, moved(1, "south")),
    ];
    check(&seen, [1, 0, 1, 0, 0, 0]);
    seen.push(Seen::Workflow(assigned(1, "south", 2)));
    check(&seen, [1, 1, 0, 0, 0, 0]);
    let tally = tally(seen);
    let open: Vec<_> = tally.open.iter().filter(|(_, open)| **open != 0).collect();
    assert_eq!(open, [(&("south".into(), 1), &1)]);
}

#[test]
fn a_readable_request_in_the_dead_letters_is_no_other_class() {
    let first = [request(0, created(1, "north")), Seen::Letter((0, 0), Some(created(1, "north")))];
    check(&first, [1, 0, 0, 0, 0, 1]);
    let second = [
        request(0, created(1, "north")),
        request(1, created(1, "north")),
        Seen::Workflow(assigned(1, "north", 1)),
        Seen::Letter((0, 1), Some(created(1, "north"))),
    ];
    assert_eq!(classes(&tally(second)), [2, 1, 0, 0, 0, 1]);
}

#[test]
fn what_is_told_again_counts_once() {
    let seen = [
        request(0, created(1, "north")),
        Seen::Workflow(assigned(1, "north", 1)),
        Seen::Workflow(assigned(1, "north", 1)),
        Seen::Workflow(escalated(1)),
        Seen::Workflow(escalated(1)),
        Seen::Request((0, 1), None),
        Seen::Letter((0, 1), None),
        Seen::Letter((0, 1), None),
    ];
    check(&seen, [2, 1, 0, 0, 0, 1]);
    let mut tally = tally(seen);
    assert_eq!(tally.counts().escalated, 1);
    assert_eq!(tally.recent().len(), 1);
    assert_eq!(tally.latencies().quantile_ms(1.0), Some(25));
}

#[test]
fn an_unreadable_request_without_a_dead_letter_is_missing() {
    let tally = tally([Seen::Request((2, 7), None)]);
    assert_eq!(tally.missing(), Missing { unread: 1, forgotten: 0 });
}

#[test]
fn waiting_is_right_only_while_no_manager_is_free() {
    let mut tally = tally([
        request(0, created(1, "north")),
        request(1, created(2, "north")),
        Seen::Workflow(assigned(1, "north", 1)),
    ]);
    assert!(tally.missing().is_none());
    tally.manager(1, manager(1, "north", 1));
    tally.manager(2, manager(2, "south", 9));
    assert!(tally.missing().is_none(), "the only manager of the region has no room");
    tally.manager(3, manager(3, "north", 1));
    assert_eq!(tally.missing(), Missing { unread: 0, forgotten: 1 });
    tally.manager(3, None);
    assert!(tally.missing().is_none());
    tally.workflow(Some(completed(1)), at(30));
    assert_eq!(tally.missing(), Missing { unread: 0, forgotten: 1 });
}
