//! The settings that are code.

use super::Answer;
use crate::entry::Visit;
use serde::Serialize;

#[derive(Serialize)]
struct Page {
    /// The session layer's, if the application gave it.
    layer: Option<String>,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let layer = visit.app.layer.clone();
    visit.show("settings.html", "Settings", &Page { layer })
}
