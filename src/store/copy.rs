//! Copies a store's sessions into another store, which becomes its copy.

use super::session_batch::{ImportedSession, SessionBatch};
use super::session_walk::{SessionWalk, StoredSession, WalkFrom};
use super::{Store, StoreBuilder};
use crate::block_on::{block_on, wait};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerHome, OnDuplicate, PackageChange, SettingsChange};
use crate::transaction::{ContainerEntry, Env};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec::IntoIter;

/// The result of [`Store::copy_to`], or how far it has come.
///
/// ```
/// use cloakroom::Store;
///
/// let original = Store::in_memory()?;
/// let id = original.client_ids().issue();
/// original.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
///
/// let copy = Store::builder().copy_of(&original)?.in_memory()?;
/// let copied = original.copy_to(&copy)?;
/// assert_eq!((copied.sessions, copied.verified), (1, 1));
/// assert!(copied.is_complete);
/// // The visitor's id goes on working.
/// assert!(copy.client_ids().verify(id.as_str()).is_some());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Sessions that were written, counted once per container.
    pub sessions: u64,
    /// Sessions that an earlier call had written.
    pub skipped: u64,
    /// Sessions that cannot be read, and packages. They are not in the copy.
    pub damaged: u64,
    /// Sessions that were read again from both stores, and are equal. This begins when all are written.
    pub verified: u64,
    /// Whether everything was written and verified. If not, `progress` has broken it off.
    pub is_complete: bool,
}

impl StoreBuilder {
    /// Makes a new store the copy of another one: it begins with the identity, the containers and the secrets of
    /// `original`, so that client ids and cookies go on working. If the application gives the secrets, give them to both
    /// ([`secret`](Self::secret)). [`Store::copy_to`] brings the sessions. Blocks until the settings are read.
    ///
    /// A store that is there already is opened as it is, if it is an unfinished copy of `original`. Otherwise opening
    /// fails: what was ended in a finished copy since would come back. Until it is finished, a copy opens in no other way.
    ///
    /// # Errors
    ///
    /// A failure of the storage. Opening gives [`InvalidInput`](ErrorKind::InvalidInput) for a store that is no unfinished
    /// copy of `original`.
    pub fn copy_of(mut self, original: &Store) -> Result<Self> {
        let settings = block_on(original.inner.env.refresh_settings())
            .and_then(|_| wait(original.inner.env.storage.settings()))?;
        self.copy_of = Some(Arc::new(settings.for_copy()));
        Ok(self)
    }
}

impl Store {
    /// Copies all live sessions into `target`, with their keys, times, owners, labels and values, and then reads both
    /// stores again and compares them. Blocks until all of it is durable. [`StoreBuilder::copy_of`] opens the target. It
    /// can be on another engine.
    ///
    /// No application may use either store meanwhile: what is changed in this one after the copy began is not in the
    /// copy. If the copy is broken off or fails, call this again: it goes on. Sessions are written in batches, each in one
    /// commit.
    ///
    /// Rows that lead from a renewed id to its session are copied, too. Tombstones of ended sessions and containers in
    /// memory are not. Memory holds a few sessions at a time.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `target` is no copy of this store, if containers or secrets were
    /// changed since it was made, if it has a session of the same key with other contents, or if the stores differ at the
    /// end: something else has used one of them. A failure of either storage. Damaged sessions are no error:
    /// [`Copied::damaged`] counts them.
    pub fn copy_to(&self, target: &Self) -> Result<Copied> {
        self.copy_to_with(target, |_| ControlFlow::Continue(()))
    }

    /// [`copy_to`](Self::copy_to), which tells `progress` every 64 sessions how far it has come.
    /// [`Break`](ControlFlow::Break) ends it.
    ///
    /// # Errors
    ///
    /// As for [`copy_to`](Self::copy_to).
    pub fn copy_to_with(
        &self,
        target: &Self,
        mut progress: impl FnMut(&Copied) -> ControlFlow<()>,
    ) -> Result<Copied> {
        let (from, to) = (&*self.inner.env, &*target.inner.env);
        wait(from.refresh_settings())?;
        wait(to.refresh_settings())?;
        let mut run = StoreCopy {
            from,
            to,
            containers: pairs(from, to)?,
            source: WalkFrom::now_if_kept(from)?,
            now: from.clock.timestamp(),
            done: Copied::default(),
            progress: &mut progress,
        };
        if run.copy()?.is_continue() && run.verify()?.is_continue() {
            wait(to.storage.configure(SettingsChange::FinishCopy))?;
            run.done.is_complete = true;
        }
        let Copied {
            sessions,
            skipped,
            verified,
            damaged,
            is_complete,
        } = run.done;
        tracing::info!(
            sessions,
            skipped,
            verified,
            damaged,
            is_complete,
            "the sessions were copied to another store"
        );
        Ok(run.done)
    }
}

/// Each durable container, here and there.
type ContainerPair = (Arc<ContainerEntry>, Arc<ContainerEntry>);

/// The containers whose sessions are copied, if the copy still has the settings of its original.
fn pairs(from: &Env, to: &Env) -> Result<Vec<ContainerPair>> {
    let (here, there) = (wait(from.storage.settings())?, wait(to.storage.settings())?);
    if here.identity != there.identity {
        return Err(refused(
            "the target is no copy of this store; open it with StoreBuilder::copy_of",
        ));
    }
    if here.containers != there.containers || here.secrets != there.secrets {
        return Err(refused(
            "the containers or the secrets were changed after the copy was made; copy into a new store",
        ));
    }
    let (here, there) = (from.registry.load_full(), to.registry.load_full());
    let durable = here.containers().iter();
    let durable = durable.filter(|it| it.id().home() == ContainerHome::Durable);
    let pair = |it: &Arc<ContainerEntry>| {
        let other = there.get(&it.container_ref.name)?;
        Some((it.clone(), other.clone()))
    };
    Ok(durable.filter_map(pair).collect())
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

struct StoreCopy<'a> {
    from: &'a Env,
    to: &'a Env,
    containers: Vec<ContainerPair>,
    /// The state that is copied.
    source: WalkFrom,
    /// When the copy began. What has expired by then is left out.
    now: Timestamp,
    done: Copied,
    progress: &'a mut dyn FnMut(&Copied) -> ControlFlow<()>,
}

impl StoreCopy<'_> {
    fn goes_on(&mut self) -> bool {
        (self.progress)(&self.done).is_continue()
    }

    fn copy(&mut self) -> Result<ControlFlow<()>> {
        for (here, there) in self.containers.clone() {
            let state = self.source.clone();
            let mut walk = SessionWalk::new(self.from, &here, &state, self.now);
            let mut batch = SessionBatch::default();
            while let Some(page) = walk.page(&mut |_, _, _| {
                self.done.damaged += 1;
                Ok(())
            })? {
                self.copy_page(&there, page, &mut batch)?;
                if !self.goes_on() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.commit(&mut batch)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn copy_page(
        &mut self,
        container: &Arc<ContainerEntry>,
        page: Vec<(ClientKey, StoredSession)>,
        batch: &mut SessionBatch,
    ) -> Result<()> {
        let keys: Vec<_> = page.iter().map(|(client, _)| *client).collect();
        let newest = WalkFrom::Newest;
        let target = SessionWalk::new(self.to, container, &newest, self.now);
        let known = target.of(&keys, &mut damaged_copy)?;
        let mut known = known.into_iter().peekable();
        for (client, mut session) in page {
            session.lower(&container.policy, self.now);
            match known.next_if(|(key, _)| *key == client) {
                Some((_, known)) if known == session => self.done.skipped += 1,
                Some(_) => {
                    let why = format!("the target has the session {client} with other contents");
                    return Err(refused(&why).in_container(&*container.container_ref.name));
                }
                None => {
                    let bytes = session.bytes();
                    batch.add(imported(container, client, session), bytes);
                    if batch.is_full() {
                        self.commit(batch)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, batch: &mut SessionBatch) -> Result<()> {
        let (written, _) = batch.commit(self.to, OnDuplicate::Fail)?;
        self.done.sessions += written;
        Ok(())
    }

    /// Reads both stores again, side by side, in the order of the keys.
    fn verify(&mut self) -> Result<ControlFlow<()>> {
        for (here, there) in self.containers.clone() {
            let (state, newest) = (self.source.clone(), WalkFrom::Newest);
            let mut originals = SessionWalk::new(self.from, &here, &state, self.now);
            let mut copies = Copies {
                walk: SessionWalk::new(self.to, &there, &newest, self.now),
                page: Vec::new().into_iter().peekable(),
            };
            while let Some(page) = originals.page(&mut |_, _, _| Ok(()))? {
                for (client, mut session) in page {
                    session.lower(&here.policy, self.now);
                    while let Some((client, copy)) = copies.next_if(|it| it.0 < client)? {
                        self.require_expired(&here, client, &copy)?;
                    }
                    match copies.next_if(|it| it.0 == client && it.1 == session)? {
                        Some(_) => self.done.verified += 1,
                        None => self.require_expired(&here, client, &session)?,
                    }
                }
                if !self.goes_on() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            while let Some((client, copy)) = copies.next_if(|_| true)? {
                self.require_expired(&here, client, &copy)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One of the stores may have swept a session that has expired since the copy began. Any other must be in both.
    fn require_expired(
        &self,
        container: &ContainerEntry,
        client: ClientKey,
        session: &StoredSession,
    ) -> Result<()> {
        let now = self.from.clock.timestamp().max(self.to.clock.timestamp());
        if container.policy.is_expired(&session.row.times(), now) {
            return Ok(());
        }
        let why = format!(
            "the stores differ at the session {client}: something else has used one of them"
        );
        Err(refused(&why).in_container(&*container.container_ref.name))
    }
}

/// The sessions of the copy, one after the other.
struct Copies<'a> {
    walk: SessionWalk<'a>,
    page: Peekable<IntoIter<(ClientKey, StoredSession)>>,
}

impl Copies<'_> {
    /// The next one, if it is wanted.
    fn next_if(
        &mut self,
        is_wanted: impl FnOnce(&(ClientKey, StoredSession)) -> bool,
    ) -> Result<Option<(ClientKey, StoredSession)>> {
        while self.page.peek().is_none() {
            // What all has expired is an empty page.
            let Some(page) = self.walk.page(&mut damaged_copy)? else {
                return Ok(None);
            };
            self.page = page.into_iter().peekable();
        }
        Ok(self.page.next_if(is_wanted))
    }
}

fn damaged_copy(_: ClientKey, _: Option<&str>, error: Error) -> Result<()> {
    Err(error)
}

fn imported(
    container: &Arc<ContainerEntry>,
    client: ClientKey,
    session: StoredSession,
) -> ImportedSession {
    let place = &container.container_ref;
    let packages = session
        .packages
        .into_iter()
        .map(|(name, values)| PackageChange::put(place.clone(), name, values));
    ImportedSession {
        container: container.clone(),
        client,
        packages: packages.collect(),
        row: Box::new(session.row),
        number: 0,
    }
}
