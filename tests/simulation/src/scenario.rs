//! A script on the simulated cluster, with nothing going wrong.

use std::time::Duration;

use kstreams::kafka::KafkaClients;

use crate::broker::Limits;
use crate::faults::Faults;
use crate::host::{MAX_POLL, SESSION};
use crate::ports::{Port, SimulatedClients};
use crate::world::World;

/// Virtual time that no script needs.
const END: Duration = Duration::from_secs(600);

/// Runs a script on a cluster of its own, for the group `group`.
///
/// # Panics
/// Where the script does, or never ends.
pub fn on_cluster(group: &'static str, script: fn(&dyn KafkaClients, &str)) {
    let limits = Limits { session: SESSION, rebalance: MAX_POLL };
    let world = World::new(1, Faults::none(), 1, limits);
    let life = world.lock().begin_life(0);
    let port = Port { world: world.clone(), life };
    world.spawn("script", move || script(&SimulatedClients(port), group));
    world.run(END);
    let violation = world.lock().violation.take();
    assert_eq!(violation, None, "the script \"{group}\"");
}
