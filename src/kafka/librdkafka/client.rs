//! One librdkafka handle: made from properties, its callbacks turned into plain state, destroyed in order.
//!
//! Used by every client in this folder. librdkafka calls the log callback from its own threads; the others run on the
//! thread that polls the handle.
#![allow(unsafe_code)] // this file is the border to librdkafka's C API

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr, RDKafkaType};

use super::config::ADMIN_ROLE;
use super::{error, partitions};
use crate::error::{Error, Result};
use crate::ids::TopicPartition;
use crate::time::{Clock as _, SystemClock};

/// Faults kept until somebody asks; older ones are dropped (they were logged).
const FAULTS_MAX: usize = 16;
/// Between two looks at what brokers say to the first connection.
const REACH_STEP: Duration = Duration::from_millis(50);

/// A fault that librdkafka tells about the client as a whole.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) fatal: bool,
    pub(super) text: String,
}

impl Fault {
    /// A fault as told; a fatal one is replaced by its cause, which librdkafka keeps with the handle.
    pub(super) fn new(rk: *mut ffi::rd_kafka_t, code: Code, text: String) -> Self {
        let told = Self { code, fatal: code == Code::Fatal, text };
        match fatal_error(rk).filter(|_| told.fatal) {
            Some((code, text)) => Self { code, fatal: true, text },
            None => told,
        }
    }
}

/// What the group protocol said, not yet answered.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked { partitions: Vec<TopicPartition>, lost: bool },
}

/// What the callbacks leave behind for the owner of the client.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) faults: VecDeque<Fault>,
    pub(super) rebalances: VecDeque<Rebalance>,
    /// Answer rebalances at once: the member is leaving.
    pub(super) closing: bool,
    /// The text of the last fault, kept for error messages about time-outs.
    pub(super) last_fault: Option<String>,
}

impl Inbox {
    pub(super) fn add_fault(&mut self, fault: Fault) {
        // librdkafka logs each of these itself, as a warning.
        tracing::debug!(target: "librdkafka", code = ?fault.code, fatal = fault.fatal, "{}", fault.text);
        // "All brokers are down" is a summary: the fault before it names the address and the reason.
        if fault.code != Code::AllBrokersDown || self.last_fault.is_none() {
            self.last_fault = Some(fault.text.clone());
        }
        if self.faults.len() == FAULTS_MAX {
            self.faults.pop_front();
        }
        self.faults.push_back(fault);
    }
}

/// An owned handle.
pub(super) struct Client {
    rk: *mut ffi::rd_kafka_t,
    inbox: Arc<Mutex<Inbox>>,
    bootstrap: String,
    /// What a refused connection is told with: no secrets.
    security: Security,
    reached: AtomicBool,
}

/// Settings of the first connection, as errors tell them.
struct Security {
    user: String,
    mechanism: String,
    authority: String,
}

impl Security {
    fn of(properties: &BTreeMap<String, String>) -> Self {
        let first = |names: &[&str], otherwise: &str| {
            let found = names.iter().find_map(|name| properties.get(*name));
            found.cloned().unwrap_or_else(|| otherwise.to_owned())
        };
        Self {
            user: first(&["sasl.username"], ""),
            mechanism: first(&["sasl.mechanism", "sasl.mechanisms"], "no mechanism"),
            authority: first(&["ssl.ca.location"], "the system's"),
        }
    }

    /// What to do about librdkafka's words on a client that could not be made.
    fn advice(&self, words: &str) -> String {
        let Self { mechanism, authority, .. } = self;
        if words.contains("ssl.ca.location") {
            format!("; found ssl.ca.location = {authority}, wanted a PEM file that can be read")
        } else if words.contains("SASL mechanism") {
            format!(
                "; found sasl.mechanism = {mechanism}, wanted SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER"
            )
        } else {
            String::new()
        }
    }

    fn has_callbacks(&self) -> bool {
        self.mechanism.eq_ignore_ascii_case("OAUTHBEARER")
    }
}

// SAFETY: "librdkafka is completely thread-safe" (rdkafka.h); the inbox is behind a lock.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Makes a handle; no connection is awaited.
    ///
    /// # Errors
    /// `Invalid` for a property that librdkafka does not know or refuses.
    pub(super) fn new(kind: RDKafkaType, properties: &BTreeMap<String, String>) -> Result<Self> {
        let conf = Conf::new(properties)?;
        let security = Security::of(properties);
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let mut text = ErrorText::default();
        // SAFETY: `conf` is a live configuration, which rd_kafka_new takes over when it succeeds. The opaque points into
        // `inbox`, which the client holds until after rd_kafka_destroy, the last moment at which callbacks may run.
        let rk = unsafe {
            ffi::rd_kafka_conf_set_opaque(conf.0, Arc::as_ptr(&inbox).cast_mut().cast());
            ffi::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            ffi::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            ffi::rd_kafka_conf_enable_sasl_queue(conf.0, security.has_callbacks().into());
            if kind == RDKafkaType::RD_KAFKA_CONSUMER {
                ffi::rd_kafka_conf_set_rebalance_cb(conf.0, Some(on_rebalance));
            } else {
                // Delivery reports as events: with callbacks, librdkafka's flush (and so every commit) sleeps in steps of
                // 10 ms where reports come for failures only.
                ffi::rd_kafka_conf_set_events(
                    conf.0,
                    ffi::RD_KAFKA_EVENT_DR | ffi::RD_KAFKA_EVENT_ERROR,
                );
            }
            ffi::rd_kafka_new(kind, conf.0, text.as_mut_ptr(), ErrorText::SIZE)
        };
        if rk.is_null() {
            return Err(Error::invalid(format!(
                "cannot make a Kafka client: {}{}",
                text.get(),
                security.advice(&text.get())
            )));
        }
        std::mem::forget(conf); // taken over by the handle
        let bootstrap = properties.get("bootstrap.servers").cloned().unwrap_or_default();
        let client = Self { rk, inbox, bootstrap, security, reached: AtomicBool::new(false) };
        if client.security.has_callbacks() {
            // Tokens are made on librdkafka's own thread: a call that waits for a broker polls nothing meanwhile.
            // SAFETY: the handle lives; the error object is taken over.
            let failure = unsafe { ffi::rd_kafka_sasl_background_callbacks_enable(rk) };
            if let Some(failure) = error::Failure::take(failure) {
                return Err(failure.into_error("cannot make login tokens"));
            }
        }
        Ok(client)
    }

    /// Waits until a broker has let this client in; at once where one has before.
    ///
    /// # Errors
    /// `Fatal` as soon as a broker refuses the login or shows a certificate that is not trusted: no waiting mends that.
    /// `Retriable` where none answers within `timeout`.
    pub(super) fn reach(&self, timeout: Duration) -> Result<()> {
        let clock = SystemClock::default();
        let deadline = clock.monotonic() + timeout;
        while !self.reached.load(Ordering::Relaxed) {
            // SAFETY: the handle lives; the text is freed once, by the function for it.
            let is_in = unsafe {
                // Known from the first metadata, and so after TLS and login.
                let id = ffi::rd_kafka_clusterid(self.rk, millis(REACH_STEP));
                ffi::rd_kafka_mem_free(self.rk, id.cast());
                !id.is_null()
            };
            self.reached.store(is_in, Ordering::Relaxed);
            self.serve();
            let refusal = self.inbox().faults.iter().find_map(|fault| self.refusal(fault));
            match refusal.filter(|_| !is_in) {
                Some(error) => return Err(error),
                None if !is_in && clock.monotonic() >= deadline => {
                    return Err(self.unreachable(timeout));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What a broker's refusal means: what was found, wanted, and what to do.
    fn refusal(&self, fault: &Fault) -> Option<Error> {
        let Security { user, mechanism, authority } = &self.security;
        let (bootstrap, text) = (&self.bootstrap, &fault.text);
        match fault.code {
            Code::Authentication | Code::SaslAuthenticationFailed => Some(Error::fatal(format!(
                "the brokers at \"{bootstrap}\" refuse the login of user \"{user}\" with {mechanism}: wanted a user, password and \
                 mechanism that they know; correct sasl.username, sasl.password or sasl.mechanism: {text}"
            ))),
            Code::SSL if text.contains("certificate verify failed") => Some(Error::fatal(format!(
                "a broker at \"{bootstrap}\" shows a certificate that no trusted authority has signed for its name: trusted is \
                 {authority}, wanted the authority of the brokers; correct ssl.ca.location: {text}"
            ))),
            _ => None,
        }
    }

    /// The raw handle, valid as long as `self`.
    pub(super) fn rk(&self) -> *mut ffi::rd_kafka_t {
        self.rk
    }

    /// What the callbacks have left.
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    /// Serves callbacks of the handle's main queue without waiting.
    pub(super) fn serve(&self) {
        // SAFETY: the handle lives.
        unsafe { ffi::rd_kafka_poll(self.rk, 0) };
    }

    /// The fatal error of this handle, where it has one.
    pub(super) fn fatal_error(&self) -> Option<(Code, String)> {
        fatal_error(self.rk)
    }

    /// What to say when nothing answered in time.
    pub(super) fn unreachable(&self, timeout: Duration) -> Error {
        self.serve();
        let last = self.inbox().last_fault.clone();
        let last = last.map_or_else(String::new, |fault| format!("; last fault: {fault}"));
        Error::retriable(format!(
            "no broker answered at \"{}\" within {} s; check bootstrap.servers, the network and the \
             security settings{last}",
            self.bootstrap,
            timeout.as_secs_f64(),
        ))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // NO_CONSUMER_CLOSE: leaving the group is an explicit act of the owner (`Membership::leave`); destroying
        // must neither wait for a broker nor for a rebalance callback that nobody answers.
        // SAFETY: the handle is destroyed once; queues and topics made from it are dropped before by their owners.
        unsafe {
            ffi::rd_kafka_destroy_flags(self.rk, ffi::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

/// A client configuration that is freed where no client took it over.
struct Conf(*mut ffi::rd_kafka_conf_t);

impl Conf {
    fn new(properties: &BTreeMap<String, String>) -> Result<Self> {
        // SAFETY: makes a new object.
        let conf = Self(unsafe { ffi::rd_kafka_conf_new() });
        let mut text = ErrorText::default();
        for (name, value) in properties {
            let (c_name, c_value) = (c_string(name)?, c_string(value)?);
            // SAFETY: `conf` lives, the strings end with NUL, the buffer has the given size.
            let result = unsafe {
                ffi::rd_kafka_conf_set(
                    conf.0,
                    c_name.as_ptr(),
                    c_value.as_ptr(),
                    text.as_mut_ptr(),
                    ErrorText::SIZE,
                )
            };
            if result != ffi::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                return Err(Error::invalid(format!(
                    "Kafka client property \"{name}\" cannot be set: {} (see librdkafka's CONFIGURATION.md)",
                    text.get()
                )));
            }
        }
        Ok(conf)
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: still owned; a configuration taken over by a client is forgotten, not dropped.
        unsafe { ffi::rd_kafka_conf_destroy(self.0) };
    }
}

/// A buffer for librdkafka's error texts.
pub(super) struct ErrorText([c_char; Self::SIZE]);

impl ErrorText {
    pub(super) const SIZE: usize = 512;

    pub(super) fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    pub(super) fn get(&self) -> String {
        // SAFETY: starts zeroed, and librdkafka ends what it writes with NUL inside the size it was given.
        unsafe { CStr::from_ptr(self.0.as_ptr()) }.to_string_lossy().into_owned()
    }
}

impl Default for ErrorText {
    fn default() -> Self {
        Self([0; Self::SIZE])
    }
}

/// A string for C.
pub(super) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::invalid(format!("{text:?} contains a NUL byte, which no name may have"))
    })
}

/// A time-out for librdkafka: milliseconds, rounded up, within `int`.
pub(super) fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
}

/// Locks, going on after a panic elsewhere: what these locks protect is valid at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fatal_error(rk: *mut ffi::rd_kafka_t) -> Option<(Code, String)> {
    let mut text = ErrorText::default();
    // SAFETY: the handle lives; the buffer has the given size.
    let code: Code =
        unsafe { ffi::rd_kafka_fatal_error(rk, text.as_mut_ptr(), ErrorText::SIZE) }.into();
    (code != Code::NoError).then(|| (code, text.get()))
}

/// Text of a C string that may be absent.
pub(super) fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka passes strings that end with NUL and live for the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// Called by librdkafka with the opaque given to it in [`Client::new`].
unsafe fn inbox_of<'a>(opaque: *mut c_void) -> MutexGuard<'a, Inbox> {
    // SAFETY: the opaque is the client's inbox, which outlives the handle.
    lock(unsafe { &*opaque.cast::<Mutex<Inbox>>() })
}

unsafe extern "C" fn on_log(
    rk: *const ffi::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: librdkafka passes its handle, or null before it is complete.
    let client =
        if rk.is_null() { String::new() } else { text_of(unsafe { ffi::rd_kafka_name(rk) }) };
    let (facility, text) = (text_of(facility), text_of(text));
    // Syslog levels. What librdkafka calls an error (a lost connection) it also repairs: a warning here. Whoever asks an
    // administration client waits for the answer, and is told why none comes.
    let is_told = level <= 4 && client.contains(&format!("-{ADMIN_ROLE}#"));
    match level {
        ..=4 if is_told => tracing::debug!(target: "librdkafka", client, facility, "{text}"),
        ..=4 => tracing::warn!(target: "librdkafka", client, facility, "{text}"),
        5..=6 => tracing::info!(target: "librdkafka", client, facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", client, facility, "{text}"),
    }
}

unsafe extern "C" fn on_error(
    rk: *mut ffi::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let code = RDKafkaRespErr::try_from(code).map_or(Code::Unknown, Code::from);
    let fault = Fault::new(rk, code, text_of(reason));
    // SAFETY: see `inbox_of`.
    unsafe { inbox_of(opaque) }.add_fault(fault);
}

/// Answers a rebalance of a member that leaves, inside the callback, as librdkafka documents. Each protocol takes its own answer only, and waits for
/// it without end.
///
/// # Safety
/// The handle lives.
unsafe fn answer_at_once(rk: *mut ffi::rd_kafka_t, assigned: bool) {
    // SAFETY: by the caller's promise; the list is copied and then freed once, as is the error, which librdkafka has logged.
    unsafe {
        if text_of(ffi::rd_kafka_rebalance_protocol(rk)) != "COOPERATIVE" {
            ffi::rd_kafka_assign(rk, ptr::null());
            return;
        }
        let nothing = ffi::rd_kafka_topic_partition_list_new(0);
        let failure = match assigned {
            true => ffi::rd_kafka_incremental_assign(rk, nothing),
            false => ffi::rd_kafka_incremental_unassign(rk, nothing),
        };
        ffi::rd_kafka_topic_partition_list_destroy(nothing);
        if !failure.is_null() {
            ffi::rd_kafka_error_destroy(failure);
        }
    }
}

/// Records the event; the answer comes from `Membership::acknowledge`. Runs on the control thread, inside its poll.
unsafe extern "C" fn on_rebalance(
    rk: *mut ffi::rd_kafka_t,
    code: RDKafkaRespErr,
    list: *mut ffi::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka passes a live list.
    let partitions = unsafe { partitions::read(list) }.into_iter().map(|entry| entry.0).collect();
    let assigned = Code::from(code) == Code::AssignPartitions;
    // SAFETY: the handle lives during its own callback.
    let lost = unsafe { ffi::rd_kafka_assignment_lost(rk) } != 0;
    // SAFETY: see `inbox_of`.
    let mut inbox = unsafe { inbox_of(opaque) };
    if inbox.closing {
        drop(inbox);
        // SAFETY: the handle lives during its own callback.
        unsafe { answer_at_once(rk, assigned) };
        return;
    }
    inbox.rebalances.push_back(if assigned {
        Rebalance::Assigned(partitions)
    } else {
        Rebalance::Revoked { partitions, lost }
    });
    drop(inbox);
    // SAFETY: ends the poll that this callback runs in, so that its caller sees the event at once.
    unsafe { ffi::rd_kafka_yield(rk) };
}
