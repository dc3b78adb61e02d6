//! Threads that commit to a store while its server is broken, and what must be there afterwards. Knows no servers.

use crate::twin_packages::{self, Found};
use cloakroom::{ClientId, Error, ErrorKind, Store};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The package of the number of a session's commits.
const COUNT: &str = "count";
/// Every so many commits a writer founds a session, and as often it changes the one that all have in common.
const FOUNDS: u64 = 8;
/// The package of the session that all have in common. Each load counts its commits there under a name of its own.
const ALL: &str = "all";
/// The name under which all of them count.
const SUM: &str = "sum";
/// After a failure a writer waits, as an application would.
const PAUSE: Duration = Duration::from_millis(5);

/// Threads that commit until they are told to end.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Writer>>,
}

#[derive(Debug)]
struct Shared {
    ending: AtomicBool,
    acknowledged: AtomicU64,
    common: Common,
}

/// A session that several loads change, and the name under which one of them counts.
#[derive(Clone, Debug)]
struct Common {
    id: ClientId,
    name: String,
}

/// What the threads were told.
#[derive(Debug)]
pub struct Told {
    common: Common,
    writers: Vec<Writer>,
}

/// One thread, and the session that it alone changes.
#[derive(Debug)]
struct Writer {
    own: ClientId,
    /// Of the session in common.
    common_acknowledged: u64,
    common_unknown: u64,
    /// The number of the last commit that was acknowledged.
    number: u64,
    /// Later numbers whose outcome nobody knows.
    perhaps: BTreeSet<u64>,
    last: u64,
    acknowledged: u64,
    unknown: u64,
    founded: Vec<ClientId>,
    perhaps_founded: Vec<ClientId>,
    never_founded: Vec<ClientId>,
    failures: BTreeMap<String, u64>,
    moments: Vec<Instant>,
    longest_call: Call,
    broken: Vec<String>,
}

/// How long a transaction took, and how it ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Call {
    /// From its beginning to its answer.
    pub time: Duration,
    /// What it was to do, and the answer.
    pub what: String,
}

/// What a store has of what was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Commits that were acknowledged and are not there.
    pub lost: u64,
    /// Changes that are there though their commits failed, or twice.
    pub phantom: u64,
    /// What a thread read meanwhile and must not have, in words.
    pub broken: Vec<String>,
}

impl Load {
    /// Founds the threads' sessions and starts them. A thread uses one of the stores.
    #[must_use]
    pub fn start(stores: &[Store], threads: usize) -> Self {
        let common = found_common(&stores[0]).unwrap();
        Self::with_common(stores, threads, common)
    }

    /// With a session that other processes change, too.
    #[must_use]
    pub fn with_common(stores: &[Store], threads: usize, common: ClientId) -> Self {
        let shared = Arc::new(Shared {
            ending: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            common: Common {
                id: common,
                name: format!("{:016x}", fastrand::u64(..)),
            },
        });
        let writers = (0..threads).map(|n| {
            let store = stores[n % stores.len()].clone();
            let writer = Writer::found(&store).unwrap();
            (store, writer)
        });
        let writers: Vec<_> = writers.collect();
        let threads = writers.into_iter().map(|(store, writer)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || writer.work(&store, &shared))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// How many commits were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more commits were acknowledged. False if that takes longer than the time.
    #[must_use]
    pub fn goes_on(&self, commits: u64, within: Duration) -> bool {
        let (since, wanted) = (Instant::now(), self.acknowledged() + commits);
        while self.acknowledged() < wanted {
            if since.elapsed() > within {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Ends the threads.
    #[must_use]
    pub fn end(self) -> Told {
        self.shared.ending.store(true, Ordering::SeqCst);
        let writers = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap());
        Told {
            writers: writers.collect(),
            common: self.shared.common.clone(),
        }
    }
}

impl Told {
    /// Commits that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        let all = self.writers.iter().map(|writer| writer.moments.len());
        all.sum::<usize>() as u64
    }

    /// Commits whose outcome nobody knows.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.writers.iter().map(|writer| writer.unknown).sum()
    }

    /// How often each kind of error came.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (kind, count) in self.writers.iter().flat_map(|writer| &writer.failures) {
            *all.entry(kind.clone()).or_insert(0) += count;
        }
        all
    }

    /// The transaction that took longest.
    #[must_use]
    pub fn longest_call(&self) -> Call {
        let longest = self.writers.iter().map(|writer| &writer.longest_call);
        longest.max().cloned().unwrap_or_default()
    }

    /// The longest time in which nobody's commit was acknowledged.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let moments = self.moments();
        let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// When commits were acknowledged, in order.
    #[must_use]
    pub fn moments(&self) -> Vec<Instant> {
        let moments = self.writers.iter().flat_map(|writer| &writer.moments);
        let mut moments: Vec<_> = moments.copied().collect();
        moments.sort_unstable();
        moments
    }

    /// Looks at everything in a store that was opened afterwards.
    pub fn verify(&self, store: &Store) -> Result<Verdict, Error> {
        let mut verdict = Verdict::default();
        for writer in &self.writers {
            writer.verify(store, &mut verdict)?;
        }
        let sum = |of: fn(&Writer) -> u64| self.writers.iter().map(of).sum::<u64>();
        let acknowledged = sum(|writer| writer.common_acknowledged);
        let unknown = sum(|writer| writer.common_unknown);
        let id = store.client_ids().verify(self.common.id.as_str()).unwrap();
        let txn = store.begin()?;
        let counted: Option<u64> = txn.session(&id)?.pkg(ALL).get(&self.common.name)?;
        let counted = counted.unwrap_or(0);
        verdict.lost += acknowledged.saturating_sub(counted);
        verdict.phantom += counted.saturating_sub(acknowledged + unknown);
        Ok(verdict)
    }
}

/// A session for several loads.
pub fn found_common(store: &Store) -> Result<ClientId, Error> {
    let id = store.client_ids().issue();
    let txn = store.begin()?;
    txn.session(&id)?.pkg(ALL).insert(SUM, 0)?;
    txn.commit()?;
    Ok(id)
}

/// Whether the sum in the session in common is that of the loads. Each commit changed both.
pub fn is_common_whole(store: &Store, id: &ClientId) -> Result<bool, Error> {
    let txn = store.begin()?;
    let package = txn.session(id)?.pkg(ALL);
    let mut sum = 0;
    for name in package.keys()?.into_iter().filter(|name| name != SUM) {
        sum += package.get::<u64>(&name)?.unwrap_or(0);
    }
    Ok(package.get(SUM)? == Some(sum))
}

impl Writer {
    fn found(store: &Store) -> Result<Self, Error> {
        let own = store.client_ids().issue();
        let txn = store.begin()?;
        change(&txn.session(&own)?, 1)?;
        txn.commit()?;
        Ok(Self {
            own,
            common_acknowledged: 0,
            common_unknown: 0,
            number: 1,
            perhaps: BTreeSet::new(),
            last: 1,
            acknowledged: 1,
            unknown: 0,
            founded: Vec::new(),
            perhaps_founded: Vec::new(),
            never_founded: Vec::new(),
            failures: BTreeMap::new(),
            moments: Vec::new(),
            longest_call: Call::default(),
            broken: Vec::new(),
        })
    }

    fn work(mut self, store: &Store, shared: &Shared) -> Self {
        while !shared.ending.load(Ordering::SeqCst) {
            match self.step(store, &shared.common) {
                true => {
                    shared.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                false => thread::sleep(PAUSE),
            }
        }
        self
    }

    /// Makes one commit. Returns whether it was acknowledged.
    fn step(&mut self, store: &Store, common: &Common) -> bool {
        let begun = Instant::now();
        let (what, done) = match self.last % FOUNDS {
            0 => {
                self.last += 1;
                ("founding", self.receive(store))
            }
            4 => {
                self.last += 1;
                ("counting", self.count(store, common))
            }
            _ => ("changing", self.change(store)),
        };
        let time = begun.elapsed();
        if time > self.longest_call.time {
            let how = done
                .as_ref()
                .map_or_else(Error::to_string, |()| String::new());
            let what = format!("{what} {how}");
            self.longest_call = Call { time, what };
        }
        match &done {
            Ok(()) => self.moments.push(Instant::now()),
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                *self.failures.entry(kind).or_insert(0) += 1;
            }
        }
        done.is_ok()
    }

    /// Reads its session and writes the next number into it.
    fn change(&mut self, store: &Store) -> Result<(), Error> {
        let txn = store.begin()?;
        let session = txn.session(&self.own)?;
        let found: Option<u64> = session.pkg(COUNT).get("number")?;
        self.look(found);
        let number = self.last + 1;
        self.last = number;
        change(&session, number)?;
        match txn.commit() {
            Ok(()) => {
                self.number = number;
                self.perhaps.clear();
                self.acknowledged += 1;
                Ok(())
            }
            Err(error) => {
                if error.kind() == ErrorKind::OutcomeUnknown {
                    self.perhaps.insert(number);
                    self.unknown += 1;
                }
                Err(error)
            }
        }
    }

    /// What was read must be the last that was acknowledged, or one of those in doubt.
    fn look(&mut self, found: Option<u64>) {
        match found {
            Some(number) if number == self.number => {}
            Some(number) if self.perhaps.contains(&number) => {
                // It was committed, and so were none of those after it that were not seen.
                self.number = number;
            }
            other => self.broken.push(format!(
                "{other:?} was read after {} was acknowledged, in doubt: {:?}",
                self.number, self.perhaps
            )),
        }
    }

    fn receive(&mut self, store: &Store) -> Result<(), Error> {
        let id = store.client_ids().issue();
        let txn = store.begin()?;
        twin_packages::write(&txn.session(&id)?, self.last)?;
        let done = txn.commit();
        let list = match &done {
            Ok(()) => &mut self.founded,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => &mut self.perhaps_founded,
            Err(_) => &mut self.never_founded,
        };
        list.push(id);
        done
    }

    /// Adds to the session in common.
    fn count(&mut self, store: &Store, common: &Common) -> Result<(), Error> {
        let txn = store.begin()?;
        let package = txn.session(&common.id)?.pkg(ALL);
        package.add(&common.name, 1)?;
        package.add(SUM, 1)?;
        let done = txn.commit();
        match &done {
            Ok(()) => self.common_acknowledged += 1,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.common_unknown += 1,
            Err(_) => {}
        }
        done
    }

    fn verify(&self, store: &Store, verdict: &mut Verdict) -> Result<(), Error> {
        verdict.broken.extend(self.broken.iter().cloned());
        let txn = store.begin()?;
        let own = store.client_ids().verify(self.own.as_str()).unwrap();
        let package = txn.session(&own)?.pkg(COUNT);
        let number: Option<u64> = package.get("number")?;
        let known = number.is_some_and(|n| n == self.number || self.perhaps.contains(&n));
        if !known {
            match number {
                Some(number) if number > self.number => verdict.phantom += 1,
                _ => verdict.lost += 1,
            }
        }
        let count: u64 = package.get("commits")?.unwrap_or(0);
        verdict.lost += self.acknowledged.saturating_sub(count);
        verdict.phantom += count.saturating_sub(self.acknowledged + self.unknown);
        for id in &self.founded {
            match twin_packages::find_text(store, id.as_str())? {
                Found::Whole(_) => {}
                Found::Absent | Found::Torn => verdict.lost += 1,
            }
        }
        for id in &self.never_founded {
            let found = twin_packages::find_text(store, id.as_str())?;
            verdict.phantom += u64::from(found != Found::Absent);
        }
        for id in &self.perhaps_founded {
            let found = twin_packages::find_text(store, id.as_str())?;
            verdict.phantom += u64::from(found == Found::Torn);
        }
        Ok(())
    }
}

/// A number that says which commit it was, and one that counts them.
fn change(session: &cloakroom::Session, number: u64) -> Result<(), Error> {
    let package = session.pkg(COUNT);
    package.insert("number", number)?;
    package.add("commits", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many commits each of two writers makes: each kind twice at least.
    const STEPS: u64 = 20;

    /// What two writers were told that made their commits in turns.
    fn told(store: &Store) -> Told {
        let common = Common {
            id: found_common(store).unwrap(),
            name: "one".to_owned(),
        };
        let mut writers = [(); 2].map(|()| Writer::found(store).unwrap());
        for _ in 0..STEPS {
            for writer in &mut writers {
                assert!(writer.step(store, &common));
            }
        }
        let writers = writers.into();
        Told { common, writers }
    }

    fn clean() -> Verdict {
        Verdict::default()
    }

    #[test]
    fn a_store_that_lost_nothing_is_clean() {
        let store = Store::in_memory().unwrap();
        let told = told(&store);
        assert_eq!(told.acknowledged(), 2 * STEPS);
        assert_eq!(told.failures(), BTreeMap::new());
        assert_eq!(told.verify(&store).unwrap(), clean());
    }

    #[test]
    fn threads_commit_until_they_are_told_to_end() {
        let store = Store::in_memory().unwrap();
        let load = Load::start(std::slice::from_ref(&store), 2);
        assert!(load.goes_on(40, Duration::from_secs(60)));
        let told = load.end();
        assert!(told.acknowledged() >= 40);
        assert_eq!(told.verify(&store).unwrap(), clean());
    }

    #[test]
    fn what_is_missing_is_lost_and_what_is_too_much_a_phantom() {
        let store = Store::in_memory().unwrap();
        let mut told = told(&store);
        told.writers[0].acknowledged += 3;
        told.writers[1].acknowledged -= 2;
        let verdict = told.verify(&store).unwrap();
        assert_eq!((verdict.lost, verdict.phantom), (3, 2));
    }

    #[test]
    fn a_session_that_is_gone_is_lost() {
        let store = Store::in_memory().unwrap();
        let told = told(&store);
        let id = told.writers[0].founded[0].clone();
        let txn = store.begin().unwrap();
        txn.session(&id).unwrap().destroy().unwrap();
        txn.commit().unwrap();
        assert_eq!(told.verify(&store).unwrap().lost, 1);
    }

    #[test]
    fn the_session_in_common_has_each_count_once() {
        let store = Store::in_memory().unwrap();
        let mut told = told(&store);
        assert!(is_common_whole(&store, &told.common.id).unwrap());
        told.writers[0].common_acknowledged += 1;
        assert_eq!(told.verify(&store).unwrap().lost, 1);
        told.writers[0].common_acknowledged -= 2;
        assert_eq!(told.verify(&store).unwrap().phantom, 1);
        let txn = store.begin().unwrap();
        let package = txn.session(&told.common.id).unwrap().pkg(ALL);
        package.add(&told.common.name, 1).unwrap();
        txn.commit().unwrap();
        assert!(!is_common_whole(&store, &told.common.id).unwrap());
    }

    #[test]
    fn a_number_that_nobody_was_told_of_is_a_phantom() {
        let store = Store::in_memory().unwrap();
        let told = told(&store);
        let txn = store.begin().unwrap();
        let package = txn.session(&told.writers[0].own).unwrap().pkg(COUNT);
        package
            .insert("number", told.writers[0].number + 1)
            .unwrap();
        txn.commit().unwrap();
        assert_eq!(told.verify(&store).unwrap().phantom, 1);
    }
}
