//! What fails, and how to tell that the group is well again.

use std::time::Duration;

use test_support::{Cluster, wait_until};

use crate::fleet::{Fleet, PROXIED, SIZE};
use crate::network::Network;
use crate::traffic::Traffic;

/// Ends a hung run.
const DEADLINE: Duration = Duration::from_secs(150);

/// One after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// SIGKILL, and a new start at once: its static membership still stands.
    KillAndRestart(usize),
    /// SIGKILL, and a new start when the others have taken over.
    KillAndTakeOver(usize),
    /// Each process in turn is stopped in order and started again.
    RollingRestart,
    /// SIGSTOP until the others have taken over: it wakes as a zombie.
    Freeze(usize),
    /// SIGKILL of a broker, and a new start when the others have gone on without it.
    KillBroker(u32),
    /// SIGKILL and a new start of the registry; events go on meanwhile.
    KillRegistry,
    /// Nothing passes between one process and the brokers, until the others have taken over.
    CutNetwork,
}

impl Failure {
    /// Of each process and each broker.
    pub(crate) fn all() -> Vec<Failure> {
        use Failure::*;
        let mut all =
            vec![KillAndRestart(0), KillAndTakeOver(1), KillAndRestart(2), KillAndTakeOver(3)];
        all.extend([RollingRestart, Freeze(0)]);
        all.extend((1..=3).map(KillBroker));
        all.extend([KillRegistry, CutNetwork]);
        all
    }

    /// One of a kind, and only what nothing else tests.
    pub(crate) fn few() -> Vec<Failure> {
        vec![Failure::KillAndTakeOver(1), Failure::KillBroker(2), Failure::CutNetwork]
    }
}

pub(crate) struct Chaos<'a> {
    pub(crate) cluster: Cluster,
    pub(crate) network: Network,
    pub(crate) fleet: Fleet<'a>,
    pub(crate) traffic: Traffic,
}

impl Chaos<'_> {
    /// Plays one through; returns when the group is whole again, and has done all that was there when it became so.
    pub(crate) fn play(&mut self, failure: Failure) {
        match failure {
            Failure::KillAndRestart(number) => {
                self.fleet.kill(number);
                self.fleet.revive(number);
            }
            Failure::KillAndTakeOver(number) => {
                self.fleet.kill(number);
                self.wait_for_take_over(number);
                self.fleet.revive(number);
            }
            Failure::RollingRestart => (0..SIZE).for_each(|number| self.restart(number)),
            Failure::Freeze(number) => {
                self.fleet.freeze(number);
                self.wait_for_take_over(number);
                self.fleet.thaw(number);
            }
            Failure::KillBroker(node) => {
                self.cluster.kill(&format!("kafka-{node}"));
                self.catch_up();
                self.cluster.revive(&format!("kafka-{node}"));
            }
            Failure::KillRegistry => {
                self.cluster.kill("registry");
                self.catch_up();
                self.cluster.revive("registry");
            }
            Failure::CutNetwork => {
                self.network.cut();
                self.wait_for_take_over(PROXIED);
                self.network.heal();
            }
        }
        self.wait("the group to be whole", DEADLINE, |chaos| chaos.fleet.is_whole(None));
        self.catch_up();
    }

    fn restart(&mut self, number: usize) {
        self.fleet.terminate(number);
        self.wait("an ordered stop", DEADLINE, |chaos| chaos.fleet.is_down(number));
        self.fleet.revive(number);
        self.wait("the group to be whole", DEADLINE, |chaos| chaos.fleet.is_whole(None));
    }

    fn wait_for_take_over(&mut self, number: usize) {
        self.wait("the others to take over", DEADLINE, |chaos| chaos.fleet.is_whole(Some(number)));
        self.catch_up();
    }

    /// Waits until all requests that were there are assigned.
    fn catch_up(&mut self) {
        let filed = self.traffic.filed();
        self.wait("all that was filed", DEADLINE, |chaos| chaos.traffic.assignments() >= filed);
    }

    /// Waits while the load goes on.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        deadline: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let mut show = Show(self, true);
        wait_until(what, deadline, || {
            let chaos = &mut *show.0;
            chaos.traffic.turn();
            if done(chaos) {
                return true;
            }
            chaos.fleet.tend();
            false
        });
        show.1 = false;
    }
}

/// Prints what all say when a wait was in vain.
struct Show<'a, 'b>(&'a mut Chaos<'b>, bool);

impl Drop for Show<'_, '_> {
    fn drop(&mut self) {
        if self.1 {
            eprintln!("{}\n{}", self.0.traffic.progress(), self.0.fleet.show());
        }
    }
}
