//! The pages in a real browser: each form used, mistakes provoked, hostile values looked at, by keyboard alone, without
//! scripts, in light and dark, on a phone; and an accessibility checker.
//!
//! Needs Chromium and its driver (Debian: `chromium`, `chromium-driver`). Without the driver the tests say so and pass,
//! unless `CLOAKROOM_BROWSER=required` is set. `CLOAKROOM_BROWSER=none` leaves them out. The pictures of `docs/pictures`
//! are drawn by `CLOAKROOM_SCREENSHOTS=docs/pictures cargo test -p cloakroom-admin --test browser pictures`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../examples/shop/tests/support/driver.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod driver;

use axum::http::request::Parts;
use cloakroom::http::SessionLayer;
use cloakroom::{ClientKey, ContainerSettings, Store};
use cloakroom_admin::{Access, Admin, TokenAccess};
use driver::{Driver, Look, Visitor};
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

const AXE: &str = include_str!("axe/axe.min.js");
const TOKEN: &str = "correct horse battery staple";
/// What a visitor might store to harm who looks.
const HOSTILE: &str = "<script>document.title='harmed'</script><img src=x onerror=\"document.title='harmed'\">\u{202e}";

/// A store in a file, and its pages on a port.
struct Site {
    store: Store,
    address: String,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("sessions.cloakroom")).unwrap();
        let carts = ContainerSettings::new().timeout(Duration::from_secs(14 * 24 * 3600));
        store.register("shop.cart", carts).unwrap();
        for number in 0..60 {
            visitor(&store, number);
        }
        let token = TokenAccess::new(TOKEN, Access::all("operator")).unwrap();
        let layer = SessionLayer::new(store.clone());
        // Who has not signed in sees nothing but the form.
        let nobody = |_: &Parts| async { Access::none() };
        let pages = Admin::new(store.clone(), nobody)
            .sign_in(token)
            .plain_http()
            .session_layer(&layer);
        let app = axum::Router::new().nest("/internal/sessions", pages.router());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            store,
            address,
            _folder: folder,
        }
    }

    /// A browser that has signed in.
    async fn signed_in(&self, driver: &Driver, look: Look) -> Visitor {
        let visitor = driver.visitor(&self.address, look).await;
        open(&visitor, "").await;
        visitor.type_into("token", TOKEN).await;
        visitor.press("Sign in").await;
        visitor.sees("Overview").await;
        visitor
    }
}

fn visitor(store: &Store, number: u64) -> ClientKey {
    let id = store.client_ids().issue();
    let founded = store.transact(|txn| {
        let session = txn.session(&id)?;
        session.set_owner(Some(&format!("customer-{}@example.com", number % 9)))?;
        session.set_label("Firefox on Linux")?;
        let cart = session.pkg("shop.cart");
        cart.insert(
            "items",
            BTreeMap::from([("Assam", number % 5 + 1), ("Sencha", 2)]),
        )?;
        cart.insert("note", "Please ring twice. Bitte zweimal läuten.")
    });
    founded.unwrap();
    id.key()
}

async fn open(visitor: &Visitor, path: &str) {
    visitor.open(&format!("/internal/sessions{path}")).await;
}

/// The addresses of all pages, with names for their pictures.
fn pages(key: ClientKey) -> Vec<(&'static str, String)> {
    vec![
        ("overview", String::new()),
        ("containers", "/containers".to_owned()),
        ("container", "/containers/edit?name=shop.cart".to_owned()),
        ("sessions", "/sessions?container=shop.cart".to_owned()),
        ("session", format!("/sessions/{key}")),
        (
            "owners",
            "/owners?owner=customer-1%40example.com".to_owned(),
        ),
        (
            "sorted",
            "/sessions?container=shop.cart&sort=largest".to_owned(),
        ),
        ("maintenance", "/maintenance".to_owned()),
        ("secrets", "/maintenance/secrets".to_owned()),
        ("settings", "/settings".to_owned()),
        ("audit", "/audit".to_owned()),
    ]
}

/// Asks the accessibility checker: WCAG 2.2 A and AA, and its best practices.
async fn check(visitor: &Visitor, page: &str) {
    visitor.browser.execute(AXE, vec![]).await.unwrap();
    let script = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations.map((it) => \
                  it.id + ': ' + it.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' | '))));";
    let found = visitor.browser.execute_async(script, vec![]).await.unwrap();
    assert_eq!(found, serde_json::json!([]), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_each_page_fit_and_are_accessible() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let site = Site::start().await;
    let key = visitor(&site.store, 7);
    // A second secret: the older one has a form.
    site.store.rotate_secret().unwrap();
    // Some load, so that the plots show something.
    let (store, mut number) = (site.store.clone(), 0_u64);
    let load = tokio::spawn(async move {
        loop {
            for _ in 0..=(number / 3 % 7) {
                visitor(&store, number);
            }
            number += 1;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    });
    tokio::time::sleep(load_time()).await;
    let looks = [
        ("light", Look::Desk),
        ("dark", Look::DarkDesk),
        ("phone", Look::Phone),
        ("phone-dark", Look::DarkPhone),
    ];
    for (look_name, look) in looks {
        let visitor = driver.visitor(&site.address, look).await;
        open(&visitor, "/sign-in").await;
        check(&visitor, "sign-in").await;
        visitor.fits(&format!("admin-sign-in-{look_name}")).await;
        visitor.type_into("token", TOKEN).await;
        visitor.press("Sign in").await;
        visitor.sees("Overview").await;
        open(&visitor, &format!("/sessions/{key}")).await;
        visitor.press("Show values of shop.cart").await;
        visitor.sees("Assam").await;
        visitor.fits(&format!("admin-values-{look_name}")).await;
        check(&visitor, "values").await;
        open(&visitor, "/maintenance").await;
        visitor.press("Measure the sessions").await;
        // The table comes with the end of the work.
        visitor.sees("Damaged").await;
        visitor.fits(&format!("admin-measured-{look_name}")).await;
        check(&visitor, "measured").await;
        for (page, path) in pages(key) {
            open(&visitor, &path).await;
            if page == "secrets" {
                visitor.sees("Retire secret").await;
            }
            if look_name.starts_with("phone") {
                one_row_of_navigation(&visitor).await;
            }
            visitor.fits(&format!("admin-{page}-{look_name}")).await;
            check(&visitor, &format!("{page} {look_name}")).await;
        }
        visitor.browser.close().await.unwrap();
    }
    load.abort();
}

/// How long the plots collect figures before pictures are drawn.
fn load_time() -> Duration {
    let draws = std::env::var_os("CLOAKROOM_SCREENSHOTS").is_some();
    Duration::from_secs(if draws { 45 } else { 0 })
}

/// On a phone, the navigation is one row, and the page that is shown is in sight.
async fn one_row_of_navigation(visitor: &Visitor) {
    let script = "(() => { const row = document.querySelector('nav ul').getBoundingClientRect(); \
                  const links = [...document.querySelectorAll('nav a')].map((it) => it.getBoundingClientRect()); \
                  const here = document.querySelector('nav [aria-current]')?.getBoundingClientRect(); \
                  return [links.every((it) => it.top === links[0].top), \
                  !here || (here.left >= row.left && here.right <= row.right)]; })()";
    assert_eq!(
        visitor.script(script).await,
        serde_json::json!([true, true])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_does_what_it_says() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let site = Site::start().await;
    let desk = driver.visitor(&site.address, Look::Desk).await;
    open(&desk, "/containers").await;
    desk.type_into("token", "wrong horse battery staple").await;
    desk.press("Sign in").await;
    desk.sees("This is not the token.").await;
    check(&desk, "a wrong token").await;
    desk.type_into("token", TOKEN).await;
    desk.press("Sign in").await;
    use_forms(&site, &desk).await;

    open(&desk, "/maintenance").await;
    // As the form sends it: where a browser puts what it downloads is its own affair.
    let download = "const done = arguments[arguments.length - 1]; const form = \
                    document.querySelector('form[action$=\"/maintenance/backup\"]'); fetch(form.action, { method: 'POST', \
                    body: new URLSearchParams(new FormData(form)) }).then(async (answer) => done([answer.status, \
                    (await answer.arrayBuffer()).byteLength > 10000]), (error) => done(String(error)));";
    let download = desk.browser.execute_async(download, vec![]).await.unwrap();
    assert_eq!(download, serde_json::json!([200, true]));
    for (page, told) in [("/maintenance", "Backup"), ("/audit", "start backup")] {
        open(&desk, page).await;
        desk.sees(told).await;
    }

    // Figures come by themselves.
    open(&desk, "").await;
    let before = desk
        .script("document.querySelector('[data-figure=commits]').textContent")
        .await;
    visitor(&site.store, 1);
    let commits = "document.querySelector('[data-figure=commits]').textContent";
    let mut waited = 0;
    while desk.script(commits).await == before {
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += 1;
        assert!(waited < 300, "no live figures");
    }
    // All sessions are sorted by a link, and a table of another page by a press on a heading.
    open(&desk, "/sessions?container=shop.cart").await;
    for (order, turn) in [("descending", true), ("ascending", false)] {
        let link = desk.browser.find(fantoccini::Locator::LinkText("Created"));
        link.await.unwrap().click().await.unwrap();
        desk.sees("Sorted among all").await;
        let times = "[...document.querySelectorAll('tbody tr')].map((it) => it.cells[3].querySelector('time').dateTime)";
        let times: Vec<String> = serde_json::from_value(desk.script(times).await).unwrap();
        assert!(
            times.is_sorted_by(|a, b| if turn { a >= b } else { a <= b }),
            "{times:?}"
        );
        let sort = "document.querySelector('th[aria-sort]').ariaSort";
        assert_eq!(desk.script(sort).await, order);
    }
    open(&desk, "/owners?owner=customer-1%40example.com").await;
    desk.press("Key").await;
    let keys = "[...document.querySelectorAll('tbody th code')].map((it) => it.title)";
    let ascending = desk.script(keys).await;
    desk.press("Key").await;
    let descending = desk.script(keys).await;
    let mut turned = descending.as_array().unwrap().clone();
    turned.reverse();
    assert_eq!(ascending.as_array().unwrap(), &turned);
    assert_eq!(
        desk.script("document.querySelector('th[aria-sort]').ariaSort")
            .await,
        "descending"
    );
    desk.press("Sign out").await;
    desk.sees("Token").await;
}

/// Changes a container, ends a session and those of an owner, looks at values, and starts work.
async fn use_forms(site: &Site, desk: &Visitor) {
    open(desk, "/containers/edit?name=shop.cart").await;
    desk.type_into("timeout", "soon").await;
    desk.press("Save").await;
    desk.sees("Nothing was changed: 1 field has a mistake.")
        .await;
    desk.type_into("timeout", "30m").await;
    desk.press("Save").await;
    desk.sees("timeout from 14days to 30m").await;
    let settings = site
        .store
        .container("shop.cart")
        .unwrap()
        .settings()
        .unwrap();
    assert_eq!(settings.timeout, Duration::from_secs(1800));

    let key = visitor(&site.store, 100);
    open(desk, "/sessions").await;
    desk.type_into("key", &key.to_string()[..20]).await;
    desk.press("Search").await;
    desk.sees("No session was found").await;
    open(desk, "/sessions?container=shop.cart").await;
    desk.type_into("key", &key.to_string()[..20]).await;
    desk.press("Search").await;
    desk.sees("customer-1@example.com").await;
    open(desk, &format!("/sessions/{key}")).await;
    assert!(!desk.text().await.contains("Assam"));
    desk.press("Show values of shop.cart").await;
    desk.sees("Assam").await;
    desk.press("End session").await;
    desk.sees(&format!("End session {key}: ended.")).await;
    assert!(site.store.session_info(key).unwrap().is_none());

    open(desk, "/owners").await;
    desk.type_into("owner", "customer-2@example.com").await;
    desk.press("Search").await;
    desk.sees("Sessions of customer-2@example.com").await;
    desk.press("End all sessions of customer-2@example.com")
        .await;
    desk.sees("sessions ended").await;
    assert!(
        site.store
            .sessions_of("customer-2@example.com")
            .unwrap()
            .is_empty()
    );

    open(desk, "/maintenance").await;
    for (work, told) in [
        ("Measure the sessions", "sessions measured"),
        ("Check", "no damage found"),
        ("Sweep", "examined"),
        ("Checkpoint", "holds all commits"),
        ("Rotate the secret", "signed with secret"),
    ] {
        desk.press(work).await;
        desk.sees("Last work").await;
        // With scripts, the page looks again by itself.
        for _ in 0..200 {
            let again = fantoccini::Locator::LinkText("Look again");
            let Ok(again) = desk.browser.find(again).await else {
                break;
            };
            drop(again.click().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        desk.sees(told).await;
    }
    open(desk, "/maintenance/secrets").await;
    let older = site.store.secrets().unwrap()[0].name;
    let confirm = format!("confirm-{older}");
    let confirm = desk.browser.find(fantoccini::Locator::Id(&confirm)).await;
    confirm.unwrap().click().await.unwrap();
    desk.press(&format!("Retire secret {older}")).await;
    desk.sees("its ids do not work any more").await;
    open(desk, "/audit").await;
    let actions =
        "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[3].textContent)";
    let actions = desk.script(actions).await;
    for action in [
        "configure container",
        "show values",
        "end session",
        "end sessions of owner",
        "start work",
        "Measure the sessions",
        "Rotate the secret",
        "retire secret",
        "sign in",
    ] {
        assert!(
            actions.as_array().unwrap().iter().any(|it| it == action),
            "{action}: {actions}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_everything_works() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let site = Site::start().await;
    let desk = site.signed_in(&driver, Look::WithoutScripts).await;
    open(&desk, "/owners?owner=customer-1%40example.com").await;
    assert!(
        desk.browser
            .find(fantoccini::Locator::Css("th button"))
            .await
            .is_err(),
        "scripts run"
    );
    use_forms(&site, &desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_stay_text() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let site = Site::start().await;
    let id = site.store.client_ids().issue();
    let founded = site.store.transact(|txn| {
        let session = txn.session(&id)?;
        session.set_owner(Some(HOSTILE))?;
        session.set_label(HOSTILE)?;
        session.pkg(HOSTILE).insert(HOSTILE, HOSTILE)?;
        session
            .pkg("large")
            .insert("megabyte", HOSTILE.repeat(8000))?;
        session.pkg("bytes").insert("not text", NotText)
    });
    founded.unwrap();
    let desk = site.signed_in(&driver, Look::Desk).await;
    let key = id.key();
    open(&desk, "/sessions").await;
    desk.sees("harmed").await;
    for (number, shown) in [
        (0, "⟨U+202E⟩"),
        (1, "fffe00 (3 bytes)"),
        (2, "bytes in all)"),
    ] {
        open(&desk, &format!("/sessions/{key}")).await;
        let buttons = fantoccini::Locator::Css(".package form button");
        let buttons = desk.browser.find_all(buttons).await.unwrap();
        assert_eq!(buttons.len(), 3);
        buttons[number].click().await.unwrap();
        desk.sees(shown).await;
        let values =
            "[...document.querySelectorAll('.value')].map((it) => it.textContent).join(' ')";
        let values = desk.script(values).await;
        assert!(values.as_str().unwrap().contains(shown), "{values}");
        assert!(!values.as_str().unwrap().contains('\u{202e}'), "{values}");
        let title = desk.script("document.title").await;
        assert_eq!(title, format!("Session {key} · Sessions"));
        assert_eq!(desk.script("document.images.length").await, 0);
        let scripts =
            "[...document.scripts].filter((it) => !it.src.endsWith('/assets/live.js')).length";
        assert_eq!(desk.script(scripts).await, 0);
        desk.fits("admin-hostile").await;
        check(&desk, "hostile").await;
    }
    let owner: String = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    for path in [
        "/sessions".to_owned(),
        format!("/sessions?owner={owner}&label={owner}"),
        format!("/sessions?sort=largest&owner={owner}"),
        format!("/owners?owner={owner}"),
        format!("/containers/edit?name={owner}"),
        "/audit".to_owned(),
    ] {
        open(&desk, &path).await;
        desk.sees("harmed").await;
        let title = desk.script("document.title").await;
        assert_ne!(title, "harmed", "{path}");
        assert_eq!(desk.script("document.images.length").await, 0, "{path}");
        let text = desk.text().await;
        assert!(!text.contains('\u{202e}'), "{path}: {text}");
        desk.fits("admin-hostile-list").await;
    }
}

/// Bytes that are no text.
struct NotText;

impl serde::Serialize for NotText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&[0xff, 0xfe, 0x00])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_keyboard_alone() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let site = Site::start().await;
    let desk = driver.visitor(&site.address, Look::Desk).await;
    open(&desk, "/sign-in").await;
    desk.tab_to("token").await;
    desk.keys(TOKEN).await;
    desk.keys("\u{e007}").await;
    desk.sees("Nothing is wrong.").await;
    desk.tab_to("Containers").await;
    desk.keys("\u{e007}").await;
    desk.sees("shop.cart").await;
    desk.tab_to("Edit shop.cart").await;
    desk.keys("\u{e007}").await;
    desk.sees("Longest lifetime").await;
    desk.tab_to("max_lifetime").await;
    desk.keys("7d").await;
    desk.tab_to("Save").await;
    desk.keys(" ").await;
    desk.sees("longest lifetime from none to 7days").await;
    // The link to the content is the first stop, and it leads there.
    desk.tab_to("Skip to the content").await;
    desk.keys("\u{e007}").await;
    assert_eq!(desk.script("document.activeElement.id").await, "main");
}
