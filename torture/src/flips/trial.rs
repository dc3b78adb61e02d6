//! Opens a damaged store and compares its answers with the content before the damage.

use super::*;

/// The value of a package, read in its own container alone.
pub(super) fn alone(
    store: &Store,
    id: &ClientId,
    package: &'static str,
    key: &str,
) -> Option<String> {
    let txn = store.begin().ok()?;
    let container = txn.container(container_of(package)).ok()?;
    container
        .session_data(id)
        .ok()?
        .pkg(package)
        .get(key)
        .ok()?
}

/// What look-ups gave.
#[derive(Default)]
pub(super) struct Given {
    pub(super) right: u64,
    pub(super) wrong: Vec<String>,
    /// The sessions, by container, of which something was not as it was written.
    pub(super) hit: BTreeSet<(&'static str, ClientKey)>,
    /// Values that could not be read only because the client's place in another container, where it has no
    /// session, lies in a damaged page: nothing there names it but the page's range of keys.
    pub(super) beside: u64,
    /// How often no transaction could begin: damage to some must not keep everyone out.
    pub(super) unavailable: u64,
}

pub(super) struct Trial<'a> {
    pub(super) base: &'a Base,
    pub(super) folder: &'a Path,
    /// The content that must be found.
    pub(super) expected: &'a State,
    pub(super) image: Files,
    pub(super) damage: &'a Damage,
    pub(super) tally: &'a mut Tally,
    pub(super) name: &'a str,
}

impl Trial<'_> {
    pub(super) fn fail(&mut self, what: &str) {
        self.tally.failures.push(format!("{}: {what}", self.name));
    }

    pub(super) fn place(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        place(&path, &self.image);
        path
    }

    pub(super) fn run(&mut self) {
        match self.damage.what {
            What::Flip { .. } => self.tally.flips += 1,
            What::Cut { .. } => self.tally.truncations += 1,
            _ => self.tally.others += 1,
        }
        if self.damage.is_undecidable() {
            self.tally.harmless += 1;
            return;
        }
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let given = self.plain();
        let sound = redb_verifies(&self.image[""], &self.folder.join("probe"));
        let refused = self.verified(given.as_ref(), sound);
        if refused {
            self.salvaged(given.as_ref());
        } else {
            self.tally.harmless += 1;
        }
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        if peak > ALLOCATED {
            self.tally.allocations += 1;
            self.fail(&format!("{peak} bytes allocated"));
        }
    }

    /// Opens it, reads everything, checks it, and writes.
    pub(super) fn plain(&mut self) -> Option<Given> {
        let disk = Disk::holding_all("plain", &self.image);
        let given = self.plain_on(&disk);
        let (largest, len) = (disk.counts().largest_read, disk.seen("plain").len());
        let len = len.max(self.image[""].len()) as u64;
        if largest > len {
            self.tally.pages += 1;
            self.fail(&format!("a page of {largest} bytes in a file of {len}"));
        }
        given
    }

    fn plain_on(&mut self, disk: &Disk) -> Option<Given> {
        let store = match builder(&self.base.clock).open_in(disk.folder(), "plain") {
            Ok(store) => store,
            Err(error) => {
                self.tally.refused += 1;
                self.refusal(error.kind());
                return None;
            }
        };
        let given = self.read(&store);
        if !given.hit.is_empty() {
            self.tally.met += 1;
        }
        let wrong = given.wrong.len() as u64;
        if self.damage.is_swap() {
            self.tally.stale += wrong;
        } else if wrong > 0 {
            self.tally.wrong += wrong;
            self.fail(&format!("wrong values: {:?}", given.wrong));
        }
        if given.unavailable > 0 {
            self.tally.unavailable += 1;
            self.fail(&format!("unavailable {} times", given.unavailable));
        }
        match self.checked(&store) {
            Ok(check) => self.held_against(&check, &given),
            Err(error) => {
                self.tally.missed_by_check += 1;
                self.fail(&format!("the check failed: {error}"));
            }
        }
        self.write(&store);
        drop(store.close());
        Some(given)
    }

    /// Where a damage keeps what the journal holds from being brought into the file, the store opens its
    /// file again after each attempt.
    fn checked(&mut self, store: &Store) -> cloakroom::Result<Check> {
        let mut check = store.check();
        for _ in 0..200 {
            match &check {
                Err(e) if e.kind() == ErrorKind::Unavailable && self.damage.killed => {}
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(20));
            check = store.check();
        }
        check
    }

    pub(super) fn refusal(&mut self, kind: ErrorKind) {
        use ErrorKind::{Corrupt, Io, NotAStore, TooNew};
        if ![Corrupt, Io, NotAStore, TooNew].contains(&kind) {
            self.tally.missed_by_verify += 1;
            self.fail(&format!("refused with {kind:?}"));
        }
    }

    pub(super) fn held_against(&mut self, check: &Check, given: &Given) {
        if given.hit.is_empty() && given.wrong.is_empty() && given.beside == 0 {
            return;
        }
        let named: BTreeSet<_> = check
            .findings
            .iter()
            .filter_map(|d| Some((d.container.as_deref()?, d.client?)))
            .collect();
        let unnamed = given.hit.iter().filter(|hit| !named.contains(*hit)).count();
        let all = check.findings.len() as u64 == check.damaged + check.damaged_pages;
        // Two pages may be all that told of a session; one never is.
        let two = matches!(self.damage.what, What::Swap { .. } | What::Zeros { .. });
        if check.is_clean() || (unnamed > 0 && all && !two) {
            self.tally.missed_by_check += 1;
            self.fail(&format!(
                "hit {}, of which a check does not name {unnamed}",
                given.hit.len()
            ));
        }
    }

    pub(super) fn read(&self, store: &Store) -> Given {
        let mut given = Given::default();
        for session in &self.expected.sessions {
            let Some(id) = store.client_ids().verify(&session.id) else {
                given.wrong.push("an id does not verify".into());
                continue;
            };
            let Ok(txn) = store.begin() else {
                given.unavailable += 1;
                continue;
            };
            let all = txn.session(&id);
            for ((package, key), value) in &session.values {
                let container = container_of(package);
                let found = all
                    .clone()
                    .and_then(|all| all.pkg(package).get::<String>(key));
                match found {
                    Ok(Some(found)) if found == *value => given.right += 1,
                    Ok(Some(_)) => given.wrong.push(format!("{package} {key}")),
                    Ok(None) => {
                        let there = txn
                            .container(container)
                            .and_then(|c| c.session_data(&id))
                            .and_then(|data| data.exists());
                        if let Ok(true) = there {
                            given.wrong.push(format!("{package} {key} is not there"));
                        }
                        given.hit.insert((container, session.key));
                    }
                    Err(_) if alone(store, &id, package, key).as_ref() == Some(value) => {
                        given.beside += 1;
                    }
                    Err(_) => drop(given.hit.insert((container, session.key))),
                }
            }
        }
        for id in &self.expected.ended {
            let id = store.client_ids().verify(id);
            let Ok(txn) = store.begin() else {
                given.unavailable += 1;
                continue;
            };
            if let Some(Ok(session)) = id.map(|id| txn.session(&id))
                && let Ok(true) = session.exists()
            {
                given.wrong.push("an ended session is back".into());
            }
        }
        given
    }

    /// A write may fail, but an acknowledged write is there.
    pub(super) fn write(&mut self, store: &Store) {
        for session in self.expected.sessions.iter().take(3) {
            let Some(id) = store.client_ids().verify(&session.id) else {
                continue;
            };
            let written = store.transact(|txn| {
                let pkg = txn.session(&id)?.pkg("cart");
                pkg.insert("written", "now")
            });
            let founded = store.client_ids().issue();
            let new = store.transact(|txn| txn.session(&founded)?.pkg("new").insert("n", 1));
            for (result, id, pkg, key) in [
                (written, &id, "cart", "written"),
                (new, &founded, "new", "n"),
            ] {
                if result.is_err() {
                    continue;
                }
                let found = store
                    .begin()
                    .and_then(|txn| txn.session(id)?.pkg(pkg).contains_key(key));
                // Where the tree is hit, the row may be hidden at once; it is never another.
                if let Ok(false) = found
                    && store.check().is_ok_and(|check| check.is_clean())
                {
                    self.tally.wrong += 1;
                    self.fail("what was written is not there");
                }
            }
        }
    }

    /// Verifies it; whether it was refused.
    pub(super) fn verified(&mut self, given: Option<&Given>, sound: bool) -> bool {
        let path = self.place("verified");
        match builder(&self.base.clock).verify_on_open(true).open(&path) {
            Ok(store) => {
                let now = self.read(&store);
                let amiss = !now.hit.is_empty() || !now.wrong.is_empty();
                if amiss || !sound || given.is_none_or(|g| !g.hit.is_empty()) {
                    self.tally.missed_by_verify += 1;
                    self.fail(&format!("not refused; redb verifies it: {sound}"));
                }
                drop(store.close());
                false
            }
            Err(error) => {
                self.refusal(error.kind());
                if files(&path) != self.image {
                    self.tally.missed_by_verify += 1;
                    self.fail("refused, and changed");
                }
                if let Some(given) = given
                    && error.kind() == ErrorKind::Corrupt
                    && (1..=3).contains(&given.hit.len())
                {
                    let text = error.to_string();
                    let named = |key: &ClientKey| text.contains(&key.to_string());
                    if !text.contains(" more") && !given.hit.iter().all(|(_, key)| named(key)) {
                        self.tally.missed_by_verify += 1;
                        self.fail(&format!("sessions not named: {text}"));
                    }
                }
                true
            }
        }
    }

    pub(super) fn salvaged(&mut self, given: Option<&Given>) {
        let from = self.place("from");
        let to = self.folder.join("to");
        drop(fs::remove_file(&to));
        let report = builder(&self.base.clock).salvage(&from, &to);
        if files(&from) != self.image {
            self.tally.salvage += 1;
            self.fail("a salvage changed what it read");
        }
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.refusal(error.kind());
                // One flipped bit is always mended.
                if matches!(self.damage.what, What::Flip { .. }) || given.is_some() {
                    self.tally.salvage += 1;
                    self.fail(&format!("no salvage: {error}"));
                }
                return;
            }
        };
        let store = match builder(&self.base.clock).verify_on_open(true).open(&to) {
            Ok(store) => store,
            Err(error) => {
                self.tally.salvage += 1;
                self.fail(&format!("what was salvaged does not verify: {error}"));
                return;
            }
        };
        let saved = self.read_salvaged(&store);
        self.compare(given, &saved, &report);
        drop(store.close());
    }

    pub(super) fn read_salvaged(&self, store: &Store) -> Given {
        let mut given = Given::default();
        for session in &self.expected.sessions {
            let Some(id) = store.client_ids().verify(&session.id) else {
                given.wrong.push("an id does not verify".into());
                continue;
            };
            let txn = store.begin().unwrap();
            let all = txn.session(&id).unwrap();
            for ((package, key), value) in &session.values {
                match all.pkg(package).get::<String>(key) {
                    Ok(Some(found)) if found == *value => given.right += 1,
                    Ok(None) => drop(given.hit.insert((container_of(package), session.key))),
                    _ => given.wrong.push(format!("{package} {key}")),
                }
            }
            if let Some(owner) = &session.owner
                && all.exists().unwrap()
                && let owned = store.sessions_of(owner).unwrap()
                && !owned.iter().any(|info| info.client == session.key)
            {
                given.wrong.push("an owner's list".into());
            }
        }
        for id in &self.expected.ended {
            let id = store.client_ids().verify(id).unwrap();
            let txn = store.begin().unwrap();
            if txn.session(&id).and_then(|s| s.exists()).unwrap_or(true) {
                given.wrong.push("an ended session is back".into());
            }
        }
        given
    }

    pub(super) fn compare(&mut self, given: Option<&Given>, saved: &Given, report: &Salvage) {
        let mut amiss = Vec::new();
        if !saved.wrong.is_empty() && !self.damage.is_swap() {
            amiss.push(format!("wrong: {:?}", saved.wrong));
        }
        let all = report.losses.len() as u64 == report.lost + report.damaged_pages;
        let named: BTreeSet<_> = report
            .losses
            .iter()
            .filter_map(|d| Some((d.container.as_deref()?, d.client?)))
            .collect();
        // The records of containers stand in one page, and nothing else in the file tells a container's
        // name. Where that page is lost, their data is named by package and client, and has no container.
        let says = |d: &cloakroom::Damage, text: &str| d.error.to_string().contains(text);
        let unlisted = report
            .losses
            .iter()
            .any(|d| says(d, "a page of the table \"containers\" is damaged"));
        let without: BTreeSet<_> = report
            .losses
            .iter()
            .filter(|d| unlisted && says(d, "its container is not known"))
            .filter_map(|d| Some((d.package.as_deref()?, d.client?)))
            .collect();
        let is_named = |hit: &(&str, ClientKey)| {
            // A container of the harness has the name of its only package.
            named.contains(hit) || without.contains(hit)
        };
        let unnamed = saved.hit.iter().filter(|hit| !is_named(hit)).count();
        // Of what the file does not hold any more, nothing may be left that could name it; but then it
        // is counted.
        let counted = report
            .losses
            .iter()
            .any(|d| d.client.is_none() && d.error.to_string().contains("can be reached"));
        if unnamed > 0 && all && !counted {
            amiss.push(format!("{unnamed} lost and not named"));
        }
        if report.is_whole() && !saved.hit.is_empty() {
            amiss.push("losses, and none is told".into());
        }
        if given.is_some_and(|given| given.right > saved.right) {
            amiss.push("what could be read is not saved".into());
        }
        if matches!(self.damage.what, What::Flip { .. }) && !saved.hit.is_empty() {
            amiss.push("one flipped bit, and something is lost".into());
        }
        if saved.hit.is_empty() {
            self.tally.whole += 1;
        }
        if !amiss.is_empty() {
            self.tally.salvage += 1;
            self.fail(&format!("salvage: {}", amiss.join("; ")));
        }
    }
}
