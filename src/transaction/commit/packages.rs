//! Packs the packages of one client.

use crate::client_id::ClientId;
use crate::error::Result;
use crate::storage::merge::too_many_keys;
use crate::storage::record::PackageRow;
use crate::storage::{
    ClientChange, Limits, Observed, ObservedKeys, PackageChange, Seen, SessionEnd,
};
use crate::transaction::registry::{ContainerIndex, Registry};
use crate::transaction::state::changes::{Closure, KeyChanges, PackageChanges, SubjectChanges};
use crate::transaction::state::indexed_list::IndexedList;
use crate::transaction::state::subject::PackageView;
use std::collections::BTreeSet;

/// The change of a client whose session begins with this commit.
pub(super) fn founding(
    id: &ClientId,
    changes: SubjectChanges,
    home: ContainerIndex,
    (registry, limits): (&Registry, &Limits),
    closures: &mut Vec<Closure>,
) -> Result<ClientChange> {
    let SubjectChanges {
        attributes,
        packages: changes,
    } = changes;
    let mut containers: BTreeSet<ContainerIndex> =
        changes.iter().map(|package| package.container).collect();
    if attributes.is_founding() {
        containers.insert(home);
    }
    let seen = containers.into_iter().map(|container| Seen {
        container_ref: registry.container(container).container_ref.clone(),
        row: None,
        state: crate::storage::SeenState::Absent,
        observed: false,
        listed: false,
        touch: None,
    });
    let seen = seen.collect();
    let mut packages = Vec::with_capacity(changes.len());
    for package in changes {
        check_count(&package, None, registry, limits)?;
        packages.push(pack_package(
            package,
            Observed::default(),
            registry,
            closures,
        )?);
    }
    Ok(ClientChange {
        client: id.key(),
        seen,
        exists: None,
        replaced: None,
        founder: Some(id.freshness()),
        packages,
        home: attributes
            .is_founding()
            .then(|| registry.container(home).id()),
        timeout: attributes.timeout,
        owner: attributes.owner,
        label: attributes.label,
        authenticated_at: attributes.authenticated_at,
        ends_at: attributes.ends_at,
        end: SessionEnd::Stays,
        ends_of: None,
        keeps_owner: false,
        ends_in: Vec::new(),
        leads_on: None,
        imported: None,
        carries: 0,
    })
}

/// Combines the reads of each package with its changes.
pub(super) fn pack_packages(
    views: &IndexedList<PackageView>,
    changes: IndexedList<PackageChanges>,
    (registry, limits): (&Registry, &Limits),
    closures: &mut Vec<Closure>,
) -> Result<Vec<PackageChange>> {
    let mut packages = Vec::with_capacity(views.len().max(changes.len()));
    let changed = |view: &PackageView| changes.position(view.container, &view.package).is_some();
    for view in views.iter().filter(|view| !changed(view)) {
        let observed = observed(view);
        if !observed.keys.are_none() {
            packages.push(PackageChange {
                container_ref: registry.container(view.container).container_ref.clone(),
                package: view.package.clone(),
                observed,
                clear: false,
                keys: Vec::new(),
            });
        }
    }
    for package in changes {
        let view = views.find(package.container, &package.package);
        if let Some(view) = view {
            check_count(&package, view.row.as_ref(), registry, limits)?;
        }
        let observed = view.map(observed).unwrap_or_default();
        packages.push(pack_package(package, observed, registry, closures)?);
    }
    Ok(packages)
}

/// Refuses a package that certainly gets too many keys, before others wait for it. A package that has fewer keys now
/// never exceeds the limit by another transaction.
fn check_count(
    changes: &PackageChanges,
    stored: Option<&PackageRow>,
    registry: &Registry,
    limits: &Limits,
) -> Result<()> {
    let put = changes.inserted();
    if put <= limits.keys.max(stored.map_or(0, PackageRow::len)) {
        return Ok(());
    }
    let stay = stored.filter(|_| !changes.cleared).into_iter();
    let stay = stay.flat_map(|row| row.iter());
    let stay = stay.filter(|(key, _)| !changes.keys.contains_key(*key));
    let name = &registry.container(changes.container).container_ref.name;
    Err(too_many_keys(put + stay.count(), limits)
        .in_container(&**name)
        .in_package(&*changes.package))
}

fn pack_package(
    changes: PackageChanges,
    observed: Observed,
    registry: &Registry,
    closures: &mut Vec<Closure>,
) -> Result<PackageChange> {
    let mut keys = Vec::with_capacity(changes.keys.len());
    for (key, change) in changes.keys {
        let change: KeyChanges = change;
        keys.push((key, change.pack(closures)?));
    }
    Ok(PackageChange {
        container_ref: registry.container(changes.container).container_ref.clone(),
        package: changes.package,
        observed,
        clear: changes.cleared,
        keys,
    })
}

/// The reads of a package and its row, so that the commit need not search for it or decode it again.
fn observed(view: &PackageView) -> Observed {
    let keys = if view.read_all {
        ObservedKeys::All
    } else {
        ObservedKeys::Some(view.read.iter().map(|key| key.0.clone()).collect())
    };
    Observed {
        row: view.row.clone(),
        keys,
    }
}
