//! The rules of notifications on real tasks: events in, commands out, in several orders of arrival.

use kstreams::store::KeyValueStore;
use kstreams::{Headers, Timestamp};
use uuid::Uuid;

use super::by_request::RequestEntry;
use super::cases::Case;
use super::rules::notification_id;
use super::sample::*;
use super::settings::Settings;
use crate::events::{DocumentType, RequestEvent, RequestStatus, TopicEvent, WorkflowEvent};

fn world() -> World {
    World::new(&Settings::default())
}

/// A world where everybody has every channel.
fn reachable() -> World {
    let world = world();
    for name in ["customer:1", "contractor:9", "manager:7"] {
        world.pipe(contact(name, "ets", "en"));
    }
    world
}

#[test]
fn every_case_goes_to_the_person_concerned_on_its_channel() {
    for (input, told) in [
        (created(1, 1, 1), vec!["customer:1 email en request_created \"t1\""]),
        (manager_assigned(2, 1, 7, 1), vec!["manager:7 email en manager_assigned \"t1\""]),
        (
            contractor_assigned(3, 1, 9, 7),
            vec![
                "contractor:9 telegram en job_assigned \"t1\"",
                "customer:1 email en contractor_found \"t1\"",
            ],
        ),
        (
            completed(4, 1, 9),
            vec![
                "customer:1 email en work_completed \"t1\"",
                "manager:7 email en work_report \"t1\"",
            ],
        ),
        (clarification(5, 1, 1), vec!["customer:1 email en clarification_needed \"t1\""]),
        (cancelled(6, 1, 1), vec!["customer:1 email en request_cancelled \"t1\""]),
        (revoked(7, 9), vec!["contractor:9 telegram en access_revoked \"-\""]),
        (contract(8, 9), vec!["contractor:9 email en contract_generated \"-\""]),
        (
            document(9, DocumentType::CompletionAct, 9, 1),
            vec!["customer:1 email en completion_act \"-\""],
        ),
        (
            document(10, DocumentType::PaymentOrder, 9, 1),
            vec!["contractor:9 email en payment_order \"-\""],
        ),
        (payment(11, 9), vec!["contractor:9 email en payment_processed \"-\""]),
        (document(12, DocumentType::Unknown, 9, 1), vec![]),
        (status(13, 1, RequestStatus::InProgress), vec![]),
    ] {
        let world = reachable();
        if !matches!(&input, Input::Request(RequestEvent::Created(_))) {
            world.pipe(created(100, 1, 1));
            world.pipe(manager_assigned(101, 1, 7, 1));
            world.told();
        }
        world.pipe(input.clone());
        assert_eq!(world.told(), told, "{input:?}");
    }
}

#[test]
fn a_command_has_the_parameters_of_its_case_and_derived_ids() {
    let world = reachable();
    world.pipe(manager_assigned(101, 1, 7, 1));
    world.pipe(created(100, 1, 1));
    world.pipe(completed(102, 1, 9));
    let commands = world.commands();
    for command in &commands {
        let case = Case::ALL.iter().find(|case| case.template() == command.template).unwrap();
        let names: Vec<_> = command.parameters.keys().map(String::as_str).collect();
        assert_eq!(names, case.parameters(), "{case:?}");
        let cause = command.envelope.causation_id.unwrap();
        assert_eq!(command.notification_id, notification_id(cause, *case, &command.recipient));
        assert_eq!(command.envelope.event_id, command.notification_id);
        assert_eq!(command.request_id, Some(1));
    }
    let report = commands.iter().find(|c| c.template == "work_report").unwrap();
    let expected =
        [("amount", "12.50"), ("hours", "1.5"), ("completed_at", "2026-03-01T12:00:00Z")];
    for (name, value) in expected {
        assert_eq!(report.parameters[name], value);
    }
    assert_eq!(report.envelope.causation_id, Some(Uuid::from_u64_pair(1, 102)));
    assert_eq!(report.envelope.correlation_id, Some(Uuid::from_u64_pair(2, 102)));
}

#[test]
fn a_missing_channel_falls_back_and_the_managers_topic_knows_managers() {
    let world = world();
    world.pipe(contact("customer:1", "t", "en"));
    world.pipe(contact("contractor:9", "s", "ru"));
    world.pipe(manager(7, "desk@example.org"));
    world.pipe(created(1, 1, 1));
    world.pipe(manager_assigned(2, 1, 7, 1));
    world.pipe(contractor_assigned(3, 1, 9, 7));
    assert_eq!(
        world.told(),
        [
            "contractor:9 sms ru job_assigned \"t1\"",
            "customer:1 telegram en contractor_found \"t1\"",
            "customer:1 telegram en request_created \"t1\"",
            "manager:7 email ru manager_assigned \"t1\"",
        ]
    );
}

#[test]
fn whatever_the_order_of_events_the_same_people_are_told_the_same() {
    let events = [
        created(1, 1, 1),
        manager_assigned(2, 1, 7, 1),
        contractor_assigned(3, 1, 9, 7),
        completed(4, 1, 9),
    ];
    let mut expected = None;
    for shift in 0..events.len() {
        for reversed in [false, true] {
            let world = reachable();
            let mut order = events.to_vec();
            order.rotate_left(shift);
            if reversed {
                order.reverse();
            }
            order.into_iter().for_each(|event| world.pipe(event));
            let told = world.told();
            assert_eq!(told.len(), 6, "{told:?}");
            assert_eq!(*expected.get_or_insert_with(|| told.clone()), told);
        }
    }
}

#[test]
fn duplicates_tell_nobody_twice() {
    let world = reachable();
    let events = [created(1, 1, 1), manager_assigned(2, 1, 7, 1), revoked(3, 9)];
    for _ in 0..3 {
        events.iter().for_each(|event| world.pipe(event.clone()));
    }
    assert_eq!(world.told().len(), 3);
    world.pipe(created(99, 1, 1));
    assert_eq!(world.told(), [""; 0], "another created of the same request");
    world.tick(8 * 24 * 3_600_000);
    world.pipe(revoked(3, 9));
    assert_eq!(world.told().len(), 1, "forgotten after its retention");
}

#[test]
fn an_unknown_customer_is_waited_for_and_then_reported() {
    let world = reachable();
    world.pipe(contractor_assigned(3, 1, 9, 7));
    world.pipe(completed(4, 2, 9));
    assert_eq!(world.told(), [""; 0]);
    world.tick(59_000);
    world.pipe(created(1, 1, 1));
    assert_eq!(
        world.told(),
        [
            "contractor:9 telegram en job_assigned \"t1\"",
            "customer:1 email en contractor_found \"t1\"",
            "customer:1 email en request_created \"t1\"",
        ]
    );
    world.tick(1_000);
    let failures = world.failures();
    let lines: Vec<_> = failures.iter().map(|f| (&*f.recipient, &*f.template)).collect();
    assert_eq!(lines, [("request:2", "work_completed"), ("request:2", "work_report")]);
    assert!(failures.iter().all(|f| f.permanent && f.attempts == 0 && f.request_id == Some(2)));
    assert_ne!(failures[0].notification_id, failures[1].notification_id);
    assert!(failures[0].error.contains("customer of request 2 is not known"), "{failures:?}");
}

#[test]
fn a_duplicate_of_which_nobody_can_be_told_fails_once() {
    let world = reachable();
    for _ in 0..2 {
        world.pipe(completed(4, 2, 9));
        world.pipe(completed(4, 2, 9));
        world.tick(60_000);
    }
    let failures = world.failures();
    let lines: Vec<_> = failures.iter().map(|f| (&*f.recipient, &*f.template)).collect();
    assert_eq!(lines, [("request:2", "work_completed"), ("request:2", "work_report")]);
}

#[test]
fn somebody_who_is_known_is_told_without_the_title_after_the_wait() {
    let world = reachable();
    world.pipe(manager_assigned(2, 1, 7, 1));
    world.pipe(cancelled(3, 2, 1));
    world.tick(59_999);
    assert_eq!(world.told(), [""; 0]);
    world.tick(1_000);
    assert_eq!(
        world.told(),
        ["customer:1 email en request_cancelled \"\"", "manager:7 email en manager_assigned \"\""]
    );
}

#[test]
fn an_unknown_recipient_is_waited_for_and_then_reported() {
    let world = world();
    world.pipe(created(1, 1, 1));
    world.pipe(created(2, 2, 2));
    world.pipe(contact("customer:2", "", "en"));
    assert_eq!(world.told(), [""; 0]);
    world.tick(599_000);
    world.pipe(contact("customer:1", "s", "en"));
    assert_eq!(world.told(), ["customer:1 sms en request_created \"t1\""]);
    world.tick(1_000);
    let failures = world.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!((&*failures[0].recipient, failures[0].permanent), ("customer:2", true));
    world.pipe(contact("customer:2", "e", "en"));
    assert_eq!(world.told(), [""; 0], "failed is failed");
}

#[test]
fn a_deleted_contact_is_unknown_again() {
    let world = reachable();
    world.pipe(Input::Contact("customer:1".into(), None));
    world.pipe(created(1, 1, 1));
    assert_eq!(world.told(), [""; 0]);
    world.pipe(contact("customer:1", "e", "ru"));
    assert_eq!(world.told(), ["customer:1 email ru request_created \"t1\""]);
}

#[test]
fn the_newest_revision_and_the_newest_assignment_hold() {
    let world = reachable();
    world.pipe(contact("manager:8", "e", "en"));
    world.pipe(updated(1, 1, 1, 3));
    world.pipe(created(2, 1, 1));
    world.pipe(manager_assigned(4, 1, 8, 2));
    world.pipe(manager_assigned(3, 1, 7, 1));
    world.told();
    world.pipe(completed(5, 1, 9));
    let expected =
        ["customer:1 email en work_completed \"t3\"", "manager:8 email en work_report \"t3\""];
    assert_eq!(world.told(), expected);
}

#[test]
fn requests_are_forgotten_some_time_after_they_are_final() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let world = reachable();
    world.pipe(created(1, 1, 1));
    world.pipe(created(2, 2, 1));
    world.pipe(status(3, 1, RequestStatus::Rejected));
    let remembered = || {
        let count = |store: &mut KeyValueStore<i64, RequestEntry>| store.all().unwrap().count();
        world.driver.with_store("notification-requests", count).unwrap()
    };
    world.tick(7 * DAY_MS - 1_000);
    assert_eq!(remembered(), 2);
    world.tick(1_000);
    assert_eq!(remembered(), 1, "the final one");
    world.tick(83 * DAY_MS);
    assert_eq!(remembered(), 0, "nothing was heard of the other");
}

/// The rows of the domain's table of bad input, on each topic that is read.
#[test]
fn bad_input_is_dead_lettered_and_unknown_events_are_ignored() {
    for topic in [
        "request-events",
        "workflow-events",
        "security-events",
        "hr-events",
        "contacts",
        "managers",
    ] {
        let world = reachable();
        let at = Timestamp::from_millis(7);
        let bad: [&[u8]; 2] = [b"no frame", &[0, 0x7f, 0xff, 0xff, 0xff, 1]];
        for value in bad {
            let pipe =
                world.driver.pipe_raw(topic, Some(b"1"), Some(value), at, Headers::default());
            pipe.unwrap();
        }
        let null_is_bad = !["contacts", "managers"].contains(&topic);
        if null_is_bad {
            world.driver.pipe_raw(topic, Some(b"1"), None, at, Headers::default()).unwrap();
        }
        let letters = format!("test-{topic}-dlq");
        let count = std::iter::from_fn(|| world.driver.read_raw(&letters)).count();
        assert_eq!(count, 2 + usize::from(null_is_bad), "{topic}");
        world.pipe(created(1, 1, 1));
        assert_eq!(world.told().len(), 1, "{topic}: processing goes on");
    }
    let Input::Request(RequestEvent::Created(mut event)) = created(1, 1, 1) else { panic!() };
    event.request_id = -1;
    assert!(TopicEvent::validate(&RequestEvent::Created(event), START).is_err());
    assert!(super::edges::of_request(RequestEvent::Unknown).is_none());
    assert!(super::edges::of_workflow(WorkflowEvent::Unknown).is_none());
}

#[test]
fn a_record_under_another_key_is_a_dead_letter() {
    let world = world();
    let Input::Contact(_, contact) = contact("customer:1", "e", "en") else { panic!() };
    world.pipe(Input::Contact("customer:2".into(), contact));
    let Input::Manager(_, other) = manager(7, "e@x") else { panic!() };
    world.pipe(Input::Manager(8, other));
    for topic in ["contacts", "managers"] {
        let letters = format!("test-{topic}-dlq");
        assert!(world.driver.read_raw(&letters).is_some(), "{topic}");
    }
}

#[test]
fn the_text_of_the_topology_is_known() {
    let builder = kstreams::StreamsBuilder::new();
    super::add_to(&builder, &shared_serdes(), &Settings::default()).unwrap();
    let text = builder.build().unwrap().describe();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/notifications.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_EXPECT=1 rewrites it");
}
