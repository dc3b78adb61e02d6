//! Puts a session in as it was in another store.

use super::checks::conflict;
use super::package::merge_keys;
use super::session::SessionMerge;
use super::writes::RowWriter;
use crate::error::{Error, Result};
use crate::storage::record::SessionRow;
use crate::storage::{ClientChange, OnDuplicate};
use std::sync::Arc;

/// The merged sessions of an imported client. `None` if the session that is there stays.
pub(super) fn import<'a, R>(
    change: &ClientChange,
    mut sessions: Vec<SessionMerge<'a>>,
    existing: OnDuplicate,
    writer: &RowWriter<'_, R>,
) -> Result<Option<Vec<SessionMerge<'a>>>> {
    // What was seen expired is replaced in any case, with its packages.
    if sessions.iter().any(|session| session.row.is_some()) {
        match existing {
            OnDuplicate::Skip => return Ok(None),
            OnDuplicate::Fail => return Err(conflict("the session is there already")),
            OnDuplicate::Replace => {}
        }
    }
    let limits = &writer.set.limits;
    for session in &mut sessions {
        let Some(row) = &change.imported else {
            continue;
        };
        let container = session.seen.container_ref.id;
        session.found(SessionRow {
            incarnation: writer.version,
            packages: Arc::default(),
            ..(**row).clone()
        });
        let packages = change.packages.iter();
        for package in packages.filter(|it| it.container_ref.id == container) {
            let named = |e: Error| {
                e.in_container(&*package.container_ref.name)
                    .in_package(&*package.package)
            };
            // The keys are given, and no closure computes any.
            let Some(content) = merge_keys(package, None, &mut Vec::new()).map_err(named)? else {
                continue;
            };
            content.check_count(limits).map_err(named)?;
            let name = package.package.clone();
            session.packages.insert(name, Box::new(content));
        }
        session.list_packages();
        session.check_count(limits)?;
    }
    Ok(Some(sessions))
}
