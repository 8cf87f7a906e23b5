//! Commits that fail while the process lives: the transaction is aborted, and neither stores nor results keep anything of it;
//! and where the tasks are somebody else's now, the group is left before it is joined anew.
//!
//! A killed process cannot show this: what it wrote to its stores too early is lost with its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kstreams::kafka::{
    Admin, CommittedOffset, Consumer, ConsumerPurpose, GroupMetadata, KafkaClients, MemberName,
    Membership, MembershipEvent, OffsetCommitter, OutgoingRecord, Producer, TopicHandle,
};
use kstreams::{Components, Error, ErrorKind, KafkaStreams, Result, TopicPartition};
use test_support::{DEADLINE, unique, wait_until};

use super::runtime::{config, counts, lines, log, topics, total, word_count};

/// The points of a commit at which the broker may say no.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FailAt {
    Offsets,
    Commit,
}

/// What happened to the clients.
#[derive(Default)]
pub(super) struct Tally {
    attempts: AtomicUsize,
    pub(super) refusals: AtomicUsize,
    /// Memberships made, those that have not left, and the most of these at any time.
    joins: AtomicUsize,
    members: AtomicUsize,
    members_max: AtomicUsize,
}

/// Clients whose producers refuse every third commit, after everything was sent.
pub(super) struct RefusingClients {
    inner: Arc<dyn KafkaClients>,
    at: FailAt,
    kind: ErrorKind,
    tally: Arc<Tally>,
}

impl RefusingClients {
    /// Counts into `tally`.
    pub(super) fn new(
        inner: Arc<dyn KafkaClients>,
        at: FailAt,
        kind: ErrorKind,
        tally: &Arc<Tally>,
    ) -> Self {
        Self { inner, at, kind, tally: Arc::clone(tally) }
    }
}

impl KafkaClients for RefusingClients {
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>> {
        let tally = Arc::clone(&self.tally);
        tally.joins.fetch_add(1, Ordering::SeqCst);
        let members = tally.members.fetch_add(1, Ordering::SeqCst) + 1;
        tally.members_max.fetch_max(members, Ordering::SeqCst);
        Ok(Box::new(CountedMember { inner: self.inner.membership_as(topics, name)?, tally }))
    }
    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(purpose)
    }
    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        Ok(Box::new(RefusingProducer {
            inner: self.inner.producer(transactional_id)?,
            at: self.at,
            kind: self.kind,
            tally: Arc::clone(&self.tally),
        }))
    }
    fn admin(&self) -> Result<Box<dyn Admin>> {
        self.inner.admin()
    }
}

struct CountedMember {
    inner: Box<dyn Membership>,
    tally: Arc<Tally>,
}

impl Membership for CountedMember {
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>> {
        self.inner.poll(timeout)
    }
    fn acknowledge(&mut self) -> Result<()> {
        self.inner.acknowledge()
    }
    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
    fn committer(&self) -> Arc<dyn OffsetCommitter> {
        self.inner.committer()
    }
    fn leave(self: Box<Self>) -> Result<()> {
        self.inner.leave()?;
        self.tally.members.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

struct RefusingProducer {
    inner: Box<dyn Producer>,
    at: FailAt,
    kind: ErrorKind,
    tally: Arc<Tally>,
}

impl RefusingProducer {
    fn maybe_refuse(&self, at: FailAt) -> Result<()> {
        if at != self.at || self.tally.attempts.fetch_add(1, Ordering::SeqCst) % 3 != 2 {
            return Ok(());
        }
        self.tally.refusals.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(self.kind, format!("refused at {at:?} by the test")))
    }
}

impl Producer for RefusingProducer {
    fn init_transactions(&mut self, timeout: Duration) -> Result<()> {
        self.inner.init_transactions(timeout)
    }
    fn begin_transaction(&mut self) -> Result<()> {
        self.inner.begin_transaction()
    }
    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<()> {
        self.maybe_refuse(FailAt::Offsets)?;
        self.inner.send_offsets(offsets, group, timeout)
    }
    fn commit_transaction(&mut self, timeout: Duration) -> Result<()> {
        self.maybe_refuse(FailAt::Commit)?;
        self.inner.commit_transaction(timeout)
    }
    fn abort_transaction(&mut self, timeout: Duration) -> Result<()> {
        self.inner.abort_transaction(timeout)
    }
    fn topic(&mut self, name: &str) -> Result<TopicHandle> {
        self.inner.topic(name)
    }
    fn partition_count(&mut self, topic: TopicHandle, timeout: Duration) -> Result<i32> {
        self.inner.partition_count(topic, timeout)
    }
    fn send(&mut self, record: OutgoingRecord<'_>) -> Result<()> {
        self.inner.send(record)
    }
    fn flush(&mut self, timeout: Duration) -> Result<()> {
        self.inner.flush(timeout)
    }
    fn poll(&mut self) -> Result<()> {
        self.inner.poll()
    }
}

fn refused_commits_leave_nothing_behind(at: FailAt, kind: ErrorKind) -> Arc<Tally> {
    const ROUNDS: usize = 12;
    const LINES: usize = 100;
    log();
    let application = unique("refused");
    let (input, output) = (format!("{application}-in"), format!("{application}-out"));
    topics(&input, &output);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&application, state.path());
    config.group_instance_id = Some("one".to_owned());
    let mut components = Components::from_config(&config).unwrap();
    let tally = Arc::<Tally>::default();
    components.clients = Arc::new(RefusingClients::new(components.clients, at, kind, &tally));
    let topology = word_count(&input, &output);
    let mut streams = KafkaStreams::with_components(topology, config, components).unwrap();
    streams.start().unwrap();
    for round in 0..ROUNDS {
        lines(&input, round * LINES..(round + 1) * LINES);
        let wanted = i64::try_from((round + 1) * LINES).unwrap();
        wait_until("the round to be counted", DEADLINE, || total(&output, "all") >= wanted);
    }
    streams.close(DEADLINE).unwrap();
    for (word, seen) in counts(&output) {
        let wanted: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, wanted, "counts of \"{word}\" have a gap or come twice");
    }
    let refused = tally.refusals.load(Ordering::SeqCst);
    assert!(refused >= ROUNDS / 3, "only {refused} commits were refused");
    tally
}

#[test]
fn a_commit_refused_at_its_end_is_undone_in_stores_and_results() {
    refused_commits_leave_nothing_behind(FailAt::Commit, ErrorKind::AbortTransaction);
}

#[test]
fn a_commit_refused_at_its_offsets_is_undone_in_stores_and_results() {
    refused_commits_leave_nothing_behind(FailAt::Offsets, ErrorKind::AbortTransaction);
}

/// Two members with one static id fence each other, and the fenced one ends its client.
#[test]
fn a_member_whose_tasks_have_migrated_leaves_the_group_before_it_joins_anew() {
    let tally = refused_commits_leave_nothing_behind(FailAt::Offsets, ErrorKind::TaskMigrated);
    let refused = tally.refusals.load(Ordering::SeqCst);
    assert_eq!(tally.joins.load(Ordering::SeqCst), refused + 1, "one for each migration");
    assert_eq!(tally.members_max.load(Ordering::SeqCst), 1);
}
