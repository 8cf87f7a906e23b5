//! A typed store over a segmented one, as its task manages it: everything is left to the layer below.

/// Implements [`StateStore`](super::StateStore) for a type with a field `segments`.
macro_rules! segmented_state_store {
    ($store:ident) => {
        impl<K: 'static, V: 'static> StateStore for $store<K, V> {
            fn name(&self) -> &Arc<str> {
                self.segments.store().name()
            }

            fn set_record_timestamp(&mut self, timestamp: Timestamp) {
                self.segments.store_mut().set_record_timestamp(timestamp);
            }

            fn accept_record(&mut self) {
                self.segments.accept_record();
            }

            fn undo_record(&mut self) {
                self.segments.undo_record();
            }

            fn write_changelog(&mut self, changelog: &mut dyn ChangelogWriter) -> Result<usize> {
                self.segments.write_changelog(changelog)
            }

            fn commit(&mut self, position: Option<i64>) -> Result<()> {
                self.segments.commit(position)
            }

            fn abort(&mut self) {
                self.segments.abort();
            }

            fn uncommitted_bytes(&self) -> usize {
                self.segments.store().uncommitted_bytes()
            }

            fn figures(&self) -> crate::telemetry::StoreFigures {
                self.segments.store().figures()
            }

            fn take_expired_writes(&mut self) -> u64 {
                self.segments.take_expired_writes()
            }

            fn position(&self) -> Option<i64> {
                self.segments.store().position()
            }

            fn restore(&mut self, records: &[ChangelogRecord], position: i64) -> Result<()> {
                self.segments.restore(records, position)
            }

            fn times(&self) -> Vec<i64> {
                self.segments.times()
            }

            fn keep_times(&mut self, times: &[i64]) {
                self.segments.keep_times(times);
            }

            fn record_cache(&mut self) -> Option<&mut Option<super::RecordCache>> {
                self.segments.store_mut().record_cache()
            }

            fn close(self: Box<Self>) -> Result<()> {
                self.segments.close()
            }

            fn view(&self) -> Option<super::StoreView> {
                Some(self.committed_view())
            }

            fn as_any_mut(&mut self) -> &mut dyn Any {
                self
            }

            fn as_any(&self) -> &dyn Any {
                self
            }
        }
    };
}

pub(super) use segmented_state_store;
