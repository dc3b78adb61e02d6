//! C8.4: the row under an id that was renewed is no session of its own.

use super::Store;
use crate::{Clock, OnDuplicate};
use std::time::Duration;

#[test]
fn a_row_that_leads_on_from_a_renewed_id_is_not_there_already() {
    let minute = Duration::from_secs(60);
    let clock = Clock::manual(Clock::system().now());
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let id = store.client_ids().issue();
    let put = |txn: &crate::Txn| txn.session(&id)?.pkg("cart").insert("tea", 2);
    store.transact(put).unwrap();
    let mut lines = Vec::new();
    store.export(&mut lines).unwrap();
    clock.advance(minute);
    let renew = |txn: &crate::Txn| -> crate::Result<()> {
        let session = txn.session(&id)?;
        assert_eq!(session.pkg("cart").get("tea")?, Some(2));
        session.renew_if_due(Duration::ZERO, 10 * minute);
        Ok(())
    };
    store.transact(renew).unwrap();
    let renewed = store.entry(id.key()).unwrap().unwrap().renewed_as.unwrap();

    let imported = store.import(&*lines, OnDuplicate::Fail).unwrap();
    assert_eq!((imported.sessions, imported.skipped), (1, 0));
    assert!(store.session_info(renewed).unwrap().is_some());
    assert_eq!(store.entry_values(id.key(), "", "cart").unwrap().len(), 1);
    assert!(store.check().unwrap().is_clean());
}
