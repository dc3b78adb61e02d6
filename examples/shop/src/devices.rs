//! The user's devices: which sessions there are, and how to end them.

use crate::answers::ShopError;
use crate::app::Shop;
use crate::pages::Page;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{DateTime, Utc};
use cloakroom::http::FlashMessage;
use cloakroom::{ClientKey, Session, SessionInfo};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

const LOGIN_NEEDED: ShopError = ShopError::LoginNeeded("/devices");

#[derive(Serialize)]
struct Device {
    key: String,
    label: String,
    created: Option<Time>,
    last_access: Option<Time>,
    is_this: bool,
}

/// For machines, and for people.
#[derive(Serialize)]
struct Time {
    exact: String,
    text: String,
}

impl Time {
    fn of(at: DateTime<Utc>) -> Self {
        Self {
            exact: at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            text: at.format("%Y-%m-%d %H:%M UTC").to_string(),
        }
    }
}

impl Device {
    fn of(info: &SessionInfo, this: Option<ClientKey>) -> Self {
        Self {
            key: info.client.to_string(),
            label: info.label.clone().unwrap_or_else(|| "A browser".to_owned()),
            created: info.created.map(Time::of),
            last_access: info.last_access.map(Time::of),
            is_this: this == Some(info.client),
        }
    }
}

pub(crate) async fn list(
    State(shop): State<Shop>,
    page: Page,
    session: Session,
) -> Result<Response, ShopError> {
    let owner = session.owner()?.ok_or(LOGIN_NEEDED)?;
    let this = session.client_key();
    let sessions = shop.store.sessions_of_async(&owner).await?;
    let devices: Vec<_> = sessions.iter().map(|info| Device::of(info, this)).collect();
    page.show("devices.html", context! { devices => Serde(devices) })
}

#[derive(Deserialize)]
pub(crate) struct Label {
    label: String,
}

/// The user's own name for this device. Templates escape it, as all that people type.
pub(crate) async fn name(session: Session, Form(sent): Form<Label>) -> Result<Response, ShopError> {
    session.owner()?.ok_or(LOGIN_NEEDED)?;
    let label = sent.label.trim();
    let message = if (1..=40).contains(&label.chars().count()) {
        session.set_label(label)?;
        FlashMessage::success("This device has its name.")
    } else {
        FlashMessage::error("The name of a device has 1 to 40 characters.")
    };
    Ok((message, Redirect::to("/devices")).into_response())
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
    let owner = session.owner()?.ok_or(LOGIN_NEEDED)?;
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
    session.owner()?.ok_or(LOGIN_NEEDED)?;
    let ended = session.end_others()?;
    let message = FlashMessage::success(format!("Logged out elsewhere: {ended}."));
    Ok((message, Redirect::to("/devices")).into_response())
}
