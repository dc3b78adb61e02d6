//! The sessions of one owner.

use super::Answer;
use super::sessions::SessionView;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::counted;
use serde::Serialize;

#[derive(Serialize)]
struct Page {
    owner: Option<String>,
    /// The newest access first.
    sessions: Vec<SessionView>,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let owner = visit.fields.get("owner").map(str::to_owned);
    let sessions = match &owner {
        Some(owner) => visit.app.store.sessions_of_async(owner).await?,
        None => Vec::new(),
    };
    let title = match &owner {
        Some(owner) => format!("Sessions of {owner}"),
        None => "Owners".to_owned(),
    };
    let sessions = sessions.into_iter().map(SessionView::from).collect();
    visit.show("owners.html", &title, &Page { owner, sessions })
}

pub(super) async fn end(visit: Visit) -> Answer {
    let owner = visit.fields.exact("owner").map(str::to_owned);
    let owner = owner.ok_or_else(|| Failure::bad_request("The field “owner” is missing."))?;
    let store = visit.app.store.clone();
    let of = owner.clone();
    let work = async move {
        let ended = store.end_all_of_async(&of).await?;
        Ok(format!("{} ended", counted(ended, "session")))
    };
    visit
        .change("end sessions of owner", owner, "/owners", work)
        .await
}
