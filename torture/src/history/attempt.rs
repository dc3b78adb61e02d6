//! Random operations of one transaction, carried out and written down. Knows no threads.

use super::model::{Name, Op};
use super::world::{Client, FlagKey, PACKAGES, World, existence};
use cloakroom::{ClientId, PkgData, Result, Savepoint, Session, Txn};
use fastrand::Rng;
use std::collections::BTreeSet;

const KEYS: [&str; 2] = ["one", "two"];

/// One transaction while it runs.
pub(super) struct Attempt<'a> {
    world: &'a World,
    txn: &'a Txn,
    pub(super) ops: Vec<Op>,
    pub(super) raised: Vec<FlagKey>,
    /// Whether it wrote what another may have written, too, and must know its outcome therefore.
    pub(super) counted: bool,
    savepoints: Vec<Savepoint>,
    ended: BTreeSet<usize>,
}

/// A package of a lasting session, drawn at random.
struct DrawnPackage {
    lasting_at: usize,
    package: &'static str,
    data: PkgData,
}

impl DrawnPackage {
    fn name(&self, world: &World, key: &str) -> Name {
        let client = &world.lasting[self.lasting_at].name;
        format!("{client}/{}/{key}", self.package).into()
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(world: &'a World, txn: &'a Txn) -> Self {
        Self {
            world,
            txn,
            ops: Vec::new(),
            raised: Vec::new(),
            counted: false,
            savepoints: Vec::new(),
            ended: BTreeSet::new(),
        }
    }

    fn session(&self, client: &Client) -> Result<Session> {
        self.txn.session(&client.id)
    }

    fn draw_package(&self, rng: &mut Rng, kind: &str) -> Result<(DrawnPackage, String)> {
        let lasting_at = rng.usize(..self.world.lasting.len());
        let package = PACKAGES[rng.usize(..PACKAGES.len())];
        let key = KEYS[rng.usize(..KEYS.len())];
        let data = self.session(&self.world.lasting[lasting_at])?.pkg(package);
        let place = DrawnPackage {
            lasting_at,
            package,
            data,
        };
        let stored = format!("{kind} {key}");
        Ok((place, stored))
    }

    /// One operation.
    pub(super) fn step(&mut self, rng: &mut Rng) -> Result<()> {
        match rng.u32(..100) {
            0..12 => self.read_list(rng),
            12..34 => self.append(rng),
            34..40 => self.read_register(rng, false),
            40..48 => self.read_register(rng, true),
            48..54 => self.sum(rng),
            54..62 => self.add(rng),
            62..74 => self.flag(rng),
            74..80 => self.log(rng),
            80..86 => self.visit(rng),
            86..92 => self.end_or_read_a_session(rng),
            _ => self.savepoint(rng),
        }
    }

    fn read_list(&mut self, rng: &mut Rng) -> Result<()> {
        let (place, key) = self.draw_package(rng, "list")?;
        let list: Vec<u64> = place.data.get(&key)?.unwrap_or_default();
        self.ops
            .push(Op::ReadList(place.name(self.world, &key), list));
        Ok(())
    }

    fn append(&mut self, rng: &mut Rng) -> Result<()> {
        let (place, key) = self.draw_package(rng, "list")?;
        let name = place.name(self.world, &key);
        let element = self.world.value();
        let mut read = None;
        match rng.u32(..3) {
            0 => {
                let mut list: Vec<u64> = place.data.get(&key)?.unwrap_or_default();
                read = Some(list.clone());
                list.push(element);
                place.data.insert(&key, list)?;
            }
            1 => {
                place.data.update(&key, |list: Option<Vec<u64>>| {
                    let mut list = list.unwrap_or_default();
                    read = Some(list.clone());
                    list.push(element);
                    list
                })?;
            }
            _ => place.data.commute(&key, move |list: Option<Vec<u64>>| {
                let mut list = list.unwrap_or_default();
                list.push(element);
                list
            })?,
        }
        if let Some(list) = read {
            self.ops.push(Op::ReadList(name.clone(), list));
        }
        self.ops.push(Op::Append(name, element));
        Ok(())
    }

    fn read_register(&mut self, rng: &mut Rng, writes: bool) -> Result<()> {
        let (place, key) = self.draw_package(rng, "register")?;
        let name = place.name(self.world, &key);
        let value = place.data.get(&key)?;
        self.ops.push(Op::Read(name.clone(), value));
        if writes {
            let value = self.world.value();
            place.data.insert(&key, value)?;
            self.ops.push(Op::Write(name, value));
        }
        Ok(())
    }

    fn sum(&mut self, rng: &mut Rng) -> Result<()> {
        let (place, key) = self.draw_package(rng, "sum")?;
        let sum = place.data.get(&key)?.unwrap_or(0);
        self.ops.push(Op::Sum(place.name(self.world, &key), sum));
        Ok(())
    }

    fn add(&mut self, rng: &mut Rng) -> Result<()> {
        let (place, key) = self.draw_package(rng, "sum")?;
        let name = place.name(self.world, &key);
        if let Some(bit) = self.world.bit(&name) {
            place.data.add(&key, i64::try_from(bit).unwrap())?;
            self.ops.push(Op::Add(name, bit));
        }
        Ok(())
    }

    /// Keys that come and go, in packages that hold nothing else.
    fn flag(&mut self, rng: &mut Rng) -> Result<()> {
        let lasting_at = rng.usize(..self.world.lasting.len());
        let package = if rng.bool() { "left" } else { "right" };
        match rng.u32(..4) {
            0 => {
                let key = format!("{}", self.world.value());
                let (data, name) = self.flag_at(lasting_at, package, &key)?;
                data.insert(&key, true)?;
                self.ops.push(Op::Raise(name));
                self.raised.push((lasting_at, package, key));
            }
            1 => {
                let (data, _) = self.flag_at(lasting_at, package, "")?;
                let client = &self.world.lasting[lasting_at].name;
                let prefix = format!("{client}/{package}/");
                let keys = data.keys()?;
                let names = keys.iter().map(|key| format!("{prefix}{key}").into());
                self.ops
                    .push(Op::Listed(prefix.as_str().into(), names.collect()));
            }
            choice => {
                let Some((lasting_at, package, key)) = self.any_flag(rng) else {
                    return Ok(());
                };
                let (data, name) = self.flag_at(lasting_at, package, &key)?;
                if choice == 2 {
                    self.ops.push(Op::Seen(name, data.contains_key(&key)?));
                    return Ok(());
                }
                let there = data.remove(&key)?;
                self.ops.push(Op::Seen(name.clone(), there));
                if there {
                    self.ops.push(Op::Lower(name));
                }
            }
        }
        Ok(())
    }

    fn any_flag(&self, rng: &mut Rng) -> Option<FlagKey> {
        self.world.any_flag(rng)
    }

    fn flag_at(&self, lasting_at: usize, package: &str, key: &str) -> Result<(PkgData, Name)> {
        let client = &self.world.lasting[lasting_at];
        let name = format!("{}/{package}/{key}", client.name);
        Ok((self.session(client)?.pkg(package), name.into()))
    }

    /// A package with numbered keys: a transaction that adds one has counted them.
    fn log(&mut self, rng: &mut Rng) -> Result<()> {
        let client = rng.choice(&self.world.lasting).unwrap();
        let data = self.session(client)?.pkg("log");
        let name: Name = format!("{}/log", client.name).into();
        let count = data.len()? as u64;
        let read = (count > 0).then_some(count);
        self.ops.push(Op::Read(name.clone(), read));
        if rng.bool() {
            data.insert(&format!("{count}"), true)?;
            self.ops.push(Op::Write(name, count + 1));
            self.counted = true;
        }
        Ok(())
    }

    /// Where a look may conflict, `client_id` is `None` then, too.
    fn is_absent(&self, session: &Session) -> Result<bool> {
        if self.world.is_of_several() {
            return Ok(!session.exists()?);
        }
        Ok(session.client_id().is_none())
    }

    /// Sessions that come into being.
    fn visit(&mut self, rng: &mut Rng) -> Result<()> {
        let Some(client) = rng.choice(&self.world.visitors) else {
            return Ok(());
        };
        let session = self.session(client)?;
        if rng.bool() {
            let there = session.exists()?;
            self.ops.push(Op::Seen(existence(client), there));
        } else if rng.u32(..3) == 0 && self.is_absent(&session)? {
            // To end a session that is not there is to observe its absence.
            session.destroy()?;
            self.ops.push(Op::Seen(existence(client), false));
        } else if rng.u32(..3) == 0 {
            session.set_owner(Some("visitor"))?;
            self.ops.push(Op::Raise(existence(client)));
        } else {
            let package = session.pkg(PACKAGES[rng.usize(..PACKAGES.len())]);
            package.insert(&format!("{}", self.world.value()), true)?;
            self.ops.push(Op::Raise(existence(client)));
        }
        Ok(())
    }

    /// Sessions that end.
    fn end_or_read_a_session(&mut self, rng: &mut Rng) -> Result<()> {
        let ending = &self.world.ending;
        let Some(which) = (!ending.is_empty()).then(|| rng.usize(..ending.len())) else {
            return Ok(());
        };
        let client = &ending[which];
        let session = self.session(client)?;
        let what = rng.u32(..5);
        // After it was rotated here, the old id stands for the new session until the commit.
        if self.ended.contains(&which) {
            return Ok(());
        }
        if what < 2 {
            let there = session.exists()?;
            self.ops.push(Op::Seen(existence(client), there));
            return Ok(());
        }
        // A write that is rolled back is none, and says nothing of the session any more.
        let live = session.client_id().as_ref().map(ClientId::as_str) == Some(client.id.as_str());
        if !live || !self.savepoints.is_empty() {
            return Ok(());
        }
        self.ops.push(Op::Seen(existence(client), true));
        match what {
            2 | 3 => {
                let package = session.pkg(PACKAGES[rng.usize(..PACKAGES.len())]);
                package.insert(&format!("{}", self.world.value()), true)?;
            }
            _ => {
                if rng.bool() {
                    session.destroy()?;
                } else {
                    session.rotate()?;
                }
                self.ops.push(Op::Lower(existence(client)));
                self.ended.insert(which);
            }
        }
        Ok(())
    }

    fn savepoint(&mut self, rng: &mut Rng) -> Result<()> {
        if self.savepoints.is_empty() || rng.bool() {
            self.savepoints.push(self.txn.savepoint()?);
            self.ops.push(Op::Savepoint);
            return Ok(());
        }
        let place = rng.usize(..self.savepoints.len());
        self.savepoints.truncate(place + 1);
        self.txn.rollback_to(&self.savepoints[place])?;
        self.ops.push(Op::RollBack(place));
        Ok(())
    }

    /// Founds the sessions that are there from the start.
    pub(super) fn found(&mut self) -> Result<()> {
        for client in &self.world.lasting {
            let session = self.session(client)?;
            session.pkg("shop").insert("founded", true)?;
        }
        for client in &self.world.ending {
            let session = self.session(client)?;
            for package in PACKAGES {
                session.pkg(package).insert("founded", true)?;
            }
            self.ops.push(Op::Raise(existence(client)));
        }
        Ok(())
    }

    /// Reads everything there is.
    pub(super) fn read_all(&mut self) -> Result<()> {
        for client in &self.world.lasting {
            let session = self.session(client)?;
            for package in PACKAGES {
                let data = session.pkg(package);
                for key in KEYS {
                    let name = |kind| format!("{}/{package}/{kind} {key}", client.name).into();
                    let list: Option<Vec<u64>> = data.get(&format!("list {key}"))?;
                    self.ops
                        .push(Op::ReadList(name("list"), list.unwrap_or_default()));
                    let value = data.get(&format!("register {key}"))?;
                    self.ops.push(Op::Read(name("register"), value));
                    let sum: Option<u64> = data.get(&format!("sum {key}"))?;
                    self.ops.push(Op::Sum(name("sum"), sum.unwrap_or(0)));
                }
            }
            for package in ["left", "right"] {
                let prefix = format!("{}/{package}/", client.name);
                let keys = session.pkg(package).keys()?;
                let names = keys.iter().map(|key| format!("{prefix}{key}").into());
                self.ops
                    .push(Op::Listed(prefix.as_str().into(), names.collect()));
            }
            let count = session.pkg("log").len()? as u64;
            let read = (count > 0).then_some(count);
            self.ops
                .push(Op::Read(format!("{}/log", client.name).into(), read));
        }
        for client in self.world.visitors.iter().chain(&self.world.ending) {
            let there = self.session(client)?.exists()?;
            self.ops.push(Op::Seen(existence(client), there));
        }
        Ok(())
    }
}
