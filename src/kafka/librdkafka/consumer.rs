//! Records of manually assigned partitions, each from its own librdkafka queue. Hot path: [`drain`](Consumer::drain).
//!
//! Owned by one stream thread. librdkafka fetches ahead on its broker threads, up to a limit per partition; a drain takes
//! what is there, copies keys and values of the batch into one buffer and gives librdkafka's memory back at once, so that a
//! record kept by the engine pins its batch (about a megabyte at most) and not a whole fetch response.
#![allow(unsafe_code)] // batch consumption has no safe wrapper

use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};

use super::client::{Client, c_string, millis};
use super::config::ClientSettings;
use super::error;
use super::partitions::{OFFSET_INVALID, PartitionList};
use super::queue::{Queue, Signal};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    CommittedOffset, Consumer, ConsumerPurpose, Drained, PartitionSlot, StartOffset,
};
use crate::record::{Header, Headers, RawRecord};
use crate::time::Timestamp;

/// Records taken from librdkafka in one call; bounds the shared buffer.
const BATCH_MAX: usize = 1000;

/// The consumer. Fields drop in order: queues before the client, the client before the signal its callbacks raise.
pub(super) struct PartitionConsumer {
    slots: Vec<Option<Slot>>,
    common: Queue,
    client: Client,
    signal: Arc<Signal>,
    messages: Vec<*mut ffi::rd_kafka_message_t>,
    batch: Vec<Taken>,
}

// SAFETY: the raw pointers in `messages` are only live inside `drain`; all else is Send.
unsafe impl Send for PartitionConsumer {}

struct Slot {
    partition: TopicPartition,
    queue: Queue,
    /// Where the log ended, as long as no record has come after.
    end: Option<i64>,
}

/// A record between librdkafka's memory and ours: lengths in the shared buffer, `None` is Kafka's null.
struct Taken {
    offset: i64,
    timestamp: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: Headers,
}

impl PartitionConsumer {
    pub(super) fn new(settings: &ClientSettings, purpose: ConsumerPurpose) -> Result<Self> {
        let properties = settings.consumer_properties(purpose);
        let client = Client::new(RDKafkaType::RD_KAFKA_CONSUMER, &properties)?;
        // Errors of the client as a whole then come through the common queue as well.
        // SAFETY: the handle lives.
        error::check(unsafe { ffi::rd_kafka_poll_set_consumer(client.rk()) }, || {
            "cannot redirect the consumer's main queue".into()
        })?;
        let common = Queue::of_consumer(&client)?;
        let signal = Arc::new(Signal::default());
        // SAFETY: the signal is dropped after the client (field order).
        unsafe { common.raise_on_arrival(&signal) };
        let messages = vec![ptr::null_mut(); BATCH_MAX];
        Ok(Self { slots: Vec::new(), common, client, signal, messages, batch: Vec::new() })
    }

    /// Serves the common queue; only errors come here, since every partition has its own queue.
    fn serve_common(&mut self) -> Result<()> {
        // SAFETY: queue and array live; every message is destroyed once, after its last use.
        unsafe {
            let count = self.take_batch(self.common.as_ptr(), BATCH_MAX);
            for &message in &self.messages[..count] {
                let (code, text) = fault_of(message);
                tracing::warn!(target: "librdkafka", ?code, "consumer: {text}");
                ffi::rd_kafka_message_destroy(message);
            }
        }
        let faults = std::mem::take(&mut self.client.inbox().faults);
        match faults.into_iter().find(|fault| fault.fatal || is_fatal(fault.code)) {
            Some(fault) => Err(error::with_kind(
                ErrorKind::Fatal,
                fault.code,
                "the consumer cannot go on",
                &fault.text,
            )),
            None => Ok(()), // librdkafka repairs the rest, and has logged it
        }
    }

    /// # Safety
    /// `queue` is a live queue of this client; the caller destroys the messages.
    unsafe fn take_batch(&mut self, queue: *mut ffi::rd_kafka_queue_t, max: usize) -> usize {
        // SAFETY: the array has at least `max` places, and the queue lives by the caller's promise.
        let count =
            unsafe { ffi::rd_kafka_consume_batch_queue(queue, 0, self.messages.as_mut_ptr(), max) };
        usize::try_from(count).unwrap_or(0)
    }

    fn slot(&mut self, slot: PartitionSlot) -> &mut Slot {
        self.slots
            .get_mut(slot.0)
            .and_then(Option::as_mut)
            .expect("a slot is used between its assign and its unassign only")
    }

    /// Takes one batch over: records into `self.batch` and the buffer returned. On an error (which librdkafka puts
    /// between the records) the records before it are still handed over; the error comes back beside them.
    fn take_over(&mut self, slot: PartitionSlot, max: usize) -> (usize, Bytes, Result<()>) {
        let queue = self.slot(slot).queue.as_ptr();
        // SAFETY: the slot's queue lives as long as the slot; messages are live until destroyed below, once each.
        unsafe {
            let count = self.take_batch(queue, max);
            let messages = &self.messages[..count];
            let bytes = messages.iter().map(|&m| (*m).key_len + (*m).len).sum();
            let mut buffer = BytesMut::with_capacity(bytes);
            let entry = self.slots[slot.0].as_mut().expect("looked up above");
            let mut outcome = Ok(());
            for &message in messages {
                match Code::from((*message).err) {
                    Code::NoError => {
                        entry.end = None;
                        self.batch.push(copy(message, &mut buffer));
                    }
                    Code::PartitionEOF => entry.end = Some((*message).offset),
                    code if outcome.is_ok() => {
                        let (_, text) = fault_of(message);
                        let attempted = format!("reading {}", entry.partition);
                        outcome = Err(error::from_code(code, &attempted, &text));
                    }
                    _ => {}
                }
                ffi::rd_kafka_message_destroy(message);
            }
            (count, buffer.freeze(), outcome)
        }
    }
}

/// How often a partition's offsets are asked for again after an error that goes away by itself.
const OFFSET_RETRIES_MAX: usize = 10;
const OFFSET_RETRY_BACKOFF: Duration = Duration::from_millis(200);

impl Consumer for PartitionConsumer {
    fn assign(&mut self, partition: &TopicPartition, start: StartOffset) -> Result<PartitionSlot> {
        if self.slots.iter().flatten().any(|slot| slot.partition == *partition) {
            return Err(Error::fatal(format!("partition {partition} is assigned already")));
        }
        let offset = match start {
            StartOffset::Beginning => i64::from(ffi::RD_KAFKA_OFFSET_BEGINNING),
            StartOffset::End => i64::from(ffi::RD_KAFKA_OFFSET_END),
            StartOffset::At(offset) if offset >= 0 => offset,
            StartOffset::At(offset) => {
                return Err(Error::fatal(format!("offset {offset} of {partition} is negative")));
            }
        };
        let list = PartitionList::new([(partition, offset)])?;
        let queue = Queue::of_partition(&self.client, partition)?;
        // SAFETY: the signal is dropped after the client (field order).
        unsafe { queue.raise_on_arrival(&self.signal) };
        // SAFETY: handle and list live; the list is copied.
        let result = unsafe { ffi::rd_kafka_incremental_assign(self.client.rk(), list.as_ptr()) };
        if let Some(failure) = error::Failure::take(result) {
            return Err(failure.into_error(&format!("assigning {partition}")));
        }
        let slot = Some(Slot { partition: partition.clone(), queue, end: None });
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.slots.len());
        match free {
            Some(index) => self.slots[index] = slot,
            None => self.slots.push(slot),
        }
        Ok(PartitionSlot(index))
    }

    fn unassign(&mut self, slot: PartitionSlot) -> Result<()> {
        let removed = self
            .slots
            .get_mut(slot.0)
            .and_then(Option::take)
            .expect("a slot is unassigned once, after its assign");
        let list = PartitionList::new([(&removed.partition, OFFSET_INVALID)])?;
        // SAFETY: handle and list live; the list is copied.
        let result = unsafe { ffi::rd_kafka_incremental_unassign(self.client.rk(), list.as_ptr()) };
        // What is buffered is outdated by the unassignment, and librdkafka frees it as it meets it: meet it now. The
        // queue is the partition's own and empty again when the partition comes back.
        // SAFETY: the queue lives until `removed` is dropped; each message is destroyed once.
        unsafe {
            loop {
                let count = self.take_batch(removed.queue.as_ptr(), BATCH_MAX);
                if count == 0 {
                    break;
                }
                for &message in &self.messages[..count] {
                    ffi::rd_kafka_message_destroy(message);
                }
            }
        }
        match error::Failure::take(result) {
            Some(failure) => Err(failure.into_error(&format!("unassigning {}", removed.partition))),
            None => Ok(()),
        }
    }

    fn drain(
        &mut self,
        slot: PartitionSlot,
        max_records: usize,
        into: &mut dyn FnMut(RawRecord),
    ) -> Result<Drained> {
        let mut records = 0;
        while records < max_records {
            let wanted = (max_records - records).min(BATCH_MAX);
            let (count, buffer, outcome) = self.take_over(slot, wanted);
            records += self.batch.len();
            hand_over(&mut self.batch, buffer, into);
            if outcome.is_err() {
                // The signal was taken down for what is left in the queue: raise it, so that nothing waits there.
                self.signal.raise();
            }
            outcome?;
            if count < wanted {
                break; // the queue was empty: its next arrival raises the signal
            }
        }
        if records >= max_records {
            // Something may be left, and a queue that was not emptied does not signal again.
            self.signal.raise();
        }
        Ok(Drained { records, end_of_partition: self.slot(slot).end })
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.serve_common()?;
        self.signal.wait(timeout);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let signal = Arc::clone(&self.signal);
        Arc::new(move || signal.raise())
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<CommittedOffset>>> {
        // librdkafka asks for stable offsets (KIP-447) under read_committed, and repeats until they are.
        let list = PartitionList::new(partitions.iter().map(|p| (p, OFFSET_INVALID)))?;
        // SAFETY: handle and list live.
        let code =
            unsafe { ffi::rd_kafka_committed(self.client.rk(), list.as_ptr(), millis(timeout)) };
        error::check(code, || format!("asking for {} committed offsets", partitions.len()))?;
        list.commits()
            .into_iter()
            .map(|(partition, committed, code)| match code {
                Code::NoError => Ok((committed.offset >= 0).then_some(committed)),
                code => Err(error::from_code(
                    code,
                    &format!("asking for the committed offset of {partition}"),
                    "",
                )),
            })
            .collect()
    }

    fn offsets(&mut self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64)> {
        let topic = c_string(&partition.topic)?;
        let (mut low, mut high) = (0, 0);
        let mut ask = || {
            // SAFETY: the handle lives, the name ends with NUL, the two numbers outlive the call.
            unsafe {
                ffi::rd_kafka_query_watermark_offsets(
                    self.client.rk(),
                    topic.as_ptr(),
                    partition.partition,
                    &mut low,
                    &mut high,
                    millis(timeout),
                )
            }
        };
        let mut code = ask();
        // librdkafka does not ask again by itself where the partition has just been made, or has a new leader.
        for _ in 0..OFFSET_RETRIES_MAX {
            if !matches!(code.into(), Code::NotLeaderForPartition | Code::LeaderNotAvailable) {
                break;
            }
            std::thread::park_timeout(OFFSET_RETRY_BACKOFF);
            code = ask();
        }
        error::check(code, || format!("asking for the offsets of {partition}"))?;
        Ok((low, high))
    }

    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        let topic = c_string(&partition.topic).ok()?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: as in `offsets`.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.client.rk(),
                topic.as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
            )
        };
        (Code::from(code) == Code::NoError && high >= 0).then_some(high)
    }

    fn offset_for_time(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
        timeout: Duration,
    ) -> Result<i64> {
        let attempted = || format!("asking for the offset of {partition} at {timestamp}");
        let list = PartitionList::new([(partition, timestamp.as_millis())])?;
        // SAFETY: handle and list live.
        let code = unsafe {
            ffi::rd_kafka_offsets_for_times(self.client.rk(), list.as_ptr(), millis(timeout))
        };
        error::check(code, attempted)?;
        let (_, offset, code) = list.entries().pop().expect("one entry was put in");
        if code != Code::NoError {
            return Err(error::from_code(code, &attempted(), ""));
        }
        if offset >= 0 { Ok(offset) } else { Ok(self.offsets(partition, timeout)?.1) }
    }
}

/// Copies a record's bytes behind what `buffer` holds.
///
/// # Safety
/// `message` is live and no error.
unsafe fn copy(message: *mut ffi::rd_kafka_message_t, buffer: &mut BytesMut) -> Taken {
    let mut part = |data: *const u8, length: usize| {
        if data.is_null() {
            return None;
        }
        // SAFETY: librdkafka gives the pointer together with the length of what it points to.
        buffer.extend_from_slice(unsafe { std::slice::from_raw_parts(data, length) });
        Some(length)
    };
    // SAFETY: the message is live by the caller's promise.
    unsafe {
        Taken {
            offset: (*message).offset,
            timestamp: ffi::rd_kafka_message_timestamp(message, ptr::null_mut()),
            key: part((*message).key.cast_const().cast(), (*message).key_len),
            value: part((*message).payload.cast_const().cast(), (*message).len),
            headers: headers_of(message),
        }
    }
}

/// Headers own their bytes: they are rare, and outlive batches in dead letters.
///
/// # Safety
/// `message` is live and no error.
unsafe fn headers_of(message: *mut ffi::rd_kafka_message_t) -> Headers {
    let mut list = ptr::null_mut();
    // SAFETY: live by the caller's promise. Headers belong to the message; names end with NUL; a null value is Kafka's null.
    unsafe {
        if Code::from(ffi::rd_kafka_message_headers(message, &mut list)) != Code::NoError {
            return Headers::default();
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        (0..)
            .map_while(|index| {
                let code =
                    ffi::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
                (Code::from(code) == Code::NoError).then(|| Header {
                    key: CStr::from_ptr(name).to_string_lossy().into(),
                    value: (!value.is_null()).then(|| {
                        Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast(), size))
                    }),
                })
            })
            .collect()
    }
}

/// Cuts the shared buffer into records.
fn hand_over(batch: &mut Vec<Taken>, mut buffer: Bytes, into: &mut dyn FnMut(RawRecord)) {
    for taken in batch.drain(..) {
        let key = taken.key.map(|length| buffer.split_to(length));
        let value = taken.value.map(|length| buffer.split_to(length));
        into(RawRecord {
            offset: taken.offset,
            timestamp: Timestamp::from_millis(taken.timestamp),
            key,
            value,
            headers: taken.headers,
        });
    }
}

/// # Safety
/// `message` is live and carries an error.
unsafe fn fault_of(message: *const ffi::rd_kafka_message_t) -> (Code, String) {
    // SAFETY: live by the caller's promise; the text belongs to the message.
    unsafe {
        let text = ffi::rd_kafka_message_errstr(message);
        let text = if text.is_null() {
            String::new()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        (Code::from((*message).err), text)
    }
}

fn is_fatal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::GroupAuthorizationFailed
    )
}
