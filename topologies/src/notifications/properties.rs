//! Random events against a plain model that knows the whole history and keeps no state of its own design.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::cases::Case;
use super::sample::*;
use super::settings::Settings;
use crate::events::{DocumentType, RequestStatus};

const CASES: u32 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Created { id: i64, customer: i64 },
    Updated { id: i64, customer: i64, revision: i32 },
    Cancelled { id: i64, customer: i64 },
    Assigned { id: i64, manager: i64, attempt: i32 },
    Taken { id: i64, contractor: i64, by: i64 },
    Completed { id: i64 },
    Revoked { contractor: i64 },
    Act { customer: i64 },
    Status { id: i64 },
    Contact { who: usize, channels: u8 },
    NoContact { who: usize },
    Manager { id: i64 },
    Repeat(Index),
    Advance { ms: u64 },
}

const PEOPLE: [&str; 5] = ["customer:1", "customer:2", "contractor:1", "manager:1", "manager:2"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..4i64, 1..3i64).prop_map(|(id, customer)| Step::Created { id, customer }),
        2 => (1..4i64, 1..3i64, 2..5i32)
            .prop_map(|(id, customer, revision)| Step::Updated { id, customer, revision }),
        2 => (1..4i64, 1..3i64).prop_map(|(id, customer)| Step::Cancelled { id, customer }),
        3 => (1..4i64, 1..3i64, 1..4i32)
            .prop_map(|(id, manager, attempt)| Step::Assigned { id, manager, attempt }),
        3 => (1..4i64, 1..2i64, 1..3i64)
            .prop_map(|(id, contractor, by)| Step::Taken { id, contractor, by }),
        3 => (1..4i64).prop_map(|id| Step::Completed { id }),
        1 => Just(Step::Revoked { contractor: 1 }),
        1 => (1..3i64).prop_map(|customer| Step::Act { customer }),
        1 => (1..4i64).prop_map(|id| Step::Status { id }),
        5 => (0..PEOPLE.len(), 0..8u8).prop_map(|(who, channels)| Step::Contact { who, channels }),
        1 => (0..PEOPLE.len()).prop_map(|who| Step::NoContact { who }),
        2 => (1..3i64).prop_map(|id| Step::Manager { id }),
        3 => any::<Index>().prop_map(Step::Repeat),
        4 => prop_oneof![0..5_000u64, 0..70_000u64].prop_map(|ms| Step::Advance { ms }),
    ];
    prop::collection::vec(step, 1..60)
}

fn channels(bits: u8) -> String {
    ['e', 't', 's']
        .into_iter()
        .zip(0..)
        .filter(|(_, bit)| bits & (1 << bit) != 0)
        .map(|(c, _)| c)
        .collect()
}

fn input(number: u64, step: &Step) -> Option<Input> {
    Some(match step {
        Step::Created { id, customer } => created(number, *id, *customer),
        Step::Updated { id, customer, revision } => updated(number, *id, *customer, *revision),
        Step::Cancelled { id, customer } => cancelled(number, *id, *customer),
        Step::Assigned { id, manager, attempt } => {
            manager_assigned(number, *id, *manager, *attempt)
        }
        Step::Taken { id, contractor, by } => contractor_assigned(number, *id, *contractor, *by),
        Step::Completed { id } => completed(number, *id, 1),
        Step::Revoked { contractor } => revoked(number, *contractor),
        Step::Act { customer } => document(number, DocumentType::CompletionAct, 1, *customer),
        Step::Status { id } => status(number, *id, RequestStatus::Closed),
        Step::Contact { who, channels: bits } => contact(PEOPLE[*who], &channels(*bits), "en"),
        Step::NoContact { who } => Input::Contact(PEOPLE[*who].to_owned(), None),
        Step::Manager { id } => manager(*id, "desk@example.org"),
        Step::Repeat(_) | Step::Advance { .. } => return None,
    })
}

/// A notification that is wanted, from its event until it is settled.
#[derive(Debug, Clone)]
struct Wanted {
    number: u64,
    case: Case,
    /// The request, for those that need facts of it.
    request: Option<i64>,
    named: Option<String>,
    is_managers: bool,
    asked_at: u64,
    /// With recipient and title, once it is on its way to the recipient; and since when.
    noticed: Option<(String, String, u64)>,
}

#[derive(Default)]
struct Model {
    now: u64,
    settings: Settings,
    /// Number and step, as they came.
    history: Vec<(u64, Step)>,
    wanted: Vec<Wanted>,
    made: BTreeSet<(u64, Case, String)>,
    lines: Vec<String>,
}

impl Model {
    fn customer(&self, id: i64) -> Option<i64> {
        let submitted = self.submission(id).map(|(_, customer)| customer);
        let said = self.history.iter().find_map(|(_, step)| match step {
            Step::Cancelled { id: of, customer } if *of == id => Some(*customer),
            _ => None,
        });
        submitted.or(said)
    }

    /// Revision and customer of the newest revision; of equal ones the first holds.
    fn submission(&self, id: i64) -> Option<(i32, i64)> {
        let mut best: Option<(i32, i64)> = None;
        for (_, step) in &self.history {
            let found = match step {
                Step::Created { id: of, customer } if *of == id => (1, *customer),
                Step::Updated { id: of, customer, revision } if *of == id => (*revision, *customer),
                _ => continue,
            };
            if best.is_none_or(|best| found.0 > best.0) {
                best = Some(found);
            }
        }
        best
    }

    fn manager(&self, id: i64) -> Option<i64> {
        let mut best: Option<(i32, i64)> = None;
        for (_, step) in &self.history {
            let found = match step {
                Step::Assigned { id: of, manager, attempt } if *of == id => (*attempt, *manager),
                Step::Taken { id: of, by, .. } if *of == id => (0, *by),
                _ => continue,
            };
            if best.is_none_or(|best| found.0 > best.0) {
                best = Some(found);
            }
        }
        best.map(|(_, manager)| manager)
    }

    fn channel(&self, recipient: &str, case: Case) -> Option<&'static str> {
        let mut has: String = String::new();
        let mut desk = false;
        for (_, step) in &self.history {
            match step {
                Step::Contact { who, channels: bits } if PEOPLE[*who] == recipient => {
                    has = channels(*bits);
                }
                Step::NoContact { who } if PEOPLE[*who] == recipient => has.clear(),
                Step::Manager { id } if format!("manager:{id}") == recipient => desk = true,
                _ => {}
            }
        }
        if desk && !has.contains('e') {
            has.push('e');
        }
        let wanted = case.channel().as_str();
        let order = [wanted, "email", "sms", "telegram"];
        order.into_iter().find(|channel| has.contains(&channel[..1]))
    }

    fn ask(&mut self, number: u64, step: &Step) {
        let mut want = |case, request, named: Option<String>, is_managers| {
            let asked_at = self.now;
            self.wanted.push(Wanted {
                number,
                case,
                request,
                named,
                is_managers,
                asked_at,
                noticed: None,
            });
        };
        match step {
            Step::Created { id, .. } => want(Case::RequestCreated, Some(*id), None, false),
            Step::Cancelled { id, .. } => want(Case::RequestCancelled, Some(*id), None, false),
            Step::Assigned { id, manager, .. } => {
                want(Case::ManagerAssigned, Some(*id), Some(format!("manager:{manager}")), true);
            }
            Step::Taken { id, contractor, .. } => {
                want(Case::JobAssigned, Some(*id), Some(format!("contractor:{contractor}")), false);
                want(Case::ContractorFound, Some(*id), None, false);
            }
            Step::Completed { id } => {
                want(Case::WorkCompleted, Some(*id), None, false);
                want(Case::WorkReport, Some(*id), None, true);
            }
            Step::Revoked { contractor } => {
                want(Case::AccessRevoked, None, Some(format!("contractor:{contractor}")), false);
            }
            Step::Act { customer } => {
                want(Case::CompletionAct, None, Some(format!("customer:{customer}")), false);
            }
            _ => {}
        }
    }

    /// Settles what can be settled; `is_tick`: what has waited long enough, too.
    fn settle(&mut self, is_tick: bool) {
        let mut left = Vec::new();
        for mut wanted in std::mem::take(&mut self.wanted) {
            if wanted.noticed.is_none() && !self.notice(&mut wanted, is_tick) {
                continue;
            }
            if self.is_settled(&wanted, is_tick) {
                continue;
            }
            left.push(wanted);
        }
        self.wanted = left;
    }

    /// Finds recipient and title; `false` where nobody is ever told.
    fn notice(&mut self, wanted: &mut Wanted, is_tick: bool) -> bool {
        let recipient = match (&wanted.named, wanted.request) {
            (Some(named), _) => Some(named.clone()),
            (None, Some(id)) if wanted.is_managers => {
                self.manager(id).map(|id| format!("manager:{id}"))
            }
            (None, Some(id)) => self.customer(id).map(|id| format!("customer:{id}")),
            (None, None) => None,
        };
        let submission = wanted.request.and_then(|id| self.submission(id));
        let title = match (wanted.request, submission) {
            (None, _) => Some("-".to_owned()),
            // It has its own.
            _ if wanted.case == Case::RequestCreated => Some("t1".to_owned()),
            (_, Some((revision, _))) => Some(format!("t{revision}")),
            _ => None,
        };
        let is_over = is_tick && self.now >= wanted.asked_at + self.settings.facts_wait_ms;
        let (recipient, title) = match (recipient, title, is_over) {
            (Some(recipient), Some(title), _) => (recipient, title),
            (Some(recipient), None, true) => (recipient, String::new()),
            (None, _, true) => {
                let nobody = format!("request:{}", wanted.request.unwrap());
                if self.made.insert((wanted.number, wanted.case, nobody.clone())) {
                    self.lines.push(format!("{nobody} failed {}", wanted.case.template()));
                }
                return false;
            }
            _ => return true,
        };
        let is_new = self.made.insert((wanted.number, wanted.case, recipient.clone()));
        wanted.noticed = Some((recipient, title, self.now));
        is_new
    }

    fn is_settled(&mut self, wanted: &Wanted, is_tick: bool) -> bool {
        let Some((recipient, title, since)) = &wanted.noticed else { return false };
        let template = wanted.case.template();
        if let Some(channel) = self.channel(recipient, wanted.case) {
            // The managers topic names no language.
            let last = self.history.iter().rev().find_map(|(_, step)| match step {
                Step::Contact { who, .. } if PEOPLE[*who] == recipient => Some("en"),
                Step::NoContact { who } if PEOPLE[*who] == recipient => Some("ru"),
                _ => None,
            });
            let locale = last.unwrap_or("ru");
            let title = if template == "completion_act" { "-" } else { title };
            self.lines.push(format!("{recipient} {channel} {locale} {template} \"{title}\""));
            return true;
        }
        let is_over = is_tick && self.now >= since + self.settings.contact_wait_ms;
        if is_over {
            self.lines.push(format!("{recipient} failed {template}"));
        }
        is_over
    }

    fn apply(&mut self, number: u64, step: &Step) {
        let told = |(_, known): &(u64, Step)| matches!((known, step), (Step::Created { id, .. }, Step::Created { id: of, .. }) if id == of);
        let is_repeated = self.history.iter().any(told);
        if !is_repeated {
            self.ask(number, step);
        }
        self.history.push((number, step.clone()));
        self.settle(false);
    }

    fn told(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.sort();
        lines
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn the_topology_equals_the_plain_model(steps in steps()) {
        let settings = Settings {
            facts_wait_ms: 20_000,
            contact_wait_ms: 50_000,
            punctuation_interval_ms: 1,
            ..Settings::default()
        };
        let world = World::new(&settings);
        let mut model = Model { settings, ..Model::default() };
        let mut past: Vec<(u64, Step)> = Vec::new();
        for (number, step) in (0u64..).zip(steps) {
            let passed = if let Step::Advance { ms } = step { ms + 1 } else { 1 };
            model.now += passed;
            model.settle(true);
            world.tick(passed);
            prop_assert_eq!(world.told(), model.told(), "tick at step {}", number);
            let (number, step) = match step {
                Step::Repeat(_) if past.is_empty() => continue,
                Step::Repeat(index) => index.get(&past).clone(),
                step => (number, step),
            };
            if let Some(input) = input(number, &step) {
                past.push((number, step.clone()));
                model.apply(number, &step);
                world.pipe(input);
                prop_assert_eq!(world.told(), model.told(), "step {}: {:?}", number, step);
            }
        }
        let made: BTreeMap<_, _> = model.made.iter().map(|made| (made, ())).collect();
        prop_assert!(made.len() <= past.len() * 2);
    }
}
