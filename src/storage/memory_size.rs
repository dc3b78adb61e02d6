//! About how many bytes of memory a change set takes while it waits.

use crate::storage::record::PackageRow;
use crate::storage::{
    ChangeBase, ChangeSet, ChangeStep, ClientChange, KeyChange, Observed, ObservedKeys,
    PackageChange, Seen,
};
use bytes::Bytes;
use std::mem::{size_of, size_of_val};

impl ChangeSet {
    /// Approximate: it leaves out the overhead of the allocator, and counts shared data for each owner.
    pub(crate) fn memory_size(&self) -> usize {
        let clients = self.clients.iter().map(client);
        size_of::<Self>() + clients.sum::<usize>()
    }
}

fn client(change: &ClientChange) -> usize {
    let packages = change.packages.iter().map(package);
    let texts = change.owner.iter().chain(&change.label).flatten();
    size_of::<ClientChange>()
        + change.carries
        + change.seen.iter().map(seen).sum::<usize>()
        + texts.map(|text| text.len()).sum::<usize>()
        + packages.sum::<usize>()
}

fn seen(seen: &Seen) -> usize {
    let row = seen.row.as_ref();
    let texts = row
        .iter()
        .flat_map(|row| row.owner.iter().chain(&row.optional.label));
    let packages = row.iter().flat_map(|row| row.packages.iter());
    size_of::<Seen>()
        + texts.map(|text| text.len()).sum::<usize>()
        + packages
            .map(|name| size_of_val(name) + name.len())
            .sum::<usize>()
}

fn package(change: &PackageChange) -> usize {
    let keys = change
        .keys
        .iter()
        .map(|(name, key)| name.len() + value(key));
    size_of::<PackageChange>()
        + change.package.len()
        + observed(&change.observed)
        + keys.sum::<usize>()
}

fn observed(observed: &Observed) -> usize {
    let keys = match &observed.keys {
        ObservedKeys::All => 0,
        ObservedKeys::Some(keys) => keys.iter().map(|key| key.len()).sum(),
    };
    keys + observed.row.as_ref().map_or(0, PackageRow::memory_size)
}

fn value(change: &KeyChange) -> usize {
    let base = match &change.base {
        ChangeBase::Put(value) => value.len(),
        ChangeBase::Current | ChangeBase::Removed => 0,
    };
    let step = |step: &ChangeStep| match step {
        ChangeStep::Arithmetic(_) => 0,
        ChangeStep::Commute(commute) => {
            commute.input.as_ref().map_or(0, Bytes::len) + commute.output.len()
        }
    };
    let steps = change
        .steps
        .iter()
        .map(|s| size_of::<ChangeStep>() + step(s));
    size_of::<KeyChange>() + base + steps.sum::<usize>()
}
