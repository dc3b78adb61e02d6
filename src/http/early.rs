//! The commits of a request before its last one (C8.7).

use futures_channel::oneshot;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client_id::ClientId;
use crate::error::Result;
use crate::process::Process;
use crate::session::CookieAction;
use crate::transaction::{Transaction, in_process};

/// The cookie action of a response after the commits of its request so far.
#[derive(Default)]
pub(super) struct EarlyCookie {
    is_begun: AtomicBool,
    state: Mutex<EarlyState>,
}

#[derive(Default)]
struct EarlyState {
    action: Option<CookieAction>,
    /// The newest commit. Its caller may have stopped waiting before the outcome was known.
    newest: Option<oneshot::Receiver<CookieAction>>,
}

impl EarlyState {
    fn set(&mut self, action: CookieAction) {
        if action != CookieAction::Keep {
            self.action = Some(action);
        }
    }
}

impl EarlyCookie {
    /// Notes a commit that the engine is given. The one before it has ended.
    pub(super) fn begin(&self, outcome: oneshot::Receiver<CookieAction>) {
        let mut state = self.lock();
        if let Some(mut former) = state.newest.replace(outcome)
            && let Ok(Some(action)) = former.try_recv()
        {
            state.set(action);
        }
        self.is_begun.store(true, Ordering::Release);
    }

    /// Whether there was a commit before the last one.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun.load(Ordering::Acquire)
    }

    /// Waits until the outcome is known of each commit that the engine was given. It does not wait for other commits: the
    /// future of one may be a part of the response.
    pub(super) async fn ended(&self, process: &Process) {
        let newest = self.lock().newest.take();
        if let Some(newest) = newest
            && let Ok(Ok(action)) = in_process(process, newest).await
        {
            self.lock().set(action);
        }
    }

    /// The cookie action of the response after its last commit. If the session of an id has ended or got a newer id
    /// meanwhile, the response does not send the id: it must not overwrite a newer one (C4.8, C8.4). `look` begins the
    /// transaction that finds this out.
    pub(super) async fn with_last(
        &self,
        last: CookieAction,
        look: impl Future<Output = Result<Transaction>>,
    ) -> CookieAction {
        if last != CookieAction::Keep {
            return last;
        }
        let early = self.lock().action.take().unwrap_or(CookieAction::Keep);
        match &early {
            // If the look fails, the id is sent: its commit was durable.
            CookieAction::Send { id, .. } if !is_newest(look, id).await.unwrap_or(true) => {
                CookieAction::Keep
            }
            _ => early,
        }
    }

    fn lock(&self) -> MutexGuard<'_, EarlyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn is_newest(look: impl Future<Output = Result<Transaction>>, id: &ClientId) -> Result<bool> {
    let look = look.await?;
    look.load(id).await?;
    look.is_newest(id)
}
