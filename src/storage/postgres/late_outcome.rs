//! A commit with a part in memory whose outcome could not be found out in time. Its caller has an answer. The server is asked
//! on, so that the part in memory shows if, and only if, the commit took place.

use super::committer::{CommitEnd, LostCommit, PgCommitter, clients_of};
use super::in_line::InLine;
use super::memory_parts::PartHold;
use crate::storage::admission_line::AdmissionPermit;
use crate::storage::{ChangeSet, ForeignCommit};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The pause after the server could not say within the deadline what became of the commit.
const PAUSE: Duration = Duration::from_millis(200);

struct LateOutcome {
    set: Box<ChangeSet>,
    /// The attempts of which the outcome is not known.
    lost: Vec<LostCommit>,
    /// It counts among the commits that wait.
    _permit: Option<AdmissionPermit>,
    /// The last field: it is dropped when nothing of the set can show any more.
    _hold: PartHold,
}

impl PgCommitter {
    /// Finds out later what became of a commit. Nobody reads its clients from now on until it is known.
    pub(super) fn find_out(
        self: Arc<Self>,
        set: Box<ChangeSet>,
        (lost, permit): (Vec<LostCommit>, Option<AdmissionPermit>),
    ) {
        let hold = self.shared.memory_parts.hold(clients_of(&set));
        let late = LateOutcome {
            set,
            lost,
            _permit: permit,
            _hold: hold,
        };
        tokio::spawn(late.resolve(self));
    }
}

impl LateOutcome {
    /// Asks until the server has answered, or cannot know it any more.
    async fn resolve(mut self, committer: Arc<PgCommitter>) {
        let shared = &committer.shared;
        while !self.lost.is_empty() && shared.check_open().is_ok() {
            let lost = std::mem::take(&mut self.lost);
            let (end, lost) = {
                let _turn = committer.late_outcomes.acquire().await;
                let looking = InLine::looking_up(&committer, shared.deadline(), lost);
                looking.commit(&mut self.set).await
            };
            if let CommitEnd::Committed = end {
                if let Some(rows) = self.set.foreign.take() {
                    ForeignCommit::show_all(vec![rows.commit], || ());
                }
                return;
            }
            self.lost = lost;
            if !self.lost.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }
}
