//! Lives of a store under one seed. Visitors use it, the disk fails at times, the power fails at some operation, and
//! the store is opened again. Everything that it then serves is compared with the model.

use crate::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use crate::model::{Cookies, Op, Play, Recovered, Scene, Verdict, op, scene_on_disk};
use cloakroom::Result;
use cloakroom::torture::InjectedFault;
use fastrand::Rng;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Crashes that one store lives through, at most.
const LIVES: u32 = 12;
/// Steps of one life, at most.
const STEPS: usize = 60;

/// The number of trials, and their findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub crashes: u64,
    pub faults: u64,
    pub commits: u64,
    pub lost: u64,
    pub torn: u64,
    pub phantom: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.commits += other.commits;
        self.lost += other.lost;
        self.torn += other.torn;
        self.phantom += other.phantom;
    }
}

impl Tally {
    /// Whether everything was as the contract says.
    pub fn is_clean(&self) -> bool {
        self.lost + self.torn + self.phantom == 0
    }

    fn find(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Lost => self.lost += 1,
            Verdict::Torn => self.torn += 1,
            Verdict::Phantom => self.phantom += 1,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            crashes,
            faults,
            commits,
            lost,
            torn,
            phantom,
        } = self;
        write!(
            f,
            "crashes {crashes}, faults {faults}, commits {commits}, lost {lost}, torn {torn}, phantom {phantom}"
        )
    }
}

/// Draws the scene and the operations for a seed.
fn draw<S: Strategy>(strategy: &S, seed: u64) -> S::Value {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).unwrap().current()
}

/// A store on a disk that crashes and fails.
struct Life {
    play: Play,
    chance: Rng,
    tally: Tally,
    /// What goes wrong besides crashes.
    faults: bool,
    /// Whether each step is printed: where the environment has `CLOAKROOM_TRACE`.
    traced: bool,
}

impl Life {
    fn new(scene: Scene, seed: u64, bug: Option<InjectedFault>) -> Self {
        let mut chance = Rng::with_seed(seed);
        let disk = Disk::new(chance.u64(..));
        Self {
            play: Play::new(scene, disk, bug),
            faults: chance.bool(),
            chance,
            tally: Tally::default(),
            traced: std::env::var_os("CLOAKROOM_TRACE").is_some(),
        }
    }

    /// Opens the store, which the disk may hinder.
    fn open(&mut self) -> Result<()> {
        self.play.open()
    }

    /// Does all this, as far as the disk lets it. Tells whether the play can go on.
    fn live(&mut self, ops: &[Op]) -> bool {
        if self.play.is_closed() && self.open().is_err() {
            return self.stopped();
        }
        for op in ops {
            if self.faults && self.chance.u8(..3) == 0 {
                let fault = self.fault();
                self.play.disk.fail(fault);
            }
            let done = self.play.run(*op);
            if self.traced {
                eprintln!("{op:?}: {done:?}");
            }
            if done.is_err() && !self.stopped() {
                return false;
            }
            if self.play.disk.has_crashed() {
                return true;
            }
            // A checkpoint may have failed. No commit is told, but the store was opened again because of it.
            if self.play.disk.heal() && !self.play.is_closed() && !self.go_on() {
                return false;
            }
        }
        true
    }

    fn fault(&mut self) -> Fault {
        let on: fn(Call) -> bool = match self.chance.u8(..6) {
            0 => |call| call == Call::Read,
            1 => |call| call == Call::Sync,
            2 => |call| call == Call::SetLen,
            3 => |call| call == Call::Write,
            4 => |_| true,
            _ => Call::changes,
        };
        let code = if self.chance.bool() { EIO } else { ENOSPC };
        let failure = match self.chance.u8(..9) {
            0 => Failure::Panic,
            1..4 => Failure::Error(code),
            _ => Failure::Half(code),
        };
        let forever = self.chance.u8(..4) == 0;
        Fault {
            on,
            after: self.chance.usize(..12),
            times: if forever { Fault::FOR_GOOD } else { 1 },
            failure,
        }
    }

    /// A step ended in a failure of the storage. Tells whether the play can go on.
    fn stopped(&mut self) -> bool {
        let Self { play, .. } = self;
        if play.disk.has_crashed() {
            return true;
        }
        assert!(
            play.disk.heal(),
            "storage failed although nothing was made to fail"
        );
        if play.is_closed() {
            // A store that could not be closed or opened is opened again, as an operator would do.
            play.end();
            play.disk = play.disk.after_kill();
            return self.come_back();
        }
        self.go_on()
    }

    fn go_on(&mut self) -> bool {
        match self.play.go_on() {
            Ok(recovered) => self.judge(recovered),
            Err(_) if self.play.disk.has_crashed() => true,
            Err(error) => panic!("nothing fails any more: {error:?}"),
        }
    }

    fn judge(&mut self, recovered: Recovered) -> bool {
        if self.traced {
            eprintln!("recovered: {recovered:?}");
        }
        match recovered {
            Recovered::Whole => true,
            // A new store is as good.
            Recovered::Either => false,
            Recovered::Not(verdict) => {
                self.tally.find(verdict);
                false
            }
        }
    }

    /// The power goes, or the process is killed, if it was not yet; the store is opened again, which may
    /// crash in turn. Tells whether the play can go on.
    fn crash(&mut self) -> bool {
        loop {
            self.tally.crashes += 1;
            if self.traced {
                eprintln!("crash");
            }
            self.play.end();
            self.tally.faults += self.play.disk.counts().faults;
            self.play.disk = if self.chance.u8(..5) == 0 {
                self.play.disk.after_kill()
            } else {
                self.play.disk.after_power_loss(&mut self.chance)
            };
            if self.chance.u8(..3) == 0 {
                self.play.disk.crash_at(self.chance.u64(1..60));
            }
            let whole = self.come_back();
            if !self.play.disk.has_crashed() {
                return whole;
            }
        }
    }

    fn come_back(&mut self) -> bool {
        let recovered = self.open().and_then(|()| self.play.recover());
        match recovered {
            Ok(recovered) => self.judge(recovered),
            Err(_) if self.play.disk.has_crashed() => false,
            Err(error) => {
                eprintln!("the store does not open again: {error:?}");
                self.tally.find(Verdict::Lost);
                false
            }
        }
    }
}

/// Runs a part of a life; a panic is something found.
fn watched(life: &mut Life, part: impl FnOnce(&mut Life) -> bool) -> bool {
    let whole = catch_unwind(AssertUnwindSafe(|| part(life)));
    whole.unwrap_or_else(|_| {
        life.tally.find(Verdict::Phantom);
        false
    })
}

/// One store's lives.
pub fn lives(seed: u64, bug: Option<InjectedFault>) -> Tally {
    let scene = draw(&scene_on_disk(), seed);
    let mut life = Life::new(scene, seed, bug);
    for number in 0..LIVES {
        let ops = draw(&vec(op(), 1..STEPS), seed ^ (u64::from(number) << 48));
        if life.chance.u8(..4) > 0 {
            let at = life.chance.u64(1..800);
            life.play.disk.crash_at(at);
        }
        let whole = watched(&mut life, |life| life.live(&ops) && life.crash());
        if !whole {
            break;
        }
    }
    finish(life)
}

fn finish(mut life: Life) -> Tally {
    life.play.end();
    life.tally.faults += life.play.disk.counts().faults;
    life.tally.commits = life.play.commits;
    life.tally
}

/// A short life, without a crash; tells how many operations it asked of the disk, and their number
/// in total where they are the same in every run.
fn short(seed: u64, bug: Option<InjectedFault>) -> (Life, Vec<Op>) {
    let scene = draw(&scene_on_disk(), seed);
    let mut life = Life::new(scene, seed, bug);
    life.faults = false;
    (life, draw(&vec(op(), STEPS / 2..STEPS), seed))
}

/// The operations of a short life without a crash.
pub fn operations(seed: u64) -> u64 {
    let (mut life, ops) = short(seed, None);
    assert!(life.live(&ops), "nothing was made to fail");
    close(&mut life.play).expect("nothing was made to fail");
    life.play.disk.counts().operations()
}

fn close(play: &mut Play) -> Result<()> {
    for t in 0..3 {
        play.commit(t, Cookies::Taken)?;
    }
    play.run(Op::Reopen)
}

/// A short life that crashes at its n-th operation.
pub fn crash_at(seed: u64, n: u64, bug: Option<InjectedFault>) -> Tally {
    let (mut life, ops) = short(seed, bug);
    life.chance = Rng::with_seed(seed ^ n);
    life.play.disk.crash_at(n);
    watched(&mut life, |life| {
        life.live(&ops);
        if !life.play.disk.has_crashed() {
            let _ = close(&mut life.play);
        }
        life.crash()
    });
    finish(life)
}
