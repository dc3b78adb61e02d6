//! What was done here.

use super::Answer;
use crate::audit::AuditEntry;
use crate::entry::Visit;
use serde::Serialize;

/// How many entries a page lists.
const LISTED: usize = 200;

#[derive(Serialize)]
struct Page {
    /// The newest first.
    entries: Vec<AuditEntry>,
    /// The number before which the next page goes on, as `before`.
    next: Option<u64>,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let before = visit.fields.get("before").and_then(|it| it.parse().ok());
    let (entries, next) = visit.app.log.page(before.unwrap_or(u64::MAX), LISTED);
    visit.show("audit.html", "Audit log", &Page { entries, next })
}
