//! The pass criteria of a soak, as pure calculation.

use std::collections::BTreeMap;

/// The answers to a load, as its script reports them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) requests: u64,
    /// Connections that failed, and answers that did not come in time.
    pub(crate) sockets: u64,
    /// Microseconds within which 99 of 100 requests were answered.
    pub(crate) p99: u64,
    /// Answers that were neither success nor redirection, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Writes that were answered, by session.
    pub(crate) acknowledged: BTreeMap<u64, u64>,
}

impl Answers {
    /// `None` if the report is not whole.
    pub(crate) fn parse(report: &str) -> Option<Self> {
        let mut answers = Self::default();
        for line in report.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["requests", n] => answers.requests = n.parse().ok()?,
                ["sockets", n] => answers.sockets = n.parse().ok()?,
                ["p99", n] => answers.p99 = n.parse().ok()?,
                ["refused", status, n] => {
                    let times: u64 = n.parse().ok()?;
                    *answers.refused.entry(status.parse().ok()?).or_default() += times;
                }
                ["acknowledged", session, n] => {
                    let times: u64 = n.parse().ok()?;
                    *answers
                        .acknowledged
                        .entry(session.parse().ok()?)
                        .or_default() += times;
                }
                _ => return None,
            }
        }
        (answers.requests > 0).then_some(answers)
    }
}

/// Compares counters with acknowledgements. Each counter is at least the number acknowledged; the surplus of all is at
/// most the number of requests that can have been in flight when the load ended. Returns the violations.
pub(crate) fn verify(
    counters: &BTreeMap<u64, u64>,
    acknowledged: &BTreeMap<u64, u64>,
    in_flight: u64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut beyond = 0;
    for (session, promised) in acknowledged {
        match counters.get(session) {
            None => wrong.push(format!(
                "session {session} is gone, {promised} writes with it"
            )),
            Some(count) if count < promised => wrong.push(format!(
                "session {session} counts {count} of {promised} writes"
            )),
            Some(_) => {}
        }
    }
    for (session, count) in counters {
        let promised = acknowledged.get(session).copied().unwrap_or(0);
        beyond += count.saturating_sub(promised);
    }
    if beyond > in_flight {
        wrong.push(format!(
            "{beyond} writes were counted and not answered, of {in_flight} that can have been in flight"
        ));
    }
    wrong
}

/// Whether a series levels off: in the second half of a run it is never more than a tenth above the maximum of the
/// first half. Returns both maxima if it does not.
pub(crate) fn levels_off(samples: &[u64]) -> Result<(), (u64, u64)> {
    let (first, second) = samples.split_at(samples.len() / 2);
    let max = |half: &[u64]| half.iter().max().copied().unwrap_or(0);
    let (before, after) = (max(first), max(second));
    if after <= before + before / 10 {
        Ok(())
    } else {
        Err((before, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_within_a_tenth_levels_off() {
        assert_eq!(levels_off(&[10, 80, 100, 110, 105, 90]), Ok(()));
        assert_eq!(levels_off(&[100, 100, 100, 111]), Err((100, 111)));
    }

    #[test]
    fn steady_growth_does_not_level_off() {
        let growing: Vec<u64> = (100..200).collect();
        assert_eq!(levels_off(&growing), Err((149, 199)));
    }

    #[test]
    fn counters_between_acknowledged_and_in_flight_are_right() {
        let acknowledged = BTreeMap::from([(1, 5), (2, 3)]);
        let counters = BTreeMap::from([(1, 6), (2, 3), (3, 1)]);
        assert!(verify(&counters, &acknowledged, 2).is_empty());
        assert_eq!(verify(&counters, &acknowledged, 1).len(), 1);
    }

    #[test]
    fn a_missing_write_and_a_missing_session_are_told() {
        let acknowledged = BTreeMap::from([(1, 5), (2, 3)]);
        let wrong = verify(&BTreeMap::from([(1, 4)]), &acknowledged, 9);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn the_threads_of_a_report_are_added_up() {
        let report = "requests 7\nsockets 1\np99 900\nrefused 503 2\nacknowledged 1 2\n\
                      refused 503 1\nacknowledged 1 3\n";
        let answers = Answers {
            requests: 7,
            sockets: 1,
            p99: 900,
            refused: BTreeMap::from([(503, 3)]),
            acknowledged: BTreeMap::from([(1, 5)]),
        };
        assert_eq!(Answers::parse(report), Some(answers));
        assert_eq!(Answers::parse(""), None);
        assert_eq!(Answers::parse("requests 7\nackno"), None);
    }
}
