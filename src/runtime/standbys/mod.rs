//! Standby tasks: copies of other instances' stores, kept up to date so that a task that comes here replays only the rest.
//!
//! The restore threads do the work (`Restorer::set_standbys`); here it is found out of which tasks this instance is a standby. A thread of its own asks
//! the broker, so that the control thread, which serves the group's heartbeat, never waits for the answer. With a protocol whose assignment
//! names the standbys, the control thread hands them to the restorer by itself, and this thread is not started.

mod placement;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::assignment::tasks_of;
use super::directory::Directory;
use super::restore::Restorer;
use super::shared::Shared;
use crate::error::Result;
use crate::ids::TaskId;

pub(super) use placement::place_standbys;

/// Between two looks at the group, while its description does not fit our assignment, and once it does: under KIP-848 members come and go
/// without an event for the others.
const UNSETTLED_INTERVAL: Duration = Duration::from_millis(500);
const SETTLED_INTERVAL: Duration = Duration::from_secs(5);

/// What the control thread tells the standby thread.
pub(super) enum OwnPlace {
    /// This member has these tasks now; without an id nothing is known.
    Assigned { member_id: Option<String>, tasks: BTreeSet<TaskId> },
    /// The group rebalances.
    Unsettled,
    /// The client stops, or starts anew.
    Gone,
}

pub(super) struct StandbyThread {
    pub(super) news: Receiver<OwnPlace>,
    pub(super) directory: Arc<Directory>,
    pub(super) shared: Arc<Shared>,
    pub(super) restorer: Restorer,
    pub(super) replicas: usize,
}

impl StandbyThread {
    pub(super) fn run(self) {
        let (mut own, mut interval) = (None, SETTLED_INTERVAL);
        while !self.shared.is_poisoned() {
            match self.shared.receive(&self.news, interval) {
                Some(OwnPlace::Assigned { member_id, tasks }) => {
                    own = member_id.map(|id| (id, tasks));
                }
                Some(OwnPlace::Unsettled) => own = None,
                Some(OwnPlace::Gone) => return,
                None => {}
            }
            interval = SETTLED_INTERVAL;
            if let Some((id, tasks)) = &own {
                interval = match self.look(id, tasks) {
                    Ok(true) => SETTLED_INTERVAL,
                    Ok(false) => UNSETTLED_INTERVAL,
                    Err(error) => {
                        // Standbys stay what they are; whoever needs the brokers says so louder.
                        tracing::warn!(error = ?error, "the group could not be asked for standbys");
                        SETTLED_INTERVAL
                    }
                };
            }
        }
    }

    /// Works out this member's standbys; says whether the group has settled. While it has not, they stay what they are.
    fn look(&self, id: &str, tasks: &BTreeSet<TaskId>) -> Result<bool> {
        let members = self.directory.members(Duration::ZERO)?;
        let builder = self.directory.builder();
        let owned = |index: usize| tasks_of(&builder, &members[index].partitions);
        let own = members.iter().position(|member| member.member_id == id);
        let Some(own) = own.filter(|own| owned(*own).into_iter().eq(tasks.iter().copied())) else {
            return Ok(false);
        };
        let all: usize = (0..members.len()).map(|index| owned(index).len()).sum();
        if all != builder.plan.task_ids().count() {
            return Ok(false);
        }
        let placed = place_standbys(&builder, &members, self.replicas);
        let mine = placed.into_iter().filter(|(_, members)| members.contains(&own));
        self.restorer.set_standbys(mine.map(|(task, _)| task).collect(), tasks);
        Ok(true)
    }
}
