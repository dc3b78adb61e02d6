//! The folder of a disk, as a store sees it.

use super::calls::Call;
use super::file::{File, Handle, ReadHandle};
use super::state::{State, Turn};
use super::{Disk, not_found};
use cloakroom::torture::{Folder, NewFile};
use redb::StorageBackend;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

impl Disk {
    pub(super) fn handle(&self, state: &mut State, file: usize) -> Arc<dyn StorageBackend> {
        state.handles += 1;
        Arc::new(Handle {
            disk: self.clone(),
            file,
            owner: state.handles,
        })
    }

    /// A call that changes the names.
    pub(super) fn naming(
        &self,
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.lock();
        match state.turn(Call::Name)? {
            Turn::Goes => change(&mut state),
            // It took place, but nobody is told so.
            Turn::Half(code) => {
                change(&mut state)?;
                Err(io::Error::from_raw_os_error(code))
            }
        }
    }
}

impl Folder for Disk {
    fn open(&self, name: &OsStr) -> io::Result<Arc<dyn StorageBackend>> {
        let mut state = self.lock();
        let file = *state.names.get(name).ok_or_else(not_found)?;
        Ok(self.handle(&mut state, file))
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<Arc<dyn StorageBackend>> {
        let mut state = self.lock();
        let file = *state.names.get(name).ok_or_else(not_found)?;
        state.handles += 1;
        Ok(Arc::new(ReadHandle(Handle {
            disk: self.clone(),
            file,
            owner: state.handles,
        })))
    }

    fn make(&self) -> io::Result<Box<dyn NewFile>> {
        let mut made = 0;
        self.naming(|state| {
            made = state.files.len();
            state.files.push(File::new(Vec::new()));
            Ok(())
        })?;
        let disk = self.clone();
        Ok(Box::new(Nameless { disk, file: made }))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.naming(|state| state.unname(name).map(drop))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.naming(|state| {
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = state.unname(from)?;
            state.name(to, file);
            Ok(())
        })
    }

    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
        let file = *self.lock().names.get(name).ok_or_else(not_found)?;
        Ok(Some((0, file as u64)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock_to_sync();
        match state.turn(Call::SyncNames)? {
            Turn::Goes => {
                state.kept_names = state.names.clone();
                state.unsynced_names.clear();
                Ok(())
            }
            Turn::Half(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// A file without a name.
struct Nameless {
    disk: Disk,
    file: usize,
}

impl NewFile for Nameless {
    fn disk(&self) -> io::Result<Arc<dyn StorageBackend>> {
        Ok(self.disk.handle(&mut self.disk.lock(), self.file))
    }

    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(Some((0, self.file as u64)))
    }

    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let file = self.file;
        self.disk.naming(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.name(name, file);
            Ok(())
        })
    }

    fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let file = self.file;
        self.disk.naming(|state| {
            if !state.names.contains_key(name) {
                return Err(not_found());
            }
            state.name(name, file);
            Ok(())
        })
    }
}
