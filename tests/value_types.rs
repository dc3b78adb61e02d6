//! Values (C5.6): what serializes otherwise for people than for machines comes back from wherever serde
//! can put it, also from what it buffers.

#![allow(clippy::unwrap_used, reason = "tests")]

use bitflags::bitflags;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use cloakroom::{ClientId, ErrorKind, Store, Txn};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::LazyLock;
use uuid::Uuid;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Rights: u16 {
        const READ = 1;
        const WRITE = 1 << 1;
        const OWN = 1 << 9;
    }
}

/// One of each type whose form depends on whom it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    ip: IpAddr,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    socket: SocketAddr,
    uuid: Uuid,
    time: DateTime<Utc>,
    local: NaiveDateTime,
    date: NaiveDate,
    rights: Rights,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External<T> {
    One(T),
    Two(T, T),
    Named { value: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal<T> {
    Named { value: T, maybe: Option<T> },
    Other { list: Vec<T> },
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent<T> {
    One(T),
    Two(T, T),
    Named { value: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    Pair(T, T),
    Named { value: T },
    One(T),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner<T> {
    value: T,
    maybe: Option<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat<T> {
    name: String,
    #[serde(flatten)]
    inner: Inner<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatEnum<T> {
    name: u8,
    #[serde(flatten)]
    inner: Internal<T>,
}

/// Fields without a name of their own go to a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rest<T> {
    name: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, T>,
}

/// In what is tagged, buffered twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Nested<T> {
    Flat(Flat<Internal<T>>),
    Maps(Vec<BTreeMap<String, Option<T>>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum ByKey<K: std::hash::Hash + Eq> {
    Map { map: HashMap<K, u8> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FlatByKey<K: std::hash::Hash + Eq> {
    #[serde(flatten)]
    map: HashMap<K, u8>,
}

/// A store, and a session in it.
static STORED: LazyLock<(Store, ClientId)> = LazyLock::new(|| {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    (store, id)
});

fn comes_back<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (store, id) = &*STORED;
    store.transact(|txn| txn.session(id)?.pkg("app").insert(store_key::<T>(), value))?;
    let read: Option<T> = store
        .begin()?
        .session(id)?
        .pkg("app")
        .get(store_key::<T>())?;
    prop_assert_eq!(read.as_ref(), Some(value));
    Ok(())
}

/// Tests run at the same time; each type has a key of its own.
fn store_key<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.split_at(name.len().saturating_sub(255)).1
}

fn every_form<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + Clone,
{
    let one = || value.clone();
    comes_back(value)?;
    comes_back(&[Some(one()), None])?;
    comes_back(&BTreeMap::from([("a".to_owned(), one())]))?;
    comes_back(&[
        External::One(one()),
        External::Two(one(), one()),
        External::Named { value: one() },
    ])?;
    let internal = [
        Internal::Named {
            value: one(),
            maybe: Some(one()),
        },
        Internal::Named {
            value: one(),
            maybe: None,
        },
        Internal::Other {
            list: vec![one(), one()],
        },
        Internal::Nothing,
    ];
    comes_back(&internal)?;
    comes_back(&[
        Adjacent::One(one()),
        Adjacent::Two(one(), one()),
        Adjacent::Named { value: one() },
    ])?;
    comes_back(&[
        Untagged::Pair(one(), one()),
        Untagged::Named { value: one() },
        Untagged::One(one()),
    ])?;
    for maybe in [Some(one()), None] {
        let value = one();
        comes_back(&Flat {
            name: "flat".to_owned(),
            inner: Inner { value, maybe },
        })?;
    }
    for inner in internal {
        comes_back(&FlatEnum {
            name: 1,
            inner: inner.clone(),
        })?;
        comes_back(&Nested::Flat(Flat {
            name: "nested".to_owned(),
            inner: Inner {
                value: inner.clone(),
                maybe: Some(inner),
            },
        }))?;
    }
    comes_back(&Rest {
        name: 1,
        rest: BTreeMap::from([("a".to_owned(), one()), ("b".to_owned(), one())]),
    })?;
    let maps = [("a".to_owned(), Some(one())), ("b".to_owned(), None)];
    comes_back(&Nested::Maps(vec![BTreeMap::from(maps)]))
}

fn as_key<K>(key: &K) -> Result<(), TestCaseError>
where
    K: Serialize + DeserializeOwned + Debug + Clone + std::hash::Hash + Ord,
{
    let map = || HashMap::from([(key.clone(), 1)]);
    comes_back(&BTreeMap::from([(key.clone(), 1)]))?;
    comes_back(&BTreeMap::from([(Some(key.clone()), 1)]))?;
    comes_back(&ByKey::Map { map: map() })?;
    comes_back(&FlatByKey { map: map() })
}

fn each<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + Debug + Clone + std::hash::Hash + Ord,
{
    every_form(value)?;
    as_key(value)
}

fn date() -> impl Strategy<Value = NaiveDate> {
    (1..4_000_000).prop_map(|day| NaiveDate::from_num_days_from_ce_opt(day).unwrap())
}

fn time() -> impl Strategy<Value = NaiveTime> {
    (0_u32..86_400, 0_u32..1_000_000_000)
        .prop_map(|(s, ns)| NaiveTime::from_num_seconds_from_midnight_opt(s, ns).unwrap())
}

fn local() -> impl Strategy<Value = NaiveDateTime> {
    (date(), time()).prop_map(|(date, time)| date.and_time(time))
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    })
}

fn rights() -> impl Strategy<Value = Rights> {
    // Bits without a name, too.
    any::<u16>().prop_map(Rights::from_bits_retain)
}

fn all() -> impl Strategy<Value = All> {
    let addresses = (any::<IpAddr>(), any::<Ipv4Addr>(), any::<Ipv6Addr>());
    let times = (local(), local(), date());
    (addresses, socket(), any::<u128>(), times, rights()).prop_map(
        |((ip, v4, v6), socket, uuid, (time, local, date), rights)| All {
            ip,
            v4,
            v6,
            socket,
            uuid: Uuid::from_u128(uuid),
            time: time.and_utc(),
            local,
            date,
            rights,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // C5.6
    #[test]
    fn addresses_come_back(ip: IpAddr, v4: Ipv4Addr, v6: Ipv6Addr, socket in socket()) {
        each(&ip)?;
        each(&v4)?;
        each(&v6)?;
        each(&socket)?;
    }

    // C5.6
    #[test]
    fn uuids_come_back(bits: u128) {
        each(&Uuid::from_u128(bits))?;
        each(&Uuid::from_u128(bits).simple())?;
    }

    // C5.6
    #[test]
    fn times_come_back(local in local(), date in date(), time in time()) {
        each(&local.and_utc())?;
        each(&local)?;
        each(&date)?;
        each(&time)?;
        each(&chrono::Month::try_from((local.and_utc().timestamp().rem_euclid(12) + 1) as u8).unwrap())?;
    }

    // C5.6
    #[test]
    fn bit_flags_come_back(rights in rights()) {
        each(&rights)?;
    }

    // C5.6
    #[test]
    fn structs_of_them_come_back(all in all()) {
        every_form(&all)?;
    }
}

fn does_not_come_back<T>(value: &T)
where
    T: Serialize + DeserializeOwned + Debug,
{
    let (store, id) = &*STORED;
    let insert = |txn: &Txn| txn.session(id)?.pkg("app").insert(store_key::<T>(), value);
    store.transact(insert).unwrap();
    let txn = store.begin().unwrap();
    let read = txn
        .session(id)
        .unwrap()
        .pkg("app")
        .get::<T>(store_key::<T>());
    assert_eq!(
        read.unwrap_err().kind(),
        ErrorKind::TypeMismatch,
        "{value:?}"
    );
}

fn outside_of_buffers_only<T>(value: T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + Clone,
{
    let one = || value.clone();
    let inner = || Inner {
        value: one(),
        maybe: Some(one()),
    };
    comes_back(&inner()).unwrap();
    comes_back(&[
        External::Two(one(), one()),
        External::Named { value: one() },
    ])
    .unwrap();
    comes_back(&[Adjacent::One(one()), Adjacent::Named { value: one() }]).unwrap();
    does_not_come_back(&Internal::Named {
        value: one(),
        maybe: None,
    });
    does_not_come_back(&Untagged::One(one()));
    does_not_come_back(&Flat {
        name: "flat".to_owned(),
        inner: inner(),
    });
    does_not_come_back(&Rest {
        name: 1,
        rest: BTreeMap::from([("a".to_owned(), one())]),
    });
}

// C5.6: a limit of serde's, which the docs of `insert` state. Where this fails because they come back, these docs
// are to be changed.
#[test]
fn what_serde_buffers_has_no_128_bit_types_whatever_the_value() {
    outside_of_buffers_only(5_i128);
    outside_of_buffers_only(5_u128);
    outside_of_buffers_only(i128::MIN);
    outside_of_buffers_only(u128::MAX);
}
