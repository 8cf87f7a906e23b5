//! Random records against a plain model: one audit event each, and figures that add up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::WATCHED;
use super::driver_tests::{LETTERS, World, failed};
use crate::events::RequestStatus;
use crate::notifications::sample;

const CASES: u32 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Created(i64),
    Assigned(i64),
    Completed(i64),
    Status(i64),
    Revoked(i64),
    Paid(i64),
    Failed(Option<i64>),
    Letter { topic: usize },
    Garbage { topic: usize },
    Advance { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..9i64).prop_map(Step::Created),
        (1..9i64).prop_map(Step::Assigned),
        (1..9i64).prop_map(Step::Completed),
        (1..9i64).prop_map(Step::Status),
        (1..9i64).prop_map(Step::Revoked),
        (1..9i64).prop_map(Step::Paid),
        prop::option::of(1..9i64).prop_map(Step::Failed),
        (0..WATCHED.len()).prop_map(|topic| Step::Letter { topic }),
        (0..WATCHED.len()).prop_map(|topic| Step::Garbage { topic }),
        prop_oneof![1..3_000u64, 20_000..200_000u64].prop_map(|ms| Step::Advance { ms }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Kind, entity and actor that a step shall be reported with, and the topic that it counts for.
fn expected(step: &Step) -> Option<(&'static str, String, String, &'static str)> {
    let request = |id: &i64| format!("request:{id}");
    let service = || "service:test".to_owned();
    Some(match step {
        Step::Created(id) => ("user", request(id), "customer:5".to_owned(), "request-events"),
        Step::Assigned(id) => ("system", request(id), service(), "workflow-events"),
        Step::Completed(id) => ("user", request(id), "contractor:9".to_owned(), "workflow-events"),
        Step::Status(id) => ("system", request(id), service(), "workflow-events"),
        Step::Revoked(_) => ("system", request(&1), service(), "security-events"),
        Step::Paid(id) => ("system", format!("contractor:{id}"), service(), "hr-events"),
        Step::Failed(id) => {
            let entity = id.as_ref().map_or_else(|| "contractor:9".to_owned(), request);
            ("error", entity, service(), "notification-events")
        }
        Step::Letter { topic } => {
            let service = || "service:somebody".to_owned();
            ("error", service(), service(), WATCHED[*topic])
        }
        Step::Garbage { topic: 0 } => ("error", "service:test".to_owned(), service(), WATCHED[0]),
        // Its letter is on a topic that is not read in this test.
        Step::Garbage { .. } | Step::Advance { .. } => return None,
    })
}

fn pipe(world: &World, number: u64, step: &Step) {
    match step {
        Step::Created(id) => world.pipe(sample::created(number, *id, 5)),
        Step::Assigned(id) => world.pipe(sample::manager_assigned(number, *id, 7, 1)),
        Step::Completed(id) => world.pipe(sample::completed(number, *id, 9)),
        Step::Status(id) => world.pipe(sample::status(number, *id, RequestStatus::Closed)),
        Step::Revoked(id) => world.pipe(sample::revoked(number, *id)),
        Step::Paid(id) => world.pipe(sample::payment(number, *id)),
        Step::Failed(id) => world.notification(failed(number, *id)),
        Step::Letter { topic } => {
            let headers = [("topic", WATCHED[*topic]), ("application.id", "somebody")];
            world.letter(LETTERS, &headers, Some(b"?"));
        }
        Step::Garbage { topic } => {
            let headers = kstreams::Headers::default();
            world
                .driver
                .pipe_raw(WATCHED[*topic], Some(b"k"), Some(b"?"), world.driver.now(), headers)
                .unwrap();
        }
        Step::Advance { ms } => world.tick(*ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_audited_once_and_figures_add_up(steps in steps()) {
        let world = World::new();
        let mut counted: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        let mut reported: BTreeMap<(String, String), f64> = BTreeMap::new();
        for (number, step) in (0u64..).zip(&steps) {
            pipe(&world, number, step);
            let mut found = Vec::new();
            for audit in world.audited() {
                match audit.figure {
                    Some((name, value)) => {
                        *reported.entry((audit.place.0, name)).or_default() += value;
                    }
                    None => found.push((audit.kind, audit.entity, audit.actor)),
                }
            }
            let expected = expected(step);
            if let Some((kind, _, _, topic)) = &expected {
                let is_event = !matches!(step, Step::Letter { .. } | Step::Garbage { .. });
                *counted.entry((topic, "events_per_second")).or_default() += f64::from(is_event);
                *counted.entry((topic, "failures")).or_default() += f64::from(*kind == "error");
            }
            let expected: Vec<_> = expected.into_iter().map(|(k, e, a, _)| (k, e, a)).collect();
            prop_assert_eq!(found, expected, "{:?}", step);
        }
        // Twice: what was under way when the first window ended is in the second.
        for _ in 0..2 {
            world.tick(65_000);
            for audit in world.audited() {
                if let Some((name, value)) = audit.figure {
                    *reported.entry((audit.place.0, name)).or_default() += value;
                }
            }
        }
        for ((topic, name), count) in counted {
            let per_window = if name == "failures" { 1.0 } else { 60.0 };
            let sum = reported.get(&(topic.to_owned(), name.to_owned())).copied().unwrap_or(0.0);
            prop_assert!((sum * per_window - count).abs() < 1e-6, "{topic} {name}: {sum}, {count}");
        }
    }
}
