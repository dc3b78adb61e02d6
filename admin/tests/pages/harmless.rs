//! What visitors stored, on each page that shows it: harmless (C9.2).

use crate::ended;
use crate::support::{BASE, Pages};
use axum::http::StatusCode;
use cloakroom::Store;
use cloakroom_admin::{Access, Admin};

/// Bytes, as a value (serde's `serialize_bytes`).
struct Bytes(Vec<u8>);

impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// A text to harm who looks, with the name of its place.
fn evil(place: &str) -> String {
    format!("<script>{place}</script>\u{202e}\u{2066}\u{200b}\"'><img src=x onerror=alert(1)>\u{0}")
}

/// Whether a page shows it, and harmlessly.
fn is_harmless(path: &str, text: &str, places: &[&str]) {
    // The values of fields and options are what the form sends back. Nothing shows them but as they are.
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, value)) = rest.split_once(" value=\"") {
        shown.push_str(before);
        let (value, after) = value.split_once('"').unwrap();
        assert!(!value.contains('<'), "{path}: {value}");
        rest = after;
    }
    shown.push_str(rest);
    assert!(
        !shown.contains("<script>") && !shown.contains("<img"),
        "{path}: {shown}"
    );
    let hidden = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{0}', '\u{fffd}'];
    let line = shown.lines().find(|line| line.contains(hidden));
    assert_eq!(line, None, "{path}");
    for place in places {
        let escaped = format!("&lt;script&gt;{place}&lt;");
        assert!(
            shown.contains(&escaped),
            "{path} does not show {place}: {shown}"
        );
    }
    assert!(text.len() < 400_000, "{path}: {}", text.len());
}

/// A session of hostile texts in a container of such a name.
fn hostile(store: &Store) -> cloakroom::ClientKey {
    store
        .register(&evil("container"), cloakroom::ContainerSettings::new())
        .unwrap();
    store
        .register_alias(&evil("package"), &evil("container"))
        .unwrap();
    let id = store.client_ids().issue();
    let founded = store.transact(|txn| {
        let session = txn.session(&id)?;
        session.set_owner(Some(&evil("owner")))?;
        session.set_label(&evil("label"))?;
        let package = session.pkg(&evil("package"));
        package.insert(&evil("key"), evil("value"))?;
        session
            .pkg("large")
            .insert("long", "\u{202e}<b>".repeat(174_000))?;
        package.insert(
            "map",
            std::collections::BTreeMap::from([(evil("map key"), 1)]),
        )?;
        package.insert("bytes", Bytes(vec![0xff, 0xfe, 0, b'<', 0xc3]))?;
        package.insert(
            "bytes as key",
            vec![(Bytes(vec![0xff; 3]), evil("in a list"))],
        )
    });
    founded.unwrap();
    id.key()
}

// C9.2
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_visitor_can_store_is_shown_unescaped() {
    let store = Store::builder().implicit_sweeps(false).in_memory().unwrap();
    let who = evil("who");
    let access = move |_: &axum::http::request::Parts| {
        let access = Access::all(&who);
        async move { access }
    };
    let pages = Pages::of(store.clone(), Admin::new(store, access));
    let key = hostile(&pages.store);
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let [container, owner, label, package] =
        ["container", "owner", "label", "package"].map(|place| encoded(&evil(place)));
    let values = pages
        .post(
            "",
            &format!("/sessions/{key}/values"),
            &format!("container={container}&package={package}"),
        )
        .await;
    assert_eq!(values.status, StatusCode::OK, "{}", values.text);
    let places = [
        "container",
        "owner",
        "label",
        "package",
        "key",
        "value",
        "map key",
    ];
    is_harmless("values", &values.text, &places);
    assert!(
        values.text.contains("fffe003cc3 (5 bytes)"),
        "{}",
        values.text
    );
    let large = format!("/sessions/{key}/values");
    let large = pages.post("", &large, "container=&package=large").await;
    is_harmless("a megabyte", &large.text, &["container"]);
    assert!(
        large.text.contains("(1044000 bytes in all)"),
        "{}",
        large.text
    );
    let measured = pages.post("", "/maintenance/measure", "").await;
    let measured = measured.location().strip_prefix(BASE).unwrap().to_owned();
    ended(&pages, "", &measured).await;
    let edit = format!("name={container}&timeout={label}&resolution=%3Cb%3E");
    let refused = pages.post("", "/containers/edit", &edit).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    is_harmless("a mistake in a container", &refused.text, &["container"]);

    let looked = [
        (String::new(), vec![]),
        ("/containers".to_owned(), vec!["container"]),
        (
            format!("/containers/edit?name={container}"),
            vec!["container"],
        ),
        (format!("/containers/edit?name={label}"), vec!["label"]),
        ("/sessions".to_owned(), vec!["container"]),
        (
            format!("/sessions?container={container}"),
            vec!["owner", "label"],
        ),
        (
            format!("/sessions?container={container}&sort=largest"),
            vec!["owner", "label"],
        ),
        (
            format!("/sessions?container={container}&owner={owner}&label={label}"),
            vec!["label"],
        ),
        (format!("/sessions?container={label}"), vec!["label"]),
        (
            format!("/sessions?idle_at_least={label}&key={label}&bytes_at_least={label}"),
            vec![],
        ),
        (format!("/sessions?sort={label}"), vec![]),
        (format!("/sessions/{label}"), vec![]),
        (
            format!("/sessions/{key}"),
            vec!["container", "owner", "label", "package", "key"],
        ),
        (
            format!("/owners?owner={owner}"),
            vec!["owner", "label", "container"],
        ),
        ("/maintenance".to_owned(), vec!["who"]),
        (measured, vec!["container"]),
        ("/maintenance/secrets".to_owned(), vec!["who"]),
        ("/settings".to_owned(), vec!["who"]),
        ("/audit".to_owned(), vec!["who", "container", "package"]),
        (format!("/{label}"), vec!["who"]),
    ];
    for (path, places) in looked {
        let page = pages.get("", &path).await;
        is_harmless(&path, &page.text, &places);
        assert!(!page.status.is_server_error(), "{path}: {}", page.text);
    }
    let done = pages
        .post("", "/owners/end", &format!("owner={owner}"))
        .await;
    let done = done.location().strip_prefix(BASE).unwrap().to_owned();
    is_harmless(&done, &pages.get("", &done).await.text, &["owner"]);
}
