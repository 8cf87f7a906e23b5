//! The four processes of the group, and whoever starts them again when they end.

use std::collections::BTreeSet;

use test_support::{DEADLINE, Signal, wait_until};

use crate::network::Network;
use crate::site::{Instance, Site, TASKS};

/// Processes of the group.
pub(crate) const SIZE: usize = 4;
/// The one whose connections go through the network that can be cut.
pub(crate) const PROXIED: usize = SIZE - 1;
/// A process that ends more often than this is broken.
const ENDED_MAX: usize = 20;

struct Member {
    name: String,
    settings: Vec<(&'static str, String)>,
    /// None while it is down on purpose.
    instance: Option<Instance>,
    is_frozen: bool,
}

/// All of them; each has a state folder and a static membership.
pub(crate) struct Fleet<'a> {
    site: &'a Site,
    members: Vec<Member>,
    /// How many ended by themselves.
    pub(crate) ended: usize,
}

impl<'a> Fleet<'a> {
    pub(crate) fn start(site: &'a Site, protocol: &str, network: &Network) -> Self {
        let member = |number: usize| {
            let name = format!("member-{number}");
            let mut settings = vec![
                ("kafka.group_instance_id", name.clone()),
                ("kafka.group_protocol", protocol.to_owned()),
            ];
            if number == PROXIED {
                settings.push(("kafka.bootstrap_servers", network.bootstrap.clone()));
            }
            Member { name, settings, instance: None, is_frozen: false }
        };
        let mut fleet = Self { site, members: (0..SIZE).map(member).collect(), ended: 0 };
        (0..SIZE).for_each(|number| fleet.revive(number));
        fleet
    }

    /// Waits until all have their tasks.
    pub(crate) fn wait_until_whole(&mut self) {
        wait_until("the group to be whole", DEADLINE * 2, || {
            self.tend();
            self.is_whole(None)
        });
    }

    /// Starts one that is down.
    pub(crate) fn revive(&mut self, number: usize) {
        let member = &mut self.members[number];
        let settings: Vec<_> =
            member.settings.iter().map(|(key, value)| (*key, &**value)).collect();
        member.instance = Some(self.site.start(&member.name, &settings));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        self.members[number].instance.take().unwrap().kill();
    }

    /// Asks it to stop in order; it has when [`is_down`](Self::is_down).
    pub(crate) fn terminate(&mut self, number: usize) {
        self.members[number].instance.as_mut().unwrap().process.signal(Signal::Terminate);
    }

    /// Whether one that was asked to stop has done so.
    pub(crate) fn is_down(&mut self, number: usize) -> bool {
        let instance = self.members[number].instance.as_mut().unwrap();
        let Some(status) = instance.process.exit_status() else { return false };
        assert_eq!(status.code(), Some(0), "{}", instance.process.tail());
        self.members[number].instance = None;
        true
    }

    pub(crate) fn freeze(&mut self, number: usize) {
        self.members[number].is_frozen = true;
        self.members[number].instance.as_mut().unwrap().process.signal(Signal::Stop);
    }

    pub(crate) fn thaw(&mut self, number: usize) {
        self.members[number].is_frozen = false;
        self.members[number].instance.as_mut().unwrap().process.signal(Signal::Continue);
    }

    /// Starts those again that ended by themselves, as whoever watches over them would.
    pub(crate) fn tend(&mut self) {
        for number in 0..SIZE {
            let Member { name, instance: Some(instance), .. } = &mut self.members[number] else {
                continue;
            };
            let Some(status) = instance.process.exit_status() else { continue };
            eprintln!("{name} ended with {status}:\n{}", last_line(instance));
            self.ended += 1;
            assert!(self.ended <= ENDED_MAX, "{} processes ended by themselves", self.ended);
            self.revive(number);
        }
    }

    /// Whether these have every task, each in one place.
    pub(crate) fn is_whole(&mut self, without: Option<usize>) -> bool {
        let mut tasks = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            match &mut member.instance {
                _ if without == Some(number) => {}
                Some(instance) if !member.is_frozen => tasks.extend(instance.running_tasks()),
                _ => return false,
            }
        }
        let all: BTreeSet<&String> = tasks.iter().collect();
        all.len() == tasks.len() && all.len() == TASKS
    }

    /// Stops all in order.
    pub(crate) fn stop(&mut self) {
        for member in &mut self.members {
            member.instance.as_mut().unwrap().stop();
        }
    }

    /// What they say, for people.
    pub(crate) fn show(&mut self) -> String {
        let mut text = String::new();
        for member in &mut self.members {
            let Some(instance) = &mut member.instance else { continue };
            let tasks = if member.is_frozen { Vec::new() } else { instance.running_tasks() };
            text += &format!("{}: {tasks:?}\n{}\n", member.name, instance.process.tail());
        }
        text
    }
}

fn last_line(instance: &Instance) -> String {
    instance.process.lines().last().cloned().unwrap_or_default()
}
