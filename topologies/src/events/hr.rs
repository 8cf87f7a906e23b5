//! `hr-events`: Paperwork and payments; keyed by contractor id.

use kstreams::Timestamp;
use uuid::Uuid;

use super::envelope::Money;
use super::symbols::DocumentType;
use super::{event, topic_events};

event! {
    /// A document was made.
    HrDocumentCreated, "hr-events", "hr.document_created" key contractor_id {
        /// Id of the document.
        document_id: Uuid,
        /// Kind of document.
        document_type: DocumentType,
        /// Id of the request.
        request_id: i64,
        /// Id of the contractor.
        contractor_id: i64,
        /// Id of the customer.
        customer_id: i64,
        /// Amount of money in units of currency.
        amount: Option<Money>,
        /// ISO 4217 code of the currency.
        currency: Option<String>,
        /// Where the document lies.
        content_uri: Option<String>,
    }
}

event! {
    /// A document was signed.
    HrDocumentSigned, "hr-events", "hr.document_signed" {
        /// Id of the document.
        document_id: Uuid,
        /// Who signed, such as customer:456.
        signed_by: String,
    }
}

event! {
    /// The contract of a contractor was made.
    HrContractGenerated, "hr-events", "hr.contract_generated" key contractor_id {
        /// Id of the contract.
        contract_id: Uuid,
        /// Id of the contractor.
        contractor_id: i64,
        /// When the contract begins.
        valid_from: Timestamp,
    }
}

event! {
    /// A contractor was paid.
    HrPaymentProcessed, "hr-events", "hr.payment_processed" key contractor_id {
        /// Id of the payment order.
        document_id: Uuid,
        /// Id of the contractor.
        contractor_id: i64,
        /// Amount of money in units of currency.
        amount: Money,
        /// ISO 4217 code of the currency.
        currency: String,
        /// What the bank answered, such as paid or refused.
        status: String,
    }
}

topic_events! {
    /// An event of `hr-events`.
    HrEvent, "hr-events" {
        /// `hr.document_created`
        DocumentCreated(HrDocumentCreated),
        /// `hr.document_signed`
        DocumentSigned(HrDocumentSigned),
        /// `hr.contract_generated`
        ContractGenerated(HrContractGenerated),
        /// `hr.payment_processed`
        PaymentProcessed(HrPaymentProcessed),
    }
}
