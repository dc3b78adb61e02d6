//! Measures the sessions of a container: how many, how old and how large.

use super::sweep::{SCANNED, SweepVerdict, VisitedPage, VisitedSession, in_pages, judge};
use crate::clock::Timestamp;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerId, ShownTimes, Snapshot};
use crate::transaction::{ContainerEntry, Env};
use std::ops::ControlFlow;

/// After how many sessions progress is told.
const TOLD: u64 = 1000;

/// How many sessions have a time or a size in each of some ranges.
///
/// ```
/// use cloakroom::Store;
/// use std::ops::ControlFlow;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let measured = store.container("")?.measure(|_| ControlFlow::Continue(()))?;
/// for (up_to, count) in measured.bytes_histogram.ranges() {
///     println!("up to {up_to} bytes: {count} sessions");
/// }
/// assert_eq!(measured.bytes_histogram.total(), 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHistogram {
    /// The number of values in each range.
    counts: [u64; RANGES],
}

/// Ranges double: up to 1, 2, 4, … 2^47, and all above.
const RANGES: usize = 49;

impl Default for SessionHistogram {
    fn default() -> Self {
        Self {
            counts: [0; RANGES],
        }
    }
}

impl SessionHistogram {
    fn add(&mut self, value: u64) {
        let range = u64::BITS - value.saturating_sub(1).leading_zeros();
        if let Some(count) = self.counts.get_mut((range as usize).min(RANGES - 1)) {
            *count += 1;
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        let counts = self.counts.iter_mut().zip(&other.counts);
        counts.for_each(|(count, more)| *count += more);
    }

    /// The ranges from the first to the last that have a session, each with its upper bound, which belongs to it, and
    /// the number of sessions. The bounds are powers of two.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let is_used = |count: &u64| *count > 0;
        let first = self.counts.iter().position(is_used).unwrap_or(0);
        let end = self.counts.iter().rposition(is_used).map_or(0, |at| at + 1);
        let ranges = self.counts.iter().enumerate();
        let bound = |at: usize| if at + 1 < RANGES { 1 << at } else { u64::MAX };
        ranges
            .skip(first)
            .take(end.saturating_sub(first))
            .map(move |(at, count)| (bound(at), *count))
    }

    /// The number of sessions in all ranges.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The sessions of a container, measured by [`Container::measure`].
///
/// ```
/// use cloakroom::Store;
/// use std::ops::ControlFlow;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let measured = store.container("")?.measure(|progress| {
///     println!("{} sessions so far", progress.live);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((measured.live, measured.packages), (1, 1));
/// assert!(measured.is_complete);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionMeasures {
    /// Sessions that have not expired.
    pub live: u64,
    /// Sessions that have expired and are not swept yet.
    pub expired: u64,
    /// Sessions with a damaged record or package. A part of the file that cannot be read counts once.
    pub unreadable: u64,
    /// Live sessions that have an owner.
    pub owned: u64,
    /// Packages of the live sessions.
    pub packages: u64,
    /// About the bytes of these packages.
    pub bytes: u64,
    /// The live sessions by their age in seconds.
    pub age_histogram: SessionHistogram,
    /// The live sessions by the seconds since their last recorded access.
    pub idle_histogram: SessionHistogram,
    /// The live sessions by the bytes of their packages.
    pub bytes_histogram: SessionHistogram,
    /// Whether all sessions were measured. If not, `progress` has broken it off.
    pub is_complete: bool,
}

impl Container {
    /// Measures the sessions. It examines every one of them in small steps, and blocks the thread meanwhile. Every
    /// thousand sessions it calls `progress` with the figures so far; [`Break`](ControlFlow::Break) ends it.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) after it was unregistered; a failure of the storage.
    pub fn measure(
        &self,
        progress: impl FnMut(&SessionMeasures) -> ControlFlow<()>,
    ) -> Result<SessionMeasures> {
        measure(&self.env, &*self.container()?, progress)
    }

    /// [`measure`](Self::measure) as a future. The sessions are examined on a thread of the store, where `progress` is
    /// called.
    ///
    /// # Errors
    ///
    /// As for [`measure`](Self::measure).
    pub fn measure_async(
        &self,
        progress: impl FnMut(&SessionMeasures) -> ControlFlow<()> + Send + 'static,
    ) -> impl Future<Output = Result<SessionMeasures>> + Send {
        let container = self.clone();
        self.env.in_background(move |_| container.measure(progress))
    }
}

fn measure(
    env: &Env,
    container: &ContainerEntry,
    mut progress: impl FnMut(&SessionMeasures) -> ControlFlow<()>,
) -> Result<SessionMeasures> {
    let now = env.clock.timestamp();
    let mut measures = SessionMeasures::default();
    let mut examined = 0_u64;
    let mut is_broken_off = false;
    let page = |after| {
        let snapshot = env.snapshot()?;
        let rows = snapshot.sessions(container.id(), after, SCANNED).wait()?;
        let clients: Vec<_> = rows.iter().map(|(client, _)| *client).collect();
        snapshot.load(&clients).wait()?;
        Ok(VisitedPage {
            rows,
            times: ShownTimes::Recorded,
            with: snapshot,
        })
    };
    let scanned = in_pages(env, container, now, page, |snapshot, session| {
        examined += 1;
        if examined.is_multiple_of(TOLD) && progress(&measures).is_break() {
            is_broken_off = true;
            return Err(Error::stopped());
        }
        match session {
            Err(_) => measures.unreadable += 1,
            // It only leads on from a renewed id to its session (C8.4).
            Ok(session) if session.row.optional.moved.is_some() => {}
            Ok(session) => match judge(env, container, session, now) {
                SweepVerdict::Expired(..) => measures.expired += 1,
                SweepVerdict::Stands | SweepVerdict::Ahead(..) => {
                    measures.note(container.id(), session, (&*snapshot, now))?;
                }
            },
        }
        Ok(())
    });
    match scanned {
        Err(_) if is_broken_off => {}
        other => other?,
    }
    measures.is_complete = !is_broken_off;
    Ok(measures)
}

impl SessionMeasures {
    fn note(
        &mut self,
        container: ContainerId,
        session: VisitedSession<'_>,
        (snapshot, now): (&dyn Snapshot, Timestamp),
    ) -> Result<()> {
        let (mut bytes, mut damaged) = (0, 0);
        for package in session.row.packages.iter() {
            crate::steps::count(1);
            match snapshot.package_len(container, session.client, package) {
                Ok(len) => bytes += len as u64,
                Err(error) if error.kind() == ErrorKind::Corrupt => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        self.unreadable += u64::from(damaged > 0);
        self.live += 1;
        self.owned += u64::from(session.row.owner.is_some());
        self.packages += session.row.packages.len() as u64;
        self.bytes += bytes;
        let times = &session.times;
        self.age_histogram.add(now.since(times.created).as_secs());
        self.idle_histogram
            .add(now.since(times.last_access).as_secs());
        self.bytes_histogram.add(bytes);
        Ok(())
    }
}
