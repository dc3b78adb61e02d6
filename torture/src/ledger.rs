//! Compares the attempts and acknowledgements that a killed process printed with the store. Knows no processes: lines
//! in, findings out.

use crate::child::{COUNTERS, NEVER};
use crate::twin_packages::{self, Found};
use cloakroom::{Error, Store};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::ops::Range;

/// Ids that are worth nothing are looked up again in later rounds, so many of each writer's.
const REMEMBERED: usize = 500;

/// The violations that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Acknowledged and not there.
    pub(crate) lost: u64,
    /// There in part.
    pub(crate) torn: u64,
    /// There though it was aborted, refused or never tried.
    pub(crate) phantom: u64,
}

/// What a commit under way would do.
#[derive(Debug)]
enum Attempt {
    Change,
    Receive(String),
    Dismiss(String),
    Rotate(String, String),
    Abort(String),
}

#[derive(Debug)]
struct Writer {
    own: String,
    number: u64,
    guests: BTreeMap<String, u64>,
    gone: VecDeque<String>,
    /// Tried with the writer's number of then, and neither acknowledged nor refused.
    attempt: Option<(u64, Attempt)>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    hall: String,
    writers: Vec<Writer>,
    pub(crate) commits: u64,
    pub(crate) findings: Findings,
}

impl Ledger {
    /// Founds the sessions that the rounds go on from.
    pub(crate) fn found(store: &Store, writers: usize) -> Result<Self, Error> {
        let hall = store.client_ids().issue();
        let txn = store.begin()?;
        txn.session(&hall)?.pkg(COUNTERS).insert("all", 0)?;
        let mut founded = Vec::new();
        for _ in 0..writers {
            let own = store.client_ids().issue();
            twin_packages::write(&txn.session(&own)?, 0)?;
            founded.push(Writer {
                own: own.as_str().to_owned(),
                number: 0,
                guests: BTreeMap::new(),
                gone: VecDeque::new(),
                attempt: None,
            });
        }
        txn.commit()?;
        Ok(Self {
            hall: hall.as_str().to_owned(),
            writers: founded,
            commits: 0,
            findings: Findings::default(),
        })
    }

    /// The input of the next process.
    pub(crate) fn plan(&self) -> String {
        self.plan_of(0..self.writers.len())
    }

    /// The input of a process that has some of the writers.
    pub(crate) fn plan_of(&self, writers: Range<usize>) -> String {
        let mut plan = format!("hall {}\n", self.hall);
        for writer in &self.writers[writers] {
            writeln!(plan, "own {} {}", writer.own, writer.number).unwrap();
            for (id, number) in &writer.guests {
                writeln!(plan, "guest {id} {number}").unwrap();
            }
        }
        plan
    }

    /// Takes note of a line.
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let place = |text: &str| text.parse::<usize>().unwrap();
        match words[..] {
            ["ready"] => {}
            ["try", writer, number, ref what @ ..] => {
                let attempt = (number.parse().unwrap(), Attempt::parse(what));
                let writer = &mut self.writers[place(writer)];
                if let Some((_, Attempt::Abort(id))) = writer.attempt.replace(attempt) {
                    writer.gone.push_back(id);
                }
            }
            ["done", writer] => {
                self.commits += 1;
                self.writers[place(writer)].acknowledge();
            }
            ["refused", writer] => self.writers[place(writer)].refuse(),
            _ => panic!("the process said: {line}"),
        }
    }

    /// Looks at everything in the store, and takes it as the new state.
    pub(crate) fn settle(&mut self, store: &Store) -> Result<(), Error> {
        let hall = store.client_ids().verify(&self.hall);
        let Some(hall) = hall else {
            self.findings.lost += 1;
            return Ok(());
        };
        let mut sum = 0;
        for (place, writer) in self.writers.iter_mut().enumerate() {
            writer.settle(store, &mut self.findings)?;
            let txn = store.begin()?;
            let counters = txn.session(&hall)?.pkg(COUNTERS);
            let counted = counters.get::<u64>(&place.to_string())?.unwrap_or(0);
            sum += writer.number;
            // The same commits changed both.
            if counted != writer.number {
                self.findings.torn += 1;
            }
        }
        let txn = store.begin()?;
        let all = txn.session(&hall)?.pkg(COUNTERS).get::<u64>("all")?;
        if all != Some(sum) {
            self.findings.torn += 1;
        }
        Ok(())
    }
}

impl Attempt {
    fn parse(words: &[&str]) -> Self {
        match *words {
            ["change"] => Self::Change,
            ["receive", id] => Self::Receive(id.to_owned()),
            ["dismiss", id] => Self::Dismiss(id.to_owned()),
            ["rotate", old, new] => Self::Rotate(old.to_owned(), new.to_owned()),
            ["abort", id] => Self::Abort(id.to_owned()),
            _ => panic!("not understood: {words:?}"),
        }
    }
}

impl Writer {
    fn acknowledge(&mut self) {
        let (number, attempt) = self.attempt.take().unwrap();
        match attempt {
            Attempt::Change => self.number = number,
            Attempt::Receive(id) => {
                self.guests.insert(id, number);
            }
            Attempt::Dismiss(id) => {
                self.guests.remove(&id).unwrap();
                self.gone.push_back(id);
            }
            Attempt::Rotate(old, new) => {
                let number = self.guests.remove(&old).unwrap();
                self.guests.insert(new, number);
                self.gone.push_back(old);
            }
            Attempt::Abort(_) => panic!("an abort was acknowledged as a commit"),
        }
    }

    fn refuse(&mut self) {
        let (_, attempt) = self.attempt.take().unwrap();
        match attempt {
            Attempt::Receive(id) | Attempt::Rotate(_, id) | Attempt::Abort(id) => {
                self.gone.push_back(id);
            }
            Attempt::Change | Attempt::Dismiss(_) => {}
        }
    }

    fn settle(&mut self, store: &Store, findings: &mut Findings) -> Result<(), Error> {
        let mut tried = None;
        match self.attempt.take() {
            Some((number, Attempt::Change)) => tried = Some(number),
            Some((number, Attempt::Receive(id))) => match twin_packages::find_text(store, &id)? {
                Found::Absent => self.gone.push_back(id),
                Found::Whole(n) if n == number => {
                    self.guests.insert(id, number);
                }
                Found::Whole(_) | Found::Torn => findings.torn += 1,
            },
            Some((_, Attempt::Dismiss(id))) => self.settle_dismissal(store, id)?,
            Some((_, Attempt::Rotate(old, new))) => self.settle_rotation(store, old, new)?,
            Some((_, Attempt::Abort(id))) => self.gone.push_back(id),
            None => {}
        }
        match twin_packages::find_text(store, &self.own)? {
            Found::Whole(n) if n == self.number || Some(n) == tried => self.number = n,
            Found::Whole(n) if n < self.number => findings.lost += 1,
            Found::Whole(_) => findings.phantom += 1,
            Found::Absent => findings.lost += 1,
            Found::Torn => findings.torn += 1,
        }
        if let Some(own) = store.client_ids().verify(&self.own) {
            let txn = store.begin()?;
            let untouched = txn.session(&own)?.pkg(NEVER).is_empty()?;
            findings.phantom += u64::from(!untouched);
        }
        for (id, number) in &self.guests {
            match twin_packages::find_text(store, id)? {
                Found::Whole(n) if n == *number => {}
                Found::Absent => findings.lost += 1,
                Found::Whole(_) | Found::Torn => findings.torn += 1,
            }
        }
        for id in &self.gone {
            if twin_packages::find_text(store, id)? != Found::Absent {
                findings.phantom += 1;
            }
        }
        let beyond = self.gone.len().saturating_sub(REMEMBERED);
        self.gone.drain(..beyond);
        Ok(())
    }

    /// If it is still there, it is among the guests and must be as it was.
    fn settle_dismissal(&mut self, store: &Store, id: String) -> Result<(), Error> {
        if twin_packages::find_text(store, &id)? == Found::Absent {
            self.guests.remove(&id);
            self.gone.push_back(id);
        }
        Ok(())
    }

    /// Which of the two ids it is now; the other must be worth nothing.
    fn settle_rotation(&mut self, store: &Store, old: String, new: String) -> Result<(), Error> {
        if twin_packages::find_text(store, &new)? == Found::Absent {
            self.gone.push_back(new);
        } else {
            let number = self.guests.remove(&old).unwrap();
            self.guests.insert(new, number);
            self.gone.push_back(old);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom::ClientId;

    const CLEAN: Findings = Findings {
        lost: 0,
        torn: 0,
        phantom: 0,
    };

    fn start() -> (Store, Ledger) {
        let store = Store::in_memory().unwrap();
        let ledger = Ledger::found(&store, 1).unwrap();
        (store, ledger)
    }

    fn settled(store: &Store, ledger: &mut Ledger) -> Findings {
        ledger.findings = CLEAN;
        ledger.settle(store).unwrap();
        ledger.findings
    }

    /// Writes as the process does, or only a part of it.
    fn write(store: &Store, id: &ClientId, n: u64, counters: Option<&ClientId>) {
        let txn = store.begin().unwrap();
        twin_packages::write(&txn.session(id).unwrap(), n).unwrap();
        if let Some(hall) = counters {
            let counters = txn.session(hall).unwrap().pkg(COUNTERS);
            counters.add("all", 1).unwrap();
            counters.add("0", 1).unwrap();
        }
        txn.commit().unwrap();
    }

    #[test]
    fn an_acknowledged_change_that_is_missing_is_lost() {
        let (store, mut ledger) = start();
        ledger.hear("try 0 1 change");
        assert_eq!(settled(&store, &mut ledger), CLEAN);
        ledger.hear("try 0 1 change");
        ledger.hear("done 0");
        assert_eq!(settled(&store, &mut ledger).lost, 1);
    }

    #[test]
    fn a_change_in_flight_may_be_there_whole_but_not_in_part() {
        let (store, mut ledger) = start();
        let ids = store.client_ids();
        let (own, hall) = (ledger.writers[0].own.clone(), ledger.hall.clone());
        let (own, hall) = (ids.verify(&own).unwrap(), ids.verify(&hall).unwrap());
        write(&store, &own, 1, Some(&hall));
        ledger.hear("try 0 1 change");
        assert_eq!(settled(&store, &mut ledger), CLEAN);
        write(&store, &own, 2, None);
        ledger.hear("try 0 2 change");
        // Both counters lag.
        assert_eq!(settled(&store, &mut ledger).torn, 2);
    }

    #[test]
    fn what_was_never_tried_is_a_phantom() {
        let (store, mut ledger) = start();
        let own = ledger.writers[0].own.clone();
        let own = store.client_ids().verify(&own).unwrap();
        write(&store, &own, 1, None);
        assert_eq!(settled(&store, &mut ledger).phantom, 1);
    }

    #[test]
    fn what_was_aborted_or_refused_is_a_phantom() {
        let (store, mut ledger) = start();
        let id = store.client_ids().issue();
        write(&store, &id, 0, None);
        ledger.hear(&format!("try 0 0 abort {}", id.as_str()));
        assert_eq!(settled(&store, &mut ledger).phantom, 1);
        let id = store.client_ids().issue();
        write(&store, &id, 0, None);
        ledger.hear(&format!("try 0 0 receive {}", id.as_str()));
        ledger.hear("refused 0");
        assert_eq!(settled(&store, &mut ledger).phantom, 2);
    }

    #[test]
    fn a_session_that_was_let_go_and_is_there_is_a_phantom() {
        let (store, mut ledger) = start();
        let id = store.client_ids().issue();
        write(&store, &id, 0, None);
        ledger.hear(&format!("try 0 0 receive {}", id.as_str()));
        ledger.hear("done 0");
        ledger.hear(&format!("try 0 0 dismiss {}", id.as_str()));
        assert_eq!(settled(&store, &mut ledger), CLEAN);
        ledger.hear(&format!("try 0 0 dismiss {}", id.as_str()));
        ledger.hear("done 0");
        assert_eq!(settled(&store, &mut ledger).phantom, 1);
    }

    #[test]
    fn a_rotation_leaves_one_of_its_ids() {
        let (store, mut ledger) = start();
        let [old, new, other] = [(); 3].map(|()| store.client_ids().issue());
        write(&store, &old, 0, None);
        ledger.hear(&format!("try 0 0 receive {}", old.as_str()));
        ledger.hear("done 0");
        ledger.hear(&format!("try 0 0 rotate {} {}", old.as_str(), new.as_str()));
        assert_eq!(settled(&store, &mut ledger), CLEAN);
        write(&store, &other, 0, None);
        ledger.hear(&format!(
            "try 0 0 rotate {} {}",
            old.as_str(),
            other.as_str()
        ));
        assert_eq!(settled(&store, &mut ledger).phantom, 1);
    }

    #[test]
    fn half_a_session_is_torn() {
        let (store, mut ledger) = start();
        let id = store.client_ids().issue();
        let txn = store.begin().unwrap();
        let first = txn.session(&id).unwrap().pkg("guest.first");
        first.insert("number", 0).unwrap();
        first.insert("text", "").unwrap();
        txn.commit().unwrap();
        ledger.hear(&format!("try 0 0 receive {}", id.as_str()));
        assert_eq!(settled(&store, &mut ledger).torn, 1);
    }
}
