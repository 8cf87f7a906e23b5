//! The producer: records in, acknowledged batches and transactions out. Hot path: [`send`](Producer::send).
//!
//! Owned by one stream thread. Delivery reports come for failures only and as events (see `client.rs`); whoever waits here
//! serves them in between, because a report that nobody takes keeps a flush from ending.
#![allow(unsafe_code)] // producing without an allocation per record, and raw commits, have no safe wrapper

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};

use super::client::{Client, Fault, c_string, millis, text_of};
use super::config::ClientSettings;
use super::error::{self, Failure};
use super::partitions::PartitionList;
use super::queue::Queue;
use super::snapshot::GroupSnapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{CommittedOffset, GroupMetadata, OutgoingRecord, Producer, TopicHandle};
use crate::record::Headers;
use crate::time::{Clock, SystemClock};

/// How long a full local queue is waited for; brokers that take nothing for so long are gone.
const QUEUE_FULL_WAIT: Duration = Duration::from_secs(10);
/// One blocking call of librdkafka; delivery reports are served in between.
const SLICE: Duration = Duration::from_millis(200);
/// One wait for room in a full queue.
const FULL_SLICE: Duration = Duration::from_millis(2);
const PARTITION_UNASSIGNED: i32 = -1;

/// The producer. Fields drop in order: topics and the queue before the client.
pub(super) struct RawProducer {
    topics: Vec<Topic>,
    reports: Queue,
    client: Client,
    clock: SystemClock,
    /// The first delivery failure that nobody was told of.
    failure: Option<(Code, String)>,
    /// What the last call failed with.
    refusal: Option<Code>,
}

struct Topic {
    name: String,
    handle: *mut ffi::rd_kafka_topic_t,
    partitions: Option<i32>,
}

// SAFETY: topic handles are reference-counted objects of librdkafka, usable from any thread.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once, before the client goes.
        unsafe { ffi::rd_kafka_topic_destroy(self.handle) };
    }
}

impl RawProducer {
    pub(super) fn new(settings: &ClientSettings, transactional_id: Option<&str>) -> Result<Self> {
        if let Some(id) = transactional_id.filter(|_| !settings.exactly_once) {
            return Err(Error::invalid(format!(
                "transactional producer \"{id}\" was asked for, but processing is not exactly-once"
            )));
        }
        let properties = settings.producer_properties(transactional_id);
        let client = Client::new(RDKafkaType::RD_KAFKA_PRODUCER, &properties)?;
        let reports = Queue::of_producer(&client);
        let clock = SystemClock::default();
        Ok(Self { topics: Vec::new(), reports, client, clock, failure: None, refusal: None })
    }

    /// Serves reports and errors; waits at most `timeout` for the first of them.
    fn serve(&mut self, timeout: Duration) {
        let mut wait_ms = millis(timeout);
        loop {
            // SAFETY: the queue lives; an event is read and then destroyed once.
            unsafe {
                let event = ffi::rd_kafka_queue_poll(self.reports.as_ptr(), wait_ms);
                if event.is_null() {
                    return;
                }
                match ffi::rd_kafka_event_type(event) {
                    ffi::RD_KAFKA_EVENT_DR => self.read_reports(event),
                    ffi::RD_KAFKA_EVENT_ERROR => {
                        let code = ffi::rd_kafka_event_error(event).into();
                        let text = text_of(ffi::rd_kafka_event_error_string(event));
                        let fault = Fault::new(self.client.rk(), code, text);
                        self.client.inbox().add_fault(fault);
                    }
                    _ => {}
                }
                ffi::rd_kafka_event_destroy(event);
            }
            wait_ms = 0;
        }
    }

    /// # Safety
    /// `event` is a live delivery report.
    unsafe fn read_reports(&mut self, event: *mut ffi::rd_kafka_event_t) {
        // SAFETY: messages belong to the event, and their topics live as long as they.
        unsafe {
            loop {
                let message = ffi::rd_kafka_event_message_next(event);
                if message.is_null() {
                    return;
                }
                let code = Code::from((*message).err);
                // Purged: an abort of ours took it back.
                if matches!(code, Code::NoError | Code::PurgeQueue | Code::PurgeInflight) {
                    continue;
                }
                if self.failure.is_none() {
                    let topic = text_of(ffi::rd_kafka_topic_name((*message).rkt));
                    let partition = (*message).partition;
                    let text = text_of(ffi::rd_kafka_message_produce_errstr(message));
                    self.failure = Some((
                        code,
                        format!("a record to {topic}-{partition} was not delivered: {text}"),
                    ));
                }
            }
        }
    }

    /// The first delivery failure as an error. It is never `Retriable` nor `BadRecord`: the record is gone, and which one
    /// it was is not known any more; only going back to the committed offsets brings it again.
    fn delivery_failure(&mut self) -> Result<()> {
        let Some((code, text)) = self.failure.take() else {
            return Ok(());
        };
        if matches!(code, Code::PurgeQueue | Code::PurgeInflight)
            && let Some(cause) = self.transaction_failure()
        {
            return Err(cause.into_error("writing the results of a transaction"));
        }
        let kind = match error::kind_of(code) {
            ErrorKind::TaskMigrated => ErrorKind::TaskMigrated,
            ErrorKind::Retriable | ErrorKind::AbortTransaction => ErrorKind::AbortTransaction,
            // Refused by the broker for what it is: sending it again would fail again.
            _ => ErrorKind::Fatal,
        };
        Err(Error::new(kind, format!("{text} ({code:?})")))
    }

    /// Why the open transaction can only be aborted, where that is so. Records that it takes with it do not say. To begin another one is refused with the
    /// reason, and changes nothing.
    fn transaction_failure(&self) -> Option<Failure> {
        // SAFETY: the handle lives; the error object is taken over.
        let failure = Failure::take(unsafe { ffi::rd_kafka_begin_transaction(self.client.rk()) })?;
        failure.requires_abort().then_some(failure)
    }

    /// Repeats a call of librdkafka until it succeeds, fails for good, or `timeout` is over. One call takes at most
    /// `slice`: calls that flush need their delivery reports served in between.
    fn repeat(
        &mut self,
        attempted: &str,
        timeout: Duration,
        slice: Duration,
        call: impl Fn(*mut ffi::rd_kafka_t, i32) -> *mut ffi::rd_kafka_error_t,
    ) -> Result<()> {
        let deadline = self.clock.monotonic() + timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            let result = call(self.client.rk(), millis(left.min(slice)));
            let Some(failure) = Failure::take(result) else {
                return Ok(());
            };
            // A retriable failure may come at once (not a time-out): wait a little, on the reports.
            let pause = if failure.is_retriable() { FULL_SLICE } else { Duration::ZERO };
            self.serve(pause);
            if failure.is_retriable() && self.clock.monotonic() < deadline {
                continue;
            }
            return Err(self.explain(failure, attempted));
        }
    }

    /// The error for a failed call. A fatal handle answers every call with "fatal": the cause decides (a fenced producer
    /// is a migrated task); and where a record failed, its reason says more than the call's.
    fn explain(&mut self, failure: Failure, attempted: &str) -> Error {
        self.refusal = Some(failure.code);
        if let Some((code, text)) = self.client.fatal_error() {
            let kind = match error::kind_of(code) {
                ErrorKind::TaskMigrated => ErrorKind::TaskMigrated,
                _ => ErrorKind::Fatal,
            };
            return error::with_kind(kind, code, attempted, &text);
        }
        let error = failure.into_error(attempted);
        match self.delivery_failure() {
            Err(cause) if error.kind() == ErrorKind::AbortTransaction => {
                cause.context(error.message())
            }
            _ => error,
        }
    }

    /// One attempt to queue a record.
    fn enqueue(&self, record: &OutgoingRecord<'_>) -> Code {
        use ffi::rd_kafka_vtype_t as V;
        let topic = self.topics[record.topic.0].handle;
        let partition = record.partition.unwrap_or(PARTITION_UNASSIGNED);
        // librdkafka takes 0 for "now": a millisecond off is better than decades.
        let timestamp = record.timestamp.as_millis().max(1);
        let (key, key_length) = raw(record.key);
        let (value, value_length) = raw(record.value);
        let (rk, copy) = (self.client.rk(), ffi::RD_KAFKA_MSG_F_COPY);
        // SAFETY: every tag is followed by the arguments that librdkafka's documentation gives it, of these C types; key
        // and value are copied during the call. Headers change owner when the call succeeds, and only then.
        unsafe {
            if record.headers.is_empty() {
                return ffi::rd_kafka_producev(
                    rk,
                    V::RD_KAFKA_VTYPE_RKT,
                    topic,
                    V::RD_KAFKA_VTYPE_PARTITION,
                    partition,
                    V::RD_KAFKA_VTYPE_MSGFLAGS,
                    copy,
                    V::RD_KAFKA_VTYPE_VALUE,
                    value,
                    value_length,
                    V::RD_KAFKA_VTYPE_KEY,
                    key,
                    key_length,
                    V::RD_KAFKA_VTYPE_TIMESTAMP,
                    timestamp,
                    V::RD_KAFKA_VTYPE_END,
                )
                .into();
            }
            let headers = native_headers(record.headers);
            let code = Code::from(ffi::rd_kafka_producev(
                rk,
                V::RD_KAFKA_VTYPE_RKT,
                topic,
                V::RD_KAFKA_VTYPE_PARTITION,
                partition,
                V::RD_KAFKA_VTYPE_MSGFLAGS,
                copy,
                V::RD_KAFKA_VTYPE_VALUE,
                value,
                value_length,
                V::RD_KAFKA_VTYPE_KEY,
                key,
                key_length,
                V::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp,
                V::RD_KAFKA_VTYPE_HEADERS,
                headers,
                V::RD_KAFKA_VTYPE_END,
            ));
            if code != Code::NoError {
                ffi::rd_kafka_headers_destroy(headers);
            }
            code
        }
    }

    /// The error for a record that could not be queued.
    fn refused(&self, code: Code, topic: TopicHandle) -> Error {
        let attempted = format!("sending to \"{}\"", self.topics[topic.0].name);
        if let Some((code, text)) = self.client.fatal_error() {
            let kind = match error::kind_of(code) {
                ErrorKind::TaskMigrated => ErrorKind::TaskMigrated,
                _ => ErrorKind::Fatal,
            };
            return error::with_kind(kind, code, &attempted, &text);
        }
        if code == Code::State
            && let Some(cause) = self.transaction_failure()
        {
            return cause.into_error(&attempted);
        }
        let kind = match code {
            // The transaction has failed already (or was never begun): its abort is what is left.
            Code::State => ErrorKind::AbortTransaction,
            // librdkafka has waited for the topic; it is not there, or has fewer partitions.
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
                ErrorKind::Fatal
            }
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => ErrorKind::BadRecord,
            code => match error::kind_of(code) {
                ErrorKind::Retriable => ErrorKind::Retriable,
                _ => ErrorKind::Fatal,
            },
        };
        error::with_kind(kind, code, &attempted, "")
    }
}

impl Producer for RawProducer {
    fn init_transactions(&mut self, timeout: Duration) -> Result<()> {
        self.repeat("initialising transactions", timeout, timeout, |rk, timeout_ms| {
            // SAFETY: the handle lives.
            unsafe { ffi::rd_kafka_init_transactions(rk, timeout_ms) }
        })
    }

    fn begin_transaction(&mut self) -> Result<()> {
        // SAFETY: the handle lives.
        let result = unsafe { ffi::rd_kafka_begin_transaction(self.client.rk()) };
        match Failure::take(result) {
            Some(failure) => Err(self.explain(failure, "beginning a transaction")),
            None => Ok(()),
        }
    }

    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<()> {
        let snapshot = group.0.downcast_ref::<GroupSnapshot>().ok_or_else(|| {
            Error::fatal("the group metadata comes from another implementation of the ports")
        })?;
        let identity = snapshot.fence(offsets)?;
        let list = PartitionList::of_commits(offsets)?;
        self.repeat("adding offsets to the transaction", timeout, timeout, |rk, timeout_ms| {
            // SAFETY: handle, list and identity live; the latter two are copied.
            unsafe {
                ffi::rd_kafka_send_offsets_to_transaction(
                    rk,
                    list.as_ptr(),
                    identity.as_ptr(),
                    timeout_ms,
                )
            }
        })
        .map_err(|error| snapshot.explain(error, self.refusal))
    }

    fn commit_transaction(&mut self, timeout: Duration) -> Result<()> {
        self.repeat("committing the transaction", timeout, SLICE, |rk, timeout_ms| {
            // SAFETY: the handle lives.
            unsafe { ffi::rd_kafka_commit_transaction(rk, timeout_ms) }
        })
    }

    fn abort_transaction(&mut self, timeout: Duration) -> Result<()> {
        let result = self.repeat("aborting the transaction", timeout, SLICE, |rk, timeout_ms| {
            // SAFETY: the handle lives.
            unsafe { ffi::rd_kafka_abort_transaction(rk, timeout_ms) }
        });
        self.serve(Duration::ZERO);
        self.failure = None; // it belonged to what was aborted
        result
    }

    fn topic(&mut self, name: &str) -> Result<TopicHandle> {
        if let Some(index) = self.topics.iter().position(|topic| topic.name == name) {
            return Ok(TopicHandle(index));
        }
        let c_name = c_string(name)?;
        // SAFETY: the handle lives, the name ends with NUL, null is the default configuration.
        let handle =
            unsafe { ffi::rd_kafka_topic_new(self.client.rk(), c_name.as_ptr(), ptr::null_mut()) };
        if handle.is_null() {
            return Err(Error::invalid(format!("\"{name}\" cannot be a topic's name")));
        }
        self.topics.push(Topic { name: name.to_owned(), handle, partitions: None });
        Ok(TopicHandle(self.topics.len() - 1))
    }

    fn partition_count(&mut self, topic: TopicHandle, timeout: Duration) -> Result<i32> {
        let entry = &mut self.topics[topic.0];
        if let Some(count) = entry.partitions {
            return Ok(count);
        }
        let attempted = format!("asking for the partitions of \"{}\"", entry.name);
        let mut metadata = ptr::null();
        // SAFETY: handle and topic live; the answer is read and then freed once.
        let (code, count) = unsafe {
            let code = ffi::rd_kafka_metadata(
                self.client.rk(),
                0,
                entry.handle,
                &mut metadata,
                millis(timeout),
            );
            error::check(code, || attempted.clone())?;
            let found = ((*metadata).topic_cnt > 0).then(|| &*(*metadata).topics);
            let answer = found.map_or((Code::UnknownTopic, 0), |topic| {
                (Code::from(topic.err), topic.partition_cnt)
            });
            ffi::rd_kafka_metadata_destroy(metadata);
            answer
        };
        if code != Code::NoError || count == 0 {
            let code = if code == Code::NoError { Code::UnknownTopic } else { code };
            return Err(error::from_code(code, &attempted, ""));
        }
        entry.partitions = Some(count);
        Ok(count)
    }

    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()> {
        if record.timestamp.as_millis() < 0 {
            return Err(Error::bad_record(format!(
                "record to \"{}\" has the negative timestamp {}",
                self.topics[record.topic.0].name, record.timestamp
            )));
        }
        let mut code = self.enqueue(&record);
        if code == Code::QueueFull {
            let deadline = self.clock.monotonic() + QUEUE_FULL_WAIT;
            while code == Code::QueueFull && self.clock.monotonic() < deadline {
                self.serve(FULL_SLICE);
                code = self.enqueue(&record);
            }
        }
        if code == Code::NoError { Ok(()) } else { Err(self.refused(code, record.topic)) }
    }

    fn flush(&mut self, timeout: Duration) -> Result<()> {
        let deadline = self.clock.monotonic() + timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            // SAFETY: the handle lives.
            let code = unsafe { ffi::rd_kafka_flush(self.client.rk(), millis(left.min(SLICE))) };
            self.serve(Duration::ZERO);
            self.delivery_failure()?;
            match Code::from(code) {
                Code::OperationTimedOut if self.clock.monotonic() < deadline => {}
                _ => return error::check(code, || "waiting for acknowledgements".into()),
            }
        }
    }

    fn poll(&mut self) -> Result<()> {
        self.serve(Duration::ZERO);
        self.delivery_failure()
    }
}

/// Pointer and length for C; null is Kafka's null, and an empty slice's pointer is not null.
fn raw(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

/// Headers as librdkafka wants them; the caller owns them until a produce call succeeds.
fn native_headers(headers: &Headers) -> *mut ffi::rd_kafka_headers_t {
    // SAFETY: names and values are copied; lengths are given, so that names need no NUL.
    unsafe {
        let list = ffi::rd_kafka_headers_new(8);
        for header in headers.iter() {
            let (value, length) = raw(header.value.as_deref());
            ffi::rd_kafka_header_add(
                list,
                header.key.as_ptr().cast(),
                header.key.len().cast_signed(),
                value.cast_const(),
                length.cast_signed(),
            );
        }
        list
    }
}
