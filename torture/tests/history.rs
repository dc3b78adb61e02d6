//! C2.7: what real threads read and write has a serial order that agrees with real time.

use cloakroom::Store;
use cloakroom_torture::history::Totals;

#[test]
fn every_history_is_strictly_serializable() {
    let seed = match std::env::var("CLOAKROOM_SEED") {
        Ok(seed) => seed.parse().expect("CLOAKROOM_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    let mut totals = Totals::default();
    for n in 0..60 {
        let seed = seed.wrapping_add(n);
        let anomalies = totals.add(seed, Store::builder());
        assert!(
            anomalies.is_empty(),
            "CLOAKROOM_SEED={seed}: {anomalies:#?}"
        );
    }
    // If nothing ever met, nothing was shown.
    assert!(totals.conflicts > 0, "CLOAKROOM_SEED={seed}: {totals:?}");
}
