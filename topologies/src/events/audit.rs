//! `audit-events`: What happened, for those who check; keyed by entity.

use std::collections::BTreeMap;

use kstreams::Timestamp;

use super::{event, topic_events};

event! {
    /// A person acted.
    AuditUserAction, "audit-events", "audit.user_action" key entity {
        /// What it is about, such as request:123; the record's key.
        entity: String,
        /// Who acted: a person, such as manager:7, or a service.
        actor: String,
        /// What was done, such as the event type.
        action: String,
        /// Topic of the event it reports.
        topic: String,
        /// Partition of the event it reports; -1 where it reports a whole topic.
        partition: i32,
        /// Offset of the event it reports; -1 where it reports a whole topic.
        offset: i64,
        /// Id of the request concerned.
        request_id: Option<i64>,
        /// Id of the contractor concerned.
        contractor_id: Option<i64>,
        /// Further facts by name.
        details: BTreeMap<String, String>,
    }
}

event! {
    /// A service or a topology acted.
    AuditSystemEvent, "audit-events", "audit.system_event" key entity {
        /// What it is about, such as request:123; the record's key.
        entity: String,
        /// Who acted: a person, such as manager:7, or a service.
        actor: String,
        /// What was done, such as the event type.
        action: String,
        /// Topic of the event it reports.
        topic: String,
        /// Partition of the event it reports; -1 where it reports a whole topic.
        partition: i32,
        /// Offset of the event it reports; -1 where it reports a whole topic.
        offset: i64,
        /// Id of the request concerned.
        request_id: Option<i64>,
        /// Id of the contractor concerned.
        contractor_id: Option<i64>,
        /// Further facts by name.
        details: BTreeMap<String, String>,
    }
}

event! {
    /// Something failed: a notification, or a record that became a dead letter.
    AuditErrorOccurred, "audit-events", "audit.error_occurred" key entity {
        /// What it is about, such as request:123; the record's key.
        entity: String,
        /// Who acted: a person, such as manager:7, or a service.
        actor: String,
        /// What was done, such as the event type.
        action: String,
        /// Topic of the event it reports.
        topic: String,
        /// Partition of the event it reports; -1 where it reports a whole topic.
        partition: i32,
        /// Offset of the event it reports; -1 where it reports a whole topic.
        offset: i64,
        /// Id of the request concerned.
        request_id: Option<i64>,
        /// Id of the contractor concerned.
        contractor_id: Option<i64>,
        /// Further facts by name.
        details: BTreeMap<String, String>,
    }
}

event! {
    /// A figure of a source topic over a window of time.
    AuditPerformanceMetric, "audit-events", "audit.performance_metric" key entity {
        /// What it is about, such as request:123; the record's key.
        entity: String,
        /// Who acted: a person, such as manager:7, or a service.
        actor: String,
        /// What was done, such as the event type.
        action: String,
        /// Topic of the event it reports.
        topic: String,
        /// Partition of the event it reports; -1 where it reports a whole topic.
        partition: i32,
        /// Offset of the event it reports; -1 where it reports a whole topic.
        offset: i64,
        /// Id of the request concerned.
        request_id: Option<i64>,
        /// Id of the contractor concerned.
        contractor_id: Option<i64>,
        /// Further facts by name.
        details: BTreeMap<String, String>,
        /// Name of the metric.
        name: String,
        /// Value in units of unit.
        value: f64,
        /// Unit of the value.
        unit: String,
        /// Start of the window, inclusive.
        window_start: Timestamp,
        /// End of the window, exclusive.
        window_end: Timestamp,
    }
}

topic_events! {
    /// An event of `audit-events`.
    AuditEvent, "audit-events" {
        /// `audit.user_action`
        UserAction(AuditUserAction),
        /// `audit.system_event`
        SystemEvent(AuditSystemEvent),
        /// `audit.error_occurred`
        ErrorOccurred(AuditErrorOccurred),
        /// `audit.performance_metric`
        PerformanceMetric(AuditPerformanceMetric),
    }
}
