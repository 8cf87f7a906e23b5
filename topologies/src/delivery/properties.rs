//! Random commands, contacts and answers: order, limits, and that each message ends once, as a plain model says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::driver_tests::{World, settings};
use super::rules::{Reason, Verdict};
use super::settings::Settings;
use crate::events::{Channel, NotificationEvent};

const CASES: u32 = 1_000;
const ATTEMPTS_MAX: u32 = 3;
const IN_FLIGHT_MAX: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Command { who: u64, channel: Channel },
    Again(Index),
    Contact { who: u64, channels: u8 },
    Answer { which: Index, verdict: u8 },
    Suspend,
    Advance { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = prop::sample::select(vec![Channel::Email, Channel::Telegram, Channel::Sms]);
    let step = prop_oneof![
        6 => (1..5u64, channel).prop_map(|(who, channel)| Step::Command { who, channel }),
        2 => any::<Index>().prop_map(Step::Again),
        2 => (1..5u64, 0..8u8).prop_map(|(who, channels)| Step::Contact { who, channels }),
        8 => (any::<Index>(), 0..10u8).prop_map(|(which, verdict)| Step::Answer { which, verdict }),
        1 => Just(Step::Suspend),
        6 => prop_oneof![20..200u64, 1_000..20_000u64].prop_map(|ms| Step::Advance { ms }),
    ];
    prop::collection::vec(step, 1..60)
}

fn verdict(number: u8) -> Verdict {
    let later =
        |reason, retry_after_ms| Verdict::Later { reason, error: "no".to_owned(), retry_after_ms };
    match number {
        0..=2 => Verdict::Sent(None),
        3 => Verdict::Refused("never".to_owned()),
        4..=5 => later(Reason::Message, None),
        6..=7 => later(Reason::Provider, None),
        8 => later(Reason::Unreachable, None),
        _ => later(Reason::Throttled, Some(3_000)),
    }
}

/// What a message must end as, given all answers to it so far: `None` while it must not have ended yet.
fn end(answers: &[Verdict]) -> Option<&'static str> {
    let mut attempts = 0;
    for answer in answers {
        match answer {
            Verdict::Sent(_) => return Some("sent"),
            Verdict::Refused(_) => return Some("refused"),
            Verdict::Later { reason: Reason::Message | Reason::Provider, .. } => attempts += 1,
            Verdict::Later { .. } => {}
        }
        if attempts == ATTEMPTS_MAX {
            return Some("exhausted");
        }
    }
    None
}

#[derive(Default)]
struct Model {
    /// Who each message is for, in the order of the commands.
    asked: BTreeMap<u128, u64>,
    answers: BTreeMap<u128, Vec<Verdict>>,
    ended: BTreeMap<u128, &'static str>,
    /// First handing over of a message, by recipient and channel.
    order: BTreeMap<String, Vec<u128>>,
}

impl Model {
    fn look(&mut self, world: &World) -> Result<(), TestCaseError> {
        let mut lanes = BTreeSet::new();
        let mut channels: BTreeMap<Channel, usize> = BTreeMap::new();
        for parcel in world.courier.parcels() {
            let id = parcel.message.id.as_u128();
            let lane = format!("{} {}", parcel.recipient, parcel.address.channel());
            prop_assert!(lanes.insert(lane.clone()), "two messages of {lane} are under way");
            *channels.entry(parcel.address.channel()).or_default() += 1;
            prop_assert!(!self.ended.contains_key(&id), "{id} was settled, and is sent");
            let answers = self.answers.get(&id).map_or(&[][..], Vec::as_slice);
            prop_assert_eq!(end(answers), None, "{} is sent after its end", id);
            let seen = self.order.entry(lane).or_default();
            if !seen.contains(&id) {
                seen.push(id);
            }
        }
        prop_assert!(channels.values().all(|count| *count <= IN_FLIGHT_MAX), "{channels:?}");
        for event in world.events() {
            let (id, how) = match event {
                NotificationEvent::EmailSent(e) => (e.notification_id, "sent"),
                NotificationEvent::TelegramSent(e) => (e.notification_id, "sent"),
                NotificationEvent::SmsSent(e) => (e.notification_id, "sent"),
                NotificationEvent::Failed(e) if e.error.starts_with("no way") => {
                    prop_assert!(e.permanent);
                    (e.notification_id, "unreachable")
                }
                NotificationEvent::Failed(e) if e.permanent => (e.notification_id, "refused"),
                NotificationEvent::Failed(e) if e.error.starts_with("given up") => {
                    (e.notification_id, "given up")
                }
                NotificationEvent::Failed(e) => (e.notification_id, "exhausted"),
                NotificationEvent::Unknown => return Err(TestCaseError::fail("unknown event")),
            };
            let id = id.as_u128();
            prop_assert!(self.asked.contains_key(&id));
            prop_assert!(self.ended.insert(id, how).is_none(), "{id} ended twice");
            if !["unreachable", "given up"].contains(&how) {
                prop_assert_eq!(end(&self.answers[&id]), Some(how), "{}", id);
            }
        }
        Ok(())
    }
}

fn quick() -> Settings {
    Settings {
        attempts_max: ATTEMPTS_MAX,
        in_flight_max: IN_FLIGHT_MAX,
        backoff_min_ms: 100,
        backoff_max_ms: 1_000,
        contact_wait_ms: 30_000,
        give_up_after_ms: 3_600_000,
        circuit_failures: 2,
        circuit_open_min_ms: 500,
        circuit_open_max_ms: 5_000,
        drain_timeout_ms: 1,
        ..settings()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn each_message_ends_once_in_order_and_within_limits(steps in steps()) {
        let world = World::new(&quick());
        let mut model = Model::default();
        let mut commands: Vec<(u128, u64, Channel)> = Vec::new();
        // Recipients whose contact changed while messages were there: those may have gone to other channels and come back.
        let mut moved: BTreeSet<u64> = BTreeSet::new();
        for (number, step) in (1u128..).zip(steps) {
            match step {
                Step::Command { who, channel } => {
                    commands.push((number, who, channel));
                    model.asked.insert(number, who);
                    world.command(number, who, channel);
                }
                Step::Again(index) if !commands.is_empty() => {
                    let (id, who, channel) = *index.get(&commands);
                    world.command(id, who, channel);
                }
                Step::Contact { who, channels } => {
                    moved.extend(commands.iter().map(|(_, who, _)| *who).filter(|of| *of == who));
                    let has = ["e", "t", "s"].into_iter().zip(0..);
                    let has: String =
                        has.filter(|(_, bit)| channels & (1 << bit) != 0).map(|(c, _)| c).collect();
                    world.contact(who, &has);
                }
                Step::Answer { which, verdict: number } => {
                    let parcels = world.courier.parcels();
                    if !parcels.is_empty() {
                        let id = which.get(&parcels).message.id.as_u128();
                        model.answers.entry(id).or_default().push(verdict(number));
                        world.courier.answer(id, verdict(number));
                    }
                }
                Step::Suspend => world.driver.suspend().unwrap(),
                Step::Again(_) => {}
                Step::Advance { ms } => world.tick(ms),
            }
            model.look(&world)?;
        }
        // Everybody can be reached, and every provider works: whatever is left must end.
        (1..5).for_each(|who| world.contact(who, "ets"));
        for _ in 0..400 {
            if model.ended.len() == model.asked.len() {
                break;
            }
            for parcel in world.courier.parcels() {
                let id = parcel.message.id.as_u128();
                model.answers.entry(id).or_default().push(Verdict::Sent(None));
                world.courier.answer(id, Verdict::Sent(None));
            }
            world.tick(400);
            model.look(&world)?;
        }
        prop_assert_eq!(model.ended.len(), model.asked.len());
        prop_assert!(world.courier.parcels().is_empty());
        // Messages that never changed their channel came in the order of their commands.
        let wanted: BTreeMap<u128, (u64, Channel)> =
            commands.iter().map(|(id, who, channel)| (*id, (*who, *channel))).collect();
        for (lane, ids) in &model.order {
            let own = |id: &&u128| {
                let (who, channel) = wanted[*id];
                lane.ends_with(channel.as_str()) && !moved.contains(&who)
            };
            let own: Vec<&u128> = ids.iter().filter(own).collect();
            prop_assert!(own.is_sorted(), "{lane}: {own:?}");
        }
    }
}
