//! A plain model of hr-documents: every completion a card, looked through from the first to the last at each question.

use std::collections::BTreeMap;

use aggregator::hr_documents::settings::Settings;
use uuid::Uuid;

use crate::events::document;

/// What happens outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// An event of `request-events`; the last of them where it is a cancellation.
    Known { request: i64, cancelled: bool },
    /// A final status.
    Final { request: i64 },
    /// `workflow.contractor_assigned`.
    Assigned { request: i64, contractor: i64, at_ms: i64, id: Uuid },
    /// `workflow.work_completed`.
    Completed { request: i64, contractor: i64, id: Uuid },
    /// `hr.document_signed`.
    Signed { document: Uuid, id: Uuid },
    /// `hr.payment_processed`.
    Paid { document: Uuid, contractor: i64, failed: bool, id: Uuid },
    /// `security.contractor_verified`.
    Verified { contractor: i64, id: Uuid },
}

#[derive(Debug, Default)]
struct Request {
    known: bool,
    over: bool,
    assigned: Option<(i64, i64, Uuid)>,
    forget_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// No assignment is known.
    Unassigned,
    /// Only the request is missing.
    Accepted,
    /// Its documents are made, and these are done.
    Made { signed: bool, paid: bool },
}

#[derive(Debug, Clone)]
struct Card {
    request: i64,
    contractor: i64,
    id: Uuid,
    until_ms: i64,
    state: State,
}

/// A signature or payment of a document that is not made yet, or the trace of one that is done.
#[derive(Debug, Default, Clone)]
struct Slip {
    signed: bool,
    paid: Option<(i64, Uuid)>,
    made: bool,
    done: bool,
    forget_at_ms: Option<i64>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    settings: Settings,
    now_ms: i64,
    requests: BTreeMap<i64, Request>,
    cards: Vec<Card>,
    slips: BTreeMap<Uuid, Slip>,
    contracts: Vec<i64>,
    /// Documents and contracts, as cause and word.
    pub(crate) published: Vec<(Uuid, String)>,
    /// Ids of events that are dead letters.
    pub(crate) letters: Vec<Uuid>,
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Requests whose paperwork is open.
    pub(crate) fn open(&self) -> Vec<i64> {
        let open = self.cards.iter().filter(|card| is_open(card.state));
        let mut open: Vec<_> = open.map(|card| card.request).collect();
        open.sort_unstable();
        open
    }

    /// How many requests and documents are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.requests.len(), self.slips.len())
    }

    /// The wall clock moves on.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        for card in self.cards.clone() {
            let waits = matches!(card.state, State::Unassigned | State::Accepted);
            if waits && card.until_ms <= now_ms {
                self.cards.retain(|other| other.id != card.id);
                self.letters.push(card.id);
            }
        }
        let retention_ms = self.settings.closed_retention_ms as i64;
        let cards = &mut self.cards;
        self.requests.retain(|id, request| {
            if request.forget_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
                return true;
            }
            let closed = State::Made { signed: true, paid: true };
            let busy = cards.iter().any(|card| card.request == *id && card.state != closed);
            if busy {
                request.forget_at_ms = Some(now_ms + retention_ms);
            } else {
                cards.retain(|card| card.request != *id);
            }
            busy
        });
        self.slips.retain(|_, slip| slip.forget_at_ms.is_none_or(|at_ms| at_ms > now_ms));
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Known { request, cancelled } => self.known(request, cancelled),
            Event::Final { request } => self.over(request),
            Event::Assigned { request, contractor, at_ms, id } => {
                let known = self.request(request);
                if known.assigned.is_none_or(|(_, at, other)| (at, other) < (at_ms, id)) {
                    known.assigned = Some((contractor, at_ms, id));
                    self.judge_all(request);
                }
                self.forget_unknown(request);
            }
            Event::Completed { request, contractor, id } => {
                self.completed(request, contractor, id);
                self.forget_unknown(request);
            }
            Event::Signed { document, .. } => {
                self.slip(document).signed = true;
                self.match_slip(document);
            }
            Event::Paid { failed: true, .. } => {}
            Event::Paid { document, contractor, id, .. } => {
                self.slip(document).paid = Some((contractor, id));
                self.match_slip(document);
            }
            Event::Verified { contractor, id } => {
                if !self.contracts.contains(&contractor) {
                    self.contracts.push(contractor);
                    self.published.push((id, "contract".to_owned()));
                }
            }
        }
    }

    fn request(&mut self, id: i64) -> &mut Request {
        self.requests.entry(id).or_default()
    }

    fn forget_later(&self) -> Option<i64> {
        Some(self.now_ms + self.settings.closed_retention_ms as i64)
    }

    fn forget_unknown(&mut self, id: i64) {
        let later = self.forget_later();
        let request = self.request(id);
        if !request.known && request.forget_at_ms.is_none() {
            request.forget_at_ms = later;
        }
    }

    fn known(&mut self, id: i64, cancelled: bool) {
        let request = self.request(id);
        if !std::mem::replace(&mut request.known, true) {
            if !request.over {
                request.forget_at_ms = None;
            }
            self.judge_all(id);
        }
        if cancelled {
            self.over(id);
        }
    }

    fn over(&mut self, id: i64) {
        let later = self.forget_later();
        let made = self.cards.iter().any(|card| card.request == id && is_made(card.state));
        let request = self.request(id);
        if !made && !std::mem::replace(&mut request.over, true) {
            request.forget_at_ms = later;
        }
    }

    fn completed(&mut self, request: i64, contractor: i64, id: Uuid) {
        self.request(request);
        let until_ms = self.now_ms + self.settings.completion_wait_ms as i64;
        let unassigned: Vec<_> = self
            .cards
            .iter()
            .filter(|card| card.request == request && card.state == State::Unassigned)
            .collect();
        if unassigned.iter().any(|card| card.id == id) {
            return;
        }
        if unassigned.len() == 8 {
            return self.letters.push(id);
        }
        let card = Card { request, contractor, id, until_ms, state: State::Unassigned };
        self.cards.push(card);
        self.judge_all(request);
    }

    /// Looks at all completions of a request, in the order in which they came.
    fn judge_all(&mut self, id: i64) {
        let (known, assigned) = (self.requests[&id].known, self.requests[&id].assigned);
        let Some((assigned, ..)) = assigned else { return };
        let mut index = 0;
        while index < self.cards.len() {
            let card = self.cards[index].clone();
            index += 1;
            if card.request != id || is_made(card.state) {
                continue;
            }
            let other = |card: &&Card| card.request == id && card.state != State::Unassigned;
            let taken = self.cards.iter().find(other).map(|card| card.contractor);
            if card.state == State::Unassigned {
                let wanted = taken.unwrap_or(assigned);
                if wanted != card.contractor || taken.is_some() {
                    index -= 1;
                    self.cards.remove(index);
                    if wanted != card.contractor {
                        self.letters.push(card.id);
                    }
                    continue;
                }
                let until_ms = self.now_ms + self.settings.completion_wait_ms as i64;
                (self.cards[index - 1].state, self.cards[index - 1].until_ms) =
                    (State::Accepted, until_ms);
            }
            if known {
                self.cards[index - 1].state = State::Made { signed: false, paid: false };
                self.request(id).forget_at_ms = None;
                for kind in ["completion_act", "payment_order"] {
                    self.published.push((card.id, kind.to_owned()));
                    let slip = self.slips.entry(document(card.id, kind)).or_default();
                    (slip.made, slip.forget_at_ms) = (true, None);
                    self.match_slip(document(card.id, kind));
                }
            }
        }
    }

    fn slip(&mut self, document: Uuid) -> &mut Slip {
        let forget_at_ms = Some(self.now_ms + self.settings.document_wait_ms as i64);
        self.slips.entry(document).or_insert(Slip { forget_at_ms, ..Slip::default() })
    }

    /// Brings a signature or payment to its document, if that is made.
    fn match_slip(&mut self, id: Uuid) {
        let later = self.forget_later();
        let slip = self.slips.get_mut(&id).unwrap();
        if !slip.made {
            return;
        }
        let (signed, paid) = (std::mem::take(&mut slip.signed), slip.paid.take());
        let is_act = |card: &&mut Card| document(card.id, "completion_act") == id;
        let is_order = |card: &&mut Card| document(card.id, "payment_order") == id;
        let mut closed = None;
        if let Some(card) = self.cards.iter_mut().find(is_act) {
            if signed && !std::mem::replace(&mut slip.done, true) {
                let State::Made { paid, .. } = card.state else { unreachable!() };
                card.state = State::Made { signed: true, paid };
                slip.forget_at_ms = later;
                closed = paid.then_some(card.request);
            }
        } else if let Some(card) = self.cards.iter_mut().find(is_order)
            && let Some((contractor, letter)) = paid
        {
            if contractor != card.contractor {
                self.letters.push(letter);
            } else if !std::mem::replace(&mut slip.done, true) {
                let State::Made { signed, .. } = card.state else { unreachable!() };
                card.state = State::Made { signed, paid: true };
                slip.forget_at_ms = later;
                closed = signed.then_some(card.request);
            }
        }
        if let Some(request) = closed {
            self.request(request).forget_at_ms = later;
        }
    }
}

fn is_made(state: State) -> bool {
    matches!(state, State::Made { .. })
}

fn is_open(state: State) -> bool {
    is_made(state) && state != State::Made { signed: true, paid: true }
}
