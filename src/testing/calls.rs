//! Asynchronous calls of a topology under test.

use std::time::Duration;

use super::driver::{Inner, TopologyTestDriver};
use crate::error::Result;

/// How long they are waited for, in real time.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl TopologyTestDriver {
    /// Waits until no asynchronous call is left, and processes their results in the order of their records. Only needed without
    /// [`waits_for_calls`](super::TestSettings::waits_for_calls).
    ///
    /// # Errors
    /// `Fatal` where that takes longer than a minute of real time, and what a task returns.
    pub fn complete_calls(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.complete()?;
        while inner.wait_for_calls()? {
            inner.complete()?;
        }
        Ok(())
    }
}

impl Inner {
    /// Waits for the calls that are under way; says whether any was.
    pub(super) fn wait_for_calls(&mut self) -> Result<bool> {
        self.task.as_mut().map_or(Ok(false), |task| task.wait_for_results(WAIT_MAX))
    }
}
