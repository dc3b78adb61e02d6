//! The secrets that sign ids, and retiring one.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;

#[derive(Serialize)]
struct Page {
    /// The oldest first.
    secrets: Vec<SecretView>,
    /// The number whose form was sent without the confirmation.
    unconfirmed: Option<u8>,
}

#[derive(Serialize)]
struct SecretView {
    number: u8,
    is_issuing: bool,
    /// `None` if the store does not know it.
    created: Option<DateTime<Utc>>,
}

const TEMPLATE: &str = "secrets.html";

pub(super) async fn show(visit: Visit) -> Answer {
    let page = page(&visit, None).await?;
    visit.show(TEMPLATE, "Secrets", &page)
}

pub(super) async fn retire(visit: Visit) -> Answer {
    visit.need_change()?;
    let number = visit.fields.get("number").and_then(|it| it.parse().ok());
    let number: u8 = number.ok_or_else(|| {
        Failure::bad_request("The field “number” names no secret: it is from 0 to 255.")
    })?;
    if !matches!(visit.fields.get("confirm"), Some("yes" | "true")) {
        let page = page(&visit, Some(number)).await?;
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return visit.show_as(status, TEMPLATE, "Error: Secrets", &page);
    }
    let store = visit.app.store.clone();
    let work = async move {
        store.retire_secret_async(number).await?;
        Ok(format!(
            "secret {number} is retired: its ids do not work any more"
        ))
    };
    let subject = format!("secret {number}");
    visit
        .change("retire secret", subject, "/maintenance/secrets", work)
        .await
}

async fn page(visit: &Visit, unconfirmed: Option<u8>) -> cloakroom::Result<Page> {
    let secrets = visit.app.store.secrets_async().await?;
    let secrets = secrets.into_iter().map(|secret| SecretView {
        number: secret.name,
        is_issuing: secret.is_issuing,
        created: secret.created,
    });
    Ok(Page {
        secrets: secrets.collect(),
        unconfirmed,
    })
}
