//! The folder of an application's state: `<state.dir>/<application.id>/<task>/`, owned by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::ids::TaskId;

/// The locked folder. Source: `StateDirectory`.
pub(super) struct StateDir {
    folder: PathBuf,
    process_id: String,
    /// Held open: the lock ends with it.
    _lock: File,
}

impl StateDir {
    /// Creates and locks the folder.
    ///
    /// # Errors
    /// `Invalid` where it cannot be written or another process holds it.
    pub(super) fn open(state_dir: &Path, application_id: &str) -> Result<Self> {
        let folder = state_dir.join(application_id);
        let shown = folder.display();
        let refuse = |error: std::io::Error| {
            Error::invalid(format!(
                "state folder \"{shown}\": found it not writable, wanted read and write access; fix its permissions or set state.dir"
            ))
            .with_source(error)
        };
        std::fs::create_dir_all(&folder).map_err(refuse)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(folder.join("process")).map_err(refuse)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::invalid(format!(
                    "state folder \"{shown}\": found it locked by another process of application \"{application_id}\", wanted one process a folder; stop that one or set state.dir"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(refuse(error)),
        }
        let mut process_id = String::new();
        lock.read_to_string(&mut process_id).map_err(refuse)?;
        if process_id.is_empty() {
            process_id = format!("{:016x}", foldhash::quality::RandomState::default().hash_one(()));
            lock.write_all(process_id.as_bytes()).map_err(refuse)?;
            lock.sync_all().map_err(refuse)?;
        }
        Ok(Self { folder, process_id, _lock: lock })
    }

    /// The same over restarts on this folder: transactional ids are made of it, so that a restart fences its own past.
    pub(super) fn process_id(&self) -> &str {
        &self.process_id
    }

    /// The application's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a task, created where it is missing.
    pub(super) fn task_folder(&self, task: TaskId) -> Result<PathBuf> {
        let folder = self.folder.join(task.to_string());
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::fatal(format!("cannot create state folder \"{}\"", folder.display()))
                .with_source(error)
        })?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_locked_once_and_keeps_its_process_id() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::open(root.path(), "app").unwrap();
        let id = first.process_id().to_owned();
        let Err(error) = StateDir::open(root.path(), "app") else { panic!("opened twice") };
        assert!(error.message().contains("locked by another process"), "{error}");
        drop(first);
        assert_eq!(StateDir::open(root.path(), "app").unwrap().process_id(), id);
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let Err(error) = StateDir::open(&file, "app") else { panic!("opened below a file") };
        assert!(error.message().contains("not writable"), "{error}");
    }
}
