//! Each rule of choice, waiting, escalation, release and hand-over, on one region's task.

use super::by_region::RegionRules;
use super::rules::{Priority, RegionInput, RegionOutput, RequestId, Returned, Terms, Ticket};
use super::sample::{MemoryState, terms, ticket};
use super::settings::Settings;

const MINUTE_MS: i64 = 60_000;

/// One task with the region "north"; decisions come out as short text.
struct Task {
    settings: Settings,
    state: MemoryState,
    now_ms: i64,
}

impl Task {
    fn new() -> Self {
        Self { settings: Settings::default(), state: MemoryState::default(), now_ms: 0 }
    }

    fn run(&mut self, f: impl FnOnce(&mut RegionRules<'_, MemoryState>)) -> Vec<String> {
        let mut out = Vec::new();
        f(&mut RegionRules::new(&self.settings, &mut self.state, &mut out, self.now_ms));
        out.iter().map(text).collect()
    }

    fn apply(&mut self, input: RegionInput) -> Vec<String> {
        self.run(|rules| rules.apply("north", input).unwrap())
    }

    fn manager(&mut self, manager_id: i64, capacity: u32) -> Vec<String> {
        self.apply(RegionInput::Manager { manager_id, capacity, active: true })
    }

    fn inactive(&mut self, manager_id: i64, capacity: u32) -> Vec<String> {
        self.apply(RegionInput::Manager { manager_id, capacity, active: false })
    }

    fn open(&mut self, id: RequestId, priority: Priority) -> Vec<String> {
        self.open_with(id, terms(priority, self.now_ms))
    }

    fn open_with(&mut self, id: RequestId, terms: Terms) -> Vec<String> {
        self.apply(RegionInput::Open(ticket(id, terms)))
    }

    fn close(&mut self, request_id: RequestId) -> Vec<String> {
        self.apply(RegionInput::Close { request_id, epoch: 1 })
    }

    fn at(&mut self, now_ms: i64) -> Vec<String> {
        self.now_ms = now_ms;
        self.run(|rules| _ = rules.punctuate().unwrap())
    }

    fn open_count(&self, manager_id: i64) -> u32 {
        self.state.managers[&("north".to_owned(), manager_id)].open
    }
}

fn text(output: &RegionOutput) -> String {
    match output {
        RegionOutput::Assigned(a) => {
            let escalated = if a.escalated { " escalated" } else { "" };
            format!("{}→m{} #{}{escalated}", a.request_id, a.manager_id, a.attempt)
        }
        RegionOutput::Escalated(e) => format!("{} escalated", e.request_id),
        RegionOutput::Returned(Returned { request_id, attempts, escalated, .. }) => {
            format!("{request_id} returned {attempts} {escalated}")
        }
    }
}

use Priority::{P1, P2, P4};

#[test]
fn the_least_loaded_manager_is_picked() {
    let mut task = Task::new();
    task.manager(1, 5);
    assert_eq!(task.open(10, P4), ["10→m1 #1"]);
    task.manager(2, 5);
    assert_eq!(task.open(11, P4), ["11→m2 #1"]);
}

#[test]
fn ties_go_to_the_one_assigned_longest_ago_then_to_the_smallest_id() {
    let mut task = Task::new();
    task.manager(2, 5);
    task.manager(1, 5);
    assert_eq!(task.open(10, P4), ["10→m1 #1"], "both never assigned: the smallest id");
    assert_eq!(task.open(11, P4), ["11→m2 #1"]);
    task.close(10);
    task.close(11);
    assert_eq!(
        task.open(12, P4),
        ["12→m1 #1"],
        "m1 was assigned before m2, at the same millisecond"
    );
    task.close(12);
    assert_eq!(task.open(13, P4), ["13→m2 #1"], "now m2 has waited longer");
}

#[test]
fn a_full_manager_is_passed_over_even_if_least_loaded() {
    let mut task = Task::new();
    task.manager(1, 1);
    assert_eq!(task.open(10, P4), ["10→m1 #1"]);
    task.manager(2, 5);
    assert_eq!(task.open(11, P4), ["11→m2 #1"]);
    assert_eq!(task.open(12, P4), ["12→m2 #1"], "m1 has fewer open, but no capacity");
}

#[test]
fn inactive_managers_get_nothing() {
    let mut task = Task::new();
    task.inactive(1, 5);
    assert_eq!(task.open(10, P4), [""; 0]);
    assert_eq!(task.manager(1, 5), ["10→m1 #1"], "activated");
}

#[test]
fn the_assignment_says_priority_deadline_and_cause() {
    let mut task = Task::new();
    task.manager(1, 5);
    let given = ticket(10, terms(P2, 7_000));
    let mut out = Vec::new();
    RegionRules::new(&task.settings, &mut task.state, &mut out, 9_000)
        .apply("north", RegionInput::Open(given.clone()))
        .unwrap();
    let RegionOutput::Assigned(assignment) = &out[0] else { panic!("{out:?}") };
    assert_eq!((assignment.priority, assignment.sla_deadline_ms), (P2, 7_000 + 5 * MINUTE_MS));
    assert_eq!((assignment.region.as_str(), assignment.cause_id), ("north", given.cause_id));
    assert_eq!(assignment.discriminator(), "10:1");
}

#[test]
fn waiting_goes_by_priority_then_age_then_id() {
    let mut task = Task::new();
    for (id, priority, opened_at_ms) in [(1, P4, 5), (2, P1, 9), (4, P1, 8), (3, P1, 8), (5, P2, 0)]
    {
        task.open_with(id, terms(priority, opened_at_ms));
    }
    assert_eq!(task.manager(7, 3), ["3→m7 #1", "4→m7 #1", "2→m7 #1"]);
    assert_eq!(task.close(3), ["5→m7 #1"]);
    assert_eq!(task.close(99), [""; 0]);
    assert_eq!(task.manager(7, 4), ["1→m7 #1"], "more capacity is used at once");
}

#[test]
fn a_repeated_open_or_close_changes_nothing() {
    let mut task = Task::new();
    task.manager(7, 3);
    task.open(1, P4);
    assert_eq!(task.open(1, P4), [""; 0]);
    assert_eq!(task.open_count(7), 1);
    task.open(2, P4);
    task.close(1);
    task.close(1);
    assert_eq!(task.open_count(7), 1);
}

#[test]
fn closed_while_waiting_is_never_assigned() {
    let mut task = Task::new();
    task.open(1, P4);
    task.close(1);
    assert_eq!(task.manager(7, 3), [""; 0]);
    assert_eq!(task.at(2 * 60 * MINUTE_MS), [""; 0], "nor escalated");
}

#[test]
fn amended_urgency_moves_in_the_queue() {
    let mut task = Task::new();
    task.manager(7, 1);
    for id in [1, 2, 3] {
        task.open(id, P4);
    }
    let input = RegionInput::Amend { request_id: 3, epoch: 1, terms: terms(P1, 0) };
    assert_eq!(task.apply(input), [""; 0]);
    assert_eq!(task.close(1), ["3→m7 #1"]);
    let input = RegionInput::Amend { request_id: 3, epoch: 1, terms: terms(P2, 0) };
    assert_eq!(task.apply(input), [""; 0], "assigned already");
    assert_eq!(task.close(3), ["2→m7 #1"]);
}

#[test]
fn messages_of_another_epoch_are_ignored() {
    let mut task = Task::new();
    task.manager(7, 1);
    task.open(1, P4);
    for epoch in [0, 2] {
        task.apply(RegionInput::Close { request_id: 1, epoch });
        task.apply(RegionInput::Recall { request_id: 1, epoch });
        task.apply(RegionInput::Amend { request_id: 1, epoch, terms: terms(P1, 0) });
    }
    assert_eq!(task.open_count(7), 1);
    assert_eq!(task.state.held[&1].ticket.terms.priority, P4);
}

#[test]
fn recalled_is_returned_and_frees_its_manager_for_the_next() {
    let mut task = Task::new();
    task.manager(7, 1);
    task.open(1, P4);
    task.open(2, P4);
    let recall = |request_id| RegionInput::Recall { request_id, epoch: 1 };
    assert_eq!(task.apply(recall(1)), ["1 returned 1 false", "2→m7 #1"]);
    assert_eq!(task.apply(recall(1)), [""; 0]);
    task.open(3, P4);
    assert_eq!(task.apply(recall(3)), ["3 returned 0 false"], "while waiting");
    assert_eq!(task.close(2), [""; 0]);
}

#[test]
fn past_its_sla_a_waiting_request_is_escalated_once_and_may_overload() {
    let mut task = Task::new();
    task.manager(7, 2);
    task.open(1, P4);
    task.open(2, P4);
    task.open(3, P1);
    task.open(4, P1);
    assert_eq!(task.at(MINUTE_MS), [""; 0], "at the deadline");
    let escalated = task.at(MINUTE_MS + 1);
    assert_eq!(escalated, ["3 escalated", "4 escalated", "3→m7 #1 escalated"]);
    assert_eq!(task.open_count(7), 3, "2 and half of it");
    assert_eq!(task.at(100 * MINUTE_MS), [""; 0], "once, and no further overload");
    assert_eq!(task.close(1), ["4→m7 #1 escalated"], "overload again");
    assert_eq!(task.open(5, P1), [""; 0], "an ordinary request does not overload");
}

#[test]
fn assigned_requests_are_never_escalated() {
    let mut task = Task::new();
    task.manager(7, 2);
    task.open(1, P1);
    assert_eq!(task.at(100 * MINUTE_MS), [""; 0]);
}

#[test]
fn a_free_manager_is_preferred_to_overload_and_serves_by_priority() {
    let mut task = Task::new();
    task.manager(7, 1);
    task.open(1, P4);
    task.open(2, P4);
    task.at(60 * MINUTE_MS + 1);
    task.open(3, P1);
    assert_eq!(task.manager(8, 1), ["3→m8 #1"], "priority goes before escalation");
    assert_eq!(task.manager(9, 2), ["2→m9 #1 escalated"]);
}

#[test]
fn an_escalated_ticket_from_elsewhere_is_not_escalated_again() {
    let mut task = Task::new();
    task.manager(7, 2);
    task.open(1, P4);
    task.open(2, P4);
    let moved = Ticket { epoch: 2, attempts: 1, escalated: true, ..ticket(3, terms(P4, 0)) };
    assert_eq!(task.apply(RegionInput::Open(moved)), ["3→m7 #2 escalated"], "overloads at once");
    let moved = Ticket { epoch: 2, attempts: 1, escalated: true, ..ticket(4, terms(P4, 0)) };
    assert_eq!(task.apply(RegionInput::Open(moved)), [""; 0]);
    assert_eq!(task.at(100 * MINUTE_MS), [""; 0]);
}

#[test]
fn without_active_manager_a_request_is_handed_over_after_a_pause() {
    let mut task = Task::new();
    let with_fallback = Terms { has_fallback: true, ..terms(P4, 0) };
    task.open_with(1, with_fallback);
    task.open(2, P4);
    assert_eq!(task.at(1_999), [""; 0]);
    assert_eq!(task.at(2_000), ["1 returned 0 false"], "2 has no fallback");
    task.manager(7, 1);
    task.open_with(3, with_fallback);
    assert_eq!(task.at(10_000), [""; 0], "a busy region keeps its requests");
    assert_eq!(task.inactive(7, 1), ["3 returned 0 false"], "until its last manager goes");
    task.settings.handover_after_ms = 0;
    assert_eq!(task.open_with(4, with_fallback), ["4 returned 0 false"], "at once if so set");
}

#[test]
fn open_requests_of_a_manager_who_left_stay_counted_where_they_were_assigned() {
    let mut task = Task::new();
    task.manager(7, 2);
    task.open(1, P4);
    task.open(2, P4);
    assert_eq!(task.apply(RegionInput::ManagerLeft(7)), [""; 0]);
    assert_eq!(task.open_count(7), 2);
    assert_eq!(task.open(3, P4), [""; 0]);
    task.close(1);
    assert_eq!(task.manager(7, 2), ["3→m7 #1"], "back, with one still open");
    task.apply(RegionInput::ManagerLeft(7));
    task.close(2);
    task.close(3);
    assert!(task.state.managers.is_empty(), "forgotten with the last request");
    assert!(task.state.candidates.is_empty());
}

#[test]
fn less_capacity_takes_nothing_away_but_nothing_new_comes() {
    let mut task = Task::new();
    task.manager(7, 2);
    task.open(1, P4);
    task.open(2, P4);
    task.manager(7, 1);
    task.open(3, P4);
    assert_eq!(task.close(1), [""; 0]);
    assert_eq!(task.close(2), ["3→m7 #1"]);
}

#[test]
fn a_changed_overload_setting_holds_after_refresh() {
    let mut task = Task::new();
    task.settings.overload_percent = 0;
    task.manager(7, 2);
    for id in [1, 2, 3] {
        task.open(id, P1);
    }
    assert_eq!(task.at(MINUTE_MS + 1), ["3 escalated"]);
    task.settings.overload_percent = 50;
    task.run(|rules| rules.refresh().unwrap());
    assert_eq!(task.at(MINUTE_MS + 2), ["3→m7 #1 escalated"]);
}

#[test]
fn a_long_queue_is_assigned_in_bounded_steps_until_it_is_empty() {
    let mut task = Task::new();
    for id in 0..4_800 {
        task.open(id, P4);
    }
    assert_eq!(task.manager(1, 10_000).len(), 2_000, "the manager's arrival");
    assert_eq!(task.open(5_000, P4).len(), 2_000, "the next request, which queues behind");
    assert_eq!(task.at(1).len(), 801, "the punctuation has the rest");
    assert_eq!(task.open_count(1), 4_801);
}
