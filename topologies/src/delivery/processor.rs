//! The processor: commands into the outbox, parcels to the courier, results out of it. Hot path.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use kstreams::telemetry::Placed;
use kstreams::{
    Clock, Error, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result,
    SystemClock, TaskId, Timestamp,
};
use uuid::Uuid;

use crate::events::{NotificationEvent, TopicEvent as _};
use crate::{business, health, traces};

use super::courier::{Courier, Reply};
use super::edges;
use super::outbox::{Memory, Outbox};
use super::rules::{CHANNELS, Input, Outcome, Parcel, Settled};
use super::settings::{Settings, signed};
use super::stores::{Handles, OutboxStores};

/// How often gauges and health are set.
const REPORT_MS: i64 = 1_000;

/// Delivers the messages of one partition.
pub(super) struct Deliver {
    settings: Arc<Settings>,
    courier: Arc<dyn Courier>,
    handles: Option<Handles>,
    task: Option<TaskId>,
    memory: Memory,
    /// Claimed, and to be sent after the next commit.
    claims: Vec<Parcel>,
    results: Receiver<Reply>,
    reply_to: Sender<Reply>,
    /// Results that are not applied yet: a call that fails leaves them here.
    fetched: Vec<Reply>,
    reported_at_ms: i64,
    gauges: Option<Gauges>,
}

/// What a partition's deliverer tells; gone with it.
struct Gauges {
    outbox: Placed,
    /// By channel.
    in_flight: [Placed; 3],
    degraded: [Placed; 3],
}

impl Gauges {
    fn new(task: TaskId) -> Self {
        let partition = task.partition.to_string();
        let of_channel = |name| {
            CHANNELS.map(|channel| {
                Placed::new(name, &[("channel", channel.as_str()), ("partition", &partition)])
            })
        };
        Self {
            outbox: Placed::new(business::OUTBOX, &[("partition", &partition)]),
            in_flight: of_channel(business::IN_FLIGHT),
            degraded: of_channel(business::DELIVERY_DEGRADED),
        }
    }
}

impl Deliver {
    pub(super) fn new(settings: Arc<Settings>, courier: Arc<dyn Courier>) -> Self {
        let (reply_to, results) = channel();
        Self {
            settings,
            courier,
            handles: None,
            task: None,
            memory: Memory::default(),
            claims: Vec::new(),
            results,
            reply_to,
            fetched: Vec::new(),
            reported_at_ms: i64::MIN,
            gauges: None,
        }
    }
}

type Context<'c, 'f, 'a> = &'c mut ProcessorContext<'f, 'a, String, NotificationEvent>;

impl Processor<String, Input, String, NotificationEvent> for Deliver {
    fn init(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        self.handles = Some(Handles::open(context)?);
        self.task = Some(context.task_id());
        self.gauges = Some(Gauges::new(context.task_id()));
        business::begin("notification-delivery");
        let interval = Duration::from_millis(self.settings.dispatch_interval_ms);
        context.schedule(interval, PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, Input>,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        let now_ms = context.current_system_time().as_millis();
        let trace = context.trace_context();
        let handles = self.handles.ok_or_else(no_init)?;
        let mut settled = Vec::new();
        let mut state = OutboxStores { context, handles };
        let mut outbox = Outbox::new(&self.settings, &mut state, &mut settled, now_ms);
        match record.value {
            Input::Change(change) => outbox.change(&record.key, change),
            Input::Command { channel, mut message } => {
                message.trace = trace;
                let is_new = outbox.accept(&record.key, channel, message)?;
                business::command_read(is_new);
                Ok(())
            }
        }
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: Context<'_, '_, '_>,
    ) -> Result<()> {
        self.fetched.extend(self.results.try_iter());
        let mut settled = Vec::new();
        let handles = self.handles.ok_or_else(no_init)?;
        let mut state = OutboxStores { context, handles };
        let mut outbox = Outbox::new(&self.settings, &mut state, &mut settled, now.as_millis());
        judge_all(&mut outbox, &self.fetched)?;
        // Their places are free before new ones are claimed; should a later step fail, they stay fetched, and judging them again is harmless.
        for reply in &self.fetched {
            note(&mut self.memory, reply, &self.settings, now);
        }
        outbox.expire(&self.memory)?;
        let parcels = outbox.claim(&mut self.memory)?;
        publish(settled, now, context)?;
        self.fetched.clear();
        if !parcels.is_empty() {
            // Nothing is sent before the claim is durable.
            context.commit();
        }
        let under_way = parcels.iter().map(|parcel| (parcel.message.id, parcel.address.channel()));
        self.memory.under_way.extend(under_way);
        self.claims.extend(parcels);
        self.report(now, handles, context);
        Ok(())
    }

    fn committed(&mut self) {
        for parcel in self.claims.drain(..) {
            self.courier.submit(parcel, self.reply_to.clone());
        }
    }

    fn suspend(&mut self, context: Context<'_, '_, '_>) -> Result<()> {
        let handles = self.handles.ok_or_else(no_init)?;
        let mut settled = Vec::new();
        let unsent: Vec<Uuid> = self.claims.drain(..).map(|parcel| parcel.message.id).collect();
        for id in &unsent {
            self.memory.under_way.remove(id);
        }
        self.wait_for_results();
        let now = context.current_system_time();
        let mut state = OutboxStores { context, handles };
        let mut outbox = Outbox::new(&self.settings, &mut state, &mut settled, now.as_millis());
        for id in unsent {
            outbox.unclaim(id)?;
        }
        judge_all(&mut outbox, &self.fetched)?;
        publish(settled, now, context)?;
        for reply in self.fetched.drain(..) {
            note(&mut self.memory, &reply, &self.settings, now);
        }
        if !self.memory.under_way.is_empty() {
            let left = self.memory.under_way.len();
            tracing::warn!(
                left,
                "messages are under way still while their task is given up; they may be sent again"
            );
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(task) = self.task {
            for channel in CHANNELS {
                health::set(&part(channel.as_str()), &task.to_string(), None);
            }
        }
    }
}

impl Deliver {
    /// Until nothing is under way, or it has taken too long. On the real clock: what is outside does not know another.
    fn wait_for_results(&mut self) {
        let clock = SystemClock::default();
        let deadline = clock.monotonic() + Duration::from_millis(self.settings.drain_timeout_ms);
        self.fetched.extend(self.results.try_iter());
        while self.fetched.len() < self.memory.under_way.len() {
            let left = deadline.saturating_sub(clock.monotonic());
            match self.results.recv_timeout(left) {
                Ok(reply) => self.fetched.push(reply),
                Err(_) => return,
            }
        }
    }

    fn report(&mut self, now: Timestamp, handles: Handles, context: Context<'_, '_, '_>) {
        let now_ms = now.as_millis();
        if now_ms < self.reported_at_ms.saturating_add(REPORT_MS) {
            return;
        }
        self.reported_at_ms = now_ms;
        let (Some(task), Some(gauges)) = (self.task, &self.gauges) else { return };
        let waiting = handles.outbox_size(context);
        gauges.outbox.set_count(waiting);
        let any_on = CHANNELS.iter().any(|channel| self.settings.is_on(*channel));
        for (index, channel) in CHANNELS.into_iter().enumerate() {
            gauges.in_flight[index].set_count(self.memory.count(channel) as u64);
            let trouble = match self.memory.circuit(channel) {
                _ if !any_on && waiting > 0 => Some("no channel is configured, messages wait"),
                Some(circuit) => circuit.trouble(now_ms),
                None => None,
            };
            gauges.degraded[index].set(f64::from(u8::from(trouble.is_some())));
            health::set(&part(channel.as_str()), &task.to_string(), trouble);
        }
    }
}

fn judge_all<S: super::outbox::OutboxState>(
    outbox: &mut Outbox<'_, S>,
    replies: &[Reply],
) -> std::result::Result<(), S::Error> {
    replies.iter().try_for_each(|reply| outbox.judge(reply.id, &reply.verdict))
}

/// What a result says of the channel.
fn note(memory: &mut Memory, reply: &Reply, settings: &Settings, now: Timestamp) {
    let Some(channel) = memory.under_way.remove(&reply.id) else { return };
    business::attempted(channel.as_str(), reply.verdict.word());
    let sign = reply.verdict.sign(signed(settings.backoff_min_ms));
    if let Some(circuit) = memory.circuit(channel) {
        circuit.note(sign, now.as_millis(), &settings.circuit_limits());
    }
}

fn publish(settled: Vec<Settled>, now: Timestamp, context: Context<'_, '_, '_>) -> Result<()> {
    for settled in settled {
        let outcome = match &settled.outcome {
            Outcome::Sent(_) => "sent",
            Outcome::Failed { permanent: true, .. } => "failed_permanently",
            Outcome::Failed { permanent: false, .. } => "failed",
        };
        let accepted_at = Timestamp::from_millis(settled.pending.accepted_at_ms);
        business::settled(settled.channel.as_str(), outcome, now.since(accepted_at));
        let headers = traces::headers(settled.pending.message.trace);
        let value = edges::of_settled(settled, now);
        let key = value.key().unwrap_or_default();
        context.forward(Record { key, value, timestamp: now, headers })?;
    }
    Ok(())
}

/// A channel's name in health.
fn part(channel: &str) -> String {
    format!("notification-delivery.{channel}")
}

fn no_init() -> Error {
    Error::invalid("a processor was called before its init")
}
