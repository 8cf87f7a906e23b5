//! The rules of hr-documents.

use aggregator::events::*;
use aggregator::hr_documents::settings::Settings;
use kstreams::Timestamp;
use kstreams::dlq::ErrorHeaders;
use uuid::Uuid;

use crate::events::{self, CUSTOMER, amount, correlation, document, id};
use crate::hr_world::{World, topology};

const NONE: [&str; 0] = [];
const BOTH: [&str; 2] = ["1→9 completion_act", "1→9 payment_order"];
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

#[test]
fn a_completion_makes_an_act_and_an_order_with_derived_ids() {
    let world = World::new();
    world.created(1);
    world.assigned(1, 9);
    let completion = world.completed(1, 9);
    let events = world.events();
    assert_eq!(events.len(), 2);
    for (event, kind) in events.into_iter().zip(["completion_act", "payment_order"]) {
        let HrEvent::DocumentCreated(event) = event else { panic!("{event:?}") };
        assert_eq!(event.document_type.as_str(), kind);
        assert_eq!(event.document_id, document(completion, kind));
        assert_eq!(event.envelope.event_id, derived_id(completion, "hr.document_created", kind));
        assert_eq!(event.envelope.causation_id, Some(completion));
        assert_eq!(event.envelope.correlation_id, correlation(1));
        assert_eq!((event.request_id, event.contractor_id), (1, 9));
        assert_eq!(event.customer_id, CUSTOMER + 1);
        assert_eq!((event.amount, event.currency.as_deref()), (Some(amount(1)), Some("RUB")));
    }
    assert_eq!(world.open(), [1]);
}

#[test]
fn the_order_of_request_assignment_and_completion_does_not_matter() {
    let steps: [fn(&World); 3] = [
        |world| world.created(1),
        |world| world.assigned(1, 9),
        |world| {
            world.completed(1, 9);
        },
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::new();
        for (count, step) in order.into_iter().enumerate() {
            assert_eq!(world.published(), NONE, "after {count} of {order:?}");
            steps[step](&world);
        }
        assert_eq!(world.published(), BOTH, "{order:?}");
        world.tick(2 * HOUR_MS);
        assert_eq!(world.reasons("workflow-events"), NONE, "nothing waits any more");
    }
}

#[test]
fn any_event_of_the_request_tells_its_customer() {
    for event in [
        events::updated(1, 2, "north", Timestamp::from_millis(1)),
        events::cancelled(1, Timestamp::from_millis(1)),
    ] {
        let world = World::new();
        world.assigned(1, 9);
        world.completed(1, 9);
        world.request(event);
        assert_eq!(world.published(), BOTH);
    }
}

#[test]
fn work_that_was_done_is_paid_although_the_request_was_cancelled() {
    let world = World::new();
    world.created(1);
    world.assigned(1, 9);
    world.cancelled(1);
    world.completed(1, 9);
    assert_eq!(world.published(), BOTH);
}

#[test]
fn a_completion_told_again_makes_nothing() {
    let world = World::new();
    world.created(1);
    world.assigned(1, 9);
    let completion = world.completed(1, 9);
    assert_eq!(world.published(), BOTH);
    world.workflow(events::completed(1, 9, completion, world.now()));
    world.completed(1, 9);
    assert_eq!(world.published(), NONE);
    // Before the assignment too.
    let completion = world.completed(2, 9);
    world.workflow(events::completed(2, 9, completion, world.now()));
    world.created(2);
    world.assigned(2, 9);
    assert_eq!(world.published(), ["2→9 completion_act", "2→9 payment_order"]);
    assert_eq!(world.reasons("workflow-events"), NONE);
}

#[test]
fn a_completion_by_another_contractor_is_a_dead_letter_byte_for_byte() {
    let world = World::new();
    world.created(1);
    world.assigned(1, 8);
    world.completed(1, 9);
    let letters = world.letters("workflow-events");
    assert_eq!(letters.len(), 1);
    let headers = ErrorHeaders::read(&letters[0].headers);
    let text =
        "workflow.work_completed of request 1: found contractor 9, wanted the assigned one, 8";
    assert_eq!(headers.get("message"), Some(text));
    for (name, value) in [
        ("topic", "workflow-events"),
        ("partition", "0"),
        ("offset", "1"),
        ("stage", "process"),
        ("class", "processing_error"),
        ("processor.node.id", "request-paperwork"),
        ("application.id", "test"),
    ] {
        assert_eq!(headers.get(name), Some(value), "{name}");
    }
    assert_eq!(letters[0].key.as_deref(), Some(&b"1"[..]));
    assert_eq!(letters[0].timestamp, world.now());
    // Byte for byte: what reads as the event that came.
    let serdes = events::serdes_for_tests();
    let event = serdes.workflow.deserializer().deserialize(
        "workflow-events",
        &letters[0].headers,
        letters[0].value.as_ref(),
    );
    let wanted = events::completed(1, 9, id(0xf1, 2), world.now());
    assert_eq!(event.unwrap(), wanted);
    assert_eq!(world.published(), NONE);
    world.completed(1, 8);
    assert_eq!(world.published(), ["1→8 completion_act", "1→8 payment_order"]);
    world.completed(1, 9);
    assert_eq!(world.reasons("workflow-events").len(), 1, "also after the documents");
}

#[test]
fn a_letter_that_has_waited_keeps_its_own_headers_and_time() {
    let world = World::new();
    let mut headers = kstreams::Headers::default();
    headers.add("traceparent", Some("00-abc"));
    headers.add("empty", None::<&str>);
    let serde = events::serdes_for_tests().workflow;
    let mut value = Vec::new();
    let event = events::completed(1, 9, id(0xf1, 1), world.now());
    let _ = serde.serializer().serialize("workflow-events", &event, &mut value).unwrap();
    let at = Timestamp::from_millis(world.now().as_millis() - 5);
    let topic = "workflow-events";
    world.driver.pipe_raw(topic, Some(b"1"), Some(&value), at, headers).unwrap();
    world.tick(HOUR_MS);
    let letter = world.letters("workflow-events").remove(0);
    assert_eq!(letter.value.as_deref(), Some(&value[..]));
    assert_eq!(letter.timestamp, at);
    let own: Vec<_> = letter.headers.iter().take(2).collect();
    assert_eq!((&*own[0].key, own[0].value.as_deref()), ("traceparent", Some(&b"00-abc"[..])));
    assert_eq!((&*own[1].key, own[1].value.as_deref()), ("empty", None));
}

#[test]
fn a_completion_waits_for_its_assignment_up_to_the_limit() {
    let world = World::new();
    world.created(1);
    world.completed(1, 9);
    world.tick(HOUR_MS - 1_000);
    assert_eq!(world.reasons("workflow-events"), NONE);
    world.tick(1_000);
    let text = "workflow.work_completed of request 1: found no workflow.contractor_assigned within 3600000 ms, wanted one";
    assert_eq!(world.reasons("workflow-events"), [text]);
    world.assigned(1, 9);
    assert_eq!(world.published(), NONE, "it is a dead letter");
    world.completed(1, 9);
    assert_eq!(world.published(), BOTH, "redriven, it is taken");
}

#[test]
fn a_completion_waits_for_its_request_up_to_the_limit() {
    let world = World::new();
    world.assigned(1, 9);
    world.completed(1, 9);
    world.tick(HOUR_MS);
    let text = "workflow.work_completed of request 1: found no event of it on request-events within 3600000 ms, wanted one";
    assert_eq!(world.reasons("workflow-events"), [text]);
    world.created(1);
    assert_eq!(world.published(), NONE);
}

#[test]
fn whose_completion_it_is_follows_from_the_assignments_alone() {
    for request_first in [true, false] {
        let world = World::new();
        if request_first {
            world.created(1);
        }
        world.completed(1, 9);
        world.completed(1, 8);
        world.assigned(1, 9);
        world.tick(1);
        world.assigned(1, 8);
        if !request_first {
            world.created(1);
        }
        assert_eq!(world.published(), BOTH, "accepted when 9 was the assigned one");
        let text =
            "workflow.work_completed of request 1: found contractor 8, wanted the assigned one, 9";
        assert_eq!(world.reasons("workflow-events"), [text]);
    }
}

#[test]
fn of_assignments_the_latest_by_timestamp_holds() {
    let world = World::new();
    world.created(1);
    world.assigned(1, 9);
    world.assigned_after(1, 8, -10);
    world.completed(1, 9);
    assert_eq!(world.published(), BOTH);
}

#[test]
fn only_so_many_completions_wait() {
    let world = World::new();
    for contractor in 1..=9 {
        world.completed(1, contractor);
    }
    let text = "workflow.work_completed of request 1: found 8 completions that wait for its assignment, wanted fewer";
    assert_eq!(world.reasons("workflow-events"), [text]);
    world.created(1);
    world.assigned(1, 2);
    assert_eq!(world.published(), ["1→2 completion_act", "1→2 payment_order"]);
    assert_eq!(world.reasons("workflow-events").len(), 7);
}

#[test]
fn a_contractor_gets_one_contract_ever() {
    let world = World::new();
    let first = world.verified(9);
    let HrEvent::ContractGenerated(event) = world.events().remove(0) else { panic!() };
    assert_eq!(event.contractor_id, 9);
    assert_eq!(event.contract_id, derived_id(Uuid::nil(), "contract", "9"));
    assert_eq!(event.valid_from, world.now());
    assert_eq!(event.envelope.causation_id, Some(first));
    assert_eq!(event.envelope.event_id, derived_id(first, "hr.contract_generated", "9"));
    world.security(events::rejected(9, world.fresh(), world.now()));
    world.verified(9);
    world.tick(365 * DAY_MS);
    world.verified(9);
    assert_eq!(world.published(), NONE);
    world.verified(8);
    assert_eq!(world.published(), ["contract 8"]);
}

fn with_documents() -> (World, Uuid, Uuid) {
    let world = World::new();
    world.created(1);
    world.assigned(1, 9);
    let completion = world.completed(1, 9);
    assert_eq!(world.published(), BOTH);
    (world, document(completion, "completion_act"), document(completion, "payment_order"))
}

#[test]
fn signature_and_payment_close_the_paperwork_in_any_order() {
    for signed_first in [true, false] {
        let (world, act, order) = with_documents();
        if signed_first {
            world.signed(act);
        } else {
            world.paid(order, 9, "paid");
        }
        assert_eq!(world.open(), [1]);
        if signed_first {
            world.paid(order, 9, "paid");
        } else {
            world.signed(act);
        }
        assert!(world.open().is_empty());
        world.signed(act);
        world.paid(order, 9, "paid");
        assert!(world.open().is_empty());
        assert_eq!(world.published(), NONE);
    }
}

#[test]
fn the_wrong_document_or_a_failed_payment_closes_nothing() {
    let (world, act, order) = with_documents();
    world.signed(order);
    world.paid(act, 9, "paid");
    world.paid(order, 9, "refused");
    world.signed(Uuid::nil());
    world.tick(2 * HOUR_MS);
    assert_eq!(world.open(), [1]);
    world.signed(act);
    world.paid(order, 9, "refused");
    assert_eq!(world.open(), [1]);
    world.paid(order, 9, "paid");
    assert!(world.open().is_empty());
    assert_eq!(world.reasons("hr-events"), NONE);
}

#[test]
fn a_payment_to_another_contractor_is_a_dead_letter() {
    let (world, act, order) = with_documents();
    world.signed(act);
    world.paid(order, 8, "paid");
    assert_eq!(world.open(), [1]);
    let text = format!(
        "hr.payment_processed of document {order}: found contractor 8, wanted the one of the document, 9"
    );
    assert_eq!(world.reasons("hr-events"), [text]);
}

#[test]
fn signature_and_payment_may_come_before_the_documents() {
    let world = World::new();
    let completion = id(0xab, 1);
    world.signed(document(completion, "completion_act"));
    world.paid(document(completion, "payment_order"), 9, "paid");
    world.created(1);
    world.assigned(1, 9);
    world.workflow(events::completed(1, 9, completion, world.now()));
    assert_eq!(world.published(), BOTH);
    assert!(world.open().is_empty());
    // But not for ever.
    let completion = id(0xab, 2);
    world.signed(document(completion, "completion_act"));
    world.paid(document(completion, "payment_order"), 9, "paid");
    world.tick(HOUR_MS);
    world.created(2);
    world.assigned(2, 9);
    world.workflow(events::completed(2, 9, completion, world.now()));
    assert_eq!(world.open(), [2]);
}

#[test]
fn our_own_events_change_nothing() {
    let (world, act, _) = with_documents();
    let envelope = events::of_contractor(id(0xaa, 9), "hr.contract_generated", world.now());
    let (contract_id, contractor_id, valid_from) = (act, 9, world.now());
    world.hr(HrContractGenerated { envelope, contract_id, contractor_id, valid_from }.into());
    assert_eq!(world.published(), NONE);
    assert_eq!(world.open(), [1]);
}

#[test]
fn what_is_closed_is_forgotten_after_its_retention_and_what_is_open_is_not() {
    let (world, act, order) = with_documents();
    world.created(2);
    world.cancelled(2); // never assigned
    world.assigned(3, 9); // a request that never comes
    world.created(4);
    world.assigned(4, 9);
    world.completed(4, 9); // never signed
    assert_eq!(world.remembered(), (4, 4));
    world.signed(act);
    world.paid(order, 9, "paid");
    world.tick(29 * DAY_MS);
    assert_eq!(world.remembered(), (4, 4));
    world.completed(1, 9);
    world.published();
    world.tick(DAY_MS);
    assert_eq!(world.remembered(), (1, 2), "request 4 is open, and its documents are");
    world.tick(400 * DAY_MS);
    assert_eq!((world.open(), world.remembered()), (vec![4], (1, 2)));
}

#[test]
fn a_record_whose_result_cannot_be_written_is_a_dead_letter_without_effect() {
    let world = World::new();
    let WorkflowEvent::WorkCompleted(mut event) = events::completed(1, 9, id(0xab, 1), world.now())
    else {
        unreachable!()
    };
    // With where it came from, more than a record of the repartition topic may have.
    event.completion_data.summary = "x".repeat(999_800);
    world.workflow(event.into());
    let letter = world.letters("workflow-events").remove(0);
    let headers = ErrorHeaders::read(&letter.headers);
    assert_eq!(headers.get("stage"), Some("produce"));
    assert_eq!(world.remembered(), (0, 0));
    world.created(1);
    world.assigned(1, 9);
    world.completed(1, 9);
    assert_eq!(world.published(), BOTH);
}

#[test]
fn the_text_of_the_topology_is_known() {
    let text = topology(&Settings::default()).describe();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/hr_documents.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_EXPECT=1 rewrites it");
}
