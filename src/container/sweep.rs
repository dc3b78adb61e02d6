//! How the sessions of a container are visited, and how expired ones are removed.

use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EndReason, EndedEvent};
use crate::expiry::Times;
use crate::storage::record::SessionRow;
use crate::storage::{
    ChangeSet, ClientChange, Mark, Outcome, Seen, SeenState, SessionEnd, SessionPage, ShownTimes,
    Submission, TouchAt, WaiterKind, broken_off,
};
use crate::throttle::Throttle;
use crate::transaction::{ContainerEntry, Env, SessionEvent, ShownSession};
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tracing::field::Empty;

/// How many rows one step of a sweep or a count reads. Another commit on the same core waits at most for one step.
pub(super) const SCANNED: usize = 256;
/// How long a sweep waits before it checks again whether the storage accepts more.
const PAUSE: Duration = Duration::from_millis(5);
/// How many times at most the storage is asked to reclaim rows, a bounded number each.
const RECLAIMS: usize = 10_000;

/// The result of a sweep.
///
/// ```
/// use cloakroom::{Clock, Store};
/// use std::time::Duration;
///
/// let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
/// let store = Store::builder().clock(clock.clone()).implicit_sweeps(false).in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// clock.advance(Duration::from_secs(3601)); // the timeout is one hour
/// assert_eq!(store.container("")?.sweep()?.removed, 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Sessions examined.
    pub scanned: u64,
    /// Expired sessions removed.
    pub removed: u64,
    /// Sessions with a damaged record, which a sweep does not remove. A part of the file that cannot be read counts
    /// once, however many sessions it holds.
    pub unreadable: u64,
    /// Whether all sessions were examined. If not, `progress` has broken it off.
    pub is_complete: bool,
}

impl Swept {
    fn and(self, other: Self) -> Self {
        Self {
            scanned: self.scanned + other.scanned,
            removed: self.removed + other.removed,
            unreadable: self.unreadable + other.unreadable,
            is_complete: self.is_complete && other.is_complete,
        }
    }
}

/// Is told how far a sweep has come, and may break off.
pub(crate) type SweepProgressFn<'a> = dyn FnMut(Swept) -> ControlFlow<()> + 'a;

/// A session that is visited, and its newest times.
#[derive(Clone, Copy)]
pub(super) struct VisitedSession<'a> {
    pub(super) client: ClientKey,
    pub(super) row: &'a SessionRow,
    pub(super) times: Times,
}

/// Sessions that are visited one after the other, each with the same.
pub(super) struct VisitedPage<T> {
    pub(super) rows: SessionPage,
    pub(super) times: ShownTimes,
    pub(super) with: T,
}

/// A visited session, or the damage in its place.
type SessionVisit<'a> = Result<VisitedSession<'a>, &'a Error>;

/// Visits all sessions of a container in bounded steps, each on the newest snapshot.
pub(super) fn scan(
    env: &Env,
    container: &ContainerEntry,
    now: Timestamp,
    mut visit: impl FnMut(SessionVisit<'_>) -> Result<()>,
) -> Result<()> {
    let id = container.id();
    // A snapshot is let go before its sessions are visited, which may take a while.
    let page = |after| {
        Ok(VisitedPage {
            rows: env.snapshot()?.sessions(id, after, SCANNED).wait()?,
            times: ShownTimes::Recorded,
            with: (),
        })
    };
    in_pages(env, container, now, page, |(), session| visit(session))
}

/// Visits the sessions of a container that may have expired by `now`, with a mark from before they were read.
fn scan_stale(
    env: &Env,
    container: &ContainerEntry,
    now: Timestamp,
    visit: impl FnMut(Mark, SessionVisit<'_>) -> Result<()>,
) -> Result<()> {
    let page = |after| {
        env.process.check()?;
        let stale = env.storage.stale(container.id(), now, after, SCANNED);
        let page = stale.wait()?;
        Ok(VisitedPage {
            rows: page.sessions,
            times: page.times,
            with: page.mark,
        })
    };
    in_pages(env, container, now, page, visit)
}

/// Visits sessions page by page. `page` gives those after a client, and what they are visited with. The engine is asked
/// once for the times of a page, if that does not show the newest ones.
pub(super) fn in_pages<T: Clone>(
    env: &Env,
    container: &ContainerEntry,
    now: Timestamp,
    page: impl Fn(Option<ClientKey>) -> Result<VisitedPage<T>>,
    mut visit: impl FnMut(T, SessionVisit<'_>) -> Result<()>,
) -> Result<()> {
    let mut after = None;
    loop {
        let VisitedPage { rows, times, with } = page(after)?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after = Some(*last);
        let readable = rows.iter().filter_map(|(client, row)| {
            Some(ShownSession {
                container,
                client: *client,
                row: row.as_ref().ok()?,
                keeping: None,
            })
        });
        let mut newest = match times {
            #[cfg(feature = "postgres")]
            ShownTimes::Newest => Vec::new(),
            ShownTimes::Recorded => wait(env.times_of(&readable.collect::<Vec<_>>(), now)),
        }
        .into_iter();
        for (client, row) in &rows {
            crate::steps::count(1);
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    visit(with.clone(), Err(error))?;
                    continue;
                }
            };
            let times = newest.next().unwrap_or_else(|| Ok(row.times()))?;
            let client = *client;
            visit(with.clone(), Ok(VisitedSession { client, row, times }))?;
        }
        // Nobody waits for this thread; somebody may wait for its core.
        thread::yield_now();
    }
}

/// What a sweep makes of a session.
pub(super) enum SweepVerdict {
    Stands,
    /// It has expired, and is removed if a commit still finds it so.
    Expired(SeenState, Timestamp),
    /// A clock that was wrong has put its times far ahead (C3.5).
    Ahead(SeenState, TouchAt),
}

pub(super) fn judge(
    env: &Env,
    container: &ContainerEntry,
    VisitedSession { row, times, .. }: VisitedSession<'_>,
    now: Timestamp,
) -> SweepVerdict {
    let (policy, incarnation) = (&container.policy, row.incarnation);
    if policy.is_expired(&times, now) {
        let state = SeenState::Expired {
            incarnation,
            last_access: times.last_access,
            timeout: row.timeout,
            ends_at: row.optional.ends_at,
            is_id_confirmed: times.unconfirmed_since.is_none(),
        };
        return SweepVerdict::Expired(state, policy.over_at(&times));
    }
    if !policy.is_ahead(&times, now) {
        return SweepVerdict::Stands;
    }
    // By the clock as it is: a sweep may take long.
    let now = env.clock.timestamp();
    if !policy.is_ahead(&times, now) {
        return SweepVerdict::Stands;
    }
    let latest = policy.latest(&times, now);
    let at = TouchAt {
        time: now,
        slack: policy.resolution_of(&times, None),
        founded: (times.created > latest).then_some((times.created, now)),
        lowered_from: None,
    };
    SweepVerdict::Ahead(SeenState::Live { incarnation }, at)
}

/// Removes what has expired in a container. While a batch is committed, the next one is looked for.
pub(crate) fn sweep(
    env: &Env,
    container: &ContainerEntry,
    progress: &mut SweepProgressFn<'_>,
) -> Result<Swept> {
    let begun = Instant::now();
    let name = &*container.container_ref.name;
    let span = tracing::debug_span!("cloakroom.sweep", container = name, removed = Empty);
    let swept = span.in_scope(|| {
        let swept = remove_stale(env, container, progress)?;
        let Some(left) = container.left_in_file().filter(|_| swept.is_complete) else {
            return Ok(swept);
        };
        let progress = &mut |so_far| progress(swept.and(so_far));
        Ok::<_, Error>(swept.and(remove_stale(env, &left, progress)?))
    })?;
    span.record("removed", swept.removed);
    metrics::histogram!("cloakroom_sweep_seconds").record(begun.elapsed());
    metrics::histogram!("cloakroom_sweep_removed").record(swept.removed as f64);
    if swept.removed > 0 {
        span.in_scope(|| tracing::debug!(container = name, ?swept, "swept"));
        metrics::counter!("cloakroom_swept_total").increment(swept.removed);
    }
    Ok(swept)
}

fn remove_stale(
    env: &Env,
    container: &ContainerEntry,
    progress: &mut SweepProgressFn<'_>,
) -> Result<Swept> {
    let now = env.clock.timestamp();
    let registry = env.registry.load().number;
    let together = env.storage.swept_together(container.id());
    let mut swept = Swept::default();
    if progress(swept).is_break() {
        return Ok(swept);
    }
    let mut batch: Option<Box<ChangeSet>> = None;
    let mut in_flight: Option<Removal> = None;
    let end = |in_flight: Option<Removal>| in_flight.map_or(Ok(0), |it| it.end(env, container));
    let mut is_broken_off = false;
    let scanned = scan_stale(env, container, now, |mark, session| {
        if swept.scanned > 0
            && swept.scanned.is_multiple_of(SCANNED as u64)
            && progress(swept).is_break()
        {
            is_broken_off = true;
            return Err(broken_off());
        }
        swept.scanned += 1;
        match session {
            Err(error) => {
                swept.unreadable += 1;
                static DAMAGED: Throttle = Throttle::new(1);
                if let Some(left_out) = DAMAGED.pass() {
                    tracing::warn!(%error, left_out, "a sweep met a damaged session");
                }
            }
            Ok(session) => {
                let (state, over, touch) = match judge(env, container, session, now) {
                    SweepVerdict::Stands => return Ok(()),
                    SweepVerdict::Expired(state, over) => (state, over, None),
                    SweepVerdict::Ahead(state, at) => (state, now, Some(at)),
                };
                let clients = &mut batch
                    .get_or_insert_with(|| empty_set(env, now, mark, registry))
                    .clients;
                clients.push(removal(container, session, (state, over), touch));
            }
        }
        if let Some(full) = batch.take_if(|batch| batch.clients.len() >= together) {
            swept.removed += end(in_flight.take())?;
            while env.storage.has_backpressure() {
                thread::sleep(PAUSE);
            }
            in_flight = Some(Removal::begin(env, full));
        }
        Ok(())
    });
    match scanned {
        Err(_) if is_broken_off => {}
        other => other?,
    }
    swept.removed += end(in_flight)?;
    swept.is_complete = !is_broken_off;
    if let Some(batch) = batch.filter(|_| !is_broken_off) {
        swept.removed += Removal::begin(env, batch).end(env, container)?;
    }
    Ok(swept)
}

/// A change set of a sweep, with no sessions yet.
fn empty_set(env: &Env, now: Timestamp, since: Mark, registry: u64) -> Box<ChangeSet> {
    Box::new(ChangeSet {
        now,
        since,
        clients: Vec::new(),
        refusals: env.refusals(),
        limits: env.rules.limits,
        registry,
        foreign: None,
        carried: None,
        findings: None,
        swept: 0,
    })
}

/// Removes what unregistered containers and old tombstones left, in bounded batches. `progress` is asked after each
/// whether to go on.
pub(crate) fn reclaim(env: &Env, mut progress: impl FnMut() -> ControlFlow<()>) -> Result<()> {
    for _ in 0..RECLAIMS {
        if env.storage.reclaim(env.refusals()).wait()? == 0 || progress().is_break() {
            break;
        }
    }
    Ok(())
}

fn removal(
    container: &ContainerEntry,
    VisitedSession { client, row, .. }: VisitedSession<'_>,
    (state, over): (SeenState, Timestamp),
    touch: Option<TouchAt>,
) -> ClientChange {
    ClientChange {
        client,
        seen: vec![Seen {
            container_ref: container.container_ref.clone(),
            row: Some(row.clone()),
            state,
            observed: false,
            listed: false,
            touch,
        }],
        exists: None,
        replaced: None,
        founder: None,
        packages: Vec::new(),
        home: None,
        timeout: None,
        owner: None,
        label: None,
        authenticated_at: None,
        ends_at: None,
        imported: None,
        carries: 0,
        end: SessionEnd::Swept(over),
        ends_of: None,
        keeps_owner: false,
        ends_in: Vec::new(),
        leads_on: None,
    }
}

/// Sessions that are being removed.
struct Removal {
    /// Who they are and whose, where the application is told of them. Those whose times are only lowered are not among them.
    told: Vec<(ClientKey, Option<Arc<str>>)>,
    /// How many have expired.
    expired: u64,
    /// How many of them only lead on from a renewed id. Nothing brings these back.
    leading: u64,
    answer: mpsc::Receiver<Result<u64>>,
    _submission: Submission,
}

impl Removal {
    /// Has a batch of a sweep committed.
    fn begin(env: &Env, set: Box<ChangeSet>) -> Self {
        let told = match env.events {
            Some(_) => {
                let told = set.clients.iter().filter(|change| is_expired(change));
                let told = told.filter(|change| !leads_on(change));
                told.map(owned).collect()
            }
            None => Vec::new(),
        };
        let expired = set.clients.iter().filter(|change| is_expired(change));
        let expired = expired.count() as u64;
        let leading = set.clients.iter().filter(|change| leads_on(change));
        let leading = leading.count() as u64;
        let (reply, answer) = mpsc::sync_channel(1);
        let submission = env.storage.submit(
            set,
            WaiterKind::Task,
            Box::new(move |outcome| {
                let _ = reply.send(match outcome {
                    Outcome::Committed(set) => Ok(set.swept),
                    Outcome::Failed(error, _) => Err(error),
                    Outcome::Stale(..) => Err(Error::new(
                        ErrorKind::Conflict,
                        "a sweep has no values to compute",
                    )),
                });
            }),
        );
        Self {
            told,
            expired,
            leading,
            answer,
            _submission: submission,
        }
    }

    /// Waits until it is committed; returns how many sessions the engine has removed.
    fn end(self, env: &Env, container: &ContainerEntry) -> Result<u64> {
        let removed = self.answer.recv().map_err(|_| Error::stopped())??;
        if let Some(events) = &env.events {
            let newest = match self.expired == removed {
                true => None,
                false => {
                    let keys: Vec<_> = self.told.iter().map(|(client, _)| *client).collect();
                    let newest = env.snapshot()?;
                    newest.load(&keys).wait()?;
                    Some(newest)
                }
            };
            let left = |client| match &newest {
                Some(newest) => newest.session(container.id(), client),
                None => Ok(None),
            };
            for (client, owner) in self.told {
                if left(client)?.is_none() {
                    events.tell(SessionEvent::Ended(EndedEvent {
                        client,
                        reason: EndReason::Expired,
                        containers: vec![container.container_ref.name.to_string()],
                        owner: owner.map(|owner| owner.to_string()),
                    }));
                }
            }
        }
        Ok(removed.saturating_sub(self.leading))
    }
}

/// Whether a change removes its session. Otherwise it lowers the session's times.
fn is_expired(change: &ClientChange) -> bool {
    change.seen.iter().all(|seen| seen.touch.is_none())
}

/// Whether a row only leads from a renewed id to its session, which lives on (C8.4).
fn leads_on(change: &ClientChange) -> bool {
    let mut rows = change.seen.iter().filter_map(|seen| seen.row.as_ref());
    rows.any(|row| row.optional.moved.is_some())
}

fn owned(change: &ClientChange) -> (ClientKey, Option<Arc<str>>) {
    let mut rows = change.seen.iter().filter_map(|seen| seen.row.as_ref());
    (change.client, rows.find_map(|row| row.owner.clone()))
}
