//! The user's devices: which sessions there are, and how to end them.

use crate::Shop;
use crate::pages::ShopError;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::http::FlashMessage;
use cloakroom::{ClientKey, Session, SessionInfo};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Device {
    key: String,
    label: String,
    created: String,
    last_access: String,
    is_this: bool,
}

impl Device {
    fn of(info: &SessionInfo, this: Option<ClientKey>) -> Self {
        let time = |at: Option<chrono::DateTime<chrono::Utc>>| {
            at.map_or_else(
                || "unknown".to_owned(),
                |at| at.format("%Y-%m-%d %H:%M UTC").to_string(),
            )
        };
        Self {
            key: info.client.to_string(),
            label: info.label.clone().unwrap_or_else(|| "A browser".to_owned()),
            created: time(info.created),
            last_access: time(info.last_access),
            is_this: this == Some(info.client),
        }
    }
}

pub(crate) async fn list(
    State(shop): State<Shop>,
    session: Session,
) -> Result<Response, ShopError> {
    let owner = session.owner()?.ok_or(ShopError::LoginNeeded)?;
    let this = session.client_id().map(|id| id.key());
    let sessions = shop.store.sessions_of_async(&owner).await?;
    let devices: Vec<_> = sessions.iter().map(|info| Device::of(info, this)).collect();
    shop.pages.show(
        &session,
        "devices.html",
        context! { devices => Serde(devices) },
    )
}

#[derive(Deserialize)]
pub(crate) struct Chosen {
    key: String,
}

pub(crate) async fn end(
    State(shop): State<Shop>,
    session: Session,
    Form(chosen): Form<Chosen>,
) -> Result<Response, ShopError> {
    let owner = session.owner()?.ok_or(ShopError::LoginNeeded)?;
    let key = chosen.key.parse::<ClientKey>().ok();
    // Only one's own: a key is no secret, and others' may be guessed from a list that was shown before.
    let own = shop.store.sessions_of_async(&owner).await?;
    let own = own.iter().find(|info| Some(info.client) == key);
    let message = match own {
        Some(info) => {
            shop.store.end_async(info.client).await?;
            FlashMessage::success("That device is logged out.")
        }
        None => FlashMessage::error("There is no such device any more."),
    };
    Ok((message, Redirect::to("/devices")).into_response())
}

/// In the request's transaction: together with what else the request changes, such as a new password.
pub(crate) async fn end_others(session: Session) -> Result<Response, ShopError> {
    session.owner()?.ok_or(ShopError::LoginNeeded)?;
    let ended = session.end_others()?;
    let message = FlashMessage::success(format!("Logged out elsewhere: {ended}."));
    Ok((message, Redirect::to("/devices")).into_response())
}
