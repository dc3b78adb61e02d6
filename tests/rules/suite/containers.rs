//! C1.2, C1.9: a handler reaches a container that it chooses.

use super::*;
use cloakroom::ContainerSettings;

const DRAFTS: &str = "drafts";

/// A site with a page that reads a draft, and one that writes it.
async fn desk<B: Backend>() -> (Clock, Store, B) {
    let (clock, store) = timed();
    let settings = ContainerSettings::new().timeout(MINUTE);
    store.register(DRAFTS, settings).unwrap();
    let site = Site::new(SessionLayer::new(store.clone()))
        .page("/draft", |session, _| async move {
            let letter = session.data(DRAFTS)?.pkg("letter");
            text(letter.get::<String>("text")?.unwrap_or_default())
        })
        .page("/write", |session, _| async move {
            let drafts = session.data(DRAFTS)?;
            drafts.pkg("letter").insert("text", "Dear Ann")?;
            text(drafts.packages()?.join(" "))
        })
        .page("/nowhere", |session, _| async move {
            session
                .data("nowhere")?
                .pkg("letter")
                .insert("text", "lost")?;
            text("")
        });
    (clock, store, B::start(site).await)
}

pub(crate) async fn a_handler_chooses_a_container_for_a_new_visitor<B: Backend>() {
    let (clock, store, app) = desk::<B>().await;
    let answer = app.get("/draft", "").await;
    assert_eq!((answer.status(), answer.set_cookie()), (200, None));
    assert_eq!(answer.body.await, "", "reading begins nothing");

    let answer = app.get("/write", "").await;
    let cookie = answer.jar();
    assert_eq!(answer.body.await, "letter");
    assert_eq!(app.page("/draft", &cookie).await, "Dear Ann");
    assert_eq!(app.page("/draft", "").await, "", "each visitor has one");

    let id = id_of(&store, &cookie);
    let found = |container: &str| {
        let is_there = |txn: &cloakroom::Txn| txn.session(&id)?.data(container)?.exists();
        store.transact(is_there).unwrap()
    };
    assert!(found(DRAFTS));
    assert!(!found(""), "the package of that name lives elsewhere");
    app.page("/count", &cookie).await;
    clock.advance(MINUTE + SECOND);
    assert_eq!(
        app.page("/draft", &cookie).await,
        "",
        "it has expired there"
    );
    assert_eq!(app.page("/read", &cookie).await, "1");
}

pub(crate) async fn a_container_that_is_not_there_is_an_error_and_begins_no_session<B: Backend>() {
    let (_, store, app) = desk::<B>().await;
    let answer = app.get("/nowhere", "").await;
    assert_eq!((answer.status(), answer.set_cookie()), (500, None));
    assert_eq!(answer.kind(), Some(ErrorKind::NoSuchContainer));
    let drafts = store.container(DRAFTS).unwrap().statistics();
    assert_eq!(drafts.unwrap().live, 0);
}
