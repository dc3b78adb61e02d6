//! How long commits took, counted in classes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Classes of one doubling of the time.
const PER_DOUBLING: u32 = 8;
/// Times are counted in units of 256 ns. The last class begins after more than an hour.
const UNIT_BITS: u32 = 8;
const DOUBLINGS: u32 = 32;
const CLASSES: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// Counts times. A count is one atomic addition.
pub(crate) struct LatencyCounter {
    classes: Box<[AtomicU64]>,
}

impl Default for LatencyCounter {
    fn default() -> Self {
        let classes = std::iter::repeat_with(AtomicU64::default);
        Self {
            classes: classes.take(CLASSES).collect(),
        }
    }
}

impl LatencyCounter {
    pub(crate) fn count(&self, time: Duration) {
        if let Some(class) = self.classes.get(class_of(time)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> CommitTimes {
        let classes = self.classes.iter();
        CommitTimes {
            classes: classes.map(|it| it.load(Ordering::Relaxed)).collect(),
        }
    }
}

/// The class of a time. Up to [`PER_DOUBLING`] units, a class is one unit; beyond, a doubling has as many classes.
fn class_of(time: Duration) -> usize {
    let units = u64::try_from(time.as_nanos() >> UNIT_BITS).unwrap_or(u64::MAX);
    let bits = PER_DOUBLING.ilog2();
    let doubling = (units.max(1).ilog2()).saturating_sub(bits);
    let within = units >> doubling;
    let class = u64::from(doubling * PER_DOUBLING) + within;
    usize::try_from(class).map_or(CLASSES - 1, |class| class.min(CLASSES - 1))
}

/// The longest time of a class.
fn end_of(class: usize) -> Duration {
    let class = u64::try_from(class).unwrap_or(u64::MAX);
    let per_doubling = u64::from(PER_DOUBLING);
    let doubling = (class / per_doubling).saturating_sub(1);
    let within = class - doubling * per_doubling;
    Duration::from_nanos(((within + 1) << doubling) << UNIT_BITS)
}

/// How long the commits of a store took since it was opened: from the moment when a commit had its turn until it was
/// acknowledged. Only commits that changed something and succeeded are counted.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let before = store.commit_times();
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let times = store.commit_times().since(&before);
/// assert_eq!(times.count(), 1);
/// assert!(times.percentile(99.0).is_some_and(|time| time.as_secs() < 60));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTimes {
    classes: Box<[u64]>,
}

impl CommitTimes {
    /// The number of commits.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The time within which this percentage of the commits was acknowledged: 50 for the median. It is at most an eighth
    /// and 256 ns larger than the exact one. `None` if there were no commits.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let count = self.count();
        let rank = (count as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as u64;
        let mut left = rank.max(1);
        let class = self.classes.iter().position(|class| {
            let is_in = left <= *class;
            left = left.saturating_sub(*class);
            is_in
        });
        class.map(end_of)
    }

    /// The commits since an earlier reading of the same store.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.classes.iter().zip(&earlier.classes);
        Self {
            classes: pairs.map(|(new, old)| new.saturating_sub(*old)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_its_class_and_classes_are_narrow() {
        let mut last = 0;
        for nanos in (0..64)
            .map(|bit| 1_u64 << bit)
            .chain((0..2000).map(|it| it * 77))
        {
            let time = Duration::from_nanos(nanos);
            let class = class_of(time);
            if class == CLASSES - 1 {
                continue;
            }
            assert!(time < end_of(class), "{time:?} {class}");
            assert!(class == 0 || time >= end_of(class - 1), "{time:?} {class}");
            let slack = end_of(class) - time;
            assert!(
                slack <= time / 8 + Duration::from_nanos(256),
                "{time:?} {class}"
            );
            last = last.max(class);
        }
        assert!(last > CLASSES / 2, "{last}");
        assert_eq!(class_of(Duration::MAX), CLASSES - 1);
    }

    #[test]
    fn percentiles() {
        let counter = LatencyCounter::default();
        assert_eq!(counter.read().percentile(50.0), None);
        (1..=100).for_each(|millis| counter.count(Duration::from_millis(millis)));
        let times = counter.read();
        for percent in [1_u32, 50, 99, 100] {
            let exact = Duration::from_millis(percent.into());
            let found = times.percentile(percent.into()).unwrap();
            assert!(
                found >= exact && found <= exact * 9 / 8 + Duration::from_micros(1),
                "{percent}: {found:?}"
            );
        }
        assert_eq!(times.percentile(0.0), times.percentile(1.0));
        let before = counter.read();
        counter.count(Duration::from_secs(5));
        let since = counter.read().since(&before);
        assert_eq!(
            (since.count(), since.percentile(50.0)),
            (1, since.percentile(99.9))
        );
    }
}
