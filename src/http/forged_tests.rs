//! C4.1: 100,000 ids that the store has not issued. None is accepted, none is looked up, none panics.

use super::*;
use crate::block_on::block_on;
use crate::client_id::{ClientIds, Secret};
use crate::http::CookieSettings;
use crate::steps;
use crate::storage::memory::Random;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Request};
use std::collections::HashSet;

const FORGED: usize = 100_000;
/// As many cookies of one request are checked.
const PER_REQUEST: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const SECRET: [u8; 32] = [7; 32];

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

fn byte(random: &mut Random) -> u8 {
    random.next() as u8
}

fn letter(random: &mut Random) -> u8 {
    ALPHABET[below(random, ALPHABET.len())]
}

/// Ids that have a session each, and a signer that the store does not know.
struct Known {
    live: Vec<Vec<u8>>,
    foreign: ClientIds,
}

impl Known {
    fn one(&self, random: &mut Random) -> Vec<u8> {
        self.live[below(random, self.live.len())].clone()
    }

    /// A text that resembles an id, in one of many ways.
    fn forge(&self, random: &mut Random) -> Vec<u8> {
        let mut text = self.one(random);
        let len = text.len();
        match random.below(12) {
            0 => text.fill_with(|| letter(random)),
            1 => text = (0..below(random, 200)).map(|_| byte(random)).collect(),
            2 => text[below(random, len)] ^= 1 << random.below(8),
            3 => (0..=below(random, 4)).for_each(|_| text[below(random, len)] = letter(random)),
            4 => text.truncate(below(random, len)),
            5 => (0..=below(random, 70)).for_each(|_| text.push(letter(random))),
            6 => text.insert(below(random, len), byte(random)),
            7 => {
                let at = below(random, len);
                text.splice(at.., self.one(random).drain(at..));
            }
            8 => text.swap(below(random, len), below(random, len)),
            9 => text = self.foreign.issue().as_str().as_bytes().to_vec(),
            10 => text = change_raw(&text, random),
            _ => text.make_ascii_lowercase(),
        }
        text
    }
}

/// Other bytes behind the right letters: of the random part, of the name of the secret, or of the tag.
fn change_raw(text: &[u8], random: &mut Random) -> Vec<u8> {
    let mut raw = URL_SAFE_NO_PAD.decode(text).unwrap();
    let len = raw.len();
    for _ in 0..=below(random, 3) {
        raw[below(random, len)] = byte(random);
    }
    URL_SAFE_NO_PAD.encode(raw).into_bytes()
}

/// A store with sessions, and a signer whose secret bears the name of the store's.
fn known() -> (Store, Known) {
    let store = Store::builder().secret(SECRET).in_memory().unwrap();
    let live = (0..64).map(|_| {
        let id = store.client_ids().issue();
        let put = |txn: &crate::Txn| txn.session(&id)?.pkg("a").insert("k", 1);
        store.transact::<_, Error>(put).unwrap();
        id.as_str().as_bytes().to_vec()
    });
    let live: Vec<_> = live.collect();
    let name = URL_SAFE_NO_PAD.decode(&live[0]).unwrap()[18];
    let foreign = ClientIds::new(Secret::from_key(name, [8; 32]), Vec::new());
    (store, Known { live, foreign })
}

/// What a request with these cookies finds, and how many steps that takes.
fn visit(settings: &Arc<LayerSettings>, ids: &[Vec<u8>]) -> (Option<u32>, bool, usize) {
    let mut request = Request::new(());
    for id in ids {
        let field = [b"__Host-sid=", &id[..]].concat();
        let field = HeaderValue::from_bytes(&field).unwrap();
        request.headers_mut().append(header::COOKIE, field);
    }
    let (parts, ()) = request.into_parts();
    let exchange = Exchange::new(Arc::clone(settings), parts, &SizeHint::default());
    let mut found = (None, false);
    let steps = steps::of(|| {
        let (_txn, session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
        found = (
            session.pkg("a").get("k").unwrap(),
            session.exists().unwrap(),
        );
        assert_eq!(session.client_id().is_some(), found.1);
    });
    (found.0, found.1, steps)
}

/// Whether a text can stand in a field as one value, and is not an id with something around it that is no part of it.
fn fits_in_a_cookie(text: &[u8], known: &HashSet<&[u8]>) -> bool {
    let bare = text.trim_ascii();
    HeaderValue::from_bytes(text).is_ok() && !text.contains(&b';') && !known.contains(bare)
}

/// The seed that the environment gives, or any.
fn seed() -> u64 {
    let seed = match std::env::var("CLOAKROOM_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    };
    println!("CLOAKROOM_SEED={seed}");
    seed
}

// C4.1
#[test]
fn of_a_hundred_thousand_forged_ids_none_is_accepted_and_none_is_looked_up() {
    let (store, known) = known();
    let mut settings = LayerSettings::new(store.clone());
    settings.set_cookie(CookieSettings::new().name("sid").unwrap());
    let settings = Arc::new(settings);
    let live: HashSet<&[u8]> = known.live.iter().map(Vec::as_slice).collect();

    let (value, exists, without) = visit(&settings, &[]);
    assert_eq!((value, exists), (None, false));
    let (value, exists, with) = visit(&settings, &known.live[..1]);
    assert_eq!((value, exists), (Some(1), true));
    assert!(with > without, "a look-up is not counted");

    let mut random = Random::new(seed());
    let (mut tried, mut cookies) = (0, Vec::new());
    while tried < FORGED {
        let forged = known.forge(&mut random);
        if live.contains(&forged[..]) {
            continue;
        }
        tried += 1;
        let text = String::from_utf8_lossy(&forged);
        assert!(store.client_ids().verify_bytes(&forged).is_none(), "{text}");
        assert!(store.client_ids().verify(&text).is_none(), "{text}");
        if fits_in_a_cookie(&forged, &live) {
            cookies.push(forged);
        }
        if cookies.len() == PER_REQUEST {
            let found = visit(&settings, &cookies);
            assert_eq!(found, (None, false, without), "{cookies:?}");
            cookies.clear();
        }
    }
}
