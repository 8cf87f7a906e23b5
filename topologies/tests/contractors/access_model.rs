//! A plain model of contractor-access: cards on a desk, looked through from the first to the last at each question.

use std::collections::BTreeMap;

use aggregator::contractor_access::settings::Settings;
use uuid::Uuid;

/// What happens outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// `request.created` (revision 1) or `request.updated`.
    Known { request: i64, revision: i32, region: &'static str },
    /// The request is over; with the reason for which grants are revoked.
    Ended { request: i64, reason: &'static str, id: Uuid },
    /// `workflow.contractor_assigned`.
    Assigned { request: i64, contractor: i64, at_ms: i64, id: Uuid },
    /// `security.contractor_verified`.
    Verified {
        contractor: i64,
        regions: &'static [&'static str],
        until_ms: Option<i64>,
        at_ms: i64,
        id: Uuid,
    },
    /// `security.contractor_rejected`.
    Rejected { contractor: i64, at_ms: i64, id: Uuid },
}

/// Action and reason, request, contractor, the event that caused it.
pub(crate) type Published = (String, i64, i64, Uuid);

#[derive(Debug, Default)]
struct Request {
    region: Option<(i32, &'static str)>,
    over: bool,
    /// Who has the job, by which assignment.
    holder: Option<(i64, (i64, Uuid))>,
    seen: Vec<Uuid>,
    forget_at_ms: Option<i64>,
}

#[derive(Debug, Clone)]
struct Contractor {
    order: (i64, bool, Uuid),
    /// `None`: rejected.
    verified: Option<(&'static [&'static str], Option<i64>)>,
    expired: bool,
    forget_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    RequestUnknown { until_ms: i64 },
    ContractorUnknown { until_ms: i64 },
    Granted,
}

/// An assignment that is not done with.
#[derive(Debug, Clone)]
struct Card {
    request: i64,
    contractor: i64,
    at_ms: i64,
    id: Uuid,
    state: State,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    settings: Settings,
    now_ms: i64,
    requests: BTreeMap<i64, Request>,
    contractors: BTreeMap<i64, Contractor>,
    cards: Vec<Card>,
    pub(crate) published: Vec<Published>,
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Requests and contractors with access, sorted.
    pub(crate) fn grants(&self) -> Vec<(i64, i64)> {
        let granted = self.cards.iter().filter(|card| card.state == State::Granted);
        let mut grants: Vec<_> = granted.map(|card| (card.request, card.contractor)).collect();
        grants.sort_by_key(|(request, contractor)| (*contractor, *request));
        grants
    }

    /// How many requests and contractors are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.requests.len(), self.contractors.len())
    }

    /// The wall clock moves on.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        let due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        self.requests.retain(|_, request| !due(request.forget_at_ms));
        self.contractors.retain(|_, contractor| !due(contractor.forget_at_ms));
        let ends = |c: &Contractor| !c.expired && c.verified.is_some_and(|(_, until)| due(until));
        let over = self.contractors.iter().filter(|(_, contractor)| ends(contractor));
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.expire(id);
        }
        for card in self.cards.clone() {
            match card.state {
                State::RequestUnknown { until_ms } if until_ms <= now_ms => {
                    self.take(&card, "denied unknown_request", card.id);
                    let forget_at_ms = now_ms + self.settings.closed_retention_ms as i64;
                    let request = self.requests.get_mut(&card.request).unwrap();
                    request.forget_at_ms = Some(forget_at_ms);
                }
                State::ContractorUnknown { until_ms } if until_ms <= now_ms => {
                    self.take(&card, "denied not_verified", card.id);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Known { request, revision, region } => self.known(request, revision, region),
            Event::Ended { request, reason, id } => self.ended(request, reason, id),
            Event::Assigned { request, contractor, at_ms, id } => {
                self.assigned(request, contractor, at_ms, id);
            }
            Event::Verified { contractor, regions, until_ms, at_ms, id } => {
                self.stands(contractor, Some((regions, until_ms)), (at_ms, false, id));
            }
            Event::Rejected { contractor, at_ms, id } => {
                self.stands(contractor, None, (at_ms, true, id));
            }
        }
    }

    fn known(&mut self, id: i64, revision: i32, region: &'static str) {
        let request = self.requests.entry(id).or_default();
        if request.region.is_some_and(|(known, _)| known >= revision) {
            return;
        }
        request.region = Some((revision, region));
        if !request.over {
            request.forget_at_ms = None;
        }
        for card in self.cards_where(|card| {
            card.request == id && matches!(card.state, State::RequestUnknown { .. })
        }) {
            self.remove(&card);
            self.judge(card);
        }
    }

    fn ended(&mut self, id: i64, reason: &str, cause: Uuid) {
        let request = self.requests.entry(id).or_default();
        if request.over {
            return;
        }
        request.over = true;
        request.forget_at_ms = Some(self.now_ms + self.settings.closed_retention_ms as i64);
        for card in self.cards_where(|card| card.request == id) {
            match card.state {
                State::Granted => self.take(&card, &format!("revoked {reason}"), cause),
                _ => self.take(&card, "denied request_closed", card.id),
            }
        }
    }

    fn assigned(&mut self, request_id: i64, contractor: i64, at_ms: i64, id: Uuid) {
        let request = self.requests.entry(request_id).or_default();
        if request.seen.contains(&id) {
            return;
        }
        request.seen.push(id);
        let state =
            State::RequestUnknown { until_ms: self.now_ms + self.settings.request_wait_ms as i64 };
        let card = Card { request: request_id, contractor, at_ms, id, state };
        if let Some((holder, order)) = request.holder
            && (at_ms, id) < order
        {
            let reason = if request.over { "request_closed" } else { "reassigned" };
            if holder != contractor {
                self.publish(&card, &format!("denied {reason}"), id);
            }
            return;
        }
        request.holder = Some((contractor, (at_ms, id)));
        let (over, known) = (request.over, request.region.is_some());
        let is_other = |card: &Card| card.request == request_id && card.contractor != contractor;
        for card in self.cards_where(is_other) {
            match card.state {
                State::Granted => self.take(&card, "revoked reassigned", id),
                _ => self.take(&card, "denied reassigned", card.id),
            }
        }
        if !self.cards_where(|card| card.request == request_id).is_empty() {
            return; // access is there, or its decision under way
        }
        if over {
            self.publish(&card, "denied request_closed", id);
        } else if known {
            self.judge(card);
        } else {
            self.requests.get_mut(&request_id).unwrap().forget_at_ms = None;
            self.cards.push(card);
        }
    }

    /// Decides a card whose request is known.
    fn judge(&mut self, mut card: Card) {
        let Some(contractor) = self.contractors.get(&card.contractor).cloned() else {
            let until_ms = self.now_ms + self.settings.verification_wait_ms as i64;
            card.state = State::ContractorUnknown { until_ms };
            return self.cards.push(card);
        };
        let (_, region) = self.requests[&card.request].region.unwrap();
        match contractor.verified {
            None => self.publish(&card, "denied rejected", card.id),
            Some((_, until))
                if contractor.expired
                    || until.is_some_and(|until| until <= self.now_ms.max(card.at_ms)) =>
            {
                self.expire(card.contractor);
                self.publish(&card, "denied expired", card.id);
            }
            Some((regions, _)) if !regions.is_empty() && !regions.contains(&region) => {
                self.publish(&card, "denied region_not_allowed", card.id);
            }
            Some(_) => {
                self.publish(&card, "granted verified", card.id);
                card.state = State::Granted;
                self.cards.push(card);
            }
        }
    }

    fn stands(
        &mut self,
        id: i64,
        verified: Option<(&'static [&'static str], Option<i64>)>,
        order: (i64, bool, Uuid),
    ) {
        if self.contractors.get(&id).is_some_and(|known| known.order >= order) {
            return;
        }
        let forget_at_ms = self.now_ms + self.settings.contractor_retention_ms as i64;
        let forget_at_ms = verified.is_none().then_some(forget_at_ms);
        self.contractors.insert(id, Contractor { order, verified, expired: false, forget_at_ms });
        let waiting = self.cards_where(|card| {
            card.contractor == id && matches!(card.state, State::ContractorUnknown { .. })
        });
        let latest = waiting.iter().map(|card| card.at_ms).chain([self.now_ms]).max().unwrap();
        match verified {
            None => self.revoke_all(id, "revoked rejected", order.2),
            Some((_, Some(until))) if until <= latest => self.expire(id),
            Some(_) => {}
        }
        for card in waiting {
            self.remove(&card);
            self.judge(card);
        }
    }

    fn expire(&mut self, id: i64) {
        let contractor = self.contractors.get_mut(&id).unwrap();
        let cause = contractor.order.2;
        if !std::mem::replace(&mut contractor.expired, true) {
            let forget_at_ms = self.now_ms + self.settings.contractor_retention_ms as i64;
            contractor.forget_at_ms = Some(forget_at_ms);
            self.revoke_all(id, "revoked expired", cause);
        }
    }

    fn revoke_all(&mut self, id: i64, what: &str, cause: Uuid) {
        let granted = |card: &Card| card.contractor == id && card.state == State::Granted;
        for card in self.cards_where(granted) {
            self.take(&card, what, cause);
        }
    }

    fn cards_where(&self, is: impl Fn(&Card) -> bool) -> Vec<Card> {
        self.cards.iter().filter(|card| is(card)).cloned().collect()
    }

    fn remove(&mut self, card: &Card) {
        self.cards.retain(|other| other.id != card.id);
    }

    /// Takes a card from the desk with a word about it.
    fn take(&mut self, card: &Card, what: &str, cause: Uuid) {
        self.remove(card);
        self.publish(card, what, cause);
    }

    fn publish(&mut self, card: &Card, what: &str, cause: Uuid) {
        self.published.push((what.to_owned(), card.request, card.contractor, cause));
    }
}
