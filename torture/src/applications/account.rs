//! What the processes were told and found, and the sums of that. Pure calculation.

use crate::load::{Call, Told, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one process says at its end.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Account {
    acknowledged: u64,
    unknown: u64,
    lost: u64,
    phantom: u64,
    broken: Vec<String>,
    failures: BTreeMap<String, u64>,
    longest_call: Call,
    /// When commits were acknowledged, in microseconds since 1970: the processes have one clock.
    moments: Vec<u64>,
}

/// The sums over all processes of a round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    /// Acknowledged and not there.
    pub(crate) lost: u64,
    /// There though their commits failed, or twice, or read and must not have been.
    pub(crate) broken: Vec<String>,
    /// How often each kind of error came.
    pub(crate) failures: BTreeMap<String, u64>,
    /// The transaction that took longest.
    pub(crate) longest_call: Call,
    /// The longest time in which no process had a commit acknowledged.
    pub(crate) gap: Duration,
    /// The longest time in which one of them had none.
    pub(crate) gap_of_one: Duration,
}

impl Account {
    pub(crate) fn new(told: &Told, verdict: Verdict) -> Self {
        let (now, since_1970) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH));
        let since_1970 = since_1970.unwrap();
        let moments = told.moments().into_iter();
        let moments = moments.map(|moment| micros(since_1970 - now.duration_since(moment)));
        let failures = told.failures();
        Self {
            acknowledged: moments.len() as u64,
            unknown: failures.get("OutcomeUnknown").copied().unwrap_or(0),
            lost: verdict.lost,
            phantom: verdict.phantom,
            broken: verdict.broken,
            failures,
            longest_call: told.longest_call(),
            moments: moments.collect(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

impl Totals {
    pub(crate) fn of(accounts: Vec<Account>) -> Self {
        let mut totals = Self::default();
        let mut all = Vec::new();
        for mut account in accounts {
            totals.acknowledged += account.acknowledged;
            totals.unknown += account.unknown;
            totals.lost += account.lost;
            if account.phantom > 0 {
                totals.broken.push(format!("{} phantoms", account.phantom));
            }
            totals.broken.append(&mut account.broken);
            for (kind, count) in account.failures {
                *totals.failures.entry(kind).or_insert(0) += count;
            }
            totals.longest_call = totals.longest_call.max(account.longest_call);
            totals.gap_of_one = totals.gap_of_one.max(longest_gap(&account.moments));
            all.append(&mut account.moments);
        }
        all.sort_unstable();
        totals.gap = longest_gap(&all);
        totals
    }
}

fn longest_gap(moments: &[u64]) -> Duration {
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_micros(gaps.max().unwrap_or(0))
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged {}, unknown {}, lost {}, broken {}, without a commit {:.2} s, one process {:.2} s, longest call {:.2} s ({}), {:?}",
            self.acknowledged,
            self.unknown,
            self.lost,
            self.broken.len(),
            self.gap.as_secs_f64(),
            self.gap_of_one.as_secs_f64(),
            self.longest_call.time.as_secs_f64(),
            self.longest_call.what.trim_end(),
            self.failures
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_one_of_all_processes_or_of_one() {
        let account = |moments: &[u64]| Account {
            acknowledged: 3,
            moments: moments.to_vec(),
            ..Account::default()
        };
        let totals = Totals::of(vec![account(&[0, 5, 100]), account(&[3, 40, 90])]);
        assert_eq!(totals.acknowledged, 6);
        assert_eq!(totals.gap, Duration::from_micros(50));
        assert_eq!(totals.gap_of_one, Duration::from_micros(95));
    }

    #[test]
    fn what_one_process_found_broken_all_have() {
        let account = Account {
            phantom: 2,
            broken: vec!["an empty session".to_owned()],
            lost: 4,
            failures: BTreeMap::from([("Unavailable".to_owned(), 1)]),
            ..Account::default()
        };
        let totals = Totals::of(vec![Account::default(), account]);
        assert_eq!(totals.broken, ["2 phantoms", "an empty session"]);
        assert_eq!(totals.lost, 4);
        assert_eq!(totals.failures["Unavailable"], 1);
    }
}
