//! Damages the image of a store in one place at a time: flipped bits, lost ends, runs of zeros, swapped
//! pages. Of each, every value is read, and must be what was written, an error, or hidden with its whole
//! session (C5.4); `check` and `verify_on_open` must find what goes amiss and say whose it is; `salvage`
//! must save what is readable and name the rest.

use cloakroom::{
    Check, ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, Salvage, Store, StoreBuilder,
};
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressDrawTarget};
use peak_alloc::PeakAlloc;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts for the whole process, whatever is run.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CACHE: usize = 1 << 20;
/// How many bytes one damage may have the store allocate, beside its cache: the image is in memory a few
/// times over, and a flipped length must not come near this.
const ALLOCATED: usize = CACHE + (64 << 20);
const PAGE: usize = 4096;
const HEADER: usize = 320;
const CONTAINERS: [&str; 3] = ["", "shop", "login"];

/// Damages a store file in many ways, and holds what is read against what was written.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// How many damages.
    #[arg(long, default_value_t = 3000)]
    pub count: u64,
    /// The seed of the store, and of the damages. Random by default.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many sessions the store has.
    #[arg(long, default_value_t = 1500)]
    pub sessions: usize,
    /// Only this damage, by its number.
    #[arg(long)]
    pub only: Option<u64>,
    /// A folder that keeps the images in which something went amiss.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// How long one damage may take, in seconds.
    #[arg(long, default_value_t = 120)]
    pub deadline: u64,
}

/// What went amiss, of how many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Single flipped bits.
    pub flips: u64,
    /// Files cut short.
    pub truncations: u64,
    /// Runs of zeros and swapped pages.
    pub others: u64,
    /// Values that were never written, at their place.
    pub wrong: u64,
    /// Damages that a check did not find, or whose sessions it did not name.
    pub missed_by_check: u64,
    /// Damages that were not refused, or not as they must be.
    pub missed_by_verify: u64,
    /// Panics that reached the caller.
    pub panics: u64,
    /// Panics inside the store that ended there.
    pub contained: u64,
    /// Damages after which a salvage lost what was readable, or did not name what it lost.
    pub salvage: u64,
    /// Damages that had the store allocate beyond the bound.
    pub allocations: u64,
    /// Damages that made the store unavailable for everyone.
    pub unavailable: u64,
    /// Damages that plain opening refused.
    pub refused: u64,
    /// Damages that some look-up met, of those not refused.
    pub met: u64,
    /// Damages that changed nothing that is in use.
    pub harmless: u64,
    /// Damages whose salvage lost nothing.
    pub whole: u64,
    /// Older values read of pages that were swapped; no checksum of a record can tell.
    pub stale: u64,
    /// What each failure was.
    pub failures: Vec<String>,
}

impl Tally {
    /// Whether all is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Runs it, with its progress on stderr and its result on stdout.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let bar = ProgressBar::new(arguments.count);
    let tally = torture(&arguments, seed, &bar);
    bar.finish_and_clear();
    for failure in &tally.failures {
        println!("{failure}");
    }
    println!(
        "other damages {}, refused {}, met by look-ups {}, harmless {}, salvaged whole {}, \
         stale after a swap {}, panics contained {}, salvage failures {}, unavailable {}, allocations beyond {} MiB {}",
        tally.others,
        tally.refused,
        tally.met,
        tally.harmless,
        tally.whole,
        tally.stale,
        tally.contained,
        tally.salvage,
        tally.unavailable,
        ALLOCATED >> 20,
        tally.allocations,
    );
    println!(
        "flips {}, truncations {}, wrong values {}, missed by check {}, missed by verify_on_open {}, \
         panics {}, seed {seed}",
        tally.flips,
        tally.truncations,
        tally.wrong,
        tally.missed_by_check,
        tally.missed_by_verify,
        tally.panics,
    );
    if tally.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs it without a word.
#[must_use]
pub fn quietly(arguments: &Arguments, seed: u64) -> Tally {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    torture(arguments, seed, &bar)
}

fn torture(arguments: &Arguments, seed: u64, bar: &ProgressBar) -> Tally {
    static CONTAINED: AtomicU64 = AtomicU64::new(0);
    let log = arguments.keep.as_ref().map(|keep| keep.join("panics.log"));
    std::panic::set_hook(Box::new(move |panic| {
        CONTAINED.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &log {
            let trace = std::backtrace::Backtrace::force_capture();
            drop(fs::write(log, format!("{panic}\n{trace}\n")));
        }
    }));
    let shared_memory = Path::new("/dev/shm");
    let folder = match shared_memory.is_dir() {
        true => tempfile::tempdir_in(shared_memory),
        false => tempfile::tempdir(),
    }
    .unwrap();
    let base = Base::make(folder.path(), arguments.sessions, seed);
    let watch = Watch::start(seed, Duration::from_secs(arguments.deadline));
    let mut tally = Tally::default();
    for number in 0..arguments.count {
        if arguments.only.is_some_and(|only| only != number) {
            continue;
        }
        let damage = Damage::random(&base, &mut Rng::with_seed(seed ^ (number << 32)), number);
        let name = format!("damage {number}: {damage:?}");
        watch.begin(&name);
        let image = damage.image(&base);
        if let Some(keep) = &arguments.keep {
            // What an abort leaves to look at.
            fs::write(keep.join("current.redb"), &image).unwrap();
            fs::write(keep.join("current"), &name).unwrap();
        }
        let mut trial = Trial {
            base: &base,
            folder: folder.path(),
            image,
            damage: &damage,
            tally: &mut tally,
            name: &name,
        };
        let done = catch_unwind(AssertUnwindSafe(|| trial.run()));
        if let Err(panic) = done {
            tally.panics += 1;
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or_default();
            tally.failures.push(format!("{name}: a panic: {text}"));
        }
        if let Some(keep) = &arguments.keep
            && tally.failures.last().is_some_and(|f| f.starts_with(&name))
        {
            fs::write(keep.join(format!("{number}.redb")), damage.image(&base)).unwrap();
        }
        watch.end();
        bar.inc(1);
    }
    tally.contained = CONTAINED.load(Ordering::Relaxed);
    tally
}

/// Ends the process when one damage takes too long.
struct Watch {
    current: Arc<Mutex<Option<(String, Instant)>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start(seed: u64, deadline: Duration) -> Self {
        let watch = Self {
            current: Arc::default(),
            over: Arc::default(),
        };
        let (current, over) = (watch.current.clone(), watch.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((name, since)) = &*current
                    && since.elapsed() > deadline
                {
                    println!("{name}: no end after {deadline:?}, seed {seed}");
                    std::process::exit(2);
                }
            }
        });
        watch
    }

    fn begin(&self, name: &str) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some((name.to_owned(), Instant::now()));
    }

    fn end(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One session as it was written, its values by package and key.
struct Session {
    id: String,
    key: ClientKey,
    owner: Option<String>,
    values: BTreeMap<(&'static str, String), String>,
}

fn container_of(package: &'static str) -> &'static str {
    match package {
        "shop" | "login" => package,
        _ => "",
    }
}

/// The file that is damaged, as an orderly end left it and as a kill did, and what it holds.
struct Base {
    closed: Vec<u8>,
    killed: Vec<u8>,
    sessions: Vec<Session>,
    ended: Vec<String>,
    /// The pages that are in use and what they are, by redb's own verification.
    live: Vec<(usize, Page)>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Branch,
    Leaf,
    Directory,
    Own,
}

fn builder(clock: &Clock) -> StoreBuilder {
    Store::builder()
        .clock(clock.clone())
        .implicit_sweeps(false)
        .guessable_ids(1)
        .cache_size(CACHE)
}

fn text(rng: &mut Rng, len: usize) -> String {
    std::iter::repeat_with(|| rng.alphanumeric())
        .take(len)
        .collect()
}

impl Base {
    fn make(folder: &Path, count: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let path = folder.join("base");
        let store = builder(&clock).open(&path).unwrap();
        let settings = || ContainerSettings::new().timeout(Duration::from_secs(86_400));
        for name in CONTAINERS {
            store.register(name, settings()).unwrap();
        }
        store.rotate_secret().unwrap();
        let mut sessions = Vec::new();
        while sessions.len() < count {
            let txn = store.begin().unwrap();
            for _ in 0..50 {
                sessions.push(Self::found(&store, &txn, &mut rng, sessions.len()));
            }
            txn.commit().unwrap();
        }
        // Older versions of pages and values lie about in the file.
        for _ in 0..20 {
            let txn = store.begin().unwrap();
            for _ in 0..5 {
                let at = rng.usize(..sessions.len());
                Self::change(&store, &txn, &mut rng, &mut sessions[at]);
            }
            txn.commit().unwrap();
        }
        let mut ended = Vec::new();
        for session in sessions.split_off(count - count / 20) {
            let id = store.client_ids().verify(&session.id).unwrap();
            let txn = store.begin().unwrap();
            txn.session(&id).unwrap().destroy().unwrap();
            txn.commit().unwrap();
            ended.push(session.id);
        }
        // Nothing is under way, so this is what the kernel keeps of a process killed now.
        let killed = fs::read(&path).unwrap();
        store.close().unwrap();
        let closed = fs::read(&path).unwrap();
        let live = live_pages(&closed, &folder.join("probe"));
        Self {
            closed,
            killed,
            sessions,
            ended,
            live,
            clock,
        }
    }

    fn found(store: &Store, txn: &cloakroom::Txn, rng: &mut Rng, n: usize) -> Session {
        let id = store.client_ids().issue();
        let session = txn.session(&id).unwrap();
        let mut values = BTreeMap::new();
        let mut put = |package: &'static str, key: String, value: String| {
            session.pkg(package).insert(&key, &value).unwrap();
            values.insert((package, key), value);
        };
        put("login", "user".into(), format!("user {n}"));
        for key in 0..rng.usize(1..5) {
            put("cart", format!("item {key}"), text(rng, 30));
        }
        if n.is_multiple_of(3) {
            put("shop", "last".into(), text(rng, 300));
        }
        if n.is_multiple_of(7) {
            put("profile", "text".into(), text(rng, 2000));
        }
        if n.is_multiple_of(50) {
            let len = rng.usize(10_000..60_000);
            put("draft", "text".into(), text(rng, len));
        }
        let owner = n.is_multiple_of(4).then(|| format!("owner {}", n % 40));
        if let Some(owner) = &owner {
            session.set_owner(Some(owner)).unwrap();
        }
        Session {
            id: id.as_str().to_owned(),
            key: id.key(),
            owner,
            values,
        }
    }

    fn change(store: &Store, txn: &cloakroom::Txn, rng: &mut Rng, session: &mut Session) {
        let id = store.client_ids().verify(&session.id).unwrap();
        let value = text(rng, 40);
        let cart = txn.session(&id).unwrap().pkg("cart");
        cart.insert("item 0", &value).unwrap();
        session.values.insert(("cart", "item 0".into()), value);
    }
}

/// The pages that redb's own integrity check misses when they are zeros.
fn live_pages(image: &[u8], probe: &Path) -> Vec<(usize, Page)> {
    let mut live = Vec::new();
    for at in (PAGE..image.len()).step_by(PAGE) {
        let page = &image[at..(at + PAGE).min(image.len())];
        let kind = match page[0] {
            1 if contains(page, b"tombstones") => Page::Directory,
            1 if contains(page, b"identity") || contains(page, b"next-container") => Page::Own,
            1 => Page::Leaf,
            2 => Page::Branch,
            _ => continue,
        };
        let mut damaged = image.to_vec();
        damaged[at..at + 64].fill(0);
        if !redb_verifies(&damaged, probe) {
            live.push((at, kind));
        }
    }
    live
}

fn contains(page: &[u8], text: &[u8]) -> bool {
    page.windows(text.len()).any(|part| part == text)
}

/// What redb's own integrity check says of an image: another opinion than ours.
fn redb_verifies(image: &[u8], path: &Path) -> bool {
    fs::write(path, image).unwrap();
    let opened = catch_unwind(|| {
        redb::Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create(path)
            .map(drop)
    });
    matches!(opened, Ok(Ok(())))
}

/// What is done to an image.
#[derive(Clone, Debug)]
struct Damage {
    killed: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Flip { byte: usize, bit: u8 },
    Cut { len: usize },
    Zeros { at: usize, len: usize },
    Swap { one: usize, other: usize },
}

impl Damage {
    fn random(base: &Base, rng: &mut Rng, number: u64) -> Self {
        let killed = rng.u8(..4) == 0;
        let len = if killed { &base.killed } else { &base.closed }.len();
        let page = |rng: &mut Rng, kind: Option<Page>| {
            let fitting: Vec<usize> = base
                .live
                .iter()
                .filter(|(at, k)| kind.is_none_or(|kind| kind == *k) && at + PAGE <= len)
                .map(|(at, _)| *at)
                .collect();
            fitting[rng.usize(..fitting.len())]
        };
        let flip = |rng: &mut Rng, byte| What::Flip {
            byte,
            bit: rng.u8(..8),
        };
        let what = match number % 12 {
            0 => {
                let byte = rng.usize(..HEADER);
                flip(rng, byte)
            }
            1 | 2 => {
                let byte = page(rng, Some(Page::Branch)) + rng.usize(..PAGE);
                flip(rng, byte)
            }
            // Where the counts and the first offsets are.
            3 => {
                let byte = page(rng, None) + rng.usize(..64);
                flip(rng, byte)
            }
            4 | 5 => {
                let byte = page(rng, Some(Page::Leaf)) + rng.usize(..PAGE);
                flip(rng, byte)
            }
            6 => {
                let kind = if rng.bool() {
                    Page::Directory
                } else {
                    Page::Own
                };
                let byte = page(rng, Some(kind)) + rng.usize(..PAGE);
                flip(rng, byte)
            }
            7..=9 => {
                let byte = rng.usize(..len);
                flip(rng, byte)
            }
            10 => What::Cut {
                len: match rng.u8(..3) {
                    0 => rng.usize(..len),
                    1 => rng.usize(..len / PAGE) * PAGE,
                    _ => len - rng.usize(1..3 * PAGE),
                },
            },
            _ if rng.bool() => {
                let at = page(rng, None) + rng.usize(..PAGE);
                let len = rng.usize(1..2 * PAGE).min(len - at);
                What::Zeros { at, len }
            }
            _ => What::Swap {
                one: page(rng, None),
                other: page(rng, None),
            },
        };
        Self { killed, what }
    }

    fn image(&self, base: &Base) -> Vec<u8> {
        let mut image = if self.killed {
            &base.killed
        } else {
            &base.closed
        }
        .clone();
        match self.what {
            What::Flip { byte, bit } => image[byte] ^= 1 << bit,
            What::Cut { len } => image.truncate(len),
            What::Zeros { at, len } => image[at..at + len].fill(0),
            What::Swap { one, other } => {
                for n in 0..PAGE {
                    image.swap(one + n, other + n);
                }
            }
        }
        image
    }

    /// After a kill, a bit in the header tells whether the newest commit had been made known. That one
    /// alone cannot be held against anything.
    fn is_undecidable(&self) -> bool {
        self.killed && matches!(self.what, What::Flip { byte: 9, bit: 0 })
    }

    fn is_swap(&self) -> bool {
        matches!(self.what, What::Swap { .. })
    }
}

/// The value of a package, read in its own container alone.
fn alone(store: &Store, id: &ClientId, package: &'static str, key: &str) -> Option<String> {
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
struct Given {
    right: u64,
    wrong: Vec<String>,
    /// The sessions, by container, of which something was not as it was written.
    hit: BTreeSet<(&'static str, ClientKey)>,
    /// Values that could not be read only because the client's place in another container, where it has no
    /// session, lies in a damaged page: nothing there names it but the page's range of keys.
    beside: u64,
    /// How often no transaction could begin: damage to some must not keep everyone out.
    unavailable: u64,
}

struct Trial<'a> {
    base: &'a Base,
    folder: &'a Path,
    image: Vec<u8>,
    damage: &'a Damage,
    tally: &'a mut Tally,
    name: &'a str,
}

impl Trial<'_> {
    fn fail(&mut self, what: &str) {
        self.tally.failures.push(format!("{}: {what}", self.name));
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, &self.image).unwrap();
        path
    }

    fn run(&mut self) {
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
        let sound = redb_verifies(&self.image, &self.folder.join("probe"));
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
    fn plain(&mut self) -> Option<Given> {
        let path = self.place("plain");
        let store = match builder(&self.base.clock).open(&path) {
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
        match store.check() {
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

    fn refusal(&mut self, kind: ErrorKind) {
        use ErrorKind::{Corrupt, Io, NotAStore, TooNew};
        if ![Corrupt, Io, NotAStore, TooNew].contains(&kind) {
            self.tally.missed_by_verify += 1;
            self.fail(&format!("refused with {kind:?}"));
        }
    }

    fn held_against(&mut self, check: &Check, given: &Given) {
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

    fn read(&self, store: &Store) -> Given {
        let mut given = Given::default();
        for session in &self.base.sessions {
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
        for id in &self.base.ended {
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

    /// Writing may fail, but what it says is written is there.
    fn write(&mut self, store: &Store) {
        for session in self.base.sessions.iter().take(3) {
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
    fn verified(&mut self, given: Option<&Given>, sound: bool) -> bool {
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
                if fs::read(&path).unwrap() != self.image {
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

    fn salvaged(&mut self, given: Option<&Given>) {
        let from = self.place("from");
        let to = self.folder.join("to");
        drop(fs::remove_file(&to));
        let report = builder(&self.base.clock).salvage(&from, &to);
        if fs::read(&from).unwrap() != self.image {
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

    fn read_salvaged(&self, store: &Store) -> Given {
        let mut given = Given::default();
        for session in &self.base.sessions {
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
                && !store.sessions_of(owner).unwrap().contains(&session.key)
            {
                given.wrong.push("an owner's list".into());
            }
        }
        for id in &self.base.ended {
            let id = store.client_ids().verify(id).unwrap();
            let txn = store.begin().unwrap();
            if txn.session(&id).and_then(|s| s.exists()).unwrap_or(true) {
                given.wrong.push("an ended session is back".into());
            }
        }
        given
    }

    fn compare(&mut self, given: Option<&Given>, saved: &Given, report: &Salvage) {
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
        let unnamed = saved.hit.iter().filter(|hit| !named.contains(*hit)).count();
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
