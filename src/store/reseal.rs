//! Encrypts all rows with the current key that are not encrypted with it yet.

use super::Store;
use crate::container;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::transaction::Env;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

/// How long it waits while commits are about to be held up.
const PAUSE: Duration = Duration::from_millis(10);

/// How far [`Store::reseal`] has come.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use cloakroom::{KeyRing, Store};
/// # let folder = tempfile::tempdir()?;
/// # let store = Store::builder()
/// #     .encryption(KeyRing::new(1, [7; 32]))
/// #     .open(folder.path().join("sessions.redb"))?;
/// let done = store.reseal(|so_far| {
///     println!("{} of about {} sessions", so_far.sessions, so_far.of);
///     ControlFlow::Continue(())
/// })?;
/// assert!(done.is_complete);
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reseal {
    /// Sessions that were looked at, counted once per container.
    pub sessions: u64,
    /// How many sessions there are, about.
    pub of: u64,
    /// Records that were encrypted again: sessions and packages.
    pub records: u64,
    /// Sessions and packages that were found damaged. They stay as they are.
    pub unreadable: u64,
    /// Whether everything is encrypted with the current key, so that the store needs no other.
    pub is_complete: bool,
}

impl Store {
    /// Encrypts all records with the current key of the [ring](crate::KeyRing): those under an older key and those
    /// that are not encrypted. Commits go on meanwhile. Records that were encrypted are durable.
    ///
    /// It works in small steps, and calls `progress` after each. If that breaks off, or the process is killed, the rest
    /// stays as it was, and the next call goes through all sessions again. When it has come to the end, the file names
    /// the current key alone as the one that it needs. It does not if it met damage: remove that, or
    /// [`salvage`](crate::StoreBuilder::salvage) the store. Packages under the current key are not read, so damage in
    /// them is not met; [`check`](Self::check) finds it.
    ///
    /// On a server, first open the store in all processes with a ring whose current key is the new one. Any other process
    /// gets [`WrongKey`](ErrorKind::WrongKey) from every transaction once this has begun, until it has come to the end. There
    /// is no salvage there: remove the rows of the clients that [`check`](Self::check) names from both tables.
    ///
    /// Blocks the thread until it is done. Costs in proportion to the whole store.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the store was opened without keys, or is in memory;
    /// [`WrongKey`](ErrorKind::WrongKey) if another process encrypts the store with another key; a failure of the storage.
    pub fn reseal(&self, progress: impl FnMut(Reseal) -> ControlFlow<()>) -> Result<Reseal> {
        self.inner.env.process.check()?;
        reseal(&self.inner.env, progress)
    }

    /// [`reseal`](Self::reseal) as a future, on a thread of the store. It goes on to the end if the future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`reseal`](Self::reseal).
    pub fn reseal_async<P>(
        &self,
        progress: P,
    ) -> impl Future<Output = Result<Reseal>> + Send + use<P>
    where
        P: FnMut(Reseal) -> ControlFlow<()> + Send + 'static,
    {
        let env = &self.inner.env;
        env.in_background(move |env| reseal(env, progress))
    }
}

fn reseal(env: &Env, mut progress: impl FnMut(Reseal) -> ControlFlow<()>) -> Result<Reseal> {
    if let Some(local) = env.storage.local() {
        // So that the file tells about how many sessions there are.
        local.checkpoint().wait()?;
    }
    let mut done = Reseal::default();
    let mut after = None;
    loop {
        let step = env.storage.reseal(after).wait()?;
        done.sessions += step.sessions;
        done.of = done.of.max(step.of).max(done.sessions);
        done.records += step.records;
        done.unreadable += step.unreadable;
        let Some(last) = step.last else { break };
        if progress(done).is_break() {
            return Ok(done);
        }
        after = Some(last);
        while env.storage.has_backpressure() {
            thread::sleep(PAUSE);
        }
        thread::yield_now();
    }
    if done.unreadable > 0 {
        env.storage.leave_reseal().wait()?;
        return Ok(done);
    }
    // The rows of unregistered containers are not encrypted again, but removed.
    container::reclaim(env, || ControlFlow::Continue(()))?;
    done.is_complete = env.storage.finish_reseal().wait()?;
    Ok(done)
}
