//! The messages there are: one row each, with its template, the channel wanted and the parameters it is given.
//!
//! The templates in `config/templates/` must use no other parameters; `delivery` checks that at start.

use serde::{Deserialize, Serialize};

use crate::events::Channel;

macro_rules! cases {
    ($($(#[doc = $doc:literal])+ $case:ident = $name:literal, $channel:ident, [$($parameter:literal),*];)+) => {
        /// Why somebody is told something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Case {
            $($(#[doc = $doc])+ $case,)+
        }

        impl Case {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$case),+];

            /// The name of the template.
            pub const fn template(self) -> &'static str {
                match self { $(Self::$case => $name,)+ }
            }

            /// The channel that is used where the recipient has it.
            pub const fn channel(self) -> Channel {
                match self { $(Self::$case => Channel::$channel,)+ }
            }

            /// The names of the parameters that every message of the case has, sorted. One that is not known is empty.
            pub const fn parameters(self) -> &'static [&'static str] {
                match self { $(Self::$case => &[$($parameter),*],)+ }
            }
        }
    };
}

// In this order on the wire of the internal topics: new ones go to the end.
cases! {
    /// `request.created` → customer.
    RequestCreated = "request_created", Email, ["city", "region", "request_id", "title", "urgency"];
    /// `workflow.manager_assigned` → manager.
    ManagerAssigned = "manager_assigned", Email,
        ["address", "city", "priority", "region", "request_id", "sla_deadline", "title"];
    /// `workflow.contractor_assigned` → contractor.
    JobAssigned = "job_assigned", Telegram, ["address", "city", "request_id", "title"];
    /// `workflow.contractor_assigned` → customer.
    ContractorFound = "contractor_found", Email, ["contractor_id", "request_id", "title"];
    /// `workflow.work_completed` → customer.
    WorkCompleted = "work_completed", Email,
        ["amount", "completed_at", "currency", "request_id", "summary", "title"];
    /// `workflow.work_completed` → manager.
    WorkReport = "work_report", Email,
        ["amount", "completed_at", "contractor_id", "currency", "hours", "request_id", "summary", "title"];
    /// `request.clarification_needed` → customer.
    ClarificationNeeded = "clarification_needed", Email, ["asked_by", "question", "request_id", "title"];
    /// `request.cancelled` → customer.
    RequestCancelled = "request_cancelled", Email, ["reason", "request_id", "title"];
    /// `security.access_revoked` → contractor.
    AccessRevoked = "access_revoked", Telegram, ["detail", "reason", "request_id"];
    /// `hr.contract_generated` → contractor.
    ContractGenerated = "contract_generated", Email, ["contract_id", "valid_from"];
    /// `hr.document_created`, a completion act → customer, who signs it.
    CompletionAct = "completion_act", Email,
        ["amount", "content_uri", "currency", "document_id", "request_id"];
    /// `hr.document_created`, a payment order → contractor, who is paid by it.
    PaymentOrder = "payment_order", Email,
        ["amount", "content_uri", "currency", "document_id", "request_id"];
    /// `hr.payment_processed` → contractor.
    PaymentProcessed = "payment_processed", Email, ["amount", "currency", "document_id", "status"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_names_differ() {
        let mut names: Vec<_> = Case::ALL.iter().map(|case| case.template()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Case::ALL.len());
        assert!(Case::ALL.iter().all(|case| case.parameters().is_sorted()));
    }
}
