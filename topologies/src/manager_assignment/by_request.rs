//! Which region has a request. Keyed by request_id; hot path.
//!
//! ```text
//!              Created/Updated            Recall sent
//!   (unknown) ───────────────► with ───────────────────► recalled
//!       │                     region ◄──────────────────────┘
//!       │ Closed               │  ▲ └─┐ Returned: next region   Returned: new home
//!       ▼                      │  └───┘ of the fallback ring
//!     closed ◄─────────────────┴── Closed (also from recalled)
//!       │ retention
//!       ▼ (forgotten)
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{
    RegionInput, RequestId, RequestInput, Returned, Submission, Terms, Ticket, ToRegion,
};
use super::settings::Settings;

/// How many closed requests one punctuation forgets at most, so that it never holds up records for long.
const FORGET_MAX: usize = 10_000;

/// What is remembered of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestEntry {
    /// It is to be assigned, or is.
    Open(OpenRequest),
    /// It is finished; kept so that late events do not open it again.
    Closed {
        /// Wall-clock time of the closing.
        at_ms: i64,
    },
}

/// An open request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    pub(super) revision: i32,
    /// The region that the customer named.
    pub(super) home: String,
    /// The region that the ticket was last sent to.
    pub(super) region: String,
    epoch: u32,
    pub(super) terms: Terms,
    /// Whether the region was asked to give the ticket back.
    recalled: bool,
    /// Whether `terms.opened_at_ms` is of `request.created` and not of an update that overtook it.
    created_seen: bool,
    cause_id: Uuid,
    correlation_id: Option<Uuid>,
}

/// The stores of the by-request task.
pub trait RequestState {
    /// A store's failure.
    type Error;
    /// What is known of a request.
    fn request(&mut self, id: RequestId) -> Result<Option<RequestEntry>, Self::Error>;
    /// Sets it.
    fn put_request(&mut self, id: RequestId, entry: &RequestEntry) -> Result<(), Self::Error>;
    /// Forgets it.
    fn remove_request(&mut self, id: RequestId) -> Result<(), Self::Error>;
    /// Notes when a request was closed.
    fn put_closed(&mut self, at_ms: i64, id: RequestId) -> Result<(), Self::Error>;
    /// Removes that note.
    fn remove_closed(&mut self, at_ms: i64, id: RequestId) -> Result<(), Self::Error>;
    /// The requests closed before a time, oldest first, at most `limit`.
    fn closed_before(
        &mut self,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<(i64, RequestId)>, Self::Error>;
}

/// The by-request rules, on the state and outputs of one record or punctuation.
pub struct RequestRules<'a, S> {
    settings: &'a Settings,
    state: &'a mut S,
    out: &'a mut Vec<ToRegion>,
    now_ms: i64,
}

impl<'a, S: RequestState> RequestRules<'a, S> {
    /// Rules at a moment of the wall clock; messages to regions are appended to `out`.
    pub fn new(
        settings: &'a Settings,
        state: &'a mut S,
        out: &'a mut Vec<ToRegion>,
        now_ms: i64,
    ) -> Self {
        Self { settings, state, out, now_ms }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn apply(&mut self, input: RequestInput) -> Result<(), S::Error> {
        let id = input.request_id();
        let entry = self.state.request(id)?;
        match (entry, input) {
            (Some(RequestEntry::Closed { .. }), _) => Ok(()),
            (None, RequestInput::Created(submission)) => self.open(submission, true),
            (None, RequestInput::Updated(submission)) => self.open(submission, false),
            // A return without a request means that its entry is lost; there is nothing to send on.
            (None, RequestInput::Returned(_)) => Ok(()),
            (Some(RequestEntry::Open(request)), RequestInput::Created(submission)) => {
                self.correct_opening(request, &submission)
            }
            (Some(RequestEntry::Open(request)), RequestInput::Updated(submission)) => {
                self.update(request, submission)
            }
            (Some(RequestEntry::Open(request)), RequestInput::Returned(returned)) => {
                self.send_on(request, &returned)
            }
            (None, RequestInput::Closed(_)) => self.close(id, None),
            (Some(RequestEntry::Open(request)), RequestInput::Closed(_)) => {
                self.close(id, Some(request))
            }
        }
    }

    /// Forgets requests closed longer ago than the retention; returns how many.
    ///
    /// # Errors
    /// Only the stores'.
    pub fn punctuate(&mut self) -> Result<usize, S::Error> {
        let retention_ms = i64::try_from(self.settings.closed_retention_ms).unwrap_or(i64::MAX);
        let before_ms = self.now_ms.saturating_sub(retention_ms);
        let forgotten = self.state.closed_before(before_ms, FORGET_MAX)?;
        for &(at_ms, id) in &forgotten {
            self.state.remove_request(id)?;
            self.state.remove_closed(at_ms, id)?;
        }
        Ok(forgotten.len())
    }

    fn open(&mut self, submission: Submission, created: bool) -> Result<(), S::Error> {
        let Submission { request_id, revision, region, priority, timestamp_ms, .. } = submission;
        let request = OpenRequest {
            revision,
            terms: Terms {
                priority,
                opened_at_ms: timestamp_ms,
                hops: 0,
                has_fallback: self.settings.has_fallback(&region),
            },
            home: region.clone(),
            region,
            epoch: 1,
            recalled: false,
            created_seen: created,
            cause_id: submission.event_id,
            correlation_id: submission.correlation_id,
        };
        self.send_ticket(request_id, &request, 0, false);
        self.state.put_request(request_id, &RequestEntry::Open(request))
    }

    fn correct_opening(
        &mut self,
        mut request: OpenRequest,
        created: &Submission,
    ) -> Result<(), S::Error> {
        if request.created_seen {
            return Ok(());
        }
        request.created_seen = true;
        if request.terms.opened_at_ms != created.timestamp_ms {
            request.terms.opened_at_ms = created.timestamp_ms;
            self.amend(created.request_id, &request);
        }
        self.state.put_request(created.request_id, &RequestEntry::Open(request))
    }

    fn update(&mut self, mut request: OpenRequest, update: Submission) -> Result<(), S::Error> {
        if update.revision <= request.revision {
            return Ok(());
        }
        let id = update.request_id;
        let before = request.terms;
        request.revision = update.revision;
        request.terms.priority = update.priority;
        if update.region != request.home {
            request.terms.hops = 0;
            request.terms.has_fallback = self.settings.has_fallback(&update.region);
            request.cause_id = update.event_id;
            request.home = update.region;
            // Handed over to the very region that the customer now names: it stays where it is counted.
            if request.region != request.home && !request.recalled {
                request.recalled = true;
                let input = RegionInput::Recall { request_id: id, epoch: request.epoch };
                self.out.push(ToRegion { region: request.region.clone(), input });
            }
        }
        if request.terms != before {
            self.amend(id, &request);
        }
        self.state.put_request(id, &RequestEntry::Open(request))
    }

    /// Tells the region of new terms, unless the ticket is on its way back and goes out with them anyhow.
    fn amend(&mut self, id: RequestId, request: &OpenRequest) {
        if !request.recalled {
            let (epoch, terms) = (request.epoch, request.terms);
            let input = RegionInput::Amend { request_id: id, epoch, terms };
            self.out.push(ToRegion { region: request.region.clone(), input });
        }
    }

    fn send_on(&mut self, mut request: OpenRequest, returned: &Returned) -> Result<(), S::Error> {
        if returned.epoch != request.epoch {
            return Ok(());
        }
        request.terms.hops =
            if request.recalled { 0 } else { request.terms.hops.saturating_add(1) };
        request.region = self.settings.region_after(&request.home, request.terms.hops).to_owned();
        request.recalled = false;
        request.epoch = request.epoch.wrapping_add(1);
        self.send_ticket(returned.request_id, &request, returned.attempts, returned.escalated);
        self.state.put_request(returned.request_id, &RequestEntry::Open(request))
    }

    fn send_ticket(
        &mut self,
        id: RequestId,
        request: &OpenRequest,
        attempts: u32,
        escalated: bool,
    ) {
        let ticket = Ticket {
            request_id: id,
            epoch: request.epoch,
            attempts,
            escalated,
            terms: request.terms,
            cause_id: request.cause_id,
            correlation_id: request.correlation_id,
        };
        let region = request.region.clone();
        self.out.push(ToRegion { region, input: RegionInput::Open(ticket) });
    }

    fn close(&mut self, id: RequestId, request: Option<OpenRequest>) -> Result<(), S::Error> {
        // Recalled: the region releases it for the recall, and what it returns finds the request closed.
        if let Some(request) = request.filter(|request| !request.recalled) {
            let input = RegionInput::Close { request_id: id, epoch: request.epoch };
            self.out.push(ToRegion { region: request.region, input });
        }
        self.state.put_closed(self.now_ms, id)?;
        self.state.put_request(id, &RequestEntry::Closed { at_ms: self.now_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Priority;
    use super::super::sample::{MemoryState, recall_of, submission, terms};
    use super::*;

    struct Task {
        settings: Settings,
        state: MemoryState,
        now_ms: i64,
    }

    impl Task {
        fn new() -> Self {
            let fallback_regions = [("north".to_owned(), "south".to_owned())].into();
            let settings = Settings { fallback_regions, ..Settings::default() };
            Self { settings, state: MemoryState::default(), now_ms: 10_000 }
        }

        fn apply(&mut self, input: RequestInput) -> Vec<ToRegion> {
            let mut out = Vec::new();
            let mut rules =
                RequestRules::new(&self.settings, &mut self.state, &mut out, self.now_ms);
            rules.apply(input).unwrap();
            out
        }

        fn created(&mut self, revision: i32, region: &str, priority: Priority) -> Vec<ToRegion> {
            self.apply(RequestInput::Created(submission(1, revision, region, priority)))
        }

        fn updated(&mut self, revision: i32, region: &str, priority: Priority) -> Vec<ToRegion> {
            self.apply(RequestInput::Updated(submission(1, revision, region, priority)))
        }

        fn returned(&mut self, epoch: u32, attempts: u32, escalated: bool) -> Vec<ToRegion> {
            let returned = Returned { request_id: 1, epoch, attempts, escalated };
            self.apply(RequestInput::Returned(returned))
        }
    }

    /// The only message of `out`, which must be an `Open`.
    fn opened(out: Vec<ToRegion>) -> (String, Ticket) {
        match <[ToRegion; 1]>::try_from(out) {
            Ok([ToRegion { region, input: RegionInput::Open(ticket) }]) => (region, ticket),
            other => panic!("wanted one Open, found {other:?}"),
        }
    }

    fn closing(region: &str, epoch: u32) -> Vec<ToRegion> {
        let input = RegionInput::Close { request_id: 1, epoch };
        vec![ToRegion { region: region.to_owned(), input }]
    }

    #[test]
    fn created_opens_in_its_region_once() {
        let mut task = Task::new();
        let (region, ticket) = opened(task.created(1, "north", Priority::P2));
        assert_eq!(region, "north");
        assert_eq!((ticket.epoch, ticket.attempts, ticket.escalated), (1, 0, false));
        assert_eq!(ticket.terms, Terms { has_fallback: true, ..terms(Priority::P2, 1_001) });
        assert_eq!(task.created(1, "north", Priority::P2), []);
        assert_eq!(task.created(9, "south", Priority::P1), [], "a conflicting duplicate neither");
    }

    #[test]
    fn update_of_urgency_amends_and_older_revisions_are_ignored() {
        let mut task = Task::new();
        task.created(1, "south", Priority::P4);
        let amended = task.updated(3, "south", Priority::P1);
        let terms = terms(Priority::P1, 1_001);
        let input = RegionInput::Amend { request_id: 1, epoch: 1, terms };
        assert_eq!(amended, [ToRegion { region: "south".to_owned(), input }]);
        assert_eq!(task.updated(3, "south", Priority::P1), [], "duplicate");
        assert_eq!(task.updated(2, "east", Priority::P2), [], "older");
        assert_eq!(task.updated(4, "south", Priority::P1), [], "nothing that matters here");
    }

    #[test]
    fn update_of_region_recalls_first_and_opens_when_it_is_back() {
        let mut task = Task::new();
        task.created(1, "north", Priority::P4);
        assert_eq!(task.updated(2, "east", Priority::P1), [recall_of("north", 1, 1)]);
        assert_eq!(task.updated(3, "west", Priority::P2), [], "still on its way");
        let (region, ticket) = opened(task.returned(1, 1, true));
        assert_eq!(region, "west");
        assert_eq!((ticket.epoch, ticket.attempts, ticket.escalated), (2, 1, true));
        assert_eq!(ticket.terms, terms(Priority::P2, 1_001));
        assert_eq!(ticket.cause_id, submission(1, 3, "west", Priority::P2).event_id);
        assert_eq!(task.returned(1, 1, true), [], "of another epoch");
    }

    #[test]
    fn update_before_created_opens_and_created_corrects_the_time_once() {
        let mut task = Task::new();
        let (region, ticket) = opened(task.updated(2, "south", Priority::P1));
        assert_eq!((region.as_str(), ticket.terms.opened_at_ms), ("south", 1_002));
        let amended = task.created(1, "north", Priority::P4);
        let terms = terms(Priority::P1, 1_001);
        let input = RegionInput::Amend { request_id: 1, epoch: 1, terms };
        assert_eq!(amended, [ToRegion { region: "south".to_owned(), input }]);
        assert_eq!(task.created(1, "north", Priority::P4), []);
    }

    #[test]
    fn closing_closes_once_and_for_good() {
        let mut task = Task::new();
        task.created(1, "south", Priority::P4);
        assert_eq!(task.apply(RequestInput::Closed(1)), closing("south", 1));
        assert_eq!(task.apply(RequestInput::Closed(1)), []);
        assert_eq!(task.created(1, "south", Priority::P4), []);
        assert_eq!(task.updated(2, "north", Priority::P4), []);
        assert_eq!(task.returned(1, 1, false), []);
    }

    #[test]
    fn closing_before_created_or_updated_opens_nothing() {
        let mut task = Task::new();
        assert_eq!(task.apply(RequestInput::Closed(1)), []);
        assert_eq!(task.updated(2, "south", Priority::P4), []);
        assert_eq!(task.created(1, "south", Priority::P4), []);
    }

    #[test]
    fn closing_while_recalled_ends_it() {
        let mut task = Task::new();
        task.created(1, "north", Priority::P4);
        task.updated(2, "east", Priority::P4);
        assert_eq!(task.apply(RequestInput::Closed(1)), []);
        assert_eq!(task.returned(1, 1, false), []);
    }

    #[test]
    fn returned_without_recall_goes_round_the_fallback_ring() {
        let mut task = Task::new();
        task.created(1, "north", Priority::P4);
        let (region, ticket) = opened(task.returned(1, 0, false));
        assert_eq!((region.as_str(), ticket.epoch, ticket.terms.hops), ("south", 2, 1));
        let (region, ticket) = opened(task.returned(2, 0, true));
        assert_eq!((region.as_str(), ticket.epoch, ticket.terms.hops), ("north", 3, 2));
        assert_eq!(task.apply(RequestInput::Closed(1)), closing("north", 3));
    }

    #[test]
    fn a_customer_who_names_the_fallback_region_leaves_it_there() {
        let mut task = Task::new();
        task.created(1, "north", Priority::P4);
        task.returned(1, 0, false);
        let amended = task.updated(2, "south", Priority::P4);
        let terms = terms(Priority::P4, 1_001);
        let input = RegionInput::Amend { request_id: 1, epoch: 2, terms };
        assert_eq!(amended, [ToRegion { region: "south".to_owned(), input }]);
    }

    #[test]
    fn closed_requests_are_forgotten_after_the_retention() {
        let mut task = Task::new();
        task.apply(RequestInput::Closed(1));
        let retention_ms = task.settings.closed_retention_ms as i64;
        let mut forgotten_at = |now_ms| {
            let mut out = Vec::new();
            RequestRules::new(&task.settings, &mut task.state, &mut out, now_ms)
                .punctuate()
                .unwrap()
        };
        assert_eq!(forgotten_at(10_000 + retention_ms), 0, "at the limit");
        assert_eq!(forgotten_at(10_001 + retention_ms), 1);
        assert_eq!(task.state.entries(), 0);
    }
}
