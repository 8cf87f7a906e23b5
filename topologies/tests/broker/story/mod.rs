//! 10,000 requests' lives through every topology at once, exactly once, over three kills: an independent model says from the
//! input alone what must have come out, and nothing else may have.

mod found;
mod life;
mod wanted;

use std::collections::BTreeMap;
use std::time::Duration;

use aggregator::catalog::CATALOG;
use aggregator::events::Manager;
use kstreams::serdes::Encoded;
use kstreams::{Clock, SystemClock};
use test_support::{DEADLINE, Message, Outcome, produce, wait_until};

use crate::load::{Random, registered_serdes};
use crate::site::{Instance, Site, TASKS};
use found::Found;
use life::{REGIONS, Story};
use wanted::Wanted;

const LIVES: usize = 10_000;
/// The records are written in so many parts; after each but the last the program is killed.
const PARTS: usize = 4;
/// A few commits long.
const KILL_AFTER_MAX_MS: usize = 400;
/// Longer than all is worked off with kills and restarts, and the longest that anything waits for what never comes.
const WAIT: &str = "180000";
/// Ends a hung test.
const WAVE_DEADLINE: Duration = Duration::from_secs(240);
const SEED: u64 = 20_261_121;
/// Tasks of contractor-access: for each of its subtopologies as many as it has partitions.
const ACCESS_TASKS: usize = 6 + 3 + 3 + 3 + 3;
/// The same of hr-documents.
const HR_TASKS: usize = 6 + 3 + 3 + 3 + 3 + 3 + 3;

const SETTINGS: &[(&str, &str)] = &[
    ("kafka.group_instance_id", "one"),
    ("kafka.session_timeout_ms", "10000"),
    ("contractor_access.verification_wait_ms", WAIT),
    ("contractor_access.request_wait_ms", WAIT),
    ("hr_documents.completion_wait_ms", WAIT),
    ("hr_documents.document_wait_ms", WAIT),
];

/// Every topology but the one that speaks to providers, which there are none of here.
fn topologies() -> Vec<&'static str> {
    let own = CATALOG.iter().filter(|spec| !spec.sources.contains(&"notification-commands"));
    own.map(|spec| spec.name).collect()
}

/// A manager for each region, with room for all.
fn managers() -> Vec<Message> {
    let serde = registered_serdes().managers;
    let message = |(number, region): (usize, &&str)| {
        let manager_id = number as i64 + 1;
        let manager = Manager {
            manager_id,
            name: "M".to_owned(),
            email: "m@example.org".to_owned(),
            region: (*region).to_owned(),
            capacity: 1_000_000,
            active: true,
        };
        let mut value = Vec::new();
        let encoded = serde.serializer().serialize("managers", &manager, &mut value).unwrap();
        assert_eq!(encoded, Encoded::Bytes);
        let key = Some(manager_id.to_string().into_bytes());
        Message { key, value: Some(value), ..Message::default() }
    };
    REGIONS.iter().enumerate().map(message).collect()
}

fn write(part: &BTreeMap<&'static str, Vec<Message>>) {
    for (topic, messages) in part {
        produce(topic, messages, Outcome::Plain);
    }
}

fn start(site: &Site) -> Instance {
    site.start_these("state", &topologies(), SETTINGS)
}

#[test]
fn ten_thousand_lives_end_as_the_model_says_whatever_is_killed() {
    let clock = SystemClock::default();
    let site = Site::new();
    produce("managers", &managers(), Outcome::Plain);
    let mut instance = start(&site);
    instance.process.wait_for_line("serving /metrics", DEADLINE);
    // With the tasks of the two that are checked to the last record, and so their own topics.
    wait_until("all topologies", DEADLINE, || instance.is_ready(TASKS + ACCESS_TASKS + HR_TASKS));
    let story = Story::new(SEED, LIVES, registered_serdes(), clock.now().as_millis());
    let wanted = Wanted::of(&story);
    let mut found = Found::new(&site, registered_serdes());
    let mut kills = Random(SEED ^ 1);
    let begin = clock.monotonic();
    for (number, part) in story.parts(PARTS).iter().enumerate() {
        let before = found.decided();
        write(part);
        if number + 1 == PARTS {
            break;
        }
        // In the middle of the work, wherever in its transactions it is then.
        wait_until("the part to be worked on", WAVE_DEADLINE, || {
            found.look();
            assert_eq!(instance.process.exit_status(), None, "{}", instance.process.tail());
            found.decided() > before
        });
        let kill_at =
            clock.monotonic() + Duration::from_millis(kills.below(KILL_AFTER_MAX_MS) as u64);
        wait_until("the moment of the kill", DEADLINE, || clock.monotonic() >= kill_at);
        instance.kill();
        eprintln!("killed after {:?}: {}", clock.monotonic() - begin, found.progress());
        instance = start(&site);
    }
    let (mut checked, mut reported) = (clock.monotonic(), usize::MAX);
    wait_until("all that must come", WAVE_DEADLINE * 2, || {
        found.look();
        assert_eq!(instance.process.exit_status(), None, "{}", instance.process.tail());
        // A look at everything takes a moment.
        let now = clock.monotonic();
        if now < checked + Duration::from_secs(2) {
            return false;
        }
        checked = now;
        let problems = found.problems(&story, &wanted);
        let (count, first) = (problems.len(), problems.first());
        if count < reported {
            reported = count;
            eprintln!("after {:?}: {count} to go, {first:?}; {}", now - begin, found.progress());
        }
        problems.is_empty()
    });
    instance.stop();

    let mut whole = Found::new(&site, registered_serdes());
    wait_until("the ends of all topics", WAVE_DEADLINE, || whole.look());
    let problems = whole.problems(&story, &wanted);
    let some: Vec<&String> = problems.iter().take(5).collect();
    assert!(problems.is_empty(), "{} problems: {some:#?}", problems.len());
    let (all, (decisions, ends)) = (wanted.access.len(), wanted.certain());
    eprintln!(
        "{all} assignments, {decisions} with one possible decision, {ends} with one possible end; {}",
        whole.progress()
    );
    assert!(ends * 5 > all * 4, "only {ends} of {all} ends are certain");
}
