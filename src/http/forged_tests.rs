//! C4.1, C8.3: 100,000 ids that the store has not issued, by each transport. None is accepted, none is looked up, none
//! panics.

use super::*;
use crate::block_on::block_on;
use crate::client_id::{ClientIds, Secret};
use crate::http::{BearerTransport, CookieSettings, HeaderTransport};
use crate::steps;
use crate::storage::memory::Random;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Request};
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

/// Ids that have a session each, or their tokens, and others that a signer made whom the store does not know.
struct Known {
    live: Vec<Vec<u8>>,
    foreign: Vec<Vec<u8>>,
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
            9 => text = self.foreign[below(random, self.foreign.len())].clone(),
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

/// A store with sessions, and their ids. The foreign signer's secret bears the name of the store's.
fn known() -> (Store, Vec<ClientId>, ClientIds) {
    let store = Store::builder().secret(SECRET).in_memory().unwrap();
    let live = (0..64).map(|_| {
        let id = store.client_ids().issue();
        let put = |txn: &crate::Txn| txn.session(&id)?.pkg("a").insert("k", 1);
        store.transact::<_, Error>(put).unwrap();
        id
    });
    let live: Vec<_> = live.collect();
    let name = URL_SAFE_NO_PAD.decode(live[0].as_bytes()).unwrap()[18];
    let foreign = ClientIds::new(Secret::from_key(name, [8; 32]), Vec::new());
    (store, live, foreign)
}

/// The texts of ids, known and foreign.
fn texts(live: &[ClientId], foreign: &ClientIds) -> Known {
    let bytes = |id: &ClientId| id.as_bytes().to_vec();
    Known {
        live: live.iter().map(bytes).collect(),
        foreign: (0..64).map(|_| bytes(&foreign.issue())).collect(),
    }
}

/// A way for ids to travel: puts some into a request, and gives the body.
struct Way {
    settings: Arc<LayerSettings>,
    put: fn(&mut request::Parts, &[Vec<u8>]) -> Vec<u8>,
    per_request: usize,
    /// Whether a text can stand there as one value.
    fits: fn(&[u8]) -> bool,
}

fn is_value(text: &[u8]) -> bool {
    HeaderValue::from_bytes(text).is_ok()
}

impl Way {
    /// What a request with these ids finds, and how many steps that takes.
    fn visit(&self, ids: &[Vec<u8>]) -> (Option<u32>, bool, usize) {
        let (mut parts, ()) = Request::new(()).into_parts();
        let body = (self.put)(&mut parts, ids);
        let exchange = Exchange::new(Arc::clone(&self.settings), parts, &SizeHint::default());
        let mut found = (None, false);
        let steps = steps::of(|| {
            present(&exchange, body);
            let (_txn, session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
            found = (
                session.pkg("a").get("k").unwrap(),
                session.exists().unwrap(),
            );
            assert_eq!(session.client_id().is_some(), found.1);
        });
        (found.0, found.1, steps)
    }

    fn refuses_what_is_forged(&self, known: &Known) {
        let live: HashSet<&[u8]> = known.live.iter().map(Vec::as_slice).collect();
        let (value, exists, without) = self.visit(&[]);
        assert_eq!((value, exists), (None, false));
        let (value, exists, with) = self.visit(&known.live[..1]);
        assert_eq!((value, exists), (Some(1), true));
        assert!(with > without, "a look-up is not counted");

        let ids = self.settings.store.client_ids();
        let mut random = Random::new(seed());
        let (mut tried, mut sent) = (0, Vec::new());
        while tried < FORGED {
            let forged = known.forge(&mut random);
            if live.contains(&forged[..]) {
                continue;
            }
            tried += 1;
            let text = String::from_utf8_lossy(&forged);
            assert!(ids.verify_bytes(&forged).is_none(), "{text}");
            assert!(ids.verify(&text).is_none(), "{text}");
            // An id with something around it that is no part of it is that id.
            if (self.fits)(&forged) && !live.contains(forged.trim_ascii()) {
                sent.push(forged);
            }
            if sent.len() == self.per_request {
                let found = self.visit(&sent);
                assert_eq!(found, (None, false, without), "{sent:?}");
                sent.clear();
            }
        }
    }
}

/// Reads what a body presents, as the layer does before the first attempt.
#[cfg(feature = "url-ids")]
fn present(exchange: &Arc<Exchange>, body: Vec<u8>) {
    let body = http_body_util::Full::new(Bytes::from(body));
    let (_, mut body) = crate::http::replay::RequestBody::of(body, exchange, 0);
    block_on(exchange.read_tokens(&mut body));
}

#[cfg(not(feature = "url-ids"))]
fn present(_: &Arc<Exchange>, _: Vec<u8>) {}

/// The seed that the environment gives, or any.
fn seed() -> u64 {
    let seed = match std::env::var("CLOAKROOM_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    };
    println!("CLOAKROOM_SEED={seed}");
    seed
}

fn layer(store: Store, set: impl FnOnce(&mut LayerSettings)) -> Arc<LayerSettings> {
    let mut settings = LayerSettings::new(store);
    set(&mut settings);
    Arc::new(settings)
}

// C4.1
#[test]
fn of_a_hundred_thousand_forged_cookies_none_is_accepted_and_none_is_looked_up() {
    let (store, live, foreign) = known();
    let name = CookieSettings::new().name("sid").unwrap();
    let way = Way {
        settings: layer(store, |settings| settings.set_cookie(name)),
        put: |request, ids| {
            for id in ids {
                let field = [b"__Host-sid=", &id[..]].concat();
                let field = HeaderValue::from_bytes(&field).unwrap();
                request.headers.append(header::COOKIE, field);
            }
            Vec::new()
        },
        per_request: PER_REQUEST,
        fits: |text| is_value(text) && !text.contains(&b';'),
    };
    way.refuses_what_is_forged(&texts(&live, &foreign));
}

// C4.1, C8.3
#[test]
fn of_a_hundred_thousand_forged_bearers_none_is_accepted_and_none_is_looked_up() {
    let (store, live, foreign) = known();
    let bearer = Arc::new(BearerTransport::new());
    let way = Way {
        settings: layer(store, |settings| settings.rules.transports.push(bearer)),
        put: |request, ids| {
            let id = ids.first().map_or(NEW, Vec::as_slice);
            let field = HeaderValue::from_bytes(&[b"Bearer ", id].concat()).unwrap();
            request.headers.insert(header::AUTHORIZATION, field);
            Vec::new()
        },
        per_request: 1,
        fits: is_value,
    };
    way.refuses_what_is_forged(&texts(&live, &foreign));
}

const FIELD: HeaderName = HeaderName::from_static("x-session-id");

// C4.1, C8.3
#[test]
fn of_a_hundred_thousand_forged_header_fields_none_is_accepted_and_none_is_looked_up() {
    let (store, live, foreign) = known();
    let field = Arc::new(HeaderTransport::new(FIELD).unwrap());
    let way = Way {
        settings: layer(store, |settings| settings.rules.transports.push(field)),
        put: |request, ids| {
            let id = ids.first().map_or(NEW, Vec::as_slice);
            let field = HeaderValue::from_bytes(id).unwrap();
            request.headers.insert(FIELD, field);
            Vec::new()
        },
        per_request: 1,
        fits: is_value,
    };
    way.refuses_what_is_forged(&texts(&live, &foreign));
}

#[cfg(feature = "url-ids")]
mod tokens {
    use super::*;
    use crate::http::url_tokens::{TokenContext, token_of};
    use crate::http::{FormTransport, QueryTransport};
    use std::net::IpAddr;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// The tokens of ids, known and foreign. Half of the foreign ones are the store's own for another address.
    fn tokens(store: &Store, live: &[ClientId], foreign: &ClientIds) -> Known {
        let later = store.arrival().at + std::time::Duration::from_secs(3600);
        let token = |ids: &ClientIds, id: &ClientId, ip: IpAddr| {
            let context = TokenContext {
                store: store.identity(),
                ip,
            };
            token_of(ids, id, context, later).unwrap().into_bytes()
        };
        let ids = store.client_ids();
        let there = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
        let elsewhere = live.iter().map(|id| token(ids, id, there));
        let others = live.iter().map(|id| token(foreign, id, HOME));
        Known {
            live: live.iter().map(|id| token(ids, id, HOME)).collect(),
            foreign: elsewhere.chain(others).collect(),
        }
    }

    fn at_home(request: &mut request::Parts) {
        request.extensions.insert(VisitorAddress {
            ip: HOME,
            scheme: None,
        });
    }

    // C4.1, C8.3
    #[test]
    fn of_a_hundred_thousand_forged_parameters_none_is_accepted_and_none_is_looked_up() {
        let (store, live, foreign) = known();
        let known = tokens(&store, &live, &foreign);
        let query = Arc::new(QueryTransport::new("sid").unwrap());
        let way = Way {
            settings: layer(store, |settings| settings.rules.transports.push(query)),
            put: |request, ids| {
                at_home(request);
                let id = ids.first().map_or(&b""[..], Vec::as_slice);
                let uri = [b"/?sid=", id].concat();
                request.uri = http::Uri::try_from(&uri[..]).unwrap();
                Vec::new()
            },
            per_request: 1,
            fits: |text| {
                let uri = http::Uri::try_from(&[b"/?sid=", text].concat()[..]);
                uri.is_ok() && !text.contains(&b'&') && !text.contains(&b'#')
            },
        };
        way.refuses_what_is_forged(&known);
    }

    // C4.1, C8.3
    #[test]
    fn of_a_hundred_thousand_forged_form_fields_none_is_accepted_and_none_is_looked_up() {
        let (store, live, foreign) = known();
        let known = tokens(&store, &live, &foreign);
        let form = Arc::new(FormTransport::new("sid").unwrap());
        let way = Way {
            settings: layer(store, |settings| settings.rules.transports.push(form)),
            put: |request, ids| {
                at_home(request);
                request.method = http::Method::POST;
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers.insert(header::CONTENT_TYPE, kind);
                let id = ids.first().map_or(&b""[..], Vec::as_slice);
                [b"sid=", id].concat()
            },
            per_request: 1,
            fits: |text| !text.contains(&b'&'),
        };
        way.refuses_what_is_forged(&known);
    }
}
