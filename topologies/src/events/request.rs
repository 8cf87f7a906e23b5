//! `request-events`: What customers ask for; keyed by region.

use super::symbols::Urgency;
use super::{event, topic_events};

event! {
    /// A customer filed a request.
    RequestCreated, "request-events", "request.created" key region {
        /// Id of the request.
        request_id: i64,
        /// Id of the customer.
        customer_id: i64,
        /// What the customer asks for, one line.
        title: String,
        /// What the customer asks for, in full.
        description: String,
        /// How soon the customer needs the work.
        urgency: Urgency,
        /// Region of the request; key of request-events, not empty.
        region: String,
        /// City of the work.
        city: String,
        /// Street address of the work.
        address: String,
        /// Kind of service, such as repair or cleaning.
        category: Option<String>,
        /// Counts the changes of the request, from 1; the highest one holds.
        revision: i32 = "super::one",
    }
}

event! {
    /// A request changed; carries the whole new state.
    RequestUpdated, "request-events", "request.updated" key region {
        /// Id of the request.
        request_id: i64,
        /// Id of the customer.
        customer_id: i64,
        /// What the customer asks for, one line.
        title: String,
        /// What the customer asks for, in full.
        description: String,
        /// How soon the customer needs the work.
        urgency: Urgency,
        /// Region of the request; key of request-events, not empty.
        region: String,
        /// City of the work.
        city: String,
        /// Street address of the work.
        address: String,
        /// Kind of service, such as repair or cleaning.
        category: Option<String>,
        /// Counts the changes of the request, from 1; the highest one holds.
        revision: i32 = "super::one",
    }
}

event! {
    /// A request was cancelled.
    RequestCancelled, "request-events", "request.cancelled" key region {
        /// Id of the request.
        request_id: i64,
        /// Id of the customer.
        customer_id: i64,
        /// Region of the request; key of request-events, not empty.
        region: String,
        /// Why it was cancelled.
        reason: String,
        /// Who cancelled it, such as customer:456.
        cancelled_by: String,
    }
}

event! {
    /// Somebody asks the customer a question about a request.
    RequestClarificationNeeded, "request-events", "request.clarification_needed" key region {
        /// Id of the request.
        request_id: i64,
        /// Id of the customer.
        customer_id: i64,
        /// Region of the request; key of request-events, not empty.
        region: String,
        /// The question.
        question: String,
        /// Who asks, such as manager:7.
        asked_by: String,
    }
}

topic_events! {
    /// An event of `request-events`.
    RequestEvent, "request-events" {
        /// `request.created`
        Created(RequestCreated),
        /// `request.updated`
        Updated(RequestUpdated),
        /// `request.cancelled`
        Cancelled(RequestCancelled),
        /// `request.clarification_needed`
        ClarificationNeeded(RequestClarificationNeeded),
    }
}
