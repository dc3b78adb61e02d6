//! Damages the files of a store in one place at a time: flipped bits, lost ends, runs of zeros, swapped pages and
//! sectors. After each damage, every value must be read as it was written, give an error, or be hidden with its whole
//! session (C5.4). `check` and `verify_on_open` must find the damage and name the session; `salvage` must save all that
//! is readable and name the rest.

mod base;
mod damage;
mod journal;
mod trial;

use crate::disk::Disk;
use base::*;
use cloakroom::{
    Check, ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, Salvage, Store, StoreBuilder,
};
use damage::*;
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressDrawTarget};
use journal::*;
use peak_alloc::PeakAlloc;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trial::*;

/// Counts for the whole process, in every mode.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CACHE: usize = 1 << 20;
/// How many bytes one damage may have the store allocate, beside its cache: the image is in memory a few
/// times over, and a flipped length must not come near this.
const ALLOCATED: usize = CACHE + (64 << 20);
const PAGE: usize = 4096;
const HEADER: usize = 320;
const CONTAINERS: [&str; 3] = ["", "shop", "login"];

/// Damages a store file in many ways, and compares the reads with the writes.
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
    /// Damages after which a salvage lost readable data, or did not name a loss.
    pub salvage: u64,
    /// Damages that had the store allocate beyond the bound.
    pub allocations: u64,
    /// Damages that had redb read a page larger than the file.
    pub pages: u64,
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
    /// A description of each failure.
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
         stale after a swap {}, panics contained {}, salvage failures {}, unavailable {}, allocations beyond {} MiB {}, \
         pages larger than the file {}",
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
        tally.pages,
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
    if let Some(keep) = &arguments.keep {
        fs::create_dir_all(keep).unwrap();
    }
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
            place(&keep.join("current.redb"), &image);
            fs::write(keep.join("current"), &name).unwrap();
        }
        let mut trial = Trial {
            base: &base,
            folder: folder.path(),
            expected: &base.newest,
            image,
            damage: &damage,
            tally: &mut tally,
            name: &name,
        };
        let done = catch_unwind(AssertUnwindSafe(|| match damage.file {
            "" => trial.run(),
            _ => trial.run_journal(),
        }));
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
            place(&keep.join(format!("{number}.redb")), &damage.image(&base));
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
