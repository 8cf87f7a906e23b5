//! The rules of contractor-access.

use aggregator::contractor_access::settings::Settings;
use aggregator::events::*;

use crate::access_world::{World, topology};
use crate::events::{self, correlation, id};

const NONE: [&str; 0] = [];

/// Something that ends a grant, and the reason that it is revoked for.
type Ending = (fn(&World), &'static str);

#[test]
fn a_verified_contractor_gets_access_with_derived_ids_and_an_audit_event() {
    let world = World::new();
    world.created(1, "north");
    world.verified(9, &["south", "north"]);
    let assignment = world.assigned(1, 9);
    let (event, audit) = world.decisions().remove(0);
    let SecurityEvent::AccessGranted(event) = event else { panic!("{event:?}") };
    assert_eq!((event.contractor_id, event.request_id), (9, 1));
    assert_eq!((event.reason, event.detail), (AccessReason::Verified, None));
    let granted = derived_id(assignment, "security.access_granted", "9:1");
    assert_eq!(event.envelope.event_id, granted);
    assert_eq!(event.envelope.causation_id, Some(assignment));
    assert_eq!(event.envelope.correlation_id, correlation(1));
    assert_eq!(event.envelope.timestamp, world.now());
    assert_eq!(audit.envelope.event_id, derived_id(granted, "audit.system_event", "decision"));
    // audit-fanout reports the decision's event too, with this id: whoever drops duplicates by id would lose one of them.
    assert_ne!(audit.envelope.event_id, derived_id(granted, "audit.system_event", ""));
    assert_eq!((audit.entity.as_str(), audit.action.as_str()), ("contractor:9", "access.granted"));
    assert_eq!(audit.actor, "service:contractor-access");
    // Where the assignment stands.
    assert_eq!((audit.topic.as_str(), audit.partition, audit.offset), ("workflow-events", 0, 0));
    assert_eq!(world.grants(), [(1, 9)]);
}

#[test]
fn the_order_of_request_verification_and_assignment_does_not_matter() {
    let steps: [fn(&World); 3] = [
        |world| world.created(1, "north"),
        |world| {
            world.verified(9, &[]);
        },
        |world| {
            world.assigned(1, 9);
        },
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::new();
        for (count, step) in order.into_iter().enumerate() {
            assert_eq!(world.published(), NONE, "after {count} of {order:?}");
            steps[step](&world);
        }
        assert_eq!(world.published(), ["1→9 granted"], "{order:?}");
        world.tick(24 * 3_600_000);
        assert_eq!(world.published(), NONE, "nothing waits any more");
    }
}

#[test]
fn every_denial_has_its_reason() {
    let world = World::new();
    world.created(1, "north");
    world.rejected(2);
    world.assigned(1, 2);
    assert_eq!(world.published(), ["1→2 denied rejected"]);
    world.verified(3, &["south"]);
    world.assigned(1, 3);
    assert_eq!(world.published(), ["1→3 denied region_not_allowed"]);
    world.verified_until(4, &[], Some(0));
    world.assigned(1, 4);
    assert_eq!(world.published(), ["1→4 denied expired"]);
    world.created(2, "north");
    world.cancelled(2);
    world.verified(5, &[]);
    world.assigned(2, 5);
    assert_eq!(world.published(), ["2→5 denied request_closed"]);
    assert_eq!(world.grants(), []);
}

#[test]
fn an_unknown_contractor_is_waited_for_up_to_the_limit() {
    let world = World::new();
    world.created(1, "north");
    let assignment = world.assigned(1, 9);
    world.tick(599_000);
    assert_eq!(world.published(), NONE);
    world.tick(1_000);
    let (event, _) = world.decisions().remove(0);
    let SecurityEvent::AccessRevoked(event) = event else { panic!("{event:?}") };
    assert_eq!(event.reason, AccessReason::NotVerified);
    assert_eq!(event.envelope.event_id, derived_id(assignment, "security.access_revoked", "9:1"));
    assert_eq!(event.envelope.causation_id, Some(assignment));
    world.verified(9, &[]);
    assert_eq!(world.published(), NONE, "it was decided");
    world.assigned(1, 9);
    assert_eq!(world.published(), ["1→9 granted"], "a new assignment is decided anew");
}

#[test]
fn a_late_verification_or_rejection_decides_all_that_wait() {
    let world = World::new();
    for request in 1..=3 {
        world.created(request, if request == 2 { "south" } else { "north" });
        world.assigned(request, 9);
    }
    world.assigned(1, 8);
    assert_eq!(world.published(), ["1→9 denied reassigned"]);
    world.verified(9, &["north"]);
    assert_eq!(world.published(), ["2→9 denied region_not_allowed", "3→9 granted"]);
    world.rejected(8);
    assert_eq!(world.published(), ["1→8 denied rejected"]);
    assert_eq!(world.pending(), 0);
}

#[test]
fn a_request_not_seen_is_waited_for_up_to_the_limit() {
    let world = World::new();
    world.verified(9, &[]);
    world.assigned(1, 9);
    world.tick(59_000);
    assert_eq!(world.published(), NONE);
    world.tick(1_000);
    assert_eq!(world.published(), ["1→9 denied unknown_request"]);
    world.created(1, "north");
    assert_eq!(world.published(), NONE, "it was decided");
    world.assigned(1, 9);
    assert_eq!(world.published(), ["1→9 granted"]);
}

#[test]
fn limits_are_settings() {
    let settings =
        Settings { verification_wait_ms: 5_000, request_wait_ms: 2_000, ..Settings::default() };
    let world = World::with(&settings);
    world.assigned(1, 9);
    world.created(2, "north");
    world.assigned(2, 9);
    world.tick(2_000);
    assert_eq!(world.published(), ["1→9 denied unknown_request"]);
    world.tick(3_000);
    assert_eq!(world.published(), ["2→9 denied not_verified"]);
}

fn granted() -> World {
    let world = World::new();
    world.created(1, "north");
    world.verified(9, &[]);
    world.assigned(1, 9);
    assert_eq!(world.published(), ["1→9 granted"]);
    world
}

#[test]
fn every_end_revokes_the_open_grant_once() {
    let ends: [Ending; 7] = [
        (|world| world.cancelled(1), "request_cancelled"),
        (|world| world.completed(1, 9), "request_completed"),
        (|world| world.status(1, RequestStatus::Completed), "request_completed"),
        (|world| world.status(1, RequestStatus::Cancelled), "request_cancelled"),
        (|world| world.status(1, RequestStatus::Closed), "request_closed"),
        (|world| world.status(1, RequestStatus::Rejected), "request_closed"),
        (
            |world| {
                world.rejected(9);
            },
            "rejected",
        ),
    ];
    for (end, reason) in ends {
        let world = granted();
        end(&world);
        assert_eq!(world.published(), [format!("1→9 revoked {reason}")]);
        end(&world);
        for (other, _) in ends {
            other(&world);
        }
        world.tick(3_600_000);
        assert_eq!(world.published(), NONE, "exactly once, after {reason}");
        assert_eq!(world.grants(), []);
    }
}

#[test]
fn a_revocation_names_what_ended_the_grant() {
    let world = granted();
    world.cancelled(1);
    let (event, audit) = world.decisions().remove(0);
    let SecurityEvent::AccessRevoked(event) = event else { panic!("{event:?}") };
    assert_eq!(event.envelope.causation_id, Some(id(3, 1)));
    assert_eq!(event.envelope.event_id, derived_id(id(3, 1), "security.access_revoked", "9:1"));
    assert_eq!(event.envelope.correlation_id, correlation(1));
    assert_eq!((audit.topic.as_str(), audit.offset), ("request-events", 1));

    let world = granted();
    let rejection = world.rejected(9);
    let (event, _) = world.decisions().remove(0);
    let SecurityEvent::AccessRevoked(event) = event else { panic!("{event:?}") };
    assert_eq!(event.detail.as_deref(), Some("no papers"));
    assert_eq!(event.envelope.causation_id, Some(rejection));
    assert_eq!(event.envelope.correlation_id, correlation(1), "the request's, not the rejection's");
}

#[test]
fn other_statuses_and_updates_revoke_nothing() {
    let world = granted();
    world.status(1, RequestStatus::InProgress);
    world.updated(1, 2, "south");
    assert_eq!(world.published(), NONE);
    assert_eq!(world.grants(), [(1, 9)]);
}

#[test]
fn another_contractor_takes_the_access_over() {
    let world = granted();
    world.verified(8, &[]);
    world.tick(1);
    let second = world.assigned(1, 8);
    let mut decisions = world.decisions();
    decisions.sort_by_key(|(_, audit)| audit.contractor_id);
    let texts: Vec<_> = decisions.iter().map(|(_, audit)| audit.action.as_str()).collect();
    assert_eq!(texts, ["access.granted", "access.revoked"]);
    let envelope = decisions[1].0.envelope().unwrap();
    assert_eq!(envelope.causation_id, Some(second), "the new assignment ends the old grant");
    assert_eq!(world.grants(), [(1, 8)]);
    world.tick(1);
    world.assigned(1, 9);
    let mut back = world.published();
    back.sort();
    assert_eq!(back, ["1→8 revoked reassigned", "1→9 granted"]);
}

#[test]
fn duplicates_of_an_assignment_say_nothing() {
    let world = granted();
    let again = events::assigned(1, 9, id(0xf0, 2), world.now());
    world.workflow(again.clone());
    assert_eq!(world.published(), NONE, "the same event");
    world.tick(1);
    world.assigned(1, 9);
    assert_eq!(world.published(), NONE, "who has access already");
    world.tick(1);
    world.verified(8, &[]);
    world.assigned(1, 8);
    world.published();
    world.workflow(again);
    assert_eq!(world.published(), NONE, "the same event after another assignment");
    assert_eq!(world.grants(), [(1, 8)]);
}

#[test]
fn an_older_assignment_that_comes_late_is_denied() {
    let world = granted();
    world.verified(8, &[]);
    world.assigned_after(1, 8, -10);
    assert_eq!(world.published(), ["1→8 denied reassigned"]);
    assert_eq!(world.grants(), [(1, 9)]);
    world.cancelled(1);
    world.published();
    world.assigned_after(1, 8, -20);
    assert_eq!(world.published(), ["1→8 denied request_closed"]);
}

#[test]
fn who_waits_is_denied_once_when_the_request_ends_or_moves_on() {
    for unknown_request in [true, false] {
        let world = World::new();
        if !unknown_request {
            world.created(1, "north");
        }
        world.assigned(1, 9);
        world.tick(1);
        world.assigned(1, 8);
        assert_eq!(world.published(), ["1→9 denied reassigned"]);
        world.cancelled(1);
        assert_eq!(world.published(), ["1→8 denied request_closed"]);
        world.verified(9, &[]);
        world.verified(8, &[]);
        world.created(1, "north");
        world.tick(3_600_000);
        assert_eq!(world.published(), NONE);
    }
}

#[test]
fn an_end_before_everything_else_denies_all() {
    for end in [World::cancelled as fn(&World, i64), |world, id| world.completed(id, 9)] {
        let world = World::new();
        end(&world, 1);
        world.created(1, "north");
        world.verified(9, &[]);
        world.assigned(1, 9);
        assert_eq!(world.published(), ["1→9 denied request_closed"]);
    }
}

#[test]
fn a_verification_that_ends_revokes_by_the_wall_clock() {
    let world = World::new();
    let verification = world.verified_until(9, &[], Some(5_000));
    for request in 1..=2 {
        world.created(request, "north");
        world.assigned(request, 9);
    }
    assert_eq!(world.published(), ["1→9 granted", "2→9 granted"]);
    world.tick(4_000);
    assert_eq!(world.published(), NONE);
    world.tick(1_000);
    let decisions = world.decisions();
    for (event, audit) in &decisions {
        let SecurityEvent::AccessRevoked(event) = event else { panic!("{event:?}") };
        assert_eq!(event.reason, AccessReason::Expired);
        assert_eq!(event.envelope.causation_id, Some(verification));
        assert_eq!(audit.topic, "security-events");
    }
    assert_eq!(decisions.len(), 2);
    world.created(3, "north");
    world.assigned(3, 9);
    assert_eq!(world.published(), ["3→9 denied expired"]);
    world.verified(9, &[]);
    world.assigned(3, 9);
    assert_eq!(world.published(), ["3→9 granted"], "verified anew");
}

#[test]
fn a_verification_that_ends_revokes_by_the_time_of_an_assignment() {
    let world = World::new();
    world.verified_until(9, &[], Some(500));
    world.created(1, "north");
    world.assigned(1, 9);
    world.created(2, "north");
    world.assigned_after(2, 9, 500);
    assert_eq!(world.published(), ["1→9 granted", "1→9 revoked expired", "2→9 denied expired"]);
    world.tick(10_000);
    assert_eq!(world.published(), NONE);
}

#[test]
fn a_longer_verification_replaces_a_shorter_one() {
    let world = World::new();
    world.created(1, "north");
    world.verified_until(9, &[], Some(5_000));
    world.assigned(1, 9);
    world.tick(1);
    world.verified_until(9, &[], Some(60_000));
    world.tick(30_000);
    assert_eq!(world.published(), ["1→9 granted"]);
    world.tick(31_000);
    assert_eq!(world.published(), ["1→9 revoked expired"]);
}

#[test]
fn of_verifications_and_rejections_the_latest_by_timestamp_holds() {
    let world = granted();
    let early = world.after(-1_000);
    world.security(events::rejected(9, id(0xaa, 1), early));
    assert_eq!(world.published(), NONE, "an older rejection comes late");
    world.security(events::rejected(9, id(0xaa, 2), world.after(1_000)));
    assert_eq!(world.published(), ["1→9 revoked rejected"]);
    world.security(events::verified(9, &[], None, id(0xaa, 3), world.after(1_000)));
    world.assigned(1, 9);
    assert_eq!(world.published(), ["1→9 denied rejected"], "of the same moment, the rejection");
}

#[test]
fn a_request_that_moves_while_its_decision_waits_is_judged_where_it_is() {
    let world = World::new();
    world.created(1, "north");
    world.assigned(1, 9);
    world.updated(1, 3, "south");
    world.updated(1, 2, "east");
    world.verified(9, &["south"]);
    assert_eq!(world.published(), ["1→9 granted"]);
}

#[test]
fn our_own_events_and_foreign_ones_of_their_kind_change_nothing() {
    let world = granted();
    let envelope = events::of_contractor(id(0xaa, 9), "security.access_revoked", world.now());
    let (reason, detail) = (AccessReason::Rejected, None);
    let event = SecurityAccessRevoked { envelope, contractor_id: 9, request_id: 1, reason, detail };
    world.security(event.into());
    assert_eq!(world.published(), NONE);
    assert_eq!(world.grants(), [(1, 9)]);
}

#[test]
fn finished_requests_and_lost_contractors_are_forgotten_after_their_retention() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let world = granted();
    world.cancelled(1);
    world.assigned(2, 9);
    world.rejected(9);
    world.verified(8, &[]);
    world.created(3, "north");
    assert_eq!(world.remembered(), (3, 2));
    world.tick(60_000); // request 2 never came
    world.tick(29 * DAY_MS);
    assert_eq!(world.remembered(), (3, 2));
    world.tick(DAY_MS);
    assert_eq!(world.remembered(), (1, 2), "request 3 is open");
    world.tick(60 * DAY_MS);
    assert_eq!(world.remembered(), (1, 1), "contractor 8 is verified without end");
}

#[test]
fn more_grants_than_one_step_may_touch_are_revoked_all_the_same() {
    let world = World::new();
    world.verified(9, &[]);
    for request in 1..=1_500 {
        world.created(request, "north");
        world.assigned(request, 9);
    }
    assert_eq!(world.published().len(), 1_500);
    world.rejected(9);
    assert_eq!(world.published().len(), 1_000);
    world.tick(1_000);
    assert_eq!(world.published().len(), 500);
    assert_eq!(world.grants(), []);
}

#[test]
fn the_text_of_the_topology_is_known() {
    let text = topology(&Settings::default()).describe();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/contractor_access.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_EXPECT=1 rewrites it");
}
