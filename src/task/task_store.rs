//! A store on its way into a task and out of it: restoration opens it, the task uses it, its close gives it back.

use std::sync::Arc;

use crate::store::{EngineView, StateStore};
use crate::telemetry::StoreMetrics;

/// A store of a task, with where it is logged.
pub(crate) struct TaskStore {
    pub(crate) store: Box<dyn StateStore>,
    /// `None`: logging is off.
    pub(crate) changelog: Option<Arc<str>>,
    /// The changelog is one of the task's own input topics: it is never written, and holds what is still to be processed, too.
    pub(crate) is_source: bool,
    /// The changelog offset after what the store holds; never above the truth, and below it only by markers.
    pub(crate) position: i64,
    pub(crate) watched: Watched,
}

/// A store's metrics, and where they are read from.
pub(crate) struct Watched {
    pub(super) metrics: StoreMetrics,
    pub(super) view: Arc<dyn EngineView>,
}

#[cfg(test)]
impl TaskStore {
    /// A store that nobody opened for a task.
    pub(crate) fn of(store: Box<dyn StateStore>, changelog: &str, is_source: bool) -> Self {
        let view = store.view().expect("a store that can be queried").engine;
        let metrics = StoreMetrics::new("app", store.name(), |_| false);
        let watched = Watched { metrics, view };
        Self { position: 0, changelog: Some(changelog.into()), is_source, watched, store }
    }
}
