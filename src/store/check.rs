//! Looks at every row and every page of a store (C5.4).

use super::Store;
use crate::error::{Error, ErrorKind, Quoted, Result};
use crate::storage::{Checked, Damage, Finding, RowProgress, RowProgressFn};
use crate::transaction::Env;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The maximum number of findings that are kept. The rest is only counted.
pub(super) const KEPT: usize = 1000;
/// An error names no more sessions than this.
const NAMED: usize = 5;

/// The result of [`Store::check`].
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let check = store.check()?;
/// assert!(check.is_clean());
/// for damage in &check.findings {
///     eprintln!("{:?}: {}", damage.client, damage.error);
/// }
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Check {
    /// Sessions examined.
    pub sessions: u64,
    /// Packages examined.
    pub packages: u64,
    /// About the bytes of the file that are in use; 0 without a file. The rest of
    /// [`file_len`](crate::Statistics::file_len) is free for what is written next.
    pub bytes_in_use: u64,
    /// The number of records that are damaged, missing, or not found by their key.
    pub damaged: u64,
    /// The first thousand of those, with the container, and the package where it is known.
    pub errors: Vec<Error>,
    /// The number of damaged parts of the structure that holds the records, including the file's own bookkeeping. The
    /// records may be undamaged.
    pub damaged_pages: u64,
    /// The first thousand of both, with the client whose session is damaged, if known.
    pub findings: Vec<Damage>,
    /// Whether everything was read. If not, `progress` has broken it off, and all of this is about what was read.
    pub is_complete: bool,
}

impl Check {
    /// Whether no damage was found in what was read.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damaged == 0 && self.damaged_pages == 0
    }

    pub(super) fn note(&mut self, found: Finding) {
        let damage = match found {
            Finding::Record(damage) => {
                self.damaged += 1;
                if self.errors.len() < KEPT {
                    self.errors.push(damage.error.clone());
                }
                damage
            }
            Finding::Structure(damage) => {
                self.damaged_pages += 1;
                damage
            }
        };
        if self.findings.len() < KEPT {
            self.findings.push(damage);
        }
    }

    fn counted(mut self, checked: Checked) -> Self {
        self.sessions = checked.sessions;
        self.packages = checked.packages;
        self.bytes_in_use = checked.bytes_in_use;
        self.is_complete = checked.is_complete;
        self
    }

    /// The findings, as the error of opening the store.
    pub(super) fn into_result(self) -> Result<()> {
        if self.is_clean() {
            return Ok(());
        }
        let hit: BTreeSet<_> = self
            .findings
            .iter()
            .filter_map(|d| Some((d.container.as_deref(), d.client?)))
            .collect();
        let mut detail = format!(
            "{} records and {} pages of the store are damaged",
            self.damaged, self.damaged_pages
        );
        for (n, (container, client)) in hit.iter().take(NAMED).enumerate() {
            detail.push_str(if n == 0 { "; sessions hit: " } else { ", " });
            detail.push_str(&client.to_string());
            match container {
                Some(name) => detail.push_str(&format!(" in container {}", Quoted(name))),
                None => detail.push_str(" in a container that is not known"),
            }
        }
        if hit.len() > NAMED {
            detail.push_str(&format!(" and {} more", hit.len() - NAMED));
        }
        let error = Error::new(ErrorKind::Corrupt, detail);
        let records = self.errors.into_iter();
        let first = records
            .chain(self.findings.into_iter().map(|d| d.error))
            .next();
        Err(match first {
            Some(first) => error.with_source(first),
            None => error,
        })
    }
}

impl Store {
    /// Examines the whole store as of its newest commit, and reports the damage and the sessions concerned. Commits
    /// continue meanwhile. Nothing is repaired.
    ///
    /// It verifies the checksum of every record and of every page in use, and that:
    ///
    /// - everything that a session lists is there and is found by its key,
    /// - every record belongs to a session,
    /// - the lists of owners agree with the sessions.
    ///
    /// A session that cannot be reached is named by its packages or its owner's list, if they can be read.
    ///
    /// It reads the whole file once, in small parts. The pages of that commit are kept until it ends, so a store that
    /// is written to meanwhile grows. Blocks the thread until it is done.
    ///
    /// # Errors
    ///
    /// A failure of the storage, such as [`Unavailable`](ErrorKind::Unavailable) or [`Closed`](ErrorKind::Closed).
    /// Damage is not an error but part of the result.
    pub fn check(&self) -> Result<Check> {
        self.check_with(|_| ControlFlow::Continue(()))
    }

    /// [`check`](Self::check), with progress. If `progress` breaks it off, this returns what was found so far, and
    /// [`Check::is_complete`] is false.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn check_with(
        &self,
        mut progress: impl FnMut(RowProgress) -> ControlFlow<()> + Send,
    ) -> Result<Check> {
        check(&self.inner.env, &mut progress)
    }

    /// [`check`](Self::check) as a future. The file is read on a thread of the store, and to the end even if the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn check_async(&self) -> impl Future<Output = Result<Check>> + Send + use<> {
        self.check_with_async(|_| ControlFlow::Continue(()))
    }

    /// [`check_with`](Self::check_with) as a future. The file is read on a thread of the store, where `progress` is
    /// called. It goes on if the future is dropped, until `progress` breaks it off.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn check_with_async<P>(
        &self,
        mut progress: P,
    ) -> impl Future<Output = Result<Check>> + Send + use<P>
    where
        P: FnMut(RowProgress) -> ControlFlow<()> + Send + 'static,
    {
        let env = &self.inner.env;
        env.in_background(move |env| check(env, &mut progress))
    }
}

fn check(env: &Env, progress: &mut RowProgressFn<'_>) -> Result<Check> {
    env.process.check()?;
    let mut check = Check::default();
    if progress(RowProgress::default()).is_break() {
        return Ok(check);
    }
    let found = &mut |found| check.note(found);
    let checked = env.storage.check(found, progress).wait()?;
    Ok(check.counted(checked))
}
