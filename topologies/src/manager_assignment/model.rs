//! A plain model of the rules, for the property tests: no indices, no counters, no messages; everything is
//! recomputed from a list of requests at each question.

use std::collections::BTreeMap;

use super::directory::DirectoryEntry;
use super::rules::{ManagerId, Priority, RequestId, Submission};
use super::settings::Settings;

/// What happens outside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Created(Submission),
    Updated(Submission),
    Closed(RequestId),
    Manager(ManagerId, Option<DirectoryEntry>),
    Punctuated,
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Published {
    Assigned {
        request_id: RequestId,
        manager_id: ManagerId,
        region: String,
        attempt: u32,
        escalated: bool,
        sla_deadline_ms: i64,
    },
    Escalated {
        request_id: RequestId,
        was_assigned: bool,
    },
}

/// A request, as one would write it on a card.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) closed: bool,
    pub(super) revision: i32,
    pub(super) home: String,
    pub(super) region: String,
    pub(super) hops: usize,
    pub(super) priority: Priority,
    pub(super) opened_at_ms: i64,
    pub(super) created_seen: bool,
    pub(super) arrived_at_ms: i64,
    pub(super) manager_id: Option<ManagerId>,
    pub(super) attempts: u32,
    pub(super) escalated: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) settings: Settings,
    pub(super) now_ms: i64,
    pub(super) cards: BTreeMap<RequestId, Card>,
    managers: BTreeMap<ManagerId, DirectoryEntry>,
    /// Assignments in order: region and manager.
    history: Vec<(String, ManagerId)>,
    pub(super) published: Vec<Published>,
}

impl Model {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let mut moves = Vec::new();
        match event.clone() {
            Event::Created(s) => self.submit(s, true, &mut moves),
            Event::Updated(s) => self.submit(s, false, &mut moves),
            Event::Closed(id) => self.close(id),
            Event::Manager(id, entry) => self.change_manager(id, entry, &mut moves),
            Event::Punctuated => self.punctuate(&mut moves),
        }
        while !moves.is_empty() {
            let id = moves.remove(0);
            let card = self.cards.get_mut(&id).unwrap();
            card.hops += 1;
            let ring = ring(&card.home);
            card.region = ring[card.hops % ring.len()].to_owned();
            self.arrive(id, &mut moves);
        }
        self.forget_history();
    }

    /// How many open requests are counted with a manager in a region.
    pub(super) fn open_count(&self, region: &str, id: ManagerId) -> u32 {
        let counted = self
            .cards
            .values()
            .filter(|card| !card.closed && card.region == region && card.manager_id == Some(id));
        counted.count() as u32
    }

    fn submit(&mut self, s: Submission, created: bool, moves: &mut Vec<RequestId>) {
        let id = s.request_id;
        let Some(card) = self.cards.get_mut(&id) else {
            let card = Card {
                closed: false,
                revision: s.revision,
                home: s.region.clone(),
                region: s.region,
                hops: 0,
                priority: s.priority,
                opened_at_ms: s.timestamp_ms,
                created_seen: created,
                arrived_at_ms: 0,
                manager_id: None,
                attempts: 0,
                escalated: false,
            };
            self.cards.insert(id, card);
            return self.arrive(id, moves);
        };
        if card.closed {
            return;
        }
        if created {
            if !card.created_seen {
                card.created_seen = true;
                card.opened_at_ms = s.timestamp_ms;
            }
            return;
        }
        if s.revision <= card.revision {
            return;
        }
        card.revision = s.revision;
        card.priority = s.priority;
        if card.home == s.region {
            return;
        }
        card.home = s.region.clone();
        card.hops = 0;
        if card.region != s.region {
            let old_region = std::mem::replace(&mut card.region, s.region);
            // Not yet in the new region while the old one settles.
            let was_assigned = card.manager_id.take().is_some();
            card.closed = true;
            if was_assigned {
                self.settle(&old_region);
            }
            self.cards.get_mut(&id).unwrap().closed = false;
            self.arrive(id, moves);
        }
    }

    fn arrive(&mut self, id: RequestId, moves: &mut Vec<RequestId>) {
        let now_ms = self.now_ms;
        let card = self.cards.get_mut(&id).unwrap();
        card.arrived_at_ms = now_ms;
        let region = card.region.clone();
        self.settle(&region);
        let card = &self.cards[&id];
        if card.manager_id.is_none() && self.must_move(card) {
            moves.push(id);
        }
    }

    fn close(&mut self, id: RequestId) {
        let tombstone = Card {
            closed: true,
            revision: 0,
            home: String::new(),
            region: String::new(),
            hops: 0,
            priority: Priority::P4,
            opened_at_ms: 0,
            created_seen: false,
            arrived_at_ms: 0,
            manager_id: None,
            attempts: 0,
            escalated: false,
        };
        if let Some(card) = self.cards.insert(id, tombstone) {
            self.settle(&card.region);
        }
    }

    fn change_manager(
        &mut self,
        id: ManagerId,
        entry: Option<DirectoryEntry>,
        moves: &mut Vec<RequestId>,
    ) {
        let old = self.managers.remove(&id);
        if let Some(entry) = &entry {
            self.managers.insert(id, entry.clone());
        }
        if old == entry {
            return;
        }
        let new_region = entry.map(|entry| entry.region);
        let old_region = old.map(|old| old.region).filter(|old| Some(old) != new_region.as_ref());
        for region in old_region.into_iter().chain(new_region) {
            self.settle(&region);
            self.collect_moves(&region, moves);
        }
    }

    fn punctuate(&mut self, moves: &mut Vec<RequestId>) {
        for region in ["r0", "r1", "r2"] {
            for id in self.waiting(region) {
                let card = &self.cards[&id];
                let deadline_ms = self.settings.sla_deadline_ms(card.priority, card.opened_at_ms);
                if !card.escalated && deadline_ms < self.now_ms {
                    let was_assigned = card.attempts > 0;
                    self.cards.get_mut(&id).unwrap().escalated = true;
                    self.published.push(Published::Escalated { request_id: id, was_assigned });
                }
            }
            self.settle(region);
            self.collect_moves(region, moves);
        }
    }

    /// Waiting requests by priority, then age, then id.
    pub(super) fn waiting(&self, region: &str) -> Vec<RequestId> {
        let mut waiting: Vec<_> = self.cards.iter().collect();
        waiting.retain(|(_, c)| !c.closed && c.region == region && c.manager_id.is_none());
        waiting.sort_by_key(|(id, card)| (card.priority, card.opened_at_ms, **id));
        waiting.into_iter().map(|(id, _)| *id).collect()
    }

    fn settle(&mut self, region: &str) {
        while let Some((request_id, manager_id)) = self
            .waiting(region)
            .into_iter()
            .find_map(|id| Some((id, self.manager_for(region, self.cards[&id].escalated)?)))
        {
            self.history.push((region.to_owned(), manager_id));
            let card = self.cards.get_mut(&request_id).unwrap();
            card.manager_id = Some(manager_id);
            card.attempts += 1;
            self.published.push(Published::Assigned {
                request_id,
                manager_id,
                region: region.to_owned(),
                attempt: card.attempts,
                escalated: card.escalated,
                sla_deadline_ms: self.settings.sla_deadline_ms(card.priority, card.opened_at_ms),
            });
        }
    }

    fn manager_for(&self, region: &str, escalated: bool) -> Option<ManagerId> {
        let below = |limit: &dyn Fn(u32) -> u32| {
            let here = self.managers.iter().filter(|(id, entry)| {
                let open = self.open_count(region, **id);
                entry.region == region && entry.active && open < limit(entry.capacity)
            });
            let last = |id| self.history.iter().rposition(|past| *past == (region.to_owned(), id));
            here.map(|(id, _)| *id).min_by_key(|&id| (self.open_count(region, id), last(id), id))
        };
        let overload = |capacity: u32| capacity + capacity * self.settings.overload_percent / 100;
        below(&|capacity| capacity).or_else(|| escalated.then(|| below(&overload)).flatten())
    }

    fn collect_moves(&self, region: &str, moves: &mut Vec<RequestId>) {
        let (escalated, ordinary): (Vec<_>, Vec<_>) =
            self.waiting(region).into_iter().partition(|id| self.cards[id].escalated);
        let all = escalated.into_iter().chain(ordinary);
        moves.extend(all.filter(|id| self.must_move(&self.cards[id])));
    }

    fn must_move(&self, card: &Card) -> bool {
        let mut managers = self.managers.values();
        let abandoned = !managers.any(|entry| entry.active && entry.region == card.region);
        let pause_ms = self.settings.handover_pause_ms(card.hops as u32);
        abandoned && ring(&card.home).len() > 1 && self.now_ms >= card.arrived_at_ms + pause_ms
    }

    /// A manager who has left, with nothing open, starts anew when coming back.
    fn forget_history(&mut self) {
        let mut history = std::mem::take(&mut self.history);
        history.retain(|(region, id)| {
            let present = self.managers.get(id).is_some_and(|entry| entry.region == *region);
            present || self.open_count(region, *id) > 0
        });
        self.history = history;
    }
}

/// The regions of the test: r0 falls back on r1, r1 on r2.
fn ring(home: &str) -> &'static [&'static str] {
    match home {
        "r0" => &["r0", "r1", "r2"],
        "r1" => &["r1", "r2"],
        _ => &["r2"],
    }
}
