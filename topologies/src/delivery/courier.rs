//! The courier: threads that carry messages to the providers, some for each channel, shared by all tasks of the process.
//!
//! A provider that hangs holds up the threads of its own channel only. The courier remembers what it has sent lately: where a task's transaction was aborted,
//! or its partition has come back, the same message is asked for again, and gets its result without being sent again.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use kstreams::{Error, Result};
use uuid::Uuid;

use crate::events::Channel;
use crate::traces;

use super::rules::{CHANNELS, Parcel, Reason, Verdict};
use super::templates::{Templates, Text};

/// Results remembered; the oldest are forgotten first.
const RECENT_MAX: usize = 10_000;

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub id: Uuid,
    /// What became of it.
    pub verdict: Verdict,
}

/// Carries messages away; the results come when they come.
pub trait Courier: Send + Sync {
    /// Takes a parcel; must not block.
    fn submit(&self, parcel: Parcel, reply_to: Sender<Reply>);
}

/// One channel's way to its provider. Called by several threads at once.
pub trait Carrier: Send + Sync {
    /// Sends a message and waits for the answer.
    fn send(&self, parcel: &Parcel, text: &Text) -> Verdict;
}

/// A carrier and how many threads use it.
pub struct Route {
    /// The channel.
    pub channel: Channel,
    /// The way to its provider.
    pub carrier: Arc<dyn Carrier>,
    /// Messages at a time.
    pub concurrency: usize,
}

/// The courier of a process. Threads start with the first parcel and end when it is dropped, after what they have in hand.
pub struct Pool {
    templates: Arc<Templates>,
    routes: Vec<Route>,
    started: OnceLock<Vec<(Channel, Arc<Queue>)>>,
    ledger: Arc<Mutex<Ledger>>,
}

/// Parcels that wait for a thread. Their number is bounded by what tasks have under way: `in_flight_max` each.
#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<Parcel>, bool)>,
    changed: Condvar,
}

/// Whom to tell of what is under way, and what was sent lately.
#[derive(Default)]
struct Ledger {
    under_way: HashMap<Uuid, Sender<Reply>>,
    sent: HashMap<Uuid, Verdict>,
    order: VecDeque<Uuid>,
}

impl Pool {
    /// A courier on these routes.
    pub fn new(templates: Arc<Templates>, routes: Vec<Route>) -> Self {
        Self { templates, routes, started: OnceLock::new(), ledger: Arc::default() }
    }

    fn start(&self) -> Vec<(Channel, Arc<Queue>)> {
        let mut queues = Vec::new();
        for route in &self.routes {
            let queue = Arc::<Queue>::default();
            for number in 0..route.concurrency {
                let worker = Worker {
                    queue: queue.clone(),
                    carrier: route.carrier.clone(),
                    templates: self.templates.clone(),
                    ledger: self.ledger.clone(),
                };
                let name = format!("{}-{number}", route.channel);
                let started = std::thread::Builder::new().name(name).spawn(move || worker.run());
                if let Err(error) = started {
                    tracing::error!(channel = %route.channel, %error, "cannot start a thread");
                }
            }
            queues.push((route.channel, queue));
        }
        queues
    }
}

impl Courier for Pool {
    fn submit(&self, parcel: Parcel, reply_to: Sender<Reply>) {
        let id = parcel.message.id;
        {
            let mut ledger = locked(&self.ledger);
            if let Some(verdict) = ledger.sent.get(&id) {
                // A receiver that has gone was told before.
                let _ = reply_to.send(Reply { id, verdict: verdict.clone() });
                return;
            }
            if ledger.under_way.insert(id, reply_to).is_some() {
                return; // it is being sent, and its result goes to whoever asked last
            }
        }
        let queues = self.started.get_or_init(|| self.start());
        let channel = parcel.address.channel();
        match queues.iter().find(|(known, _)| *known == channel) {
            Some((_, queue)) => {
                locked(&queue.state).0.push_back(parcel);
                queue.changed.notify_one();
            }
            None => {
                let error = format!("the channel {channel} is switched off");
                let verdict =
                    Verdict::Later { reason: Reason::Unreachable, error, retry_after_ms: None };
                locked(&self.ledger).answer(id, verdict);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Nobody waits for the threads: a provider that hangs must not hold up the end.
        for (_, queue) in self.started.get().into_iter().flatten() {
            locked(&queue.state).1 = true;
            queue.changed.notify_all();
        }
    }
}

impl Ledger {
    fn answer(&mut self, id: Uuid, verdict: Verdict) {
        let reply_to = self.under_way.remove(&id);
        if matches!(verdict, Verdict::Sent(_)) {
            self.sent.insert(id, verdict.clone());
            self.order.push_back(id);
            if self.order.len() > RECENT_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.sent.remove(&oldest);
            }
        }
        // The task may have been closed meanwhile.
        let _ = reply_to.map(|reply_to| reply_to.send(Reply { id, verdict }));
    }
}

struct Worker {
    queue: Arc<Queue>,
    carrier: Arc<dyn Carrier>,
    templates: Arc<Templates>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Worker {
    fn run(self) {
        while let Some(parcel) = self.next() {
            let id = parcel.message.id;
            let verdict = self.deliver_traced(parcel);
            locked(&self.ledger).answer(id, verdict);
        }
    }

    fn next(&self) -> Option<Parcel> {
        let mut state = locked(&self.queue.state);
        loop {
            if state.1 {
                return None;
            }
            if let Some(parcel) = state.0.pop_front() {
                return Some(parcel);
            }
            state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Delivers, and tells that as a span; the provider is told the span's place.
    fn deliver_traced(&self, mut parcel: Parcel) -> Verdict {
        let span = traces::Delivery::begin(parcel.message.trace);
        if let Some(span) = &span {
            parcel.message.trace = Some(span.context);
        }
        let verdict = self.deliver(&parcel);
        if let Some(span) = span {
            let error = match &verdict {
                Verdict::Sent(_) => None,
                Verdict::Refused(error) | Verdict::Later { error, .. } => Some(error.clone()),
            };
            span.end(parcel.address.channel().as_str(), error);
        }
        verdict
    }

    fn deliver(&self, parcel: &Parcel) -> Verdict {
        match self.templates.render(&parcel.message) {
            Ok(text) => {
                let send = std::panic::AssertUnwindSafe(|| self.carrier.send(parcel, &text));
                std::panic::catch_unwind(send)
                    .unwrap_or_else(|_| Verdict::Refused("sending it panicked".to_owned()))
            }
            Err(error) => Verdict::Refused(error),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The courier that the settings describe.
///
/// # Errors
/// `Invalid` for settings that no provider can be reached with.
pub fn from_settings(
    settings: &super::settings::Settings,
    templates: Arc<Templates>,
) -> Result<Pool> {
    let mut routes = Vec::new();
    for channel in CHANNELS.into_iter().filter(|channel| settings.is_on(*channel)) {
        let (carrier, concurrency): (Arc<dyn Carrier>, usize) = match channel {
            Channel::Email => {
                (Arc::new(super::email::Smtp::new(&settings.email)?), settings.email.concurrency)
            }
            Channel::Telegram => (
                Arc::new(super::telegram::Bot::new(&settings.telegram)),
                settings.telegram.concurrency,
            ),
            Channel::Sms => {
                (Arc::new(super::sms::Provider::new(&settings.sms)), settings.sms.concurrency)
            }
            Channel::Unknown => return Err(Error::invalid("found a channel of no name")),
        };
        routes.push(Route { channel, carrier, concurrency });
    }
    Ok(Pool::new(templates, routes))
}
