//! Interactive queries: the stores of this instance, for any thread.
//!
//! Threads own stores; what lies here are views of the engines below them, which hold committed state only
//! ([`crate::store::EngineView`]). They are entered when a task's stores open and leave with the task, so that neither side ever waits for
//! the other's work. Source: `QueryableStoreProvider`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::host_info::LagInfo;
use super::shared::{TaskInfo, TaskState};
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::store::{QueryableStoreType, StoreView};

/// What to query. Source: `org.apache.kafka.streams.StoreQueryParameters`.
#[derive(Debug, Clone)]
pub struct StoreQueryParameters<T> {
    name: String,
    store_type: T,
    partition: Option<i32>,
    stale: bool,
}

impl<T> StoreQueryParameters<T> {
    /// All partitions of a store that this instance processes.
    pub fn from_name_and_type(name: impl Into<String>, store_type: T) -> Self {
        Self { name: name.into(), store_type, partition: None, stale: false }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One partition only, as [`query_metadata_for_key`](crate::KafkaStreams::query_metadata_for_key) tells it.
    #[must_use]
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Also partitions that are being restored, wait for the group to settle, or are standbys: what they hold was committed once, and
    /// may have been overtaken elsewhere.
    #[must_use]
    pub fn enable_stale_stores(mut self) -> Self {
        self.stale = true;
        self
    }
}

/// A store of a task, to be read by others.
struct Entry {
    view: StoreView,
    /// The changelog's end as the restoration saw it last.
    end: Option<i64>,
}

/// The views of this instance's stores.
#[derive(Default)]
pub(super) struct StoreRegistry {
    tasks: Mutex<BTreeMap<TaskId, BTreeMap<Arc<str>, Entry>>>,
    globals: Mutex<BTreeMap<Arc<str>, StoreView>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreRegistry {
    /// Enters a store that was opened; a store that was opened anew replaces its former self.
    pub(super) fn enter(&self, task: TaskId, name: &Arc<str>, view: Option<StoreView>) {
        if let Some(view) = view {
            let entry = Entry { view, end: None };
            lock(&self.tasks).entry(task).or_default().insert(name.clone(), entry);
        }
    }

    /// Enters a global store once it is complete.
    pub(super) fn enter_global(&self, name: &Arc<str>, view: Option<StoreView>) {
        lock(&self.globals).extend(view.map(|view| (name.clone(), view)));
    }

    /// Notes how far the changelog goes.
    pub(super) fn note_end(&self, task: TaskId, name: &str, end: i64) {
        if let Some(entry) =
            lock(&self.tasks).get_mut(&task).and_then(|stores| stores.get_mut(name))
        {
            entry.end = Some(end);
        }
    }

    /// Forgets the stores of a task that is gone.
    pub(super) fn remove(&self, task: TaskId) {
        lock(&self.tasks).remove(&task);
    }

    /// The store of `parameters`, over the partitions in `tasks` that may be read.
    pub(super) fn query<T: QueryableStoreType>(
        &self,
        parameters: &StoreQueryParameters<T>,
        tasks: &[TaskInfo],
    ) -> Result<T::Store> {
        let StoreQueryParameters { name, store_type, partition, stale } = parameters;
        if let Some(view) = lock(&self.globals).get(&**name) {
            return Ok(store_type.create(vec![(0, typed::<T>(name, view)?)]));
        }
        let readable = |info: &TaskInfo| {
            let runs = matches!(info.state, TaskState::Running | TaskState::Retrying);
            (runs || *stale) && partition.is_none_or(|wanted| wanted == info.id.partition)
        };
        let stores = lock(&self.tasks);
        let mut views = Vec::new();
        for info in tasks.iter().filter(|info| readable(info)) {
            if let Some(entry) = stores.get(&info.id).and_then(|stores| stores.get(&**name)) {
                views.push((info.id.partition, typed::<T>(name, &entry.view)?));
            }
        }
        if views.is_empty() {
            let which = partition
                .map_or("no partition".to_owned(), |number| format!("not partition {number}"));
            return Err(Error::retriable(format!(
                "querying store \"{name}\": found {which} running on this instance, wanted one; \
                 ask for its owner, or again when the client runs"
            )));
        }
        Ok(store_type.create(views))
    }

    /// How far each store is behind its changelog; one whose changelog's end is not known yet is left out.
    pub(super) fn lags(&self, tasks: &[TaskInfo]) -> BTreeMap<Arc<str>, BTreeMap<i32, LagInfo>> {
        let mut lags: BTreeMap<Arc<str>, BTreeMap<i32, LagInfo>> = BTreeMap::new();
        let stores = lock(&self.tasks);
        for info in tasks {
            for (name, entry) in stores.get(&info.id).into_iter().flatten() {
                // One that was closed meanwhile has moved away.
                let Ok(position) = entry.view.engine.position() else { continue };
                let current = position.unwrap_or(0);
                let end = match info.state {
                    TaskState::Restoring | TaskState::Standby => entry.end,
                    TaskState::Running | TaskState::Retrying | TaskState::Suspended => {
                        Some(current)
                    }
                };
                let Some(end) = end.map(|end| end.max(current)) else { continue };
                let lag = LagInfo {
                    current_offset_position: current,
                    end_offset_position: end,
                    offset_lag: end - current,
                };
                lags.entry(name.clone()).or_default().insert(info.id.partition, lag);
            }
        }
        lags
    }
}

/// The view as the type that was asked for.
fn typed<T: QueryableStoreType>(name: &str, view: &StoreView) -> Result<Arc<T::View>> {
    view.typed.clone().downcast::<T::View>().map_err(|_| {
        Error::invalid(format!(
            "querying store \"{name}\": found a {}, wanted a {}; ask for the type that the topology gave it",
            view.type_name,
            std::any::type_name::<T::View>()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::serdes::DefaultSerde;
    use crate::store::{
        KeyValueStore, MemoryEngine, QueryableStoreTypes, ReadOnlyKeyValueStore, StateStore,
    };

    type Counts = KeyValueStore<String, i64>;

    fn counts() -> Counts {
        let engine = Box::<MemoryEngine>::default();
        let (key, value) = (String::serde(), i64::serde());
        KeyValueStore::open("counts".into(), key, value, engine, Default::default())
    }

    fn put(store: &mut Counts, key: &str, value: i64) {
        store.put(&key.to_owned(), &value).unwrap();
        store.accept_record();
    }

    fn task(partition: i32, state: TaskState) -> TaskInfo {
        let id = TaskId { subtopology: 1, partition };
        TaskInfo { id, state, thread: 0, partitions: Vec::new(), progress: None }
    }

    fn ask(
        registry: &StoreRegistry,
        tasks: &[TaskInfo],
        change: impl FnOnce(StoreQueryParameters<()>) -> StoreQueryParameters<()>,
    ) -> Result<ReadOnlyKeyValueStore<String, i64>> {
        let StoreQueryParameters { name, partition, stale, .. } =
            change(StoreQueryParameters::from_name_and_type("counts", ()));
        let store_type = QueryableStoreTypes::key_value_store();
        registry.query(&StoreQueryParameters { name, store_type, partition, stale }, tasks)
    }

    fn keys(store: &ReadOnlyKeyValueStore<String, i64>) -> Vec<String> {
        store.all().unwrap().map(|entry| entry.unwrap().0).collect()
    }

    #[test]
    fn only_what_is_committed_is_seen_and_a_closed_store_says_so() {
        let registry = StoreRegistry::default();
        let mut store = counts();
        let tasks = [task(0, TaskState::Running)];
        registry.enter(tasks[0].id, &"counts".into(), store.view());
        let view = ask(&registry, &tasks, |p| p).unwrap();
        put(&mut store, "a", 1);
        assert_eq!(view.get(&"a".to_owned()).unwrap(), None);
        store.commit(Some(1)).unwrap();
        put(&mut store, "a", 2);
        put(&mut store, "b", 2);
        assert_eq!(view.get(&"a".to_owned()).unwrap(), Some(1));
        assert_eq!(keys(&view), ["a"]);
        store.abort();
        assert_eq!(view.get(&"a".to_owned()).unwrap(), Some(1));
        Box::new(store).close().unwrap();
        let error = view.get(&"a".to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retriable, "{error}");
        assert!(view.all().unwrap().next().unwrap().is_err());
        assert!(view.approximate_entries().is_err());
        assert!(registry.lags(&tasks).is_empty());
    }

    #[test]
    fn partitions_are_joined_and_chosen() {
        let registry = StoreRegistry::default();
        let mut stores = [counts(), counts()];
        let tasks = [task(0, TaskState::Running), task(3, TaskState::Restoring)];
        for (store, (info, key)) in stores.iter_mut().zip(tasks.iter().zip(["a", "b"])) {
            put(store, key, 1);
            store.commit(Some(5)).unwrap();
            registry.enter(info.id, &"counts".into(), store.view());
        }
        let running = ask(&registry, &tasks, |p| p).unwrap();
        assert_eq!((running.partitions(), keys(&running)), (vec![0], vec!["a".to_owned()]));
        let all = ask(&registry, &tasks, StoreQueryParameters::enable_stale_stores).unwrap();
        assert_eq!((all.partitions(), keys(&all)), (vec![0, 3], vec!["a".into(), "b".into()]));
        assert_eq!(all.get(&"b".to_owned()).unwrap(), Some(1));
        let one = |p: StoreQueryParameters<()>| p.with_partition(3);
        let error = ask(&registry, &tasks, one).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Retriable);
        assert!(error.message().contains("not partition 3 running"), "{error}");
        let stale = ask(&registry, &tasks, |p| one(p).enable_stale_stores()).unwrap();
        assert_eq!(keys(&stale), ["b"]);
        registry.note_end(tasks[1].id, "counts", 12);
        let lags = &registry.lags(&tasks)["counts"];
        assert_eq!((lags[&0].offset_lag, lags[&3].offset_lag), (0, 7));
        registry.remove(tasks[0].id);
        assert!(ask(&registry, &tasks, |p| p).is_err());
    }

    #[test]
    fn another_type_is_refused_and_both_are_named() {
        let registry = StoreRegistry::default();
        registry.enter_global(&"counts".into(), counts().view());
        let store_type = QueryableStoreTypes::key_value_store::<String, String>();
        let parameters = StoreQueryParameters::from_name_and_type("counts", store_type);
        let error = registry.query(&parameters, &[]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("i64") && error.message().contains("wanted a"), "{error}");
    }
}
