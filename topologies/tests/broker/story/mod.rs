//! 10,000 requests' lives through every topology at once, exactly once, over three kills: an independent model says from the
//! input alone what must have come out, and nothing else may have.

mod audits;
mod check;
mod found;
mod life;
mod people;
mod providers;
mod records;
mod told;
mod wanted;

use std::collections::BTreeMap;
use std::time::Duration;

use aggregator::catalog::CATALOG;
use kstreams::{Clock, SystemClock};
use test_support::{DEADLINE, Message, Outcome, produce, unread, wait_until};

use crate::load::{Random, registered_serdes};
use crate::site::{Instance, Site};
use found::Found;
use life::Story;
use providers::Providers;
use wanted::Wanted;

const LIVES: usize = 10_000;
/// The records are written in so many parts; in each but the last the program is killed.
const PARTS: usize = 4;
/// The longest that anything waits for what never comes; far longer than what comes late takes, with kills and restarts.
const WAIT: &str = "90000";
/// The same for a way to reach somebody: these are known before the story begins.
const CONTACT_WAIT: &str = "2000";
/// Messages that a deliverer's task has under way on a channel.
const IN_FLIGHT_MAX: usize = 32;
/// Its tasks that send, one for each partition, and on each of two channels.
const DELIVERY_TASKS: usize = 3 * 2;
/// Who reads of managers, and of how people are reached.
const DIRECTORIES: [(&str, &[&str]); 3] = [
    ("manager-assignment", &["managers"]),
    ("notifications", &["contacts", "managers"]),
    ("notification-delivery", &["contacts", "managers"]),
];
/// Ends a hung test.
const PART_DEADLINE: Duration = Duration::from_secs(120);
/// From the last record on: longer than the longest wait.
const END_DEADLINE: Duration = Duration::from_secs(240);
const SEED: u64 = 20_261_121;

const SETTINGS: &[(&str, &str)] = &[
    ("kafka.group_instance_id", "one"),
    ("kafka.session_timeout_ms", "10000"),
    ("contractor_access.verification_wait_ms", WAIT),
    ("contractor_access.request_wait_ms", WAIT),
    ("hr_documents.completion_wait_ms", WAIT),
    ("hr_documents.document_wait_ms", WAIT),
    ("notifications.facts_wait_ms", WAIT),
    ("notifications.contact_wait_ms", CONTACT_WAIT),
];

/// The program with every topology, over all its lives.
struct Program<'a> {
    site: &'a Site,
    providers: &'a Providers,
    now: Instance,
}

impl<'a> Program<'a> {
    fn start(site: &'a Site, providers: &'a Providers) -> Self {
        Self { site, providers, now: Self::instance(site, providers) }
    }

    fn instance(site: &Site, providers: &Providers) -> Instance {
        let mut of_providers = providers.settings();
        of_providers.push(("delivery.in_flight_max", IN_FLIGHT_MAX.to_string()));
        let of_providers = of_providers.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<_> = SETTINGS.iter().copied().chain(of_providers).collect();
        let topologies: Vec<&str> = CATALOG.iter().map(|spec| spec.name).collect();
        site.start_these("state", &topologies, &settings)
    }

    fn kill(&mut self) {
        self.now.kill();
        self.now = Self::instance(self.site, self.providers);
    }

    fn assert_runs(&mut self) {
        assert_eq!(self.now.process.exit_status(), None, "{}", self.now.process.tail());
    }

    /// Whether everybody is known: what the topologies make of it lies before the story in their internal topics then.
    fn knows_everybody(&self) -> bool {
        let has_read = |(topology, topics): &(&str, &[&str])| {
            let group = self.site.topic_of(topology, "");
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            unread(group.trim_end_matches('-'), &topics) == 0
        };
        DIRECTORIES.iter().all(has_read)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last lines of the program:\n{}", self.now.process.tail());
        }
    }
}

fn write(part: &BTreeMap<&'static str, Vec<Message>>) {
    for (topic, messages) in part {
        produce(topic, messages, Outcome::Plain);
    }
}

#[test]
fn ten_thousand_lives_end_as_the_model_says_whatever_is_killed() {
    let clock = SystemClock::default();
    let begin = clock.monotonic();
    let (site, providers) = (Site::new(), Providers::start());
    produce("managers", &people::managers(), Outcome::Plain);
    produce("contacts", &people::contacts(LIVES), Outcome::Plain);
    let mut program = Program::start(&site, &providers);
    wait_until("all topologies", DEADLINE * 2, || program.now.is_ready(1));
    wait_until("managers and contacts to be known", DEADLINE, || program.knows_everybody());
    let story = Story::new(SEED, LIVES, registered_serdes(), clock.now().as_millis());
    let wanted = Wanted::of(&story);
    let mut found = Found::new(&site, registered_serdes());
    let mut kills = Random(SEED ^ 1);
    let told = || clock.monotonic() - begin;
    eprintln!("the story begins after {:?}", told());
    for (number, part) in story.records.parts(PARTS).iter().enumerate() {
        let (before, records) = (found.decisions(), part.values().map(Vec::len).sum::<usize>());
        write(part);
        if number + 1 == PARTS {
            break;
        }
        // In the middle of the work: when so many decisions of this part have been made, wherever it is then in its transactions.
        let at = before + 1 + kills.below(records / 20);
        wait_until("the part to be worked on", PART_DEADLINE, || {
            found.look();
            program.assert_runs();
            found.decisions() >= at
        });
        program.kill();
        eprintln!("killed after {:?}: {}", told(), found.progress());
    }
    let deadline = told() + END_DEADLINE;
    let (mut seen, mut quiet_since) = (0, told());
    wait_until("all that must come", END_DEADLINE * 2, || {
        found.look();
        program.assert_runs();
        let all = found.audit.read.len() + found.commands.read.len();
        if all != seen {
            (seen, quiet_since) = (all, told());
        }
        let is_quiet = told() > quiet_since + Duration::from_secs(3);
        is_quiet && (check::problems(&story, &wanted, &found).is_empty() || told() > deadline)
    });
    eprintln!("settled after {:?}: {}", told(), found.progress());
    drop(found);
    program.now.stop();

    let mut whole = Found::new(&site, registered_serdes());
    wait_until("the ends of all topics", DEADLINE, || whole.look());
    let problems = check::problems(&story, &wanted, &whole);
    // Of every kind, as they stand one after the other.
    let some: Vec<&String> = problems.iter().step_by(problems.len() / 10 + 1).collect();
    assert!(problems.is_empty(), "{} problems: {some:#?}", problems.len());
    let again = providers.check(whole.sent().map(|(id, channel, _)| (id, channel)));
    let claimed_max = (PARTS - 1) * DELIVERY_TASKS * IN_FLIGHT_MAX;
    assert!(
        again <= claimed_max,
        "{again} messages arrived once more, at most {claimed_max} were under way"
    );
    let (all, (decisions, ends)) = (wanted.access.len(), wanted.certain());
    eprintln!(
        "{all} assignments, {decisions} with one possible decision, {ends} with one possible end; {}; {:?}",
        whole.progress(),
        told()
    );
    assert!(ends * 5 > all * 4, "only {ends} of {all} ends are certain");
}
