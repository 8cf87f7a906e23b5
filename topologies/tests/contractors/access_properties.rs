//! contractor-access equals its plain model, whatever happens in whatever order.

use aggregator::contractor_access::settings::Settings;
use aggregator::events::*;
use kstreams::Timestamp;
use proptest::prelude::*;

use crate::access_model::{Event, Model, Published};
use crate::access_world::World;
use crate::events::{self, START, id};

const CASES: u32 = 1_000;
const REGIONS: [&str; 2] = ["north", "south"];
const ALLOWED: [&[&str]; 3] = [&[], &["north"], &["north", "south"]];

/// Waits, retentions and the distances of timestamps are of a kind, so that they meet.
fn settings() -> Settings {
    Settings {
        verification_wait_ms: 100,
        request_wait_ms: 60,
        closed_retention_ms: 300,
        contractor_retention_ms: 250,
        punctuation_interval_ms: 1,
        internal_partitions: 1,
    }
}

/// Time that passes, what happens then, and numbers that decide about whom, where and when.
type Step = (u16, u8, u8, u8, i8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..40_u16, 0..12_u8, 0..3_u8, 0..3_u8, -60..60_i8);
    prop::collection::vec(step, 1..60)
}

fn events(steps: &[Step]) -> Vec<(i64, Event)> {
    let mut now_ms = START.as_millis();
    let mut events: Vec<(i64, Event)> = Vec::new();
    for (number, &(passed_ms, kind, a, b, distance)) in steps.iter().enumerate() {
        now_ms += i64::from(passed_ms);
        let (id, at_ms) = (id(0xe0, number as i64), now_ms + i64::from(distance));
        let (request, contractor) = (i64::from(a), 10 + i64::from(b));
        let region = REGIONS[usize::from(b) % 2];
        let event = match kind {
            0 | 1 => Event::Known { request, revision: 1, region },
            2 => Event::Known { request, revision: 2 + i32::from(b), region },
            3 => {
                let reasons = ["request_cancelled", "request_completed", "request_closed"];
                Event::Ended { request, reason: reasons[usize::from(b)], id }
            }
            4..=7 => Event::Assigned { request, contractor, at_ms, id },
            8 => Event::Rejected { contractor, at_ms, id },
            9 | 10 => {
                let regions = ALLOWED[usize::from(a)];
                let until_ms = (distance % 3 != 0).then(|| at_ms + i64::from(distance) + 60);
                Event::Verified { contractor, regions, until_ms, at_ms, id }
            }
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
    let at = Timestamp::from_millis;
    match *event {
        Event::Known { request, revision: 1, region } => {
            world.request(events::created(request, region, now));
        }
        Event::Known { request, revision, region } => {
            world.request(events::updated(request, revision, region, now));
        }
        Event::Ended { request, reason: "request_cancelled", id } => {
            let RequestEvent::Cancelled(mut event) = events::cancelled(request, now) else {
                unreachable!()
            };
            event.envelope.event_id = id;
            world.request(event.into());
        }
        Event::Ended { request, reason: "request_completed", id } => {
            world.workflow(events::completed(request, 10, id, now));
        }
        Event::Ended { request, id, .. } => {
            let event = events::status(request, RequestStatus::Rejected, now);
            let WorkflowEvent::StatusChanged(mut event) = event else { unreachable!() };
            event.envelope.event_id = id;
            world.workflow(event.into());
        }
        Event::Assigned { request, contractor, at_ms, id } => {
            world.workflow(events::assigned(request, contractor, id, at(at_ms)));
        }
        Event::Verified { contractor, regions, until_ms, at_ms, id } => {
            let until = until_ms.map(at);
            world.security(events::verified(contractor, regions, until, id, at(at_ms)));
        }
        Event::Rejected { contractor, at_ms, id } => {
            world.security(events::rejected(contractor, id, at(at_ms)));
        }
    }
}

fn published(world: &World) -> Vec<Published> {
    let one = |(event, audit): (SecurityEvent, AuditSystemEvent)| {
        let cause = event.envelope().unwrap().causation_id.unwrap();
        let action = audit.action.strip_prefix("access.").unwrap();
        let what = format!("{action} {}", audit.details["reason"]);
        (what, audit.request_id.unwrap(), audit.contractor_id.unwrap(), cause)
    };
    world.decisions().into_iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_topology_equals_the_plain_model(steps in steps()) {
        let world = World::with(&settings());
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
            // What two tasks say at the same moment has no order.
            let (mut found, mut wanted) = (published(&world), std::mem::take(&mut model.published));
            found.sort();
            wanted.sort();
            prop_assert_eq!(found, wanted, "after {:?} at {}", event, now_ms);
        }
        prop_assert_eq!(world.grants(), model.grants());
        prop_assert_eq!(world.remembered(), model.remembered());
    }
}
