//! Asynchronous calls: on a runtime of their own, with time-outs and retries; their results come back over a channel.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

use crate::error::{Error, ErrorKind, Result};

/// Threads of the process's own runtime: they start calls and take their answers, and wait for nothing.
const WORKER_THREADS: usize = 2;
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Ends the sleep of the thread that runs the task.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// A call that was begun.
pub(crate) type Call<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// How long a call may take, and how often it is tried.
#[derive(Debug, Clone)]
pub(crate) struct CallLimits {
    /// Of one attempt.
    pub(crate) timeout: Duration,
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// Before the first retry; doubled before each further one, up to `BACKOFF_MAX`.
    pub(crate) backoff: Duration,
}

/// What a call came to.
pub(crate) struct Answer<T> {
    pub(crate) sequence: i64,
    pub(crate) result: Result<T>,
}

/// The calls of one node of a task that are under way. Those that are when it is dropped are broken off.
pub(crate) struct Calls<T> {
    runtime: Option<Handle>,
    limits: CallLimits,
    under_way: BTreeMap<i64, AbortHandle>,
    answers: Receiver<Answer<T>>,
    reply_to: Sender<Answer<T>>,
}

impl<T: Send + 'static> Calls<T> {
    /// Calls on `runtime`; without one, on the process's own.
    pub(crate) fn new(runtime: Option<Handle>, limits: CallLimits) -> Self {
        // Bounded by what may be under way.
        let (reply_to, answers) = unbounded();
        Self { runtime, limits, under_way: BTreeMap::new(), answers, reply_to }
    }

    /// Begins a call; `begin` is asked for each attempt. `wake` is called when there is an answer.
    pub(crate) fn start(
        &mut self,
        sequence: i64,
        begin: impl Fn() -> Call<T> + Send + 'static,
        wake: Wake,
    ) -> Result<()> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime.clone(),
            None => own_runtime()?,
        };
        let mut reply = Reply { sequence, to: Some((self.reply_to.clone(), wake)) };
        let limits = self.limits.clone();
        let task = runtime.spawn(async move {
            let result = attempt(begin, &limits).await;
            reply.send(result);
        });
        self.under_way.insert(sequence, task.abort_handle());
        Ok(())
    }

    /// The next answer that has come.
    pub(crate) fn answer(&mut self) -> Option<Answer<T>> {
        let answer = self.answers.try_recv().ok()?;
        self.under_way.remove(&answer.sequence);
        Some(answer)
    }

    /// The next answer, and until when it must have come; `None`: it has not.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<Answer<T>> {
        let answer = self.answers.recv_timeout(timeout).ok()?;
        self.under_way.remove(&answer.sequence);
        Some(answer)
    }

    pub(crate) fn is_under_way(&self, sequence: i64) -> bool {
        self.under_way.contains_key(&sequence)
    }

    pub(crate) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Breaks a call off; its answer may come all the same.
    pub(crate) fn break_off(&mut self, sequence: i64) {
        if let Some(call) = self.under_way.remove(&sequence) {
            call.abort();
        }
    }
}

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        self.under_way.values().for_each(AbortHandle::abort);
    }
}

/// Sends a call's answer, once, whatever becomes of the call.
struct Reply<T> {
    sequence: i64,
    to: Option<(Sender<Answer<T>>, Wake)>,
}

impl<T> Reply<T> {
    fn send(&mut self, result: Result<T>) {
        if let Some((to, wake)) = self.to.take() {
            // Whoever asked may be gone.
            let _ = to.send(Answer { sequence: self.sequence, result });
            wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.send(Err(Error::bad_record("the call panicked or was broken off")));
    }
}

/// A call with its retries. Only what may go away by itself is tried again.
async fn attempt<T>(begin: impl Fn() -> Call<T>, limits: &CallLimits) -> Result<T> {
    let mut backoff = limits.backoff;
    let mut attempts = 1;
    loop {
        let call = begin();
        let error = match tokio::time::timeout(limits.timeout, call).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Retriable => error,
            Ok(done) => return done,
            Err(_) => Error::retriable(format!("no answer within {:?}", limits.timeout)),
        };
        if attempts > limits.retries {
            let text = format!("gave up after {attempts} attempts: {error}");
            return Err(Error::bad_record(text).with_source(error));
        }
        attempts += 1;
        tokio::time::sleep(backoff).await;
        backoff = (2 * backoff).min(BACKOFF_MAX);
    }
}

/// The runtime that calls of this process share, unless they are given another one. Starts with the first call.
fn own_runtime() -> Result<Handle> {
    static OWN: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(WORKER_THREADS).thread_name("kstreams-calls");
        builder.enable_all().build().map_err(|error| error.to_string())
    };
    match OWN.get_or_init(start) {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => {
            Err(Error::fatal(format!("cannot start the runtime of asynchronous calls: {error}")))
        }
    }
}
