//! Business metrics (`svc_…`): what the topologies decided, for people who know the business and not the engine.
//!
//! Counted where an event is made. In exactly-once mode a transaction that is aborted is worked off again, so after a failure
//! these may be a little too high; the events themselves are the truth. No label names a customer, manager or contractor.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

const UNKNOWN_EVENTS: &str = "svc_unknown_events_total";
const ACCESS_CHECKS: &str = "svc_access_checks_total";
const ACCESS_REVOKED: &str = "svc_access_revoked_total";
const ACCESS_CHECK_DURATION: &str = "svc_access_check_duration_seconds";
const HR_CONTRACTS: &str = "svc_hr_contracts_total";
const HR_DOCUMENTS: &str = "svc_hr_documents_total";
const HR_REFUSED: &str = "svc_hr_completions_refused_total";
const HR_CLOSED: &str = "svc_hr_paperwork_closed_total";
const HR_CLOSING_DURATION: &str = "svc_hr_paperwork_duration_seconds";
pub(crate) const DELIVERY_DURATION: &str = "svc_delivery_duration_seconds";
const HR_UNMATCHED: &str = "svc_hr_unmatched_total";
/// The engine's counter of dead letters; those that a topology writes itself belong there too.
const DEAD_LETTERS: &str = "kstreams_dlq_records_total";

const COUNTERS: &[(&str, &str)] = &[
    (UNKNOWN_EVENTS, "Events of an unknown type, ignored, by application and topic"),
    (ACCESS_CHECKS, "Decisions on contractors' assignments, by result and reason"),
    (ACCESS_REVOKED, "Grants that were open and were revoked, by reason"),
    (HR_CONTRACTS, "Contracts generated"),
    (HR_DOCUMENTS, "Documents created, by type"),
    (HR_REFUSED, "Completions that became dead letters, by reason"),
    (HR_CLOSED, "Requests whose act is signed and whose order is paid"),
    (HR_UNMATCHED, "Signatures and payments without effect, by reason"),
    (
        "svc_notifications_total",
        "Notifications made, by template and channel, or why there is none",
    ),
    ("svc_delivery_commands_total", "Commands read by deliverers, by whether they are new"),
    ("svc_delivery_attempts_total", "Answers of providers, by channel and result"),
    ("svc_delivery_messages_total", "Messages settled, by channel and outcome"),
];

const GAUGES: &[(&str, &str)] = &[
    ("svc_delivery_outbox_messages", "Messages not settled, about, by partition"),
    ("svc_delivery_in_flight_messages", "Messages that are with a provider"),
    ("svc_delivery_degraded", "1 while a channel's circuit is open or a pause is kept"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (ACCESS_CHECK_DURATION, "From workflow.contractor_assigned to the decision"),
    (HR_CLOSING_DURATION, "From the documents' creation to the closing of a request's paperwork"),
    (DELIVERY_DURATION, "From a command to the settlement of its message"),
];

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

/// Every histogram with its edges.
pub(crate) fn histogram_buckets() -> &'static [(&'static str, &'static [f64])] {
    &[
        (ACCESS_CHECK_DURATION, DECISION_BUCKETS),
        (HR_CLOSING_DURATION, PAPERWORK_BUCKETS),
        (DELIVERY_DURATION, DELIVERY_BUCKETS),
    ]
}

/// Tells the recorder what the metrics mean.
pub(crate) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(*name, Unit::Count, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *help);
    }
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
    counter!(ACCESS_CHECKS, "result" => result, "reason" => reason).increment(1);
    histogram!(ACCESS_CHECK_DURATION).record(waited.as_secs_f64());
}

/// An open grant was revoked.
pub(crate) fn access_revoked(reason: &'static str) {
    counter!(ACCESS_REVOKED, "reason" => reason).increment(1);
}

/// A contract was generated.
pub(crate) fn contract_generated() {
    counter!(HR_CONTRACTS).increment(1);
}

/// A document was created.
pub(crate) fn document_created(document_type: &'static str) {
    counter!(HR_DOCUMENTS, "type" => document_type).increment(1);
}

/// A completion became a dead letter.
pub(crate) fn completion_refused(reason: &'static str) {
    counter!(HR_REFUSED, "reason" => reason).increment(1);
}

/// A request's paperwork was closed, so long after its documents were created.
pub(crate) fn paperwork_closed(after: Duration) {
    counter!(HR_CLOSED).increment(1);
    histogram!(HR_CLOSING_DURATION).record(after.as_secs_f64());
}

/// A signature or payment had no effect.
pub(crate) fn unmatched(reason: &'static str) {
    counter!(HR_UNMATCHED, "reason" => reason).increment(1);
}
