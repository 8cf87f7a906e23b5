//! A host's disk: what stores have written and flushed survives a crash; of what they have not flushed, any prefix of whole batches may, as
//! of a database that writes no log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use kstreams::store::{Change, Direction, Engine, EngineIter, EngineView, Engines, MemoryEngine};
use kstreams::{Error, ErrorKind, Result};

use crate::faults::Call;
use crate::ports::Port;

type Key = (PathBuf, String);
type Batch = (Vec<(Bytes, Option<Bytes>)>, Option<i64>);

/// What a store has on its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) entries: BTreeMap<Bytes, Bytes>,
    pub(crate) position: Option<i64>,
}

impl Content {
    fn apply(&mut self, (changes, position): Batch) {
        for (key, value) in changes {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        self.position = position.or(self.position);
    }
}

#[derive(Default)]
struct File {
    flushed: Content,
    unflushed: Vec<Batch>,
    is_damaged: bool,
}

impl File {
    fn flush(&mut self, batches: usize) {
        for batch in self.unflushed.drain(..batches) {
            self.flushed.apply(batch);
        }
    }
}

/// All stores of a host.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<Key, File>,
    /// Writes of an older process come too late.
    life: u64,
}

impl Disk {
    pub(crate) fn begin_life(&mut self) {
        self.life += 1;
    }

    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        self.life += 1;
        for file in self.files.values_mut() {
            let kept = rng.usize(0..=file.unflushed.len());
            file.flush(kept);
            file.unflushed.clear();
        }
    }

    /// What every store would have after a flush, by task and name.
    pub(crate) fn stores(&self) -> BTreeMap<(String, String), Content> {
        let stores = self.files.iter().map(|((folder, name), file)| {
            let mut content = file.flushed.clone();
            file.unflushed.iter().cloned().for_each(|batch| content.apply(batch));
            ((task_of(folder), name.clone()), content)
        });
        stores.collect()
    }
}

/// The task whose folder this is; what is above it is another one each time.
fn task_of(folder: &Path) -> String {
    folder.file_name().map(|task| task.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Opens the stores of one process.
pub(crate) struct DiskEngines {
    pub(crate) port: Port,
    pub(crate) host: usize,
}

impl Engines for DiskEngines {
    fn open(&self, folder: &Path, store: &str) -> Result<Box<dyn Engine>> {
        self.port.enter(Call::StoreOpen)?;
        let key = (folder.to_owned(), store.to_owned());
        let mut state = self.port.world.lock();
        let is_damaged = state.chance(|faults| faults.damaged_per_mille);
        let disk = &mut state.hosts[self.host].disk;
        let life = disk.life;
        let file = disk.files.entry(key.clone()).or_default();
        if file.flushed != Content::default() && (is_damaged || file.is_damaged) {
            file.is_damaged = true;
            return Err(Error::new(ErrorKind::TaskCorrupted, "a simulated store is damaged"));
        }
        file.flush(file.unflushed.len());
        let content = file.flushed.clone();
        let position = content.position;
        let task = task_of(folder);
        state.note(|| format!("host {} opens {task} {store} at {position:?}", self.host));
        drop(state);
        let mut memory = MemoryEngine::default();
        let mut entries = content.entries.iter().map(|(key, value)| (&key[..], Some(&value[..])));
        memory.write(&mut entries, position)?;
        self.port.leave(Call::StoreOpen)?;
        Ok(Box::new(DiskEngine { memory, port: self.port.clone(), host: self.host, key, life }))
    }

    fn wipe(&self, folder: &Path, store: &str) -> Result<()> {
        let key = (folder.to_owned(), store.to_owned());
        let mut state = self.port.world.lock();
        let task = task_of(folder);
        state.note(|| format!("host {} wipes {task} {store}", self.host));
        state.hosts[self.host].disk.files.remove(&key);
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        true
    }
}

struct DiskEngine {
    memory: MemoryEngine,
    port: Port,
    host: usize,
    key: Key,
    life: u64,
}

impl DiskEngine {
    /// Notes what was written, while this process has the disk.
    fn log(&self, batch: Batch) {
        let mut state = self.port.world.lock();
        let flushes = state.rng.u32(0..8) == 0;
        let disk = &mut state.hosts[self.host].disk;
        if disk.life == self.life {
            let file = disk.files.entry(self.key.clone()).or_default();
            file.unflushed.push(batch);
            if flushes {
                file.flush(file.unflushed.len());
            }
        }
    }
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.memory.get(key)
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<EngineIter<'_>> {
        self.memory.range(from, to, direction)
    }

    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: Option<i64>,
    ) -> Result<()> {
        self.port.enter(Call::StoreWrite)?;
        let longest = {
            let mut state = self.port.world.lock();
            let most = if state.is_troubled() { state.faults.disk_ms_max } else { 1 };
            state.rng.u64(1..=most.max(1) * 1000)
        };
        self.port.pause(Duration::from_micros(longest))?;
        let copy = |(key, value): Change<'_>| {
            (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice))
        };
        let changes: Vec<(Bytes, Option<Bytes>)> = changes.map(copy).collect();
        let mut written = changes.iter().map(|(key, value)| (&key[..], value.as_deref()));
        self.memory.write(&mut written, position)?;
        self.log((changes, position));
        self.port.leave(Call::StoreWrite)
    }

    fn position(&self) -> Option<i64> {
        self.memory.position()
    }

    fn approximate_entries(&self) -> u64 {
        self.memory.approximate_entries()
    }

    fn view(&self) -> Arc<dyn EngineView> {
        self.memory.view()
    }

    fn close(self: Box<Self>) -> Result<()> {
        let mut state = self.port.world.lock();
        let disk = &mut state.hosts[self.host].disk;
        if disk.life == self.life
            && let Some(file) = disk.files.get_mut(&self.key)
        {
            file.flush(file.unflushed.len());
        }
        Ok(())
    }
}
