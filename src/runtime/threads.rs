//! How the client's threads start, wait for each other, and end.
//!
//! The operating system's threads, unless a [`Scheduler`] takes their place: then exactly one runs at a time, and gives its turn away where
//! it calls a port to Kafka or waits here, so that a simulation decides every interleaving. Cold: no record comes by.
//! Deliberately absent: locks. They are held over no port's call, so that whoever holds one finishes with it in its own turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::error::{Error, Result};
use crate::time::Clock;

/// How long a scheduled thread that waits for another's end gives its turn away at once.
const JOIN_PAUSE: Duration = Duration::from_millis(10);

/// Runs the threads of clients in turns, in the place of the operating system.
pub trait Scheduler: Send + Sync {
    /// Starts a thread; its first turn comes later.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>);
    /// Gives the calling thread's turn away, for at most `timeout` by the client's clock; may come back earlier, for no reason.
    fn pause(&self, timeout: Duration);
}

/// Where the threads of a client come from: [`Default`] is the operating system.
#[derive(Clone, Default)]
pub struct Threads {
    scheduler: Option<Arc<dyn Scheduler>>,
}

impl Threads {
    /// Threads that run when `scheduler` says so.
    pub fn scheduled(scheduler: Arc<dyn Scheduler>) -> Self {
        Self { scheduler: Some(scheduler) }
    }

    /// Starts a thread. What its body panics with is the body's business.
    pub(super) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<Thread> {
        let Some(scheduler) = &self.scheduler else {
            let thread = std::thread::Builder::new().name(format!("kstreams-{name}")).spawn(body);
            return thread.map(Thread::System).map_err(|error| {
                Error::fatal(format!("cannot start thread {name}")).with_source(error)
            });
        };
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let body = move || {
            body();
            end.store(true, Ordering::Release);
        };
        scheduler.spawn(name, Box::new(body));
        Ok(Thread::Scheduled { ended, scheduler: scheduler.clone() })
    }

    /// Waits for a message, for at most `timeout`; `None` as well where nobody can send any more.
    pub(super) fn receive<T>(
        &self,
        inbox: &Receiver<T>,
        timeout: Duration,
        clock: &dyn Clock,
    ) -> Option<T> {
        let Some(scheduler) = &self.scheduler else { return inbox.recv_timeout(timeout).ok() };
        let deadline = clock.monotonic() + timeout;
        loop {
            match inbox.try_recv() {
                Ok(message) => return Some(message),
                Err(error) if error.is_disconnected() => return None,
                Err(_) => {}
            }
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return None;
            }
            scheduler.pause(left);
        }
    }

    /// The scheduler, for those who wait for something else.
    pub(super) fn scheduler(&self) -> Option<&dyn Scheduler> {
        self.scheduler.as_deref()
    }
}

/// A thread that was started.
pub(super) enum Thread {
    System(JoinHandle<()>),
    Scheduled { ended: Arc<AtomicBool>, scheduler: Arc<dyn Scheduler> },
}

impl Thread {
    /// Waits for its end.
    ///
    /// # Errors
    /// `Fatal` where it panicked.
    pub(super) fn join(self) -> Result<()> {
        match self {
            Self::System(thread) => thread.join().map_err(|_| Error::fatal("a thread panicked")),
            Self::Scheduled { ended, scheduler } => {
                while !ended.load(Ordering::Acquire) {
                    scheduler.pause(JOIN_PAUSE);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::time::{MockClock, Timestamp};

    /// Runs what was started whole, in the first pause after; a pause takes all of its time.
    struct InPauses {
        started: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
        clock: MockClock,
    }

    impl Scheduler for InPauses {
        fn spawn(&self, _: &str, body: Box<dyn FnOnce() + Send>) {
            self.started.lock().unwrap().push(body);
        }

        fn pause(&self, timeout: Duration) {
            self.clock.advance(timeout);
            let started = std::mem::take(&mut *self.started.lock().unwrap());
            started.into_iter().for_each(|body| body());
        }
    }

    #[test]
    fn scheduled_threads_run_while_others_wait() {
        let clock = MockClock::new(Timestamp::from_millis(1));
        let scheduler = InPauses { started: Mutex::default(), clock: clock.clone() };
        let threads = Threads::scheduled(Arc::new(scheduler));
        let (sender, inbox) = unbounded();
        let one = threads.spawn("one", move || sender.send(7).unwrap()).unwrap();
        assert_eq!(inbox.try_recv().ok(), None, "it has had no turn yet");
        assert_eq!(threads.receive(&inbox, Duration::from_secs(1), &clock), Some(7));
        one.join().unwrap();
        assert_eq!(threads.receive(&inbox, Duration::from_secs(1), &clock), None, "no sender");
    }

    #[test]
    fn waiting_for_a_message_ends_with_its_time() {
        let clock = MockClock::new(Timestamp::from_millis(1));
        let scheduler = InPauses { started: Mutex::default(), clock: clock.clone() };
        let (_sender, inbox) = unbounded::<()>();
        for threads in [Threads::default(), Threads::scheduled(Arc::new(scheduler))] {
            assert_eq!(threads.receive(&inbox, Duration::from_millis(1), &clock), None);
        }
        assert_eq!(clock.now(), Timestamp::from_millis(2));
    }

    #[test]
    fn a_panic_is_told_to_whoever_joins() {
        let thread = Threads::default().spawn("bad", || panic!("on purpose")).unwrap();
        assert!(thread.join().is_err());
    }
}
