//! What forms change, and what is kept of it (C9.3).

use crate::support::{BASE, Pages};
use crate::{ended, session, with_token};
use axum::http::{Request, StatusCode};
use cloakroom::{ContainerSettings, Store};
use cloakroom_admin::{Access, Admin};
use std::time::Duration;

#[tokio::test]
async fn what_was_done_is_told_and_kept_with_who_and_what() {
    let pages = Pages::new();
    let (one, other) = (session(&pages.store, "dora"), session(&pages.store, "dora"));
    pages.post("ann", &format!("/sessions/{one}/end"), "").await;
    let answer = pages.post("ann", "/owners/end", "owner=dora").await;
    assert_eq!(answer.location(), "/internal/sessions/owners?done=2");
    assert!(pages.store.session_info(other).unwrap().is_none());
    let told = pages.get("ann", "/owners?done=2").await;
    assert!(told.text.contains("1 session ended"), "{}", told.text);
    assert!(
        !pages
            .get("bob", "/owners?done=2")
            .await
            .text
            .contains("1 session ended")
    );
    let log = pages.json("bob", "/audit").await.json();
    let entries = log["entries"].as_array().unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|it| {
            (
                it["who"].as_str(),
                it["action"].as_str(),
                it["subject"].as_str(),
            )
        })
        .collect();
    let one = one.to_string();
    let expected = [
        (Some("ann"), Some("end sessions of owner"), Some("dora")),
        (Some("ann"), Some("end session"), Some(&*one)),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn settings_are_validated_and_stay_as_typed() {
    let pages = Pages::new();
    pages
        .store
        .register("shop.cart", ContainerSettings::new())
        .unwrap();
    let fields =
        "name=shop.cart&boxes=1&timeout=90&resolution=5m&max_lifetime=<b>&implicit_sweeps=true";
    let answer = pages.post("ann", "/containers/edit", fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.text.contains("2 fields have mistakes"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("Say the unit") && answer.text.contains("value=\"90\""));
    assert!(!answer.text.contains("<b>"));
    let container = pages.store.container("shop.cart").unwrap();
    assert_eq!(container.settings().unwrap(), ContainerSettings::new());

    let fields = "name=shop.cart&boxes=1&timeout=30m&resolution=5m&max_lifetime=7d";
    let answer = pages.post("ann", "/containers/edit", fields).await;
    assert_eq!(answer.location(), "/internal/sessions/containers?done=1");
    let day = Duration::from_secs(24 * 3600);
    let expected = ContainerSettings::new()
        .timeout(Duration::from_secs(1800))
        .resolution(Duration::from_secs(300))
        .max_lifetime(Some(7 * day))
        .implicit_sweeps(false);
    assert_eq!(container.settings().unwrap(), expected);
    let log = pages.json("ann", "/audit").await.json();
    let outcome = log["entries"][0]["outcome"].as_str().unwrap();
    assert!(outcome.contains("timeout from 1h to 30m"), "{outcome}");
    let missing = pages.get("ann", "/containers/edit?name=nothing").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn each_setting_of_a_container_has_a_field_whose_effect_is_explained() {
    let page = Pages::new().get("ann", "/containers/edit?name=").await.text;
    let settings = format!("{:#?}", ContainerSettings::new());
    let names = settings.lines().filter_map(|line| line.split_once(':'));
    let names: Vec<_> = names.map(|(name, _)| name.trim()).collect();
    assert!(names.contains(&"timeout"), "{settings}");
    for name in names {
        // The place is code: it is shown and explained.
        if name != "residence" {
            assert!(
                page.contains(&format!("<label for=\"{name}\">")),
                "{name}: {page}"
            );
            assert!(
                page.contains(&format!("aria-describedby=\"{name}-hint\"")),
                "{name}"
            );
        }
        let (_, hint) = page
            .split_once(&format!("id=\"{name}-hint\">"))
            .unwrap_or_else(|| panic!("{name} is not explained: {page}"));
        assert!(hint.split('<').next().unwrap().len() > 40, "{name}: {page}");
    }
}

#[tokio::test]
async fn work_is_begun_followed_and_kept() {
    let pages = Pages::new();
    let answer = pages.post("ann", "/maintenance/check", "").await;
    let path = answer.location().strip_prefix(BASE).unwrap().to_owned();
    let ended = ended(&pages, "bob", &path).await;
    assert_eq!(ended["failed"], false);
    assert!(
        ended["outcome"]
            .as_str()
            .unwrap()
            .contains("no damage found")
    );
    let page = pages.get("ann", &path).await;
    assert!(page.text.contains("no damage found"), "{}", page.text);
    let log = pages.json("ann", "/audit").await.json();
    assert_eq!(log["entries"][0]["action"], "Check");
}

#[tokio::test]
async fn a_secret_is_retired_only_when_that_is_confirmed() {
    let pages = Pages::new();
    let old = pages.store.client_ids().issue();
    let number = pages.store.secrets().unwrap()[0].name;
    let verifies = || pages.store.client_ids().verify(old.as_str()).is_some();
    let issuing = pages.store.rotate_secret().unwrap();
    let page = pages.get("ann", "/maintenance/secrets").await.text;
    assert!(page.contains(&format!("Retire secret {number}")), "{page}");
    assert!(
        !page.contains(&format!("Retire secret {issuing}")),
        "{page}"
    );
    assert_eq!(page.matches("Made <time datetime=").count(), 2, "{page}");
    let looked = pages.get("bob", "/maintenance/secrets").await.text;
    assert!(looked.contains("Signs new ids") && !looked.contains("Retire secret"));

    let path = "/maintenance/secrets/retire";
    let unconfirmed = pages.post("ann", path, &format!("number={number}")).await;
    assert_eq!(unconfirmed.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        unconfirmed.text.contains("was not retired"),
        "{}",
        unconfirmed.text
    );
    let fields = format!("number={number}&confirm=yes");
    assert_eq!(
        pages.post("bob", path, &fields).await.status,
        StatusCode::FORBIDDEN
    );
    for wrong in [
        format!("number={issuing}&confirm=yes"),
        "number=999&confirm=yes".to_owned(),
    ] {
        let wrong = pages.post("ann", path, &wrong).await;
        assert!(wrong.status.is_client_error(), "{}", wrong.text);
    }
    assert!(verifies());

    let done = pages.post("ann", path, &fields).await;
    assert!(
        done.location()
            .starts_with("/internal/sessions/maintenance/secrets?done=")
    );
    assert!(!verifies());
    let secrets = pages.json("ann", "/maintenance/secrets").await.json();
    let created = pages.store.secrets().unwrap()[0].created.unwrap();
    let left = serde_json::json!([{ "number": issuing, "is_issuing": true, "created": created }]);
    assert_eq!(secrets["secrets"], left);
    let log = pages.json("bob", "/audit").await.json();
    let entry = &log["entries"][0];
    assert_eq!(
        (&entry["action"], &entry["who"]),
        (&"retire secret".into(), &"ann".into())
    );
    assert_eq!(entry["subject"], format!("secret {number}"));
}

#[tokio::test]
async fn names_that_look_alike_are_kept_apart() {
    let pages = Pages::new();
    let (ann, other, lines) = (
        session(&pages.store, "ann"),
        session(&pages.store, "ann "),
        session(&pages.store, "a\nb\u{1}"),
    );
    let page = pages.json("ann", "/owners?owner=ann%20").await.json();
    assert_eq!(page["sessions"][0]["key"], other.to_string());
    let page = pages.get("ann", "/owners?owner=ann%20").await;
    let (_, field) = page
        .text
        .split_once("name=\"owner_encoded\" value=\"")
        .unwrap();
    let field = field.split('"').next().unwrap();
    pages
        .post(
            "ann",
            "/owners/end",
            &format!("owner_encoded={}", field.replace('%', "%25")),
        )
        .await;
    assert!(pages.store.session_info(other).unwrap().is_none());
    assert!(pages.store.session_info(ann).unwrap().is_some());
    // As a browser sends it: it encodes the field's text once more.
    pages
        .post("ann", "/owners/end", "owner_encoded=a%250Ab%2501")
        .await;
    assert!(pages.store.session_info(lines).unwrap().is_none());
}

#[tokio::test]
async fn a_program_changes_what_it_names_alone() {
    let pages = with_token();
    pages
        .store
        .register("shop.cart", ContainerSettings::new())
        .unwrap();
    let send = async |fields: &str| {
        let request = Request::post(format!("{BASE}/containers/edit"))
            .header("authorization", "Bearer correct horse battery")
            .header("content-type", "application/x-www-form-urlencoded");
        pages.send(request, fields).await.status
    };
    assert_eq!(
        send("name=shop.cart&timeout=30m").await,
        StatusCode::SEE_OTHER
    );
    let expected = ContainerSettings::new().timeout(Duration::from_secs(1800));
    let container = pages.store.container("shop.cart").unwrap();
    assert_eq!(container.settings().unwrap(), expected);
    assert_eq!(send("timeout=1m").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        send("name=shop.cart&implicit_sweeps=off").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(container.settings().unwrap(), expected);
}

#[tokio::test]
async fn a_form_from_older_settings_changes_nothing() {
    let pages = Pages::new();
    let page = pages.get("ann", "/containers/edit?name=").await;
    let (_, seen) = page
        .text
        .split_once("name=\"settings_seen\" value=\"")
        .unwrap();
    let seen = seen.split('"').next().unwrap().replace(' ', "+");
    let others = pages.store.container("").unwrap();
    let day = Duration::from_secs(24 * 3600);
    others
        .configure(ContainerSettings::new().max_lifetime(Some(day)))
        .unwrap();
    let fields =
        format!("name=&boxes=1&settings_seen={seen}&timeout=30m&resolution=10m&max_lifetime=");
    let answer = pages.post("ann", "/containers/edit", &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.text.contains("longest lifetime 1day"),
        "{}",
        answer.text
    );
    assert_eq!(others.settings().unwrap().max_lifetime, Some(day));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_downloaded_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let resolver = |head: &axum::http::request::Parts| {
        let may = head.headers.contains_key("x-who");
        let access = if may {
            Access::all("ann")
        } else {
            Access::all("support").without_values()
        };
        async move { access }
    };
    let pages = Pages::of(store.clone(), Admin::new(store, resolver));
    let keys: Vec<_> = (0..300).map(|_| session(&pages.store, "dora")).collect();
    let bytes = pages.download("ann", "/maintenance/backup").await;
    let file = folder.path().join("downloaded");
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(cloakroom::Backup::verify(&file).unwrap().sessions, 300);
    let restored = folder.path().join("restored");
    Store::restore([&file], &restored, |_| std::ops::ControlFlow::Continue(())).unwrap();
    let restored = Store::open(restored).unwrap();
    assert!(restored.session_info(keys[299]).unwrap().is_some());
    let log = pages.json("ann", "/audit").await.json();
    let actions: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["action"].as_str().unwrap())
        .collect();
    assert!(actions.contains(&"start backup"), "{actions:?}");

    let page = pages
        .send(
            Request::get(format!("{BASE}/maintenance")).header("accept", "text/html"),
            "",
        )
        .await;
    assert!(!page.text.contains("Back up and download"));
    let request = Request::post(format!("{BASE}/maintenance/backup"))
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = pages
        .send(request, &format!("form_token={}", page.form_token()))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}
