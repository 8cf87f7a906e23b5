//! A queue of librdkafka, and the signal by which its arrivals wake a thread.
#![allow(unsafe_code)] // wraps a C structure

use std::ffi::c_void;
use std::ptr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings as ffi;

use super::client::{Client, c_string, lock};
use crate::error::{Error, Result};
use crate::ids::TopicPartition;

/// A flag that one thread waits for and any thread raises. A raise that comes before the wait is not lost.
#[derive(Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        let mut raised = lock(&self.raised);
        if !*raised {
            *raised = true;
            self.changed.notify_one();
        }
    }

    /// Waits until the flag is up or `timeout` is over, and takes it down.
    pub(super) fn wait(&self, timeout: Duration) {
        let raised = lock(&self.raised);
        let (mut raised, _) = self
            .changed
            .wait_timeout_while(raised, timeout, |raised| !*raised)
            .unwrap_or_else(PoisonError::into_inner);
        *raised = false;
    }
}

/// An owned reference to a queue; must be dropped before the client it came from.
pub(super) struct Queue(*mut ffi::rd_kafka_queue_t);

// SAFETY: librdkafka's queues are guarded by locks of their own.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of one partition, cut off from the consumer's common one. Cut it off before the partition is assigned, or
    /// its first records land in the common queue.
    pub(super) fn of_partition(client: &Client, partition: &TopicPartition) -> Result<Self> {
        let topic = c_string(&partition.topic)?;
        // SAFETY: the handle lives, the name ends with NUL; forwarding to null means to this queue itself.
        unsafe {
            let queue =
                ffi::rd_kafka_queue_get_partition(client.rk(), topic.as_ptr(), partition.partition);
            if queue.is_null() {
                return Err(Error::invalid(format!("partition {partition} has no queue")));
            }
            ffi::rd_kafka_queue_forward(queue, ptr::null_mut());
            Ok(Self(queue))
        }
    }

    /// The consumer's common queue: errors of the client as a whole.
    pub(super) fn of_consumer(client: &Client) -> Result<Self> {
        // SAFETY: the handle lives and is a consumer.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(client.rk()) };
        if queue.is_null() {
            return Err(Error::fatal("a consumer without a group has no common queue"));
        }
        Ok(Self(queue))
    }

    /// A producer's main queue: delivery reports and errors.
    pub(super) fn of_producer(client: &Client) -> Self {
        // SAFETY: the handle lives.
        Self(unsafe { ffi::rd_kafka_queue_get_main(client.rk()) })
    }

    /// A new queue for results of admin calls.
    pub(super) fn new(client: &Client) -> Self {
        // SAFETY: the handle lives.
        Self(unsafe { ffi::rd_kafka_queue_new(client.rk()) })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::rd_kafka_queue_t {
        self.0
    }

    /// Raises `signal` whenever the queue stops being empty.
    ///
    /// # Safety
    /// `signal` must live until the client is destroyed: a callback may be running while the queue is dropped.
    pub(super) unsafe fn raise_on_arrival(&self, signal: &Signal) {
        // SAFETY: the queue lives; `signal` lives long enough by the caller's promise.
        unsafe {
            ffi::rd_kafka_queue_cb_event_enable(
                self.0,
                Some(on_arrival),
                ptr::from_ref(signal).cast_mut().cast(),
            );
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, before its client. The callback goes first: librdkafka keeps the partition's
        // queue itself.
        unsafe {
            ffi::rd_kafka_queue_cb_event_enable(self.0, None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(self.0);
        }
    }
}

/// Runs on librdkafka's threads, under the queue's lock: it must only raise the flag.
unsafe extern "C" fn on_arrival(_rk: *mut ffi::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the opaque is the signal given in `raise_on_arrival`, which outlives the client.
    unsafe { &*opaque.cast::<Signal>() }.raise();
}
