//! What a failure left open, until the file is open again and tells (C2.13). Until then only this
//! process knows what belongs together.

use super::failure::{self, Contained, Writing, guarded};
use super::group::Databases;
use super::open::{begin_durable, plain_if_there};
use super::tables::{CONTAINERS, META, RETIRED, Writer};
use crate::error::Result;
use crate::storage::ContainerId;
use crate::storage::merge::Writes;
use crate::storage::record::{Kind, seal_plain};
use redb::{Database, ReadableDatabase};

const MIXED: &str = "mixed";

/// Empty unless the outcome of a change is unknown.
#[derive(Default)]
pub(super) struct Unsettled {
    pub(super) half: Option<Half>,
    pub(super) before: Option<Before>,
}

/// The memory half of a group that changed both file and memory: it counts if the file holds the
/// other half (C1.7).
pub(super) struct Half {
    pub(super) number: u64,
    pub(super) writes: Vec<Writes>,
}

/// A container's row before it was changed. The process goes on with that, so the file must, too: its
/// number must not be given away twice, nor what it holds be reclaimed.
pub(super) struct Before {
    pub(super) name: String,
    pub(super) row: Option<Vec<u8>>,
    pub(super) id: ContainerId,
}

impl Unsettled {
    /// Brings file and memory in line.
    pub(super) fn settle(&mut self, databases: &Databases) -> Result<()> {
        if let Some(half) = &self.half {
            guarded(|| half.complete(databases))?;
        }
        if let Some(before) = &self.before {
            guarded(|| before.restore(&databases.file))?;
        }
        *self = Self::default();
        Ok(())
    }
}

impl Half {
    /// Notes in the file's half which group it is.
    pub(super) fn mark(&self, file: &Writing) -> Result<()> {
        let mut meta = file.open_table(META).map_err(failure::table)?;
        let record = seal_plain(Kind::Meta, MIXED.as_bytes(), self.number)?;
        meta.insert(MIXED, &*record).map_err(failure::storage)?;
        Ok(())
    }

    fn complete(&self, databases: &Databases) -> Result<()> {
        let file = databases.file.begin_read().map_err(failure::transaction)?;
        let meta = file.open_table(META).map_err(failure::table)?;
        if plain_if_there(&meta, MIXED)? != Some(self.number) {
            return Ok(());
        }
        let memory = databases.memory.begin_write().map(Contained::new);
        let memory = memory.map_err(failure::transaction)?;
        {
            let mut writer = Writer::open(&memory)?;
            for writes in &self.writes {
                writer.apply(writes, ContainerId::is_in_memory)?;
            }
        }
        memory.commit().map_err(failure::commit)
    }
}

impl Before {
    fn restore(&self, file: &Database) -> Result<()> {
        let txn = begin_durable(file)?;
        {
            let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
            let name = self.name.as_str();
            match &self.row {
                Some(row) => containers.insert(name, row.as_slice()).map(drop),
                None => containers.remove(name).map(drop),
            }
            .map_err(failure::storage)?;
            let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
            retired.remove(self.id.0).map_err(failure::storage)?;
        }
        txn.commit().map_err(failure::commit)
    }
}
