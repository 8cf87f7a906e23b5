//! What a stream thread tells once a second: how far behind its tasks are, and what they say of themselves.

use std::time::Duration;

use super::stream_thread::Running;
use crate::kafka::StartOffset;

/// How often gauges are set.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often, in reports, stores' engines are asked for theirs.
const ENGINE_REPORTS: u32 = 5;

impl Running {
    pub(super) fn report_when_due(&mut self, now: Duration) {
        if now.saturating_sub(self.last_report) >= REPORT_INTERVAL {
            self.report();
            self.last_report = now;
        }
    }

    fn report(&mut self) {
        let wall = self.thread.builder.settings.clock.now();
        self.reports = (self.reports + 1) % ENGINE_REPORTS;
        for active in self.tasks.values_mut() {
            for (index, partition) in active.task.partitions().iter().enumerate() {
                let end = self.thread.consumer.cached_end_offset(partition);
                let committed = active.inputs[index].committed;
                let start = match active.inputs[index].start {
                    StartOffset::At(offset) => Some(offset),
                    StartOffset::Beginning | StartOffset::End => None,
                };
                let position = active.task.consumed(index).or(start);
                let waiting = active.task.waiting_since(index).map(|since| wall.since(since));
                active.inputs[index].metrics.lag(end, position, committed, waiting);
            }
            active.task.report();
            if self.reports == 1 {
                active.task.report_engines();
            }
        }
    }
}
