//! Business metrics (`svc_…`): what the topologies decided, for people who know the business and not the engine.
//!
//! Counted where an event is made. In exactly-once mode a transaction that is aborted is worked off again, so after a failure
//! these may be a little too high; the events themselves are the truth. No label names a customer, manager or contractor, and a region
//! only while there are few. Hot path: a thread makes each handle once.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kstreams::telemetry::{LATENCY_BUCKETS, Metric};
use metrics::{Counter, counter, histogram};

use crate::events::EVENT_TYPES;

const UNKNOWN_EVENTS: &str = "svc_unknown_events_total";
const EVENTS: &str = "svc_events_total";
const REQUESTS_CREATED: &str = "svc_requests_created_total";
/// Requests that wait for a manager; a gauge of its processor.
pub(crate) const REQUESTS_WAITING: &str = "svc_requests_waiting";
const ASSIGNMENTS: &str = "svc_manager_assignments_total";
const ASSIGNMENT_DURATION: &str = "svc_assignment_duration_seconds";
const SLA_BREACHES: &str = "svc_sla_breaches_total";
const ACCESS_CHECKS: &str = "svc_access_checks_total";
const ACCESS_REVOKED: &str = "svc_access_revoked_total";
const ACCESS_CHECK_DURATION: &str = "svc_access_check_duration_seconds";
const HR_CONTRACTS: &str = "svc_hr_contracts_total";
const HR_DOCUMENTS: &str = "svc_hr_documents_total";
const HR_REFUSED: &str = "svc_hr_completions_refused_total";
const HR_CLOSED: &str = "svc_hr_paperwork_closed_total";
const HR_CLOSING_DURATION: &str = "svc_hr_paperwork_duration_seconds";
const HR_UNMATCHED: &str = "svc_hr_unmatched_total";
const NOTIFICATIONS: &str = "svc_notifications_total";
const COMMANDS: &str = "svc_delivery_commands_total";
const ATTEMPTS: &str = "svc_delivery_attempts_total";
const MESSAGES: &str = "svc_delivery_messages_total";
const DELIVERY_DURATION: &str = "svc_delivery_duration_seconds";
/// Gauges of a deliverer's task.
pub(crate) const OUTBOX: &str = "svc_delivery_outbox_messages";
pub(crate) const IN_FLIGHT: &str = "svc_delivery_in_flight_messages";
pub(crate) const DELIVERY_DEGRADED: &str = "svc_delivery_degraded";
const AUDIT_EVENTS: &str = "svc_audit_events_total";
pub(crate) const CLICKHOUSE_ROWS: &str = "svc_clickhouse_rows_total";
pub(crate) const CLICKHOUSE_UNREADABLE: &str = "svc_clickhouse_unreadable_records_total";
pub(crate) const CLICKHOUSE_ERRORS: &str = "svc_clickhouse_errors_total";
pub(crate) const CLICKHOUSE_LAG: &str = "svc_clickhouse_lag_records";
pub(crate) const CLICKHOUSE_BUFFERED: &str = "svc_clickhouse_buffered_rows";
/// The engine's counter of dead letters; those that a topology writes itself belong there too.
const DEAD_LETTERS: &str = "kstreams_dlq_records_total";

/// Edges in seconds, from a decision at once to one that waited for its limit.
const DECISION_BUCKETS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 600.0];
/// Edges in seconds, from a provider that answers at once to one that was away for a day.
const DELIVERY_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
/// Edges in seconds, from a minute to a quarter.
const PAPERWORK_BUCKETS: &[f64] = &[
    60.0,
    3_600.0,
    6.0 * 3_600.0,
    86_400.0,
    3.0 * 86_400.0,
    7.0 * 86_400.0,
    30.0 * 86_400.0,
    90.0 * 86_400.0,
];

/// Every business metric, by topology.
#[rustfmt::skip] // a table
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(EVENTS, &["app", "event_type"], "Events read, by topology and type"),
    Metric::counter(UNKNOWN_EVENTS, &["app", "topic"], "Events of an unknown type, ignored, by topology and topic"),
    // manager-assignment
    Metric::counter(REQUESTS_CREATED, &["region", "priority"], "Requests filed, duplicates included; regions beyond the first 50 are `other`"),
    Metric::gauge(REQUESTS_WAITING, &[], "Requests that wait for a manager"),
    Metric::counter(ASSIGNMENTS, &["outcome"], "Managers assigned: `assigned` the first time, `reassigned` after"),
    Metric::histogram(ASSIGNMENT_DURATION, LATENCY_BUCKETS, &[], "From request.created to its first workflow.manager_assigned"),
    Metric::counter(SLA_BREACHES, &["sla"], "Requests that were not assigned within their SLA and were escalated"),
    // contractor-access
    Metric::counter(ACCESS_CHECKS, &["result", "reason"], "Decisions on contractors' assignments: granted, denied, unknown_contractor"),
    Metric::counter(ACCESS_REVOKED, &["reason"], "Grants that were open and were revoked, by reason"),
    Metric::histogram(ACCESS_CHECK_DURATION, DECISION_BUCKETS, &[], "From workflow.contractor_assigned to the decision"),
    // hr-documents
    Metric::counter(HR_CONTRACTS, &[], "Contracts generated"),
    Metric::counter(HR_DOCUMENTS, &["type"], "Documents created, by type"),
    Metric::counter(HR_REFUSED, &["reason"], "Completions that became dead letters, by reason"),
    Metric::counter(HR_CLOSED, &[], "Requests whose act is signed and whose order is paid"),
    Metric::histogram(HR_CLOSING_DURATION, PAPERWORK_BUCKETS, &[], "From the documents' creation to the closing of a request's paperwork"),
    Metric::counter(HR_UNMATCHED, &["reason"], "Signatures and payments without effect, by reason"),
    // notifications
    Metric::counter(NOTIFICATIONS, &["template", "outcome"], "Notifications made, by template and channel, or why there is none"),
    // notification-delivery
    Metric::counter(COMMANDS, &["result"], "Commands read by deliverers, by whether they are new: accepted, duplicate"),
    Metric::counter(ATTEMPTS, &["channel", "result"], "Answers of providers, by channel and result"),
    Metric::counter(MESSAGES, &["channel", "outcome"], "Messages settled: sent, failed (after the last attempt), failed_permanently"),
    Metric::histogram(DELIVERY_DURATION, DELIVERY_BUCKETS, &["channel", "outcome"], "From a command to the settlement of its message"),
    Metric::gauge(OUTBOX, &["partition"], "Messages not settled, about"),
    Metric::gauge(IN_FLIGHT, &["channel", "partition"], "Messages that are with a provider"),
    Metric::gauge(DELIVERY_DEGRADED, &["channel", "partition"], "1 while a channel's circuit is open or a pause is kept"),
    // audit-fanout and its sink
    Metric::counter(AUDIT_EVENTS, &["event_type"], "Audit events published, by type"),
    Metric::counter(CLICKHOUSE_ROWS, &["outcome"], "Rows written (`inserted`), and rows found to be there already (`present`)"),
    Metric::counter(CLICKHOUSE_UNREADABLE, &[], "Records that became a row of the kind `unreadable`"),
    Metric::counter(CLICKHOUSE_ERRORS, &[], "Requests to ClickHouse that failed"),
    Metric::gauge(CLICKHOUSE_LAG, &["partition"], "Records of audit-events that are not in ClickHouse yet"),
    Metric::gauge(CLICKHOUSE_BUFFERED, &[], "Rows that wait in the sink"),
];

/// Regions that get a label of their own.
const REGIONS_MAX: usize = 50;

type Labels = [(&'static str, &'static str); 2];
/// Stands for a label that a metric does not have.
const NONE: (&str, &str) = ("", "");

thread_local! {
    static HANDLES: RefCell<HashMap<(&'static str, Labels), Counter>> = RefCell::default();
}

/// Adds to a counter whose labels are of closed sets.
fn add(name: &'static str, labels: Labels, count: u64) {
    HANDLES.with_borrow_mut(|handles| {
        let handle = handles.entry((name, labels)).or_insert_with(|| {
            let labels: Vec<_> = labels.into_iter().filter(|label| *label != NONE).collect();
            counter!(name, &labels)
        });
        handle.increment(count);
    });
}

fn add_one(name: &'static str, label: &'static str, value: &'static str) {
    add(name, [(label, value), NONE], 1);
}

/// Counters that alerts divide, at zero from the start of their topology: else the first failure is no increase.
pub(crate) fn begin(topology: &str) {
    let zeros: &[(&str, &str, &[&str])] = match topology {
        "manager-assignment" => &[
            (ASSIGNMENTS, "outcome", &["assigned", "reassigned"]),
            (SLA_BREACHES, "sla", &["assignment"]),
        ],
        "notification-delivery" => &[(COMMANDS, "result", &["accepted", "duplicate"])],
        _ => &[],
    };
    for (name, label, values) in zeros {
        values.iter().for_each(|value| add(name, [(label, value), NONE], 0));
    }
    if topology == "notification-delivery" {
        for channel in ["email", "telegram", "sms"] {
            for outcome in ["sent", "failed", "failed_permanently"] {
                add(MESSAGES, [("channel", channel), ("outcome", outcome)], 0);
            }
        }
    }
}

/// The name of a region as a label: its own for the first ones that this process meets, `other` for the rest.
fn region_label(region: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = known.get(region) {
        return name;
    }
    if known.len() == REGIONS_MAX {
        return "other";
    }
    let name: &'static str = Box::leak(region.into()); // as long as the metric, and not many
    known.insert(name);
    name
}

/// A topology read an event.
pub(crate) fn event_read(app: &'static str, event_type: &str) {
    let known = EVENT_TYPES.iter().find(|known| **known == event_type);
    add(EVENTS, [("app", app), ("event_type", known.unwrap_or(&"other"))], 1);
}

/// A topology ignored an event whose type it does not know.
pub(crate) fn event_unknown(app: &'static str, topic: &'static str) {
    counter!(UNKNOWN_EVENTS, "app" => app, "topic" => topic).increment(1);
}

/// A request was filed.
pub(crate) fn request_created(region: &str, priority: &'static str) {
    add(REQUESTS_CREATED, [("region", region_label(region)), ("priority", priority)], 1);
}

/// A manager got a request; `after`: since it was filed, the first time.
pub(crate) fn manager_assigned(is_first: bool, after: Duration) {
    add_one(ASSIGNMENTS, "outcome", if is_first { "assigned" } else { "reassigned" });
    if is_first {
        histogram!(ASSIGNMENT_DURATION).record(after.as_secs_f64());
    }
}

/// A request was not assigned in time.
pub(crate) fn sla_breached() {
    add_one(SLA_BREACHES, "sla", "assignment");
}

/// A notification was made: by the channel chosen, or by why there is none.
pub(crate) fn notified(template: &'static str, outcome: &'static str) {
    add(NOTIFICATIONS, [("template", template), ("outcome", outcome)], 1);
}

/// A deliverer read a command.
pub(crate) fn command_read(is_new: bool) {
    add_one(COMMANDS, "result", if is_new { "accepted" } else { "duplicate" });
}

/// A provider answered.
pub(crate) fn attempted(channel: &'static str, result: &'static str) {
    add(ATTEMPTS, [("channel", channel), ("result", result)], 1);
}

/// A message was settled, so long after its command.
pub(crate) fn settled(channel: &'static str, outcome: &'static str, after: Duration) {
    add(MESSAGES, [("channel", channel), ("outcome", outcome)], 1);
    histogram!(DELIVERY_DURATION, "channel" => channel, "outcome" => outcome)
        .record(after.as_secs_f64());
}

/// An audit event was published.
pub(crate) fn audited(event_type: &str) {
    let known = EVENT_TYPES.iter().find(|known| **known == event_type);
    add_one(AUDIT_EVENTS, "event_type", known.unwrap_or(&"other"));
}

/// A topology dead-letters a record of `topic` on its own account.
pub(crate) fn dead_letter(app: &str, topic: &str) {
    let labels = [
        ("app", app.to_owned()),
        ("topic", topic.to_owned()),
        ("stage", "process".to_owned()),
        ("disposition", "dlq".to_owned()),
    ];
    counter!(DEAD_LETTERS, &labels).increment(1);
}

/// A decision on an assignment: `result` is `granted`, `denied` or `unknown_contractor`.
pub(crate) fn access_checked(result: &'static str, reason: &'static str, waited: Duration) {
    add(ACCESS_CHECKS, [("result", result), ("reason", reason)], 1);
    histogram!(ACCESS_CHECK_DURATION).record(waited.as_secs_f64());
}

/// An open grant was revoked.
pub(crate) fn access_revoked(reason: &'static str) {
    add_one(ACCESS_REVOKED, "reason", reason);
}

/// A contract was generated.
pub(crate) fn contract_generated() {
    add(HR_CONTRACTS, [NONE; 2], 1);
}

/// A document was created.
pub(crate) fn document_created(document_type: &'static str) {
    add_one(HR_DOCUMENTS, "type", document_type);
}

/// A completion became a dead letter.
pub(crate) fn completion_refused(reason: &'static str) {
    add_one(HR_REFUSED, "reason", reason);
}

/// A request's paperwork was closed, so long after its documents were created.
pub(crate) fn paperwork_closed(after: Duration) {
    add(HR_CLOSED, [NONE; 2], 1);
    histogram!(HR_CLOSING_DURATION).record(after.as_secs_f64());
}

/// A signature or payment had no effect.
pub(crate) fn unmatched(reason: &'static str) {
    add_one(HR_UNMATCHED, "reason", reason);
}

#[cfg(test)]
mod tests {
    use kstreams::telemetry::Kind;

    use super::*;

    #[test]
    fn names_keep_the_rules_and_regions_have_a_bound() {
        for metric in METRICS {
            assert!(metric.name.starts_with("svc_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
        let labels: BTreeSet<&str> =
            (0..2 * REGIONS_MAX).map(|number| region_label(&format!("region {number}"))).collect();
        assert_eq!(labels.len(), REGIONS_MAX + 1);
        assert_eq!(region_label("region 0"), "region 0");
    }
}
