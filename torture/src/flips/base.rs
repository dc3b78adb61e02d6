//! The store that is damaged, and what is in it.

use super::*;

/// One session as it was written, its values by package and key.
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

/// The file that is damaged, as an orderly end left it and as a kill did, and what it holds.
pub(super) struct Base {
    pub(super) closed: Vec<u8>,
    pub(super) killed: Vec<u8>,
    pub(super) sessions: Vec<Session>,
    pub(super) ended: Vec<String>,
    /// The pages that are in use and what they are, by redb's own verification.
    pub(super) live: Vec<(usize, Page)>,
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

    pub(super) fn change(
        store: &Store,
        txn: &cloakroom::Txn,
        rng: &mut Rng,
        session: &mut Session,
    ) {
        let id = store.client_ids().verify(&session.id).unwrap();
        let value = text(rng, 40);
        let cart = txn.session(&id).unwrap().pkg("cart");
        cart.insert("item 0", &value).unwrap();
        session.values.insert(("cart", "item 0".into()), value);
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
