//! The sessions of one owner.

use super::Answer;
use super::sessions::SessionView;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::counted;
use cloakroom::{ClientKey, OwnerSessions};
use serde::Serialize;
use serde_json::json;

/// How many sessions a page lists.
const LISTED: usize = 200;

#[derive(Serialize)]
struct Page {
    owner: Option<String>,
    /// In the order of their keys.
    sessions: Vec<SessionView>,
    /// The key after which the next page begins.
    next: Option<String>,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let owner = visit.fields.exact("owner").filter(|it| !it.is_empty());
    let after = visit.fields.get("after");
    let after = after.map(str::parse::<ClientKey>).transpose()?;
    let list = match owner {
        Some(owner) => {
            let store = &visit.app.store;
            store.owner_sessions_async(owner, after, LISTED).await?
        }
        None => OwnerSessions::default(),
    };
    let title = match owner {
        Some(owner) => format!("Sessions of {owner}"),
        None => "Owners".to_owned(),
    };
    let page = Page {
        owner: owner.map(str::to_owned),
        sessions: list.sessions.into_iter().map(SessionView::from).collect(),
        next: list.next.map(|key| key.to_string()),
    };
    visit.show("owners.html", &title, &page)
}

pub(super) async fn end(visit: Visit) -> Answer {
    let owner = visit.fields.text("owner");
    let owner = owner.ok_or_else(|| Failure::bad_request("The field “owner” is missing."))?;
    let store = visit.app.store.clone();
    let of = owner.clone();
    let work = async move {
        let ended = store.end_all_of_async(&of).await?;
        let words = format!("{} ended", counted(ended, "session"));
        Ok((words, json!({ "ended": ended })))
    };
    visit
        .change("end sessions of owner", owner, "/owners", work)
        .await
}
