//! `security-events`: Who may work where; keyed by contractor id.

use kstreams::Timestamp;

use super::symbols::AccessReason;
use super::{event, topic_events};

event! {
    /// A contractor passed verification.
    SecurityContractorVerified, "security-events", "security.contractor_verified" key contractor_id {
        /// Id of the contractor.
        contractor_id: i64,
        /// Who verified.
        verified_by: String,
        /// Regions where the contractor may work; empty means all.
        regions: Vec<String>,
        /// When the verification ends; null means never.
        valid_until: Option<Timestamp>,
    }
}

event! {
    /// A contractor failed verification, or lost it.
    SecurityContractorRejected, "security-events", "security.contractor_rejected" key contractor_id {
        /// Id of the contractor.
        contractor_id: i64,
        /// Why.
        reason: String,
        /// Who rejected.
        rejected_by: String,
    }
}

event! {
    /// A contractor may access a request.
    SecurityAccessGranted, "security-events", "security.access_granted" key contractor_id {
        /// Id of the contractor.
        contractor_id: i64,
        /// Id of the request.
        request_id: i64,
        /// Why.
        reason: AccessReason,
        /// More on the reason.
        detail: Option<String>,
    }
}

event! {
    /// A contractor may not, or no longer, access a request.
    SecurityAccessRevoked, "security-events", "security.access_revoked" key contractor_id {
        /// Id of the contractor.
        contractor_id: i64,
        /// Id of the request.
        request_id: i64,
        /// Why.
        reason: AccessReason,
        /// More on the reason.
        detail: Option<String>,
    }
}

topic_events! {
    /// An event of `security-events`.
    SecurityEvent, "security-events" {
        /// `security.contractor_verified`
        ContractorVerified(SecurityContractorVerified),
        /// `security.contractor_rejected`
        ContractorRejected(SecurityContractorRejected),
        /// `security.access_granted`
        AccessGranted(SecurityAccessGranted),
        /// `security.access_revoked`
        AccessRevoked(SecurityAccessRevoked),
    }
}
