//! The rules of manager-assignment on real tasks: events in, events out, in several orders of arrival.

mod common;

use common::manager_assignment::{P, World};
use kstreams::Timestamp;

#[test]
fn created_is_assigned_with_priority_deadline_and_derived_ids() {
    let world = World::new();
    world.manager(7, "north", 2);
    world.created(1, "north", "critical");
    let (key, event, timestamp) = world.assignments().remove(0);
    assert_eq!((key.as_str(), event.request_id, event.manager_id), ("1", 1, 7));
    assert_eq!((event.region.as_str(), event.attempt, event.escalated), ("north", 1, false));
    assert_eq!(event.priority, P::P1);
    assert_eq!(event.sla_deadline, world.now() + std::time::Duration::from_secs(60));
    assert_eq!(event.envelope.timestamp, timestamp, "Kafka's timestamp is the envelope's");
    assert_eq!(event.envelope.causation_id, Some(world.created_id(1)));
    assert_eq!(event.envelope.correlation_id, Some(world.correlation_id(1)));
    let id =
        aggregator::events::derived_id(world.created_id(1), "workflow.manager_assigned", "1:1");
    assert_eq!(event.envelope.event_id, id);
}

#[test]
fn urgency_decides_priority() {
    let world = World::new();
    world.manager(7, "north", 9);
    for (id, urgency) in [(1, "critical"), (2, "high"), (3, "medium"), (4, "low")] {
        world.created(id, "north", urgency);
    }
    let priorities: Vec<_> = world.assignments().into_iter().map(|(_, e, _)| e.priority).collect();
    assert_eq!(priorities, [P::P1, P::P2, P::P3, P::P4]);
}

#[test]
fn least_loaded_then_longest_ago_then_smallest_id() {
    let world = World::new();
    world.manager(8, "north", 2);
    world.manager(7, "north", 2);
    world.manager(1, "south", 9);
    for id in 1..=5 {
        world.created(id, "north", "low");
    }
    assert_eq!(world.published(), ["1→7 #1", "2→8 #1", "3→7 #1", "4→8 #1"]);
    world.completed(2);
    assert_eq!(world.published(), ["5→8 #1"]);
}

#[test]
fn a_duplicate_created_changes_nothing_and_publishes_nothing() {
    let world = World::new();
    world.manager(7, "north", 1);
    for _ in 0..3 {
        world.created(1, "north", "low");
    }
    world.created(2, "north", "low");
    world.created(2, "north", "low");
    assert_eq!(world.published(), ["1→7 #1"]);
    world.completed(1);
    assert_eq!(world.published(), ["2→7 #1"]);
    world.created(1, "north", "low");
    world.created(2, "north", "low");
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn waiting_is_by_priority_then_age_and_ends_when_somebody_is_free() {
    let world = World::new();
    for (id, urgency) in [(1, "low"), (2, "high"), (3, "critical"), (4, "critical")] {
        world.created(id, "north", urgency);
        world.tick(1);
    }
    assert_eq!(world.published(), [""; 0]);
    world.manager(7, "north", 1);
    assert_eq!(world.published(), ["3→7 #1"], "a manager joins");
    world.manager(7, "north", 2);
    assert_eq!(world.published(), ["4→7 #1"], "gets capacity");
    world.completed(3);
    assert_eq!(world.published(), ["2→7 #1"], "frees up");
    world.manager_is(7, "north", 2, false);
    world.completed(4);
    assert_eq!(world.published(), [""; 0], "inactive");
    world.manager(7, "north", 2);
    assert_eq!(world.published(), ["1→7 #1"], "active again");
}

#[test]
fn every_closing_event_frees_the_manager_once() {
    for close in [World::completed, World::cancelled, World::status_rejected] {
        let world = World::new();
        world.manager(7, "north", 1);
        for id in 1..=3 {
            world.created(id, "north", "low");
        }
        assert_eq!(world.published(), ["1→7 #1"]);
        close(&world, 1);
        assert_eq!(world.published(), ["2→7 #1"]);
        close(&world, 1);
        world.completed(1);
        world.cancelled(1);
        world.status_rejected(1);
        assert_eq!(world.published(), [""; 0], "whatever the number of duplicates");
    }
}

#[test]
fn a_status_that_is_not_final_frees_nobody() {
    let world = World::new();
    world.manager(7, "north", 1);
    world.created(1, "north", "low");
    world.created(2, "north", "low");
    world.published();
    world.status(1, aggregator::events::RequestStatus::InProgress);
    world.status(1, aggregator::events::RequestStatus::Escalated);
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn cancelled_while_waiting_is_never_assigned() {
    let world = World::new();
    world.created(1, "north", "low");
    world.cancelled(1);
    world.manager(7, "north", 1);
    world.tick(4_000_000);
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn closed_before_created_or_updated_is_never_assigned() {
    for close in [World::completed, World::cancelled, World::status_rejected] {
        let world = World::new();
        world.manager(7, "north", 1);
        close(&world, 1);
        world.updated(1, 2, "north", "low");
        world.created(1, "north", "low");
        assert_eq!(world.published(), [""; 0]);
    }
}

#[test]
fn past_its_sla_it_is_escalated_once_and_overloads() {
    let world = World::new();
    world.manager(7, "north", 2);
    for id in 1..=4 {
        world.created(id, "north", "critical");
    }
    assert_eq!(world.published(), ["1→7 #1", "2→7 #1"]);
    world.tick(60_000);
    assert_eq!(world.published(), [""; 0], "at the deadline");
    world.tick(1_000);
    let published = world.published();
    assert_eq!(published, ["3 New→Escalated", "4 New→Escalated", "3→7 #1 escalated"]);
    world.tick(600_000);
    assert_eq!(world.published(), [""; 0], "once");
    world.created(5, "north", "low");
    world.completed(1);
    assert_eq!(world.published(), ["4→7 #1 escalated"], "up to half above capacity");
    world.completed(2);
    assert_eq!(world.published(), [""; 0], "5 is not escalated and waits for capacity");
    world.completed(3);
    assert_eq!(world.published(), ["5→7 #1"]);
}

#[test]
fn a_region_without_active_manager_hands_over_to_its_fallback() {
    let world = World::new();
    world.manager(7, "north", 0);
    world.manager(8, "south", 1);
    world.created(1, "east", "low");
    assert_eq!(world.published(), [""; 0], "not at once: managers may come later than requests");
    world.tick(2_000);
    let (_, event, _) = world.assignments().remove(0);
    assert_eq!((event.region.as_str(), event.manager_id), ("south", 8));
    world.created(2, "south", "low");
    assert_eq!(world.published(), [""; 0], "it is counted there");
    world.completed(1);
    assert_eq!(world.published(), ["2→8 #1"]);
    world.created(3, "north", "low");
    world.tick(4_000);
    assert_eq!(world.published(), [""; 0], "north has one, if without capacity");
}

#[test]
fn when_the_fallback_has_nobody_either_it_comes_home() {
    let world = World::new();
    world.created(1, "east", "low");
    world.tick(2_000);
    world.manager(7, "east", 1);
    world.tick(4_000);
    assert_eq!(world.published(), ["1→7 #1"]);
}

#[test]
fn updated_urgency_moves_in_the_queue() {
    let world = World::new();
    world.created(1, "north", "high");
    world.created(2, "north", "low");
    world.updated(2, 2, "north", "critical");
    world.updated(2, 1, "north", "low");
    world.manager(7, "north", 1);
    assert_eq!(world.published(), ["2→7 #1"], "the older revision was ignored");
}

#[test]
fn updated_region_releases_in_the_old_and_assigns_in_the_new() {
    let world = World::new();
    world.manager(7, "north", 1);
    world.manager(8, "south", 1);
    world.created(1, "north", "low");
    world.created(2, "north", "low");
    assert_eq!(world.published(), ["1→7 #1"]);
    world.updated(1, 2, "south", "low");
    assert_eq!(world.published(), ["2→7 #1", "1→8 #2"]);
    world.updated(1, 2, "south", "low");
    world.updated(1, 1, "north", "low");
    assert_eq!(world.published(), [""; 0]);
    world.completed(1);
    world.created(3, "south", "low");
    assert_eq!(world.published(), ["3→8 #1"], "freed where it was counted");
}

#[test]
fn a_waiting_request_that_changes_region_keeps_its_escalation() {
    let world = World::new();
    world.manager(8, "south", 2);
    world.manager(7, "north", 0);
    world.created(1, "north", "critical");
    world.tick(61_000);
    assert_eq!(world.published(), ["1 New→Escalated"]);
    world.created(2, "south", "low");
    world.created(3, "south", "low");
    assert_eq!(world.published(), ["2→8 #1", "3→8 #1"]);
    world.updated(1, 2, "south", "critical");
    assert_eq!(world.published(), ["1→8 #1 escalated"]);
    world.tick(600_000);
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn update_before_created_is_assigned_once_by_the_newer_state() {
    let world = World::new();
    world.updated(1, 2, "south", "critical");
    world.tick(10);
    world.created_at(1, "north", "low", Timestamp::from_millis(world.now().as_millis() - 100));
    world.manager(7, "north", 1);
    world.manager(8, "south", 1);
    let (_, event, _) = world.assignments().remove(0);
    assert_eq!((event.manager_id, event.priority, event.attempt), (8, P::P1, 1));
    let filed = world.now().as_millis() - 100;
    assert_eq!(event.sla_deadline.as_millis(), filed + 60_000, "the SLA counts from created");
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn a_manager_who_moves_leaves_open_requests_where_they_were_assigned() {
    let world = World::new();
    world.manager(7, "north", 1);
    world.created(1, "north", "low");
    world.manager(7, "south", 1);
    world.created(2, "south", "low");
    world.created(3, "north", "low");
    assert_eq!(world.published(), ["1→7 #1", "2→7 #1"]);
    world.completed(1);
    assert_eq!(world.published(), [""; 0], "nobody is left in the north");
    world.manager(7, "north", 1);
    assert_eq!(world.published(), ["3→7 #1"]);
}

#[test]
fn a_deleted_manager_gets_nothing_more() {
    let world = World::new();
    world.manager(7, "north", 5);
    world.manager_gone(7);
    world.manager_gone(7);
    world.created(1, "north", "low");
    assert_eq!(world.published(), [""; 0]);
}

#[test]
fn closed_requests_are_forgotten_after_the_retention() {
    let world = World::new();
    world.created(1, "north", "low");
    world.cancelled(1);
    assert_eq!(world.remembered(), 1);
    world.tick(7 * 24 * 3_600_000);
    assert_eq!(world.remembered(), 1);
    world.tick(1_000);
    assert_eq!(world.remembered(), 0);
}

#[test]
fn the_text_of_the_topology_is_known() {
    let text = common::manager_assignment::topology().describe();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/manager_assignment.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_EXPECT=1 rewrites it");
}
