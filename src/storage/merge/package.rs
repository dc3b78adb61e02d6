//! One package: checks the values that were read, and applies the changes.

use super::checks::{conflict, too_many_keys};
use crate::error::Result;
use crate::storage::record::PackageRow;
use crate::storage::{
    ChangeBase, ChangeStep, KeyChange, Limits, Observed, ObservedKeys, PackageChange, StaleCommute,
};
use bytes::Bytes;
use std::sync::Arc;

/// The content of a package after the merge.
pub(super) struct MergedPackage {
    /// The row before the merge. Keys that are not in `writes` keep their values. `None` if the package is new or was
    /// cleared.
    pub(super) old: Option<PackageRow>,
    /// The changed keys, sorted.
    pub(super) writes: Vec<(Arc<str>, Option<Bytes>)>,
    /// The number of keys after the merge.
    pub(super) len: usize,
    /// The number of keys before it.
    was: usize,
}

impl MergedPackage {
    /// Checks the number of keys, if keys were added (C5.3).
    pub(super) fn check_count(&self, limits: &Limits) -> Result<()> {
        if self.len > limits.keys && self.len > self.was {
            return Err(too_many_keys(self.len, limits));
        }
        Ok(())
    }
}

/// Checks that every key that was read still has the same value (C2.7).
pub(super) fn validate(observed: &Observed, current: Option<&PackageRow>) -> Result<()> {
    match (&observed.row, current) {
        (None, None) => return Ok(()),
        (Some(read), Some(now)) if read.version == now.version => return Ok(()),
        _ => {}
    }
    match &observed.keys {
        ObservedKeys::All => {
            let same = match (&observed.row, current) {
                (Some(read), Some(now)) => read.same_values(now),
                _ => false,
            };
            if !same {
                return Err(conflict("the package was changed meanwhile"));
            }
        }
        ObservedKeys::Some(keys) => {
            if let Some(key) = changed_key(observed.row.as_ref(), current, keys) {
                return Err(conflict("the value was changed meanwhile").at_key(key));
            }
        }
    }
    Ok(())
}

/// The first of the sorted `keys` whose values differ in two rows. It iterates over the keys, or over the rows if these
/// have fewer keys. So a transaction that read very many absent keys does not delay other commits.
fn changed_key<'a>(
    one: Option<&'a PackageRow>,
    other: Option<&'a PackageRow>,
    keys: &'a [Arc<str>],
) -> Option<&'a str> {
    let len = |row: Option<&PackageRow>| row.map_or(0, PackageRow::len);
    if keys.len() > len(one) + len(other) {
        let is_read = |key: &str| keys.binary_search_by(|read| (**read).cmp(key)).is_ok();
        return PackageRow::first_difference(one, other, is_read);
    }
    let get = |row: Option<&PackageRow>, key: &str| row.and_then(|row| row.get(key));
    let mut keys = keys.iter().map(|key| &**key);
    keys.find(|key| {
        crate::steps::count(1);
        get(one, key) != get(other, key)
    })
}

/// Applies the changes to a package. `None` if its content stays the same.
pub(super) fn merge_keys(
    package: &PackageChange,
    old: Option<PackageRow>,
    stale: &mut Vec<StaleCommute>,
) -> Result<Option<MergedPackage>> {
    let was = old.as_ref().map_or(0, PackageRow::len);
    let stays = old.as_ref().filter(|_| !package.clear);
    let mut len = if package.clear { 0 } else { was };
    let mut writes = Vec::with_capacity(package.keys.len());
    for (key, change) in &package.keys {
        let before = stays.and_then(|row| row.get(key));
        let after = merge_key(change, before.clone(), stale).map_err(|e| e.at_key(&**key))?;
        if before != after {
            len = len + usize::from(after.is_some()) - usize::from(before.is_some());
            writes.push((key.clone(), after));
        }
    }
    let is_changed = match &old {
        Some(old) if package.clear => {
            len != was || writes.iter().any(|(key, value)| old.get(key) != *value)
        }
        _ => !writes.is_empty(),
    };
    Ok(is_changed.then(|| MergedPackage {
        old: old.filter(|_| !package.clear),
        writes,
        len,
        was,
    }))
}

/// Applies a change to the current value of a key.
fn merge_key(
    change: &KeyChange,
    current: Option<Bytes>,
    stale: &mut Vec<StaleCommute>,
) -> Result<Option<Bytes>> {
    let mut value = match &change.base {
        ChangeBase::Current => current,
        ChangeBase::Put(value) => Some(value.clone()),
        ChangeBase::Removed => None,
    };
    for step in &change.steps {
        value = match step {
            ChangeStep::Arithmetic(arithmetic) => Some(arithmetic.apply(value.as_deref())?.into()),
            ChangeStep::Commute(commute) => {
                if commute.input != value {
                    stale.push(StaleCommute {
                        index: commute.index,
                        current: value,
                    });
                    return Ok(None);
                }
                Some(commute.output.clone())
            }
        };
    }
    Ok(value)
}
