//! The sessions of a container, listed in bounded pages.

use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::container::Container;
use crate::container::filter::SessionFilter;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::Snapshot;
use crate::storage::record::SessionRow;
use crate::transaction::{ContainerEntry, Env, ShownSession};
use chrono::{DateTime, Utc};

/// How many sessions are read at once.
const READ: usize = 256;
/// How many rows, of sessions and packages, one call examines at most, and a few more.
const EXAMINED: usize = 4096;
/// How many sessions a page has at most.
const LISTED: usize = 1000;

/// A session of one container, as [`Container::sessions`] lists it.
///
/// ```
/// use cloakroom::{SessionFilter, Store};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let page = store.container("")?.sessions(&SessionFilter::new(), None, 10)?;
/// let session = &page.sessions[0];
/// assert_eq!((session.client, session.packages), (id.key(), 1));
/// assert!(session.bytes > 0 && session.error.is_none());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedSession {
    /// The key of its client.
    pub client: ClientKey,
    /// When it was created. `None` if its record is damaged.
    pub created: Option<DateTime<Utc>>,
    /// The last access that is recorded, to the resolution of the container. `None` if its record is damaged.
    pub last_access: Option<DateTime<Utc>>,
    /// When it expires if it is not used any more. `None` if it does not, or if its record is damaged.
    pub expires: Option<DateTime<Utc>>,
    /// Whether it has expired, and is not removed yet. Only listed if [asked for](SessionFilter::with_expired).
    pub is_expired: bool,
    /// Its owner.
    pub owner: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// The number of its packages.
    pub packages: usize,
    /// About the number of bytes that its packages take.
    pub bytes: u64,
    /// The damage to its record or to a package, if there is any.
    pub error: Option<Error>,
}

/// A page of sessions, from [`Container::sessions`].
///
/// ```
/// use cloakroom::{SessionFilter, Store};
///
/// let store = Store::in_memory()?;
/// let container = store.container("")?;
/// let (filter, mut after) = (SessionFilter::new(), None);
/// loop {
///     let page = container.sessions(&filter, after, 100)?;
///     for session in &page.sessions {
///         println!("{} {:?}", session.client, session.owner);
///     }
///     after = page.next;
///     if after.is_none() {
///         break;
///     }
/// }
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionList {
    /// The sessions that match, in the order of their keys.
    pub sessions: Vec<ListedSession>,
    /// Where the next page goes on: after this key. `None` after the last session.
    pub next: Option<ClientKey>,
    /// The number of sessions that were examined.
    pub examined: usize,
}

impl Container {
    /// Returns a page of at most `limit` sessions that match, in the order of their keys, beginning after the key
    /// `after`. Counts as no access. A page has no more than 1,000 sessions.
    ///
    /// One call examines a bounded number of sessions, some thousands. So it may return a page with fewer sessions than
    /// `limit`, or with none, although others match: [`SessionList::next`] tells where the next call goes on.
    /// Each call reads the newest state. A session that gets another id between two calls may be missing or be listed
    /// twice.
    ///
    /// A session whose record is damaged is listed with its [`error`](ListedSession::error), whatever the filter asks
    /// of it, except for its key. Sessions in the visitor's cookie are not listed.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) after it was unregistered; a failure of the storage.
    pub fn sessions(
        &self,
        filter: &SessionFilter,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<SessionList> {
        list(&self.env, &*self.container()?, filter, (after, limit))
    }

    /// [`sessions`](Self::sessions) as a future. The sessions are read on a thread of the store.
    ///
    /// # Errors
    ///
    /// As for [`sessions`](Self::sessions).
    pub fn sessions_async(
        &self,
        filter: &SessionFilter,
        after: Option<ClientKey>,
        limit: usize,
    ) -> impl Future<Output = Result<SessionList>> + Send + use<> {
        let (container, filter) = (self.clone(), filter.clone());
        self.env
            .read_in_background(move |_| container.sessions(&filter, after, limit))
    }
}

fn list(
    env: &Env,
    container: &ContainerEntry,
    filter: &SessionFilter,
    (after, limit): (Option<ClientKey>, usize),
) -> Result<SessionList> {
    let mut list = Listing {
        container,
        filter,
        now: env.clock.timestamp(),
        limit: limit.clamp(1, LISTED),
        left: EXAMINED,
        page: SessionList::default(),
    };
    let mut after = filter.first_after(after);
    loop {
        let snapshot = env.snapshot()?;
        let rows = snapshot.sessions(container.id(), after, READ).wait()?;
        let Some((last, _)) = rows.last() else {
            return Ok(list.page);
        };
        after = Some(*last);
        let clients: Vec<_> = rows.iter().map(|(client, _)| *client).collect();
        snapshot.load(&clients).wait()?;
        let readable = rows.iter().filter_map(|(client, row)| {
            Some(ShownSession {
                container,
                client: *client,
                row: row.as_ref().ok()?,
                keeping: None,
            })
        });
        let times = wait(env.times_of(&readable.collect::<Vec<_>>(), list.now));
        let mut times = times.into_iter();
        for (client, row) in rows {
            crate::steps::count(1);
            let times = row.as_ref().ok().and_then(|_| times.next()).transpose()?;
            if list.is_over(client) {
                return Ok(list.page);
            }
            list.examine(&*snapshot, client, row, times)?;
            if list.page.sessions.len() >= list.limit || list.left == 0 {
                list.page.next = Some(client);
                return Ok(list.page);
            }
        }
    }
}

/// A page while it is filled.
struct Listing<'a> {
    container: &'a ContainerEntry,
    filter: &'a SessionFilter,
    now: Timestamp,
    limit: usize,
    /// How many more rows may be examined.
    left: usize,
    page: SessionList,
}

impl Listing<'_> {
    /// Whether neither this session nor a later one can match.
    fn is_over(&self, client: ClientKey) -> bool {
        self.filter.is_past(client)
    }

    fn examine(
        &mut self,
        snapshot: &dyn Snapshot,
        client: ClientKey,
        row: Result<SessionRow>,
        times: Option<Times>,
    ) -> Result<()> {
        self.left = self.left.saturating_sub(1);
        self.page.examined += 1;
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                self.page.sessions.push(damaged(client, error));
                return Ok(());
            }
        };
        let (container, policy) = (self.container.id(), &self.container.policy);
        let times = times.unwrap_or_else(|| row.times());
        // Under an id that was renewed there is no session of its own.
        let is_expired = policy.is_expired(&times, self.now);
        let is_gone = row.optional.moved.is_some() || (is_expired && !self.filter.takes_expired());
        if is_gone || !self.filter.takes(&row, &times, self.now) {
            return Ok(());
        }
        self.left = self.left.saturating_sub(row.packages.len());
        let mut listed = shown(client, &row, &times);
        let over = policy.over_at(&times);
        listed.is_expired = is_expired;
        listed.expires = (over < Timestamp(i64::MAX)).then(|| over.to_datetime());
        for package in row.packages.iter() {
            crate::steps::count(1);
            match snapshot.package_len(container, client, package) {
                Ok(len) => listed.bytes += len as u64,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    listed.error = Some(error.in_package(&**package));
                }
                Err(error) => return Err(error),
            }
        }
        if listed.error.is_some() || self.filter.takes_bytes(listed.bytes) {
            self.page.sessions.push(listed);
        }
        Ok(())
    }
}

fn shown(client: ClientKey, row: &SessionRow, times: &Times) -> ListedSession {
    ListedSession {
        client,
        created: Some(times.created.to_datetime()),
        last_access: Some(times.last_access.to_datetime()),
        expires: None,
        is_expired: false,
        owner: row.owner.as_deref().map(str::to_owned),
        label: row.optional.label.as_deref().map(str::to_owned),
        packages: row.packages.len(),
        bytes: 0,
        error: None,
    }
}

fn damaged(client: ClientKey, error: Error) -> ListedSession {
    ListedSession {
        client,
        created: None,
        last_access: None,
        expires: None,
        is_expired: false,
        owner: None,
        label: None,
        packages: 0,
        bytes: 0,
        error: Some(error),
    }
}
