//! C5.1, C5.2: a stored value comes back, or gives an error that says why.

use super::{get, in_memory, pkg, stored};
use cloakroom::{ErrorKind, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Before {
    name: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct After {
    name: String,
    #[serde(default)]
    points: u32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is never read, for it cannot be")]
struct Stricter {
    name: String,
    points: u32,
}

// C5.1
#[test]
fn a_struct_that_gained_a_defaulted_field_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let id = stored(&store, Before { name: "ann".into() });
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    let after: After = get(&store, &id, "app", "n").unwrap().unwrap();
    let ann = After {
        name: "ann".into(),
        points: 0,
    };
    assert_eq!(after, ann);
}

// C5.1
#[test]
fn a_struct_that_gained_a_required_field_does_not() {
    let store = in_memory();
    let id = stored(&store, Before { name: "ann".into() });
    let error = get::<Stricter>(&store, &id, "app", "n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
}

// C5.1
#[test]
fn a_struct_that_lost_a_field_still_loads() {
    #[derive(Serialize)]
    struct Wide {
        name: &'static str,
        gone: [u8; 3],
        points: u32,
    }
    let store = in_memory();
    let wide = Wide {
        name: "ann",
        gone: [1, 2, 3],
        points: 4,
    };
    let id = stored(&store, wide);
    let after: After = get(&store, &id, "app", "n").unwrap().unwrap();
    assert_eq!((after.name.as_str(), after.points), ("ann", 4));
}

// C5.1, C1.6
#[test]
fn a_wrong_type_is_a_mismatch_that_names_the_place_and_not_the_value() {
    let store = in_memory();
    let id = stored(&store, "s3cr3t-value");
    let errors = [
        get::<i64>(&store, &id, "app", "n").unwrap_err(),
        get::<Vec<String>>(&store, &id, "app", "n").unwrap_err(),
        get::<BTreeMap<String, i64>>(&store, &id, "app", "n").unwrap_err(),
        get::<After>(&store, &id, "app", "n").unwrap_err(),
        get::<bool>(&store, &id, "app", "n").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        assert_eq!(error.container(), Some(""));
        assert_eq!(error.package(), Some("app"));
        assert_eq!(error.key(), Some("n"));
        let text = format!("{error} {error:?}");
        assert!(text.contains("a string"), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

// C5.1: an enum's unknown variant is told without its name, which is a value too.
#[test]
fn an_unknown_variant_is_a_mismatch_without_the_value() {
    #[derive(Debug, Deserialize)]
    enum Colour {
        #[allow(dead_code, reason = "only its absence is read")]
        Red,
    }
    let store = in_memory();
    let id = stored(&store, "s3cr3t");
    let error = get::<Colour>(&store, &id, "app", "n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
}

// C5.1: the failed read harms nothing.
#[test]
fn a_value_that_was_read_as_a_wrong_type_is_still_there() {
    let store = in_memory();
    let id = stored(&store, 7);
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &id, "app");
    assert!(app.get::<String>("n").is_err());
    assert!(app.take::<String>("n").is_err());
    assert!(app.update("n", |_: Option<String>| String::new()).is_err());
    assert!(app.contains_key("n").unwrap());
    txn.commit().unwrap();
    assert_eq!(get(&store, &id, "app", "n").unwrap(), Some(7));
}

// C5.2
#[test]
fn absent_is_none_and_unreadable_is_an_error() {
    let store = in_memory();
    let id = stored(&store, 7);
    assert_eq!(get::<String>(&store, &id, "app", "m").unwrap(), None);
    assert_eq!(get::<String>(&store, &id, "other", "n").unwrap(), None);
    let nobody = store.client_ids().issue();
    assert_eq!(get::<String>(&store, &nobody, "app", "n").unwrap(), None);
    assert!(get::<String>(&store, &id, "app", "n").is_err());
}

// C5.2: a stored `None` is there, and reads as nothing only where that is asked for.
#[test]
fn a_stored_none_is_present() {
    let store = in_memory();
    let id = stored(&store, None::<i64>);
    let txn = store.begin().unwrap();
    assert!(pkg(&txn, &id, "app").contains_key("n").unwrap());
    assert_eq!(
        pkg(&txn, &id, "app").get::<Option<i64>>("n").unwrap(),
        Some(None)
    );
    assert!(pkg(&txn, &id, "app").get::<i64>("n").is_err());
}
