//! The commits of a request before its last one (C8.7).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::client_id::ClientId;
use crate::error::Result;
use crate::session::CookieAction;
use crate::transaction::Transaction;

/// What a response must do with the cookie after the commits of its request so far.
#[derive(Default)]
pub(super) struct EarlyCookie {
    is_set: AtomicBool,
    action: Mutex<Option<CookieAction>>,
}

impl EarlyCookie {
    pub(super) fn set(&self, action: CookieAction) {
        if action != CookieAction::Keep {
            *self.action.lock().unwrap_or_else(PoisonError::into_inner) = Some(action);
            self.is_set.store(true, Ordering::Release);
        }
    }

    /// Whether a commit before the last one left something to do.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// What the response must do after its last commit. An id that was to be sent must not overwrite a newer one if its
    /// session has ended meanwhile (C4.8).
    /// `look` begins the transaction that looks.
    pub(super) async fn with_last(
        &self,
        last: CookieAction,
        look: impl Future<Output = Result<Transaction>>,
    ) -> CookieAction {
        if last != CookieAction::Keep {
            return last;
        }
        let early = self.action.lock().unwrap_or_else(PoisonError::into_inner);
        let early = { early }.take().unwrap_or(CookieAction::Keep);
        match &early {
            // What cannot be looked at was durable.
            CookieAction::Send { id, .. } if !is_live(look, id).await.unwrap_or(true) => {
                CookieAction::Keep
            }
            _ => early,
        }
    }
}

async fn is_live(look: impl Future<Output = Result<Transaction>>, id: &ClientId) -> Result<bool> {
    let look = look.await?;
    look.load(id).await?;
    look.is_live(id)
}
