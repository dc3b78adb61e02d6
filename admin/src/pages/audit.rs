//! What was done here.

use super::Answer;
use crate::audit::AuditEntry;
use crate::entry::Visit;
use serde::Serialize;

#[derive(Serialize)]
struct Page {
    /// The newest first.
    entries: Vec<AuditEntry>,
}

pub(super) async fn show(visit: Visit) -> Answer {
    let entries = visit.app.log.entries();
    visit.show("audit.html", "Audit log", &Page { entries })
}
