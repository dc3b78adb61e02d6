//! Backups of version 1 of the format, which each later version reads.

use super::support::engine::needs_files;
use super::{Place, Shown, builder, go_on, shown};
use cloakroom::{Backup, ClientId, ContainerSettings, Error, Store, Txn};
use std::path::{Path, PathBuf};

const ANN: &str = "uKc74XF9wUhs491yJe2nOR9NAPYnCwI1PLbUJpbbOXw-u09dD5pV37UEc36jVVis7C6K";
const BEN: &str = "5njGyBoQYZvGZzJ8HEmfwpSIADUNRTj-GRdKgxCPuc5VSAed8nLmk8BIToH_9Sz3R0zq";
const CAT: &str = "Yp8zMLcKBoIDoXPsyz3nDYtoAMFYr21WkbxjUXIbwq-NQn_w7syIaE5RdYX_LIpwr0yV";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// How the fixtures were made. Not a test: it does something only where the environment names a folder, and prints the
/// ids to be put above.
#[test]
fn write_the_fixtures() {
    let Some(folder) = std::env::var_os("CLOAKROOM_WRITE_BACKUPS").map(PathBuf::from) else {
        return;
    };
    let place = Place::new();
    let store = place.store();
    store.register("shop", ContainerSettings::new()).unwrap();
    let [ann, ben, cat] = [(); 3].map(|()| store.client_ids().issue());
    let found = |txn: &Txn, id: &ClientId, owner: &str| {
        let session = txn.session(id)?;
        session.set_owner(Some(owner))?;
        session.pkg("shop").insert("cart", ["tea", owner])
    };
    store.transact(|txn| found(txn, &ann, "ann")).unwrap();
    store.transact(|txn| found(txn, &ben, "ben")).unwrap();
    let (whole, next) = (folder.join("backup-1.whole"), folder.join("backup-1.next"));
    store.backup(&whole, go_on).unwrap();
    let change = |txn: &Txn| {
        txn.session(&ann)?.pkg("shop").insert("paid", true)?;
        txn.session(&ben)?.destroy()?;
        found(txn, &cat, "cat")?;
        Ok::<_, Error>(())
    };
    store.transact(change).unwrap();
    store.backup_since([&whole], &next, go_on).unwrap();
    for id in [ann, ben, cat] {
        println!("{}", id.as_str());
    }
}

#[test]
fn backups_of_the_first_version_are_restored() {
    needs_files!("backups are of files");
    let place = Place::new();
    let chain = ["backup-1.whole", "backup-1.next"].map(fixture);
    assert_eq!(Backup::verify(&chain[0]).unwrap().sessions, 2);
    let restored = |many: usize| {
        let to = place.at(&many.to_string());
        Store::restore(&chain[..many], &to, go_on).unwrap();
        // The secret that signed the ids is in the backup.
        builder().open(to).unwrap()
    };
    let store = restored(1);
    assert!(store.check().unwrap().is_clean());
    let id = |store: &Store, text: &str| store.client_ids().verify(text).unwrap();
    let says = |store: &Store, text: &str| match shown(store, &id(store, text)) {
        Shown::Session { values, owner, .. } => Some((values.len(), owner.unwrap())),
        _ => None,
    };
    assert_eq!(says(&store, ANN), Some((1, "ann".to_owned())));
    assert_eq!(says(&store, BEN), Some((1, "ben".to_owned())));
    assert_eq!(says(&store, CAT), None);
    let store = restored(2);
    assert!(store.check().unwrap().is_clean());
    assert_eq!(says(&store, ANN), Some((2, "ann".to_owned())));
    assert_eq!(shown(&store, &id(&store, BEN)), Shown::Refused);
    assert_eq!(says(&store, CAT), Some((1, "cat".to_owned())));
}
