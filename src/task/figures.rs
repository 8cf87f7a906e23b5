//! What a task tells about itself: once a second, by the stream thread.

use std::time::Duration;

use super::stream_task::StreamTask;

impl StreamTask {
    /// Sets the task's gauges, and adds what nodes and stores have counted since the last call.
    pub(crate) fn report(&mut self) {
        let bytes = self.group.queues.iter().map(|queue| queue.bytes).sum();
        let stream_time = self.state.stream_time.map(|time| time.as_millis());
        self.metrics.report(self.group.buffered_records(), bytes, stream_time);
        for (index, slot) in self.nodes.iter().enumerate() {
            self.metrics.node_records(index, slot.records.take());
        }
        for (store, watched) in self.stores.iter().zip(&mut self.watched) {
            watched.metrics.report(store.figures(), store.uncommitted_bytes());
        }
    }

    /// Asks the stores' engines for theirs.
    pub(crate) fn report_engines(&self) {
        for watched in &self.watched {
            watched.metrics.report_engine(|property| watched.view.property(property));
        }
    }

    /// What one record's way through the subtopology took.
    pub(crate) fn note_process(&self, took: Duration) {
        self.metrics.process(took);
    }

    /// The task rests before it tries the same record again.
    pub(crate) fn note_backoff(&self) {
        self.metrics.backoffs.increment(1);
    }

    /// What punctuators took since the last call.
    pub(crate) fn take_punctuation_time(&mut self) -> Duration {
        std::mem::take(&mut self.punctuation_time)
    }
}
