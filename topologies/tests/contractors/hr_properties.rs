//! hr-documents equals its plain model, whatever happens in whatever order.

use aggregator::events::*;
use aggregator::hr_documents::settings::Settings;
use kstreams::Timestamp;
use kstreams::serdes::Serde;
use proptest::prelude::*;
use uuid::Uuid;

use crate::events::{self, START, document, id, serdes_for_tests};
use crate::hr_model::{Event, Model};
use crate::hr_world::World;

const CASES: u32 = 1_000;

/// Waits, retentions and the distances of events are of a kind, so that they meet.
fn settings() -> Settings {
    Settings {
        completion_wait_ms: 100,
        document_wait_ms: 80,
        closed_retention_ms: 300,
        punctuation_interval_ms: 1,
        internal_partitions: 1,
        ..Settings::default()
    }
}

/// Time that passes, what happens then, and numbers that decide about whom and when.
type Step = (u16, u8, u8, u8, i8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..40_u16, 0..14_u8, 0..3_u8, 0..3_u8, -60..60_i8);
    prop::collection::vec(step, 1..60)
}

fn events(steps: &[Step]) -> Vec<(i64, Event)> {
    let mut now_ms = START.as_millis();
    let mut events: Vec<(i64, Event)> = Vec::new();
    let mut completions: Vec<Uuid> = Vec::new();
    for (number, &(passed_ms, kind, a, b, distance)) in steps.iter().enumerate() {
        now_ms += i64::from(passed_ms);
        let (id, at_ms) = (id(0xe1, number as i64), now_ms + i64::from(distance));
        let (request, contractor) = (i64::from(a), 10 + i64::from(b));
        // One that was, or the next one that will be.
        let pick = (number * 5 + usize::from(b)) % (completions.len() + 1);
        let of = completions.get(pick).copied().unwrap_or(events::id(0xe1, number as i64 + 3));
        let event = match kind {
            0 | 1 => Event::Known { request, cancelled: b == 0 },
            2 => Event::Final { request },
            3..=5 => Event::Assigned { request, contractor, at_ms, id },
            6..=8 => {
                completions.push(id);
                Event::Completed { request, contractor, id }
            }
            9 | 10 => {
                let kind = if a == 0 { "payment_order" } else { "completion_act" };
                Event::Signed { document: document(of, kind), id }
            }
            11 | 12 => {
                let kind = if a == 0 { "completion_act" } else { "payment_order" };
                let failed = distance > 40;
                Event::Paid { document: document(of, kind), contractor, failed, id }
            }
            _ if distance > 20 => Event::Verified { contractor, id },
            _ if events.is_empty() => continue,
            // Once more, some time later.
            _ => events[(number * 7 + usize::from(a)) % events.len()].1.clone(),
        };
        events.push((now_ms, event));
    }
    events
}

fn pipe(world: &World, event: &Event) {
    let now = world.now();
    match *event {
        Event::Known { request, cancelled: true } => world.cancelled(request),
        Event::Known { request, .. } => world.created(request),
        Event::Final { request } => {
            world.workflow(events::status(request, RequestStatus::Closed, now));
        }
        Event::Assigned { request, contractor, at_ms, id } => {
            let at = Timestamp::from_millis(at_ms);
            world.workflow(events::assigned(request, contractor, id, at));
        }
        Event::Completed { request, contractor, id } => {
            world.workflow(events::completed(request, contractor, id, now));
        }
        Event::Signed { document, id } => world.hr(events::signed(document, id, now)),
        Event::Paid { document, contractor, failed, id } => {
            let status = if failed { "refused" } else { "paid" };
            world.hr(events::paid(document, contractor, status, id, now));
        }
        Event::Verified { contractor, id } => {
            world.security(events::verified(contractor, &[], None, id, now));
        }
    }
}

fn published(world: &World) -> Vec<(Uuid, String)> {
    let one = |event: HrEvent| {
        let cause = event.envelope().unwrap().causation_id.unwrap();
        match event {
            HrEvent::DocumentCreated(e) => (cause, e.document_type.to_string()),
            HrEvent::ContractGenerated(_) => (cause, "contract".to_owned()),
            other => panic!("{other:?}"),
        }
    };
    world.events().into_iter().map(one).collect()
}

fn letters<E: TopicEvent>(world: &World, serde: &Serde<E>) -> Vec<Uuid> {
    let letters = world.letters(E::TOPIC).into_iter();
    let event = |letter: kstreams::RawRecord| {
        let value = letter.value.as_ref();
        serde.deserializer().deserialize(E::TOPIC, &letter.headers, value).unwrap()
    };
    letters.map(|letter| event(letter).envelope().unwrap().event_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_topology_equals_the_plain_model(steps in steps()) {
        let (serdes, world) = (serdes_for_tests(), World::with(&settings()));
        let mut model = Model::new(settings());
        let mut last_ms = START.as_millis();
        model.tick(last_ms);
        for (now_ms, event) in events(&steps) {
            if now_ms > last_ms {
                world.tick((now_ms - last_ms) as u64);
                model.tick(now_ms);
                last_ms = now_ms;
            }
            pipe(&world, &event);
            model.apply(&event);
            prop_assert_eq!(published(&world), std::mem::take(&mut model.published), "after {:?} at {}", event, now_ms);
            let mut found = letters(&world, &serdes.workflow);
            found.extend(letters(&world, &serdes.hr));
            let mut wanted = std::mem::take(&mut model.letters);
            found.sort();
            wanted.sort();
            prop_assert_eq!(found, wanted, "letters after {:?} at {}", event, now_ms);
            prop_assert_eq!(world.open(), model.open(), "open after {:?} at {}", event, now_ms);
        }
        prop_assert_eq!(world.remembered(), model.remembered());
    }
}
