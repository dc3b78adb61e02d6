//! The change of the password. It needs a recent login, and ends all other sessions of the user.

use crate::answers::ShopError;
use crate::app::Shop;
use crate::pages::Page;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::Session;
use cloakroom::http::FlashMessage;
use minijinja::context;
use serde::Deserialize;

/// What is wrong with a password, if anything.
pub(crate) fn problem(password: &str) -> Option<&'static str> {
    let length = password.chars().count();
    (!(8..=128).contains(&length)).then_some("A password has 8 to 128 characters.")
}

#[derive(Deserialize)]
pub(crate) struct NewPassword {
    password: String,
}

pub(crate) async fn show(page: Page) -> Result<Response, ShopError> {
    page.show("password.html", context! {})
}

pub(crate) async fn change(
    State(shop): State<Shop>,
    page: Page,
    session: Session,
    Form(sent): Form<NewPassword>,
) -> Result<Response, ShopError> {
    let owner = session.owner()?;
    let owner = owner.ok_or(ShopError::LoginNeeded("/password"))?;
    if let Some(error) = problem(&sent.password) {
        let content = context! { field => "password", error };
        return page.show_again(StatusCode::UNPROCESSABLE_ENTITY, "password.html", content);
    }
    shop.accounts.change(&owner, &sent.password).await?;
    // The transaction that ends the others begins after the change: it sees each login by the old password.
    session.commit_now().await?;
    session.end_others()?;
    let text = "Your password is changed. All other devices are logged out.";
    Ok((FlashMessage::success(text), Redirect::to("/devices")).into_response())
}
