//! librdkafka's error codes sorted into [`ErrorKind`]; nowhere else.
//!
//! Cold. A code may mean different things to a producer and to a group member; the callers with such a
//! case decide before they come here, and say so.
#![allow(unsafe_code)] // reads librdkafka's error objects

use std::ffi::CStr;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use crate::error::{Error, ErrorKind, Result};

/// The reaction to a code, where nothing more is known about the situation.
pub(super) fn kind_of(code: Code) -> ErrorKind {
    match code {
        // Somebody else is, or will be, in our place.
        Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::TransactionCoordinatorFenced
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        | Code::RebalanceInProgress
        | Code::AssignmentLost
        // librdkafka's commit by a member that is outside its group.
        | Code::UnknownGroup => ErrorKind::TaskMigrated,

        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation => {
            ErrorKind::TaskCorrupted
        }

        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp => ErrorKind::BadRecord,

        Code::InvalidArgument
        | Code::InvalidConfig
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InconsistentGroupProtocol
        | Code::PolicyViolation
        | Code::NotConfigured
        | Code::UnsupportedAssignor => ErrorKind::Invalid,

        Code::MessageTimedOut
        | Code::InvalidTransactionalState
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId
        | Code::OutOfOrderSequenceNumber
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::PurgeQueue
        | Code::PurgeInflight => ErrorKind::AbortTransaction,

        Code::BrokerTransportFailure
        | Code::Resolve
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Conflict
        | Code::Retry
        | Code::Interrupted
        | Code::QueueFull
        | Code::Outdated
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::UnknownBroker
        | Code::ISRInsufficient
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotController
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::UnstableOffsetCommit
        | Code::ThrottlingQuotaExceeded
        | Code::ConcurrentTransactions
        | Code::ReassignmentInProgress
        | Code::MemberIdRequired
        | Code::PollExceeded
        | Code::RebootstrapRequired
        // A damaged batch: librdkafka fetches it again, so a passing fault heals and a lasting one times out.
        | Code::BadMessage
        | Code::InvalidMessage => ErrorKind::Retriable,

        // Authorisation, authentication, unsupported versions, bugs, and codes newer than this table.
        _ => ErrorKind::Fatal,
    }
}

/// An error of the usual kind for `code`, saying what was `attempted` and librdkafka's own words where it has any.
pub(super) fn from_code(code: Code, attempted: &str, detail: &str) -> Error {
    with_kind(kind_of(code), code, attempted, detail)
}

/// As [`from_code`], where the situation decides the kind.
pub(super) fn with_kind(kind: ErrorKind, code: Code, attempted: &str, detail: &str) -> Error {
    let detail = if detail.is_empty() { code.to_string() } else { detail.to_owned() };
    Error::new(kind, format!("{attempted}: {detail} ({code:?}){}", advice(code)))
}

/// Whether the user lacks a right.
fn is_authorisation(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

/// What to do about a code, where that is always the same.
fn advice(code: Code) -> &'static str {
    if is_authorisation(code) { "; wanted an ACL that allows it to this user" } else { "" }
}

/// `Ok` for "no error", else [`from_code`].
pub(super) fn check(code: RDKafkaRespErr, attempted: impl FnOnce() -> String) -> Result<()> {
    match Code::from(code) {
        Code::NoError => Ok(()),
        code => Err(from_code(code, &attempted(), "")),
    }
}

/// An error object of librdkafka, taken apart and freed.
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) text: String,
    fatal: bool,
    retriable: bool,
    abort: bool,
}

impl Failure {
    /// Takes over an error object; null is success.
    pub(super) fn take(error: *mut ffi::rd_kafka_error_t) -> Option<Self> {
        if error.is_null() {
            return None;
        }
        // SAFETY: librdkafka hands the object over to the caller, who reads it here and frees it once.
        unsafe {
            let failure = Self {
                code: ffi::rd_kafka_error_code(error).into(),
                text: CStr::from_ptr(ffi::rd_kafka_error_string(error))
                    .to_string_lossy()
                    .into_owned(),
                fatal: ffi::rd_kafka_error_is_fatal(error) != 0,
                retriable: ffi::rd_kafka_error_is_retriable(error) != 0,
                abort: ffi::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            ffi::rd_kafka_error_destroy(error);
            Some(failure)
        }
    }

    /// Whether the same call may simply be repeated.
    pub(super) fn is_retriable(&self) -> bool {
        self.retriable && !self.fatal && !self.abort
    }

    /// Whether the transaction has failed, and waits for its abort.
    pub(super) fn requires_abort(&self) -> bool {
        self.abort
    }

    /// The reaction. Fencing comes before librdkafka's own flags: it reports a stale generation as "abortable" and a
    /// fenced producer as "fatal", and for us both mean that somebody else has the tasks. A static id that somebody else has
    /// taken and a missing right are "abortable", and no new attempt brings them back.
    pub(super) fn kind(&self) -> ErrorKind {
        match kind_of(self.code) {
            ErrorKind::TaskMigrated => ErrorKind::TaskMigrated,
            _ if self.code == Code::FencedInstanceId || is_authorisation(self.code) => {
                ErrorKind::Fatal
            }
            _ if self.fatal => ErrorKind::Fatal,
            _ if self.abort => ErrorKind::AbortTransaction,
            _ if self.retriable => ErrorKind::Retriable,
            kind => kind,
        }
    }

    pub(super) fn into_error(self, attempted: &str) -> Error {
        with_kind(self.kind(), self.code, attempted, &self.text)
    }
}
