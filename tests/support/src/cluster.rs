//! The processes of the test's cluster, for tests that kill them: a cluster of their own then.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::required_variable;

/// A cluster that `scripts/cluster.sh start … --proxied` made.
pub struct Cluster {
    folder: PathBuf,
}

impl Cluster {
    /// The one whose `env` was sourced.
    ///
    /// # Panics
    /// When the environment names none.
    pub fn of_environment() -> Cluster {
        Cluster { folder: required_variable("KSTREAMS_TEST_CLUSTER").into() }
    }

    /// Kills a process on the spot: `kafka-1`, `registry`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn kill(&self, process: &str) {
        self.script("kill", process);
    }

    /// Starts it again as it was, on the same data, and returns when it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn revive(&self, process: &str) {
        self.script("revive", process);
    }

    /// For each broker the port of its second listener and the one under which that is advertised, where a proxy may stand.
    ///
    /// # Panics
    /// When the cluster was made without.
    pub fn proxied(&self) -> Vec<(u16, u16)> {
        let ports = required_variable("KSTREAMS_TEST_PROXIED");
        let port = |text: &str| text.parse().expect("a port is a number");
        let pairs = ports.split_whitespace().map(|pair| pair.split_once(':').expect("two ports"));
        pairs.map(|(listens, advertised)| (port(listens), port(advertised))).collect()
    }

    fn script(&self, command: &str, process: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/cluster.sh");
        let output = Command::new(script).arg(command).arg(&self.folder).arg(process).output();
        let output = output.expect("the script can be run");
        assert!(output.status.success(), "{command} {process}: {output:?}");
    }
}
