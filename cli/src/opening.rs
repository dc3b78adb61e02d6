//! Opens the store that the arguments name. Never creates one, and migrates none unasked.

use crate::args::Global;
use crate::backend::{Backend, LocalStore, Patience, RemoteStore};
use crate::failure::{Failure, Outcome};
use crate::owner;
use crate::server::StorePlace;
use cloakroom::{KeyRing, Store, StoreBuilder};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest limits that an application can set, and for counts, more than any has.
const LARGEST_PACKAGE: usize = 256 << 20;
pub(crate) const LONGEST_NAME: usize = 4096;
const MOST: usize = 1 << 24;

/// The variable with the path of the store.
pub(crate) const STORE_VARIABLE: &str = "CLOAKROOM_STORE";

/// Whether an older store is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    Refused,
    Migrated,
}

impl Global {
    pub(crate) fn place(&self) -> Outcome<&StorePlace> {
        self.store.as_ref().ok_or_else(|| {
            let advice = "Give its path with --store PATH, or the address of its server with --store URL, or either in the \
                          environment variable CLOAKROOM_STORE; or, if an application has it open, the address of its \
                          administration page with --at URL.";
            Failure::usage("no store is named", advice)
        })
    }

    /// The path of a store in a file.
    pub(crate) fn path(&self) -> Outcome<&Path> {
        self.place()?.as_file().ok_or_else(|| {
            let advice = "Name a store in a file.";
            Failure::usage("this cannot be done with a store in a server", advice)
        })
    }

    /// The address, if the store is that of a running application.
    fn address(&self) -> Outcome<Option<&str>> {
        let from_variable = env::var_os(STORE_VARIABLE).map(StorePlace::from);
        match (&self.at, &self.store) {
            // What the environment says is for the commands without --at.
            (Some(_), Some(place)) if from_variable.as_ref() != Some(place) => {
                let advice = "Name it by one of them.";
                Err(Failure::usage("--at and --store name two stores", advice))
            }
            (at, _) => Ok(at.as_deref()),
        }
    }

    /// Refuses a command for a store in a server. The advice says what to do instead.
    pub(crate) fn need_no_server(&self, command: &str, advice: &str) -> Outcome<()> {
        match (&self.at, &self.store) {
            (None, Some(StorePlace::Server(_))) => {
                let what =
                    format!("`{command}` is for stores in files, and this one is in a server");
                Err(Failure::usage(what, advice))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a command that has to be run where the files are. The advice says what to do instead.
    pub(crate) fn need_files(&self, command: &str, advice: &str) -> Outcome<()> {
        match &self.at {
            None => Ok(()),
            Some(_) => {
                let what = format!(
                    "`{command}` cannot be done through the administration of an application"
                );
                Err(Failure::usage(what, advice))
            }
        }
    }

    pub(crate) fn builder(&self) -> Outcome<StoreBuilder> {
        self.builder_at(self.store.as_ref())
    }

    /// The builder for the store at this place. Refuses a file of another user, unless the files beside it can stay that
    /// user's.
    pub(crate) fn builder_at(&self, place: Option<&StorePlace>) -> Outcome<StoreBuilder> {
        if !self.any_user
            && let Some(path) = place.and_then(StorePlace::as_file)
        {
            owner::check(path)?;
        }
        let builder = Store::builder()
            .create_missing(false)
            .implicit_sweeps(false)
            // The application's own are not known. What it could store can be imported.
            .max_package_size(LARGEST_PACKAGE)
            .max_packages(MOST)
            .max_keys(MOST)
            .max_name_len(LONGEST_NAME);
        match &self.key_file {
            Some(path) => Ok(builder.encryption(keys(path)?)),
            None => Ok(builder),
        }
    }

    pub(crate) fn open(&self, older: Older) -> Outcome<Store> {
        let builder = self.builder()?.migrate_older(older == Older::Migrated);
        self.place()?.open(builder)
    }

    /// The store of a running application, if --at names it.
    pub(crate) fn remote(&self) -> Outcome<Option<RemoteStore>> {
        let patience = Patience {
            connect: self.connect_timeout,
            answer: self.answer_timeout,
        };
        let token_file = self.token_file.as_deref();
        let address = self.address()?;
        address
            .map(|at| RemoteStore::reach(at, token_file, patience))
            .transpose()
    }

    /// Runs a command on the store, wherever it is.
    pub(crate) fn on_backend<T>(&self, run: impl FnOnce(&dyn Backend) -> Outcome<T>) -> Outcome<T> {
        if let Some(store) = self.remote()? {
            return run(&store);
        }
        let place = self.place()?;
        let store = LocalStore::new(self.open(Older::Refused)?, place.shown());
        let outcome = run(&store);
        let closed = store.close();
        self.told(outcome.and_then(|result| closed.map(|()| result)))
    }

    /// Runs a command on the store that this process opens, and closes it.
    pub(crate) fn on_store<T>(&self, run: impl FnOnce(&Store) -> Outcome<T>) -> Outcome<T> {
        let store = self.open(Older::Refused)?;
        let outcome = run(&store);
        let closed = store.close().map_err(Failure::from);
        self.told(outcome.and_then(|result| closed.map(|()| result)))
    }

    /// With advice that fits the place of the store.
    pub(crate) fn told<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        match self.store {
            Some(StorePlace::Server(_)) => outcome.map_err(Failure::on_server),
            _ => outcome,
        }
    }
}

/// The keys in a file: a number and 64 hexadecimal digits in each line, the current key first.
fn keys(path: &PathBuf) -> Outcome<KeyRing> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::file(format!("{} cannot be read", path.display()), &error))?;
    let mut ring: Option<KeyRing> = None;
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let (number, key) = parse_key(line).ok_or_else(|| {
            let what = format!("line {} of {} is no key", at + 1, path.display());
            let advice = "Each line has the number of a key and 64 hexadecimal digits; the current key comes first.";
            Failure::usage(what, advice)
        })?;
        ring = Some(match ring {
            None => KeyRing::new(number, key),
            Some(ring) => ring.with_older(number, key),
        });
    }
    let empty = || Failure::usage(format!("{} has no key", path.display()), "Check the path.");
    ring.ok_or_else(empty)
}

fn parse_key(line: &str) -> Option<(u32, [u8; 32])> {
    let (number, digits) = line.trim().split_once(char::is_whitespace)?;
    Some((number.parse().ok()?, parse_32_bytes(digits.trim())?))
}

/// 64 hexadecimal digits.
pub(crate) fn parse_32_bytes(digits: &str) -> Option<[u8; 32]> {
    let is_hex = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
}
