//! The outbox: messages by recipient and channel, from command to settlement. Keyed by recipient; hot path.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::events::Channel;
use crate::recipients::{Address, Change, Entry};

use super::circuit::Circuit;
use super::rules::{
    CHANNELS, Fate, Known, Lane, Message, Outcome, Parcel, Pending, Reason, Settled, Shown,
    Verdict, backoff_ms,
};
use super::settings::{Settings, signed};

/// How many ids one punctuation gives up or forgets at most.
const ALARMS_MAX: usize = 1_000;
/// How often somebody is looked for whom nobody knows how to reach.
const CONTACT_RETRY_MS: i64 = 1_000;
/// When a message that is to be given up while it is under way is looked at again.
const EXPIRY_RETRY_MS: i64 = 60_000;

/// The stores of a delivery task.
pub trait OutboxState {
    /// A store's failure.
    type Error;
    /// What is known of an id.
    fn known(&mut self, id: Uuid) -> Result<Option<Known>, Self::Error>;
    /// Sets it.
    fn put_known(&mut self, id: Uuid, known: Option<&Known>) -> Result<(), Self::Error>;
    /// A lane.
    fn lane(&mut self, channel: Channel, recipient: &str) -> Result<Option<Lane>, Self::Error>;
    /// Sets it.
    fn put_lane(
        &mut self,
        channel: Channel,
        recipient: &str,
        lane: Option<&Lane>,
    ) -> Result<(), Self::Error>;
    /// A message of a lane.
    fn pending(
        &mut self,
        channel: Channel,
        recipient: &str,
        place: u64,
    ) -> Result<Option<Pending>, Self::Error>;
    /// Sets it.
    fn put_pending(
        &mut self,
        channel: Channel,
        recipient: &str,
        place: u64,
        pending: Option<&Pending>,
    ) -> Result<(), Self::Error>;
    /// Notes when a lane's first message may be sent.
    fn put_due(&mut self, channel: Channel, at_ms: i64, who: &str) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_due(&mut self, channel: Channel, at_ms: i64, who: &str) -> Result<(), Self::Error>;
    /// The lanes whose first message may be sent up to a time, that included, earliest first, at most `limit`.
    fn due(
        &mut self,
        channel: Channel,
        to_ms: i64,
        limit: usize,
    ) -> Result<Vec<String>, Self::Error>;
    /// Notes when something is to be done about an id.
    fn put_alarm(&mut self, at_ms: i64, id: Uuid) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_alarm(&mut self, at_ms: i64, id: Uuid) -> Result<(), Self::Error>;
    /// The alarms up to a time, that included, earliest first, at most `limit`.
    fn alarms(&mut self, to_ms: i64, limit: usize) -> Result<Vec<(i64, Uuid)>, Self::Error>;
    /// Sets what is shown of a message about a request.
    fn put_shown(
        &mut self,
        request_id: i64,
        id: Uuid,
        shown: Option<&Shown>,
    ) -> Result<(), Self::Error>;
    /// How a recipient is reached.
    fn entry(&mut self, recipient: &str) -> Result<Option<Entry>, Self::Error>;
    /// Sets it; an empty one is forgotten.
    fn put_entry(&mut self, recipient: &str, entry: &Entry) -> Result<(), Self::Error>;
}

/// What a task knows beside its stores: nothing that may not be lost.
#[derive(Debug, Default)]
pub struct Memory {
    /// Messages that are with the courier, or claimed and about to be; by id, with their channels.
    pub under_way: BTreeMap<Uuid, Channel>,
    /// One for each of [`CHANNELS`].
    circuits: [Circuit; 3],
}

impl Memory {
    /// Messages under way on a channel.
    pub fn count(&self, channel: Channel) -> usize {
        self.under_way.values().filter(|other| **other == channel).count()
    }

    /// A channel's circuit.
    pub fn circuit(&mut self, channel: Channel) -> Option<&mut Circuit> {
        let index = CHANNELS.iter().position(|known| *known == channel)?;
        self.circuits.get_mut(index)
    }
}

/// The rules, on the state and outputs of one record or punctuation.
pub struct Outbox<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<Settled>,
    now_ms: i64,
}

/// A message, and where it lies.
struct Place {
    channel: Channel,
    recipient: String,
    place: u64,
}

impl<'a, S: OutboxState> Outbox<'a, S> {
    /// Rules at a moment of the wall clock; what is settled is appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<Settled>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes a command in; `false` where its id is known.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn accept(
        &mut self,
        recipient: &str,
        wanted: Channel,
        message: Message,
    ) -> Result<bool, S::Error> {
        if self.state.known(message.id)?.is_some() {
            return Ok(false);
        }
        // A channel that this version does not know: the one that most people have.
        let channel = if wanted == Channel::Unknown { Channel::Email } else { wanted };
        let expires_at_ms = self.now_ms.saturating_add(signed(self.settings.give_up_after_ms));
        self.state.put_alarm(expires_at_ms, message.id)?;
        let pending = Pending {
            message,
            accepted_at_ms: self.now_ms,
            attempts: 0,
            tries: 0,
            claimed: false,
            last_error: String::new(),
        };
        self.append(channel, recipient, &pending, expires_at_ms)?;
        Ok(true)
    }

    /// Takes a change of a recipient in.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn change(&mut self, recipient: &str, change: Change) -> Result<(), S::Error> {
        let mut entry = self.state.entry(recipient)?.unwrap_or_default();
        entry.apply(change);
        self.state.put_entry(recipient, &entry)
    }

    /// Claims what may be sent now. The caller notes the parcels as under way, and sends them after the commit.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn claim(&mut self, memory: &mut Memory) -> Result<Vec<Parcel>, S::Error> {
        let mut parcels = Vec::new();
        if !CHANNELS.iter().any(|channel| self.serves(*channel)) {
            return Ok(parcels); // nothing is lost until somebody switches one on
        }
        for channel in CHANNELS {
            let under_way = memory.count(channel);
            let free = self.settings.in_flight_max.saturating_sub(under_way);
            let mut left = match memory.circuit(channel) {
                Some(circuit) if self.serves(channel) => {
                    circuit.allowance(self.now_ms, free, under_way)
                }
                // What lies there goes to other channels.
                _ => self.settings.in_flight_max,
            };
            if left == 0 {
                continue;
            }
            // Those under way stay in the index, so that a crash finds them there.
            for recipient in self.state.due(channel, self.now_ms, left + under_way)? {
                if left == 0 {
                    break;
                }
                if let Some(parcel) = self.claim_first(channel, &recipient, memory)? {
                    parcels.push(parcel);
                    left -= 1;
                }
            }
        }
        Ok(parcels)
    }

    /// Gives a claim back that was not sent.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn unclaim(&mut self, id: Uuid) -> Result<(), S::Error> {
        let Some((place, mut pending)) = self.find(id)? else { return Ok(()) };
        pending.claimed = false;
        pending.tries = pending.tries.saturating_sub(1);
        self.state.put_pending(place.channel, &place.recipient, place.place, Some(&pending))
    }

    /// Applies the result of an attempt.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn judge(&mut self, id: Uuid, verdict: &Verdict) -> Result<(), S::Error> {
        // Not there after an aborted transaction: the command comes again, and the courier knows the result.
        let Some((place, mut pending)) = self.find(id)? else { return Ok(()) };
        pending.claimed = false;
        let (reason, error, retry_after_ms) = match verdict {
            Verdict::Sent(id) => return self.settle(place, pending, Outcome::Sent(id.clone())),
            Verdict::Refused(error) => {
                let outcome = Outcome::Failed { error: error.clone(), permanent: true };
                return self.settle(place, pending, outcome);
            }
            Verdict::Later { reason, error, retry_after_ms } => (reason, error, *retry_after_ms),
        };
        pending.attempts += u32::from(matches!(reason, Reason::Message | Reason::Provider));
        if pending.attempts >= self.settings.attempts_max {
            let outcome = Outcome::Failed { error: error.clone(), permanent: false };
            return self.settle(place, pending, outcome);
        }
        pending.last_error.clone_from(error);
        let min_ms = signed(self.settings.backoff_min_ms);
        let max_ms = signed(self.settings.backoff_max_ms);
        let pause_ms =
            retry_after_ms.unwrap_or_else(|| backoff_ms(id, pending.tries, min_ms, max_ms));
        self.state.put_pending(place.channel, &place.recipient, place.place, Some(&pending))?;
        self.postpone(place.channel, &place.recipient, self.now_ms.saturating_add(pause_ms))
    }

    /// Gives up what has waited too long, and forgets ids.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn expire(&mut self, memory: &Memory) -> Result<(), S::Error> {
        for (at_ms, id) in self.state.alarms(self.now_ms, ALARMS_MAX)? {
            self.state.remove_alarm(at_ms, id)?;
            if memory.under_way.contains_key(&id) {
                self.state.put_alarm(self.now_ms.saturating_add(EXPIRY_RETRY_MS), id)?;
                continue;
            }
            let known = self.state.known(id)?;
            if let Some(Known::Settled { forget_at_ms, request_id }) = known {
                // Else it is the alarm of a message that was under way when it should have been given up.
                if forget_at_ms <= self.now_ms {
                    self.state.put_known(id, None)?;
                    self.show(request_id, id, None)?;
                }
                continue;
            }
            match self.find(id)? {
                None => self.state.put_known(id, None)?,
                Some((place, pending)) => {
                    let waited_ms = self.now_ms.saturating_sub(pending.accepted_at_ms);
                    let last = match pending.last_error.as_str() {
                        "" => "it was never tried",
                        error => error,
                    };
                    let error = format!("given up after {waited_ms} ms: {last}");
                    self.settle(place, pending, Outcome::Failed { error, permanent: false })?;
                }
            }
        }
        Ok(())
    }

    /// Claims the first message of a lane, unless it is under way or has nowhere to go.
    fn claim_first(
        &mut self,
        channel: Channel,
        recipient: &str,
        memory: &Memory,
    ) -> Result<Option<Parcel>, S::Error> {
        let Some(lane) = self.state.lane(channel, recipient)? else { return Ok(None) };
        let Some(mut pending) = self.state.pending(channel, recipient, lane.first)? else {
            self.advance(channel, recipient, lane)?;
            return Ok(None);
        };
        if memory.under_way.contains_key(&pending.message.id) {
            return Ok(None);
        }
        let place = Place { channel, recipient: recipient.to_owned(), place: lane.first };
        let Some(address) = self.address(channel, recipient)? else {
            self.redirect(place, pending)?;
            return Ok(None);
        };
        pending.claimed = true;
        pending.tries = pending.tries.saturating_add(1);
        self.state.put_pending(channel, recipient, lane.first, Some(&pending))?;
        let Pending { message, tries: attempt, .. } = pending;
        Ok(Some(Parcel { address, recipient: recipient.to_owned(), message, attempt }))
    }

    fn address(&mut self, channel: Channel, recipient: &str) -> Result<Option<Address>, S::Error> {
        let entry = self.state.entry(recipient)?;
        Ok(entry.filter(|_| self.serves(channel)).and_then(|e| e.reach().address(channel)))
    }

    fn serves(&self, channel: Channel) -> bool {
        self.settings.is_on(channel)
    }

    /// The recipient lacks the channel: the message goes to another one's lane, waits, or has failed.
    fn redirect(&mut self, place: Place, pending: Pending) -> Result<(), S::Error> {
        for other in [Channel::Email, Channel::Sms, Channel::Telegram] {
            if self.address(other, &place.recipient)?.is_some() {
                return self.transfer(place, pending, other);
            }
        }
        let until_ms = pending.accepted_at_ms.saturating_add(signed(self.settings.contact_wait_ms));
        if self.now_ms < until_ms {
            let at_ms = self.now_ms.saturating_add(CONTACT_RETRY_MS);
            return self.postpone(place.channel, &place.recipient, at_ms);
        }
        let error = "no way to reach the recipient is known, or its channel is switched off";
        self.settle(place, pending, Outcome::Failed { error: error.to_owned(), permanent: true })
    }

    fn transfer(
        &mut self,
        place: Place,
        pending: Pending,
        channel: Channel,
    ) -> Result<(), S::Error> {
        let id = pending.message.id;
        let Some(Known::Waiting { expires_at_ms, .. }) = self.state.known(id)? else {
            return Ok(());
        };
        self.take_out(&place)?;
        self.append(channel, &place.recipient, &pending, expires_at_ms)
    }

    fn append(
        &mut self,
        channel: Channel,
        recipient: &str,
        pending: &Pending,
        expires_at_ms: i64,
    ) -> Result<(), S::Error> {
        let lane = self.state.lane(channel, recipient)?;
        let mut lane = match lane {
            Some(lane) => lane,
            None => {
                self.state.put_due(channel, self.now_ms, recipient)?;
                Lane { first: 0, next: 0, due_ms: self.now_ms }
            }
        };
        let place = lane.next;
        lane.next += 1;
        self.state.put_lane(channel, recipient, Some(&lane))?;
        self.state.put_pending(channel, recipient, place, Some(pending))?;
        let recipient = recipient.to_owned();
        let shown = self.shown(channel, &recipient, &pending.message, Fate::Waiting);
        self.show(pending.message.request_id, pending.message.id, Some(&shown))?;
        let known = Known::Waiting { channel, recipient, place, expires_at_ms };
        self.state.put_known(pending.message.id, Some(&known))
    }

    fn settle(&mut self, place: Place, pending: Pending, outcome: Outcome) -> Result<(), S::Error> {
        let id = pending.message.id;
        if let Some(Known::Waiting { expires_at_ms, .. }) = self.state.known(id)? {
            self.state.remove_alarm(expires_at_ms, id)?;
        }
        let forget_at_ms = self.now_ms.saturating_add(signed(self.settings.sent_retention_ms));
        self.state.put_alarm(forget_at_ms, id)?;
        let request_id = pending.message.request_id;
        self.state.put_known(id, Some(&Known::Settled { forget_at_ms, request_id }))?;
        self.take_out(&place)?;
        let Place { channel, recipient, .. } = place;
        let fate = match &outcome {
            Outcome::Sent(_) => Fate::Sent,
            Outcome::Failed { error, .. } => Fate::Failed(error.clone()),
        };
        let shown = self.shown(channel, &recipient, &pending.message, fate);
        self.show(request_id, id, Some(&shown))?;
        self.out.push(Settled { recipient, channel, pending, outcome });
        Ok(())
    }

    fn shown(&self, channel: Channel, recipient: &str, message: &Message, fate: Fate) -> Shown {
        let (recipient, template) = (recipient.to_owned(), message.template.clone());
        Shown { recipient, template, channel, at_ms: self.now_ms, fate }
    }

    /// Under the request it is about; others are shown to nobody.
    fn show(
        &mut self,
        request_id: Option<i64>,
        id: Uuid,
        shown: Option<&Shown>,
    ) -> Result<(), S::Error> {
        match request_id {
            Some(request_id) => self.state.put_shown(request_id, id, shown),
            None => Ok(()),
        }
    }

    /// Takes a message out of its lane; if it was the first, the next one may be sent at once.
    fn take_out(&mut self, place: &Place) -> Result<(), S::Error> {
        let Place { channel, recipient, place } = place;
        self.state.put_pending(*channel, recipient, *place, None)?;
        match self.state.lane(*channel, recipient)? {
            Some(lane) if lane.first == *place => self.advance(*channel, recipient, lane),
            _ => Ok(()),
        }
    }

    fn advance(
        &mut self,
        channel: Channel,
        recipient: &str,
        mut lane: Lane,
    ) -> Result<(), S::Error> {
        self.state.remove_due(channel, lane.due_ms, recipient)?;
        // Messages that were given up in the middle of the lane leave gaps.
        while lane.first < lane.next
            && self.state.pending(channel, recipient, lane.first)?.is_none()
        {
            lane.first += 1;
        }
        if lane.first == lane.next {
            return self.state.put_lane(channel, recipient, None);
        }
        lane.due_ms = self.now_ms;
        self.state.put_due(channel, lane.due_ms, recipient)?;
        self.state.put_lane(channel, recipient, Some(&lane))
    }

    fn postpone(&mut self, channel: Channel, recipient: &str, at_ms: i64) -> Result<(), S::Error> {
        let Some(mut lane) = self.state.lane(channel, recipient)? else { return Ok(()) };
        self.state.remove_due(channel, lane.due_ms, recipient)?;
        lane.due_ms = at_ms;
        self.state.put_due(channel, at_ms, recipient)?;
        self.state.put_lane(channel, recipient, Some(&lane))
    }

    fn find(&mut self, id: Uuid) -> Result<Option<(Place, Pending)>, S::Error> {
        let Some(Known::Waiting { channel, recipient, place, .. }) = self.state.known(id)? else {
            return Ok(None);
        };
        let pending = self.state.pending(channel, &recipient, place)?;
        Ok(pending.map(|pending| (Place { channel, recipient, place }, pending)))
    }
}
