//! C1.4, C2.7, C5.1: a package as one value of an application's type.

use super::*;
use axum::http::StatusCode;
use axum::routing::{post, put};
use cloakroom::{ErrorKind, Package, Pkg};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Cart {
    articles: Vec<String>,
    voucher: Option<String>,
}

impl Package for Cart {
    const ID: &'static str = "shop.cart";
}

/// What `Cart` became in a later version of the application.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct LaterCart {
    articles: Vec<String>,
    currency: String,
}

impl Package for LaterCart {
    const ID: &'static str = Cart::ID;
}

#[derive(Default, Serialize, Deserialize)]
struct Tally(u32);

impl Package for Tally {
    const ID: &'static str = "tally";
}

async fn show(cart: Pkg<Cart>) -> String {
    cart.articles.join(" ")
}

async fn put_in(mut cart: Pkg<Cart>, article: String) -> Result<String, Error> {
    cart.update(|cart| cart.articles.push(article.clone()))?;
    Ok(cart.articles.join(" "))
}

fn shop() -> (Store, Router) {
    let store = Store::in_memory().unwrap();
    let app = Router::new()
        .route("/cart", get(show).post(put_in).put(put_in))
        .layer(SessionLayer::new(store.clone()));
    (store, app)
}

fn with_body(method: &str, path: &str, cookie: &str, body: &'static str) -> Request<Body> {
    request(method, path, cookie).map(|_| Body::from(body))
}

/// C1.4
#[tokio::test]
async fn an_absent_package_reads_as_the_default_and_creates_nothing() {
    let (_, app) = shop();
    let response = get_page(&app, "/cart", "").await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn an_update_is_seen_by_the_handler_and_by_the_next_request() {
    let (_, app) = shop();
    let response = send(&app, with_body("POST", "/cart", "", "tea")).await;
    let cookie = jar(&response);
    assert_eq!(text(response).await, "tea");
    send(&app, with_body("POST", "/cart", &cookie, "milk")).await;
    assert_eq!(page(&app, "/cart", &cookie).await, "tea milk");
}

/// C5.1: fields that were added have their default, fields that were removed are ignored.
#[tokio::test]
async fn fields_come_and_go() {
    let (store, app) = shop();
    let cookie = jar(&send(&app, with_body("POST", "/cart", "", "tea")).await);
    let id = id_of(&store, &cookie);
    store
        .transact(|txn| {
            let mut cart = Pkg::<LaterCart>::of(&txn.session(&id)?)?;
            assert_eq!(
                (&*cart.articles, &*cart.currency),
                (&["tea".to_owned()][..], "")
            );
            cart.update(|cart| cart.currency = "EUR".to_owned())
        })
        .unwrap();
    assert_eq!(page(&app, "/cart", &cookie).await, "tea");
}

#[tokio::test]
async fn a_stored_value_of_another_shape_rejects_the_request() {
    let (store, app) = shop();
    let cookie = jar(&send(&app, with_body("POST", "/cart", "", "tea")).await);
    let id = id_of(&store, &cookie);
    store
        .transact(|txn| {
            let odd = txn.session(&id)?.pkg(Cart::ID);
            let keys = odd.keys()?;
            assert_eq!(keys, ["value"]);
            odd.insert("value", 5)
        })
        .unwrap();
    let response = get_page(&app, "/cart", &cookie).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(error.package(), Some("shop.cart"));
}

/// C6.5
#[tokio::test]
async fn without_the_layer_the_request_is_rejected() {
    let app = Router::new().route("/cart", get(show));
    let response = get_page(&app, "/cart", "").await;
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSessionLayer);
}

/// C2.7, C2.8: another's change of this package conflicts, and the request runs again on it; one of another package
/// does not.
#[tokio::test]
async fn two_that_change_one_package_lose_nothing() {
    let store = Store::in_memory().unwrap();
    let (other, runs) = (store.clone(), std::sync::Arc::default());
    let seen: std::sync::Arc<std::sync::atomic::AtomicU32> = std::sync::Arc::clone(&runs);
    let disturbed = move |session: Session, mut cart: Pkg<Cart>| async move {
        let id = session.client_id().unwrap();
        let first = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if first {
            let mine = other.transact(|txn| {
                let session = txn.session(&id)?;
                Pkg::<Tally>::of(&session)?.update(|tally| tally.0 += 1)?;
                Pkg::<Cart>::of(&session)?.update(|cart| cart.articles.push("theirs".to_owned()))
            });
            mine.unwrap();
        }
        cart.update(|cart| cart.articles.push("ours".to_owned()))
    };
    let tally = |mut tally: Pkg<Tally>| async move { tally.update(|tally| tally.0 += 1) };
    let app = Router::new()
        .route("/cart", get(show))
        .route("/disturbed", put(disturbed))
        .route("/tally", post(tally))
        .layer(SessionLayer::new(store.clone()));
    let cookie = jar(&send(&app, request("POST", "/tally", "")).await);
    let response = send(&app, request("PUT", "/disturbed", &cookie)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(page(&app, "/cart", &cookie).await, "theirs ours");
    assert_eq!(runs.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn a_package_is_set_removed_and_read_again() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let (mut one, mut two) = (
        Pkg::<Tally>::of(&session).unwrap(),
        Pkg::<Tally>::of(&session).unwrap(),
    );
    one.set(Tally(5)).unwrap();
    assert_eq!((one.0, two.0), (5, 0));
    two.update(|tally| tally.0 += 1).unwrap();
    one.reload().unwrap();
    assert_eq!((one.0, two.0), (6, 6));
    two.remove().unwrap();
    assert_eq!(two.into_inner().0, 0);
    assert_eq!(Pkg::<Tally>::of(&session).unwrap().0, 0);
    assert!(!session.exists().unwrap());
}

#[test]
fn a_package_shows_no_value_to_debug() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let mut cart = Pkg::<Cart>::of(&txn.session(&id).unwrap()).unwrap();
    cart.update(|cart| cart.voucher = Some("hunter2".to_owned()))
        .unwrap();
    let shown = format!("{cart:?}");
    assert!(
        shown.contains("shop.cart") && !shown.contains("hunter2"),
        "{shown}"
    );
}
