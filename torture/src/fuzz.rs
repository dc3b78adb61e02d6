//! The entry points of the fuzzers. Each takes bytes and panics if it finds a fault. The tests replay the corpus.

use crate::disk::Disk;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom::{ClientId, Clock, Session, Store, StoreBuilder, torture};
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::OnceLock;
use tower::{Layer, ServiceExt, service_fn};

/// Something that a fuzzer feeds.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("client_id", client_id),
    ("cookies", cookies),
    ("records", records),
    ("values", values),
    ("damaged_file", damaged_file),
    ("frames", frames),
];

const SECRET: [u8; 32] = [7; 32];

fn builder() -> StoreBuilder {
    Store::builder()
        .clock(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()))
        .secret(SECRET)
        .guessable_ids(1)
        .implicit_sweeps(false)
        .cache_size(1 << 20)
}

/// A store in memory with one session, and its id.
fn known() -> &'static (Store, ClientId) {
    static KNOWN: OnceLock<(Store, ClientId)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let store = builder().in_memory().unwrap();
        let id = store.client_ids().issue();
        let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("p").insert("k", 1);
        store.transact(put).unwrap();
        (store, id)
    })
}

/// Nothing but the very text of an id verifies (C4.1).
pub fn client_id(data: &[u8]) {
    let (store, id) = known();
    if let Some(found) = store.client_ids().verify_bytes(data) {
        assert_eq!(found.as_str().as_bytes(), data, "two spellings of an id");
        assert!(found == *id, "an id that was never issued");
    }
    // A genuine id with some bytes changed.
    let mut changed = id.as_str().as_bytes().to_vec();
    for change in data.chunks_exact(2) {
        let at = usize::from(change[0]) % changed.len();
        changed[at] = change[1];
    }
    let verified = store.client_ids().verify_bytes(&changed).is_some();
    assert_eq!(verified, changed == id.as_str().as_bytes());
}

/// Any bytes in the `Cookie` fields of a request get an answer, and only a request with the id finds its session (C4.1,
/// C4.9). Line feeds divide the fields. A byte 1 stands for the name of the cookie, a byte 2 for the genuine id.
pub fn cookies(data: &[u8]) {
    let (store, id) = known();
    let settings = CookieSettings::new().name("sid").unwrap().plain_http();
    let layer = SessionLayer::new(store.clone()).cookie(settings).generic();
    let service = layer.layer(service_fn(|request: Request<_>| async move {
        let (parts, _): (_, cloakroom::http::Replay<String>) = request.into_parts();
        let session = cloakroom::http::session(&parts.extensions).await;
        let lives = session
            .and_then(|session: Session| session.exists())
            .unwrap();
        let status = if lives {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        Ok::<_, Infallible>(
            Response::builder()
                .status(status)
                .body(String::new())
                .unwrap(),
        )
    }));
    let mut request = Request::new(String::new());
    let mut may_live = false;
    for field in data.split(|byte| *byte == b'\n') {
        let mut value = Vec::new();
        for byte in field {
            match byte {
                1 => value.extend_from_slice(b"sid="),
                2 => value.extend_from_slice(id.as_str().as_bytes()),
                byte => value.push(*byte),
            }
        }
        let genuine = id.as_str().as_bytes();
        may_live |= value.windows(genuine.len()).any(|part| part == genuine);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            request.headers_mut().append(header::COOKIE, value);
        }
    }
    let response = pollster::block_on(service.oneshot(request)).unwrap();
    assert!(
        response.status() == StatusCode::NOT_FOUND
            || may_live && response.status() == StatusCode::OK
    );
    assert!(!response.headers().contains_key(header::SET_COOKIE));
}

/// Records of every kind.
pub fn records(data: &[u8]) {
    torture::decode_records(data);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    sku: String,
    #[serde(default)]
    count: u32,
    price: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Start,
    Pay(u8, i64),
    Ship { to: Box<Step>, lines: Vec<Line> },
}

/// Values of many types.
pub fn values(data: &[u8]) {
    torture::decode_value::<i64>(data);
    torture::decode_value::<u128>(data);
    torture::decode_value::<f32>(data);
    torture::decode_value::<Option<Option<bool>>>(data);
    torture::decode_value::<char>(data);
    torture::decode_value::<String>(data);
    torture::decode_value::<Vec<u8>>(data);
    torture::decode_value::<(u8, String, [i16; 2])>(data);
    torture::decode_value::<BTreeMap<String, i32>>(data);
    torture::decode_value::<Line>(data);
    torture::decode_value::<Step>(data);
    torture::add_to_value(data, 1);
    torture::add_to_value(data, i64::MIN);
}

const FILE: &str = "store";

/// The store that is damaged: its image, the ids in it, and the content of each session's package.
struct Whole {
    image: Vec<u8>,
    ids: Vec<String>,
}

const SESSIONS: u64 = 24;

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let disk = Disk::default();
        let store = builder().open_in(disk.folder(), FILE).unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        for (n, id) in (0..).zip(&ids) {
            let put = |txn: &cloakroom::Txn| {
                let session = txn.session(id)?;
                session.pkg("number").insert("n", n)?;
                session.pkg("text").insert("text", "x".repeat(400))
            };
            store.transact(put).unwrap();
        }
        store.close().unwrap();
        Whole {
            image: disk.kept(FILE),
            ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
        }
    })
}

/// A store file with changed bytes or a missing end is refused, or serves each session right, as an error, or not at
/// all (C5.4). The data are patches: two bytes name the page, two the place in it, and one the new value. If the first
/// byte is odd, the second says how much is cut off, in 1/256.
pub fn damaged_file(data: &[u8]) {
    const PAGE: usize = 4096;
    let whole = whole();
    let mut image = whole.image.clone();
    for patch in data.chunks_exact(5) {
        let [page, where_in_it] =
            [[patch[0], patch[1]], [patch[2], patch[3]]].map(u16::from_le_bytes);
        let at = usize::from(page) * PAGE + usize::from(where_in_it) % PAGE;
        let at = at % image.len();
        image[at] = patch[4];
    }
    if let [first, second, ..] = data
        && first % 2 == 1
    {
        let kept = image.len() / 256 * (256 - usize::from(*second));
        image.truncate(kept);
    }
    let disk = Disk::holding(FILE, image);
    let Ok(store) = builder().open_in(disk.folder(), FILE) else {
        return;
    };
    for (n, id) in (0..).zip(&whole.ids) {
        let id = store.client_ids().verify(id).unwrap();
        let read = || {
            let txn = store.begin()?;
            let session = txn.session(&id)?;
            if !session.exists()? {
                return Ok(());
            }
            let number: Option<u64> = session.pkg("number").get("n")?;
            assert_eq!(number, Some(n));
            let text: Option<String> = session.pkg("text").get("text")?;
            assert_eq!(text.as_deref(), Some("x".repeat(400).as_str()));
            Ok::<_, cloakroom::Error>(())
        };
        let _ = read();
    }
    let id = store.client_ids().issue();
    let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("number").insert("n", 1);
    let _ = store.transact(put);
    let _ = store.check();
}

/// What a kill left: a store with its journal, and the ids of its sessions.
struct Killed {
    files: BTreeMap<&'static str, Vec<u8>>,
    active: &'static str,
    ids: Vec<String>,
}

fn killed() -> &'static Killed {
    static KILLED: OnceLock<Killed> = OnceLock::new();
    KILLED.get_or_init(|| {
        let disk = Disk::default();
        let store = builder().open_in(disk.folder(), FILE).unwrap();
        let ids: Vec<_> = (0..8).map(|_| store.client_ids().issue()).collect();
        for (n, id) in (0_u64..).zip(&ids) {
            let put = |txn: &cloakroom::Txn| txn.session(id)?.pkg("number").insert("n", n);
            store.transact(put).unwrap();
            if n == 3 {
                store.checkpoint().unwrap();
            }
        }
        let names = disk.names();
        let names = names.iter().map(|name| name.to_str().unwrap());
        let mut files = BTreeMap::new();
        for name in names {
            let suffix: &'static str = name.strip_prefix(FILE).unwrap().to_owned().leak();
            files.insert(suffix, disk.seen(name));
        }
        // The other one has no frame that one could follow.
        let extends = |suffix: &&&str| torture::with_frame(&files[**suffix], &[0]).is_some();
        let mut journals = files.keys().filter(|suffix| !suffix.is_empty());
        let active = journals.find(extends).unwrap();
        Killed {
            active,
            ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
            files: files.clone(),
        }
    })
}

/// No bytes in a journal give a frame that was never written. A store that opens with it serves each session right, as
/// an error, or not at all, for any rows in the last frame (C5.4).
pub fn frames(data: &[u8]) {
    torture::decode_journal(data);
    let killed = killed();
    let Some(journal) = torture::with_frame(&killed.files[killed.active], data) else {
        return;
    };
    let mut files = killed.files.clone();
    files.insert(killed.active, journal);
    let disk = Disk::holding_all(FILE, &files);
    let Ok(store) = builder().open_in(disk.folder(), FILE) else {
        return;
    };
    for (n, id) in (0..).zip(&killed.ids) {
        let id = store.client_ids().verify(id).unwrap();
        let read = || -> cloakroom::Result<Option<u64>> {
            store.begin()?.session(&id)?.pkg("number").get("n")
        };
        if let Ok(Some(number)) = read() {
            assert_eq!(number, n);
        }
    }
    let id = store.client_ids().issue();
    let put = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("number").insert("n", 1);
    let _ = store.transact(put);
    let _ = store.checkpoint();
    let _ = store.check();
    let _ = store.close();
}
