//! The store that is damaged, and its content.

use super::*;

/// The files of a store, by what follows its name in theirs.
pub(super) type Files = BTreeMap<&'static str, Vec<u8>>;

/// One session as it was written, its values by package and key.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) key: ClientKey,
    pub(super) owner: Option<String>,
    pub(super) values: BTreeMap<(&'static str, String), String>,
}

pub(super) fn container_of(package: &'static str) -> &'static str {
    match package {
        "shop" | "login" => package,
        _ => "",
    }
}

/// What a store holds.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) sessions: Vec<Session>,
    pub(super) ended: Vec<String>,
}

/// What a group of commits did.
pub(super) enum Deed {
    Founded(Session),
    /// To the session of this key.
    Changed(ClientKey, (&'static str, String), String),
    Ended(ClientKey),
}

impl State {
    pub(super) fn apply(&mut self, deed: &Deed) {
        let at = |key: &ClientKey| {
            let mut keys = self.sessions.iter().map(|session| session.key);
            keys.position(|other| other == *key).unwrap()
        };
        match deed {
            Deed::Founded(session) => self.sessions.push(session.clone()),
            Deed::Changed(session, key, value) => {
                let at = at(session);
                let values = &mut self.sessions[at].values;
                values.insert(key.clone(), value.clone());
            }
            Deed::Ended(session) => {
                let ended = self.sessions.swap_remove(at(session));
                self.ended.push(ended.id);
            }
        }
    }
}

/// The files that are damaged, as an orderly end left them and as a kill did, and what they hold.
pub(super) struct Base {
    pub(super) closed: Files,
    pub(super) killed: Files,
    /// What both hold.
    pub(super) newest: State,
    /// What the file of the killed one holds without its journal.
    pub(super) merged: State,
    /// The changes of each group that is in the journal alone.
    pub(super) groups: Vec<Vec<Deed>>,
    /// The pages in use and their kinds, by redb's own verification: of the closed store.
    pub(super) live: Vec<(usize, Page)>,
    /// And in the killed one.
    pub(super) live_killed: Vec<(usize, Page)>,
    pub(super) clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Branch,
    Leaf,
    Directory,
    Own,
}

pub(super) fn builder(clock: &Clock) -> StoreBuilder {
    Store::builder()
        .clock(clock.clone())
        .implicit_sweeps(false)
        .guessable_ids(1)
        .cache_size(CACHE)
}

pub(super) fn text(rng: &mut Rng, len: usize) -> String {
    std::iter::repeat_with(|| rng.alphanumeric())
        .take(len)
        .collect()
}

impl Base {
    pub(super) fn make(folder: &Path, count: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let path = folder.join("base");
        // The store that opens it issues none of its ids again.
        let store = builder(&clock).guessable_ids(1 << 32).open(&path).unwrap();
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
        let mut newest = State {
            sessions,
            ended: Vec::new(),
        };
        for round in 0..10 {
            for deed in Self::changes(&store, &mut rng, &newest) {
                newest.apply(&deed);
            }
            if round == 4 {
                store.checkpoint().unwrap();
            }
        }
        store.checkpoint().unwrap();
        let merged = newest.clone();
        let mut groups = Vec::new();
        for _ in 0..10 {
            groups.push(Self::changes(&store, &mut rng, &merged));
        }
        for n in count..count + count / 50 {
            let txn = store.begin().unwrap();
            let session = Self::found(&store, &txn, &mut rng, n);
            txn.commit().unwrap();
            groups.push(vec![Deed::Founded(session)]);
        }
        for session in &merged.sessions[count - count / 20..count] {
            let id = store.client_ids().verify(&session.id).unwrap();
            let txn = store.begin().unwrap();
            txn.session(&id).unwrap().destroy().unwrap();
            txn.commit().unwrap();
            groups.push(vec![Deed::Ended(session.key)]);
        }
        groups.iter().flatten().for_each(|deed| newest.apply(deed));
        // Nothing is under way, so this is what the kernel keeps of a process killed now.
        let killed = files(&path);
        assert_eq!(killed.len(), 3, "a store and its journal");
        store.close().unwrap();
        let closed = files(&path);
        assert_eq!(closed.len(), 1);
        let probe = folder.join("probe");
        Self {
            live: live_pages(&closed[""], &probe),
            live_killed: live_pages(&killed[""], &probe),
            closed,
            killed,
            newest,
            merged,
            groups,
            clock,
        }
    }

    /// A group that changes some sessions.
    fn changes(store: &Store, rng: &mut Rng, state: &State) -> Vec<Deed> {
        let txn = store.begin().unwrap();
        let change = |_| {
            let session = &state.sessions[rng.usize(..state.sessions.len())];
            Self::change(store, &txn, rng, session)
        };
        let deeds = (0..5).map(change).collect();
        txn.commit().unwrap();
        deeds
    }

    pub(super) fn found(store: &Store, txn: &cloakroom::Txn, rng: &mut Rng, n: usize) -> Session {
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

    fn change(store: &Store, txn: &cloakroom::Txn, rng: &mut Rng, session: &Session) -> Deed {
        let id = store.client_ids().verify(&session.id).unwrap();
        let value = text(rng, 40);
        let cart = txn.session(&id).unwrap().pkg("cart");
        cart.insert("item 0", &value).unwrap();
        Deed::Changed(session.key, ("cart", "item 0".into()), value)
    }
}

/// What may follow a store's name in those of its files.
pub(super) const SUFFIXES: [&str; 5] = ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"];

/// A path with something after it.
pub(super) fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file of a store, and those of its journal.
pub(super) fn files(path: &Path) -> Files {
    let read = |suffix| Some((suffix, fs::read(with(path, suffix)).ok()?));
    SUFFIXES.into_iter().filter_map(read).collect()
}

/// Leaves these files at a path, and no others.
pub(super) fn place(path: &Path, files: &Files) {
    for suffix in SUFFIXES {
        let path = with(path, suffix);
        match files.get(suffix) {
            Some(content) => fs::write(path, content).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
}

/// The pages that redb's own integrity check misses when they are zeros.
pub(super) fn live_pages(image: &[u8], probe: &Path) -> Vec<(usize, Page)> {
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

pub(super) fn contains(page: &[u8], text: &[u8]) -> bool {
    page.windows(text.len()).any(|part| part == text)
}

/// What redb's own integrity check says of an image: another opinion than ours.
pub(super) fn redb_verifies(image: &[u8], path: &Path) -> bool {
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
