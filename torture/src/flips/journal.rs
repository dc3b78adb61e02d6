//! The expected effect of damage to a journal. Damage to any part of a frame loses its group. If other groups follow
//! it, or the store's file knows of it, the store is refused. At the end of the journal the group is cut off.

use super::*;
use std::ops::Range;

pub(super) const SECTOR: usize = 512;
pub(super) const SECOND_HEADER: usize = 4096;
pub(super) const FIRST_FRAME: usize = 8192;
/// Magic, length, salt, number.
const PREFIX: usize = 24;

/// The journal of the killed store.
pub(super) struct Log {
    /// The file that was being written, and the other one.
    pub(super) active: &'static str,
    pub(super) spare: &'static str,
    /// Where in the first the frames are, one for each group.
    pub(super) frames: Vec<Range<usize>>,
    /// And before them the one that it begins with since a checkpoint, of which the store's file knows.
    begin: Range<usize>,
}

impl Log {
    pub(super) fn of(base: &Base) -> Self {
        let journals = base.killed.keys().copied().filter(|file| !file.is_empty());
        let mut found: Vec<_> = journals
            .map(|file| (frames(&base.killed[file]), file))
            .collect();
        // The frames in the other file are of an earlier use of it.
        found.sort_by_key(|(frames, _)| frames.len() != base.groups.len() + 1);
        let [(mut frames, active), (_, spare)] = <[_; 2]>::try_from(found).unwrap();
        let begin = frames.remove(0);
        assert_eq!(frames.len(), base.groups.len(), "a frame for each group");
        Self {
            active,
            spare,
            frames,
            begin,
        }
    }
}

/// The frames at the beginning of a journal file that bear the salt of the first.
fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let mut at = FIRST_FRAME;
    while file[at..].starts_with(b"CLOK") && file[at + 8..at + 16] == file[FIRST_FRAME + 8..][..8] {
        let len = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap());
        let end = at + PREFIX + len as usize;
        frames.push(at..end);
        at = end.next_multiple_of(SECTOR);
    }
    frames
}

/// The groups that remain.
struct Left {
    /// Whether the frame of a group is whole.
    whole: Vec<bool>,
    /// Whether one of the headers is.
    header: bool,
    /// Whether the file is as long as it was, and begins with the frame that it began with.
    length: bool,
    begin: bool,
    /// Whether something tells of a group lost at the end.
    torn: bool,
}

impl Left {
    fn of(log: &Log, base: &Base, damage: &Damage, file: &[u8]) -> Self {
        let before = &base.killed[damage.file];
        let header = [0, SECOND_HEADER].iter().any(|at| {
            let len = 6 + usize::from(u16::from_le_bytes([before[at + 4], before[at + 5]]));
            file.len() >= at + SECTOR && file[*at..at + len] == before[*at..at + len]
        });
        let is_whole = |frame: &Range<usize>| {
            damage.file == log.spare || file.get(frame.clone()) == Some(&before[frame.clone()])
        };
        let whole: Vec<bool> = log.frames.iter().map(is_whole).collect();
        let end = whole.iter().rposition(|whole| *whole).map_or(0, |n| n + 1);
        let torn = log.frames.get(end).is_some_and(|frame| {
            let differ = |range: Range<usize>| {
                let pairs = file.get(range.clone())?.iter().zip(&before[range]);
                Some(pairs.map(|(a, b)| (a ^ b).count_ones()).sum::<u32>())
            };
            // Magic and salt, but for a byte's worth of bits.
            let (magic, salt) = (
                frame.start..frame.start + 4,
                frame.start + 8..frame.start + 16,
            );
            differ(magic)
                .zip(differ(salt))
                .is_some_and(|(a, b)| a + b <= 8)
        });
        Self {
            begin: is_whole(&log.begin),
            length: file.len() >= before.len(),
            whole,
            header,
            torn,
        }
    }

    /// How many groups there are up to the first that is lost.
    fn up_to(&self) -> usize {
        let lost = self.whole.iter().position(|whole| !whole);
        lost.unwrap_or(self.whole.len())
    }

    /// Whether the store can tell that something is lost: by the headers, by a missing end, by a damaged group before a
    /// whole one, or by the store's file.
    fn is_lost(&self) -> bool {
        let has_gap = self.whole[self.up_to()..].contains(&true);
        !self.header || !self.length || !self.begin || has_gap
    }
}

/// What those groups make of the store.
fn state(base: &Base, counts: impl Fn(usize) -> bool) -> State {
    let mut state = base.merged.clone();
    for (n, group) in base.groups.iter().enumerate() {
        if counts(n) {
            group.iter().for_each(|deed| state.apply(deed));
        }
    }
    state
}

impl Trial<'_> {
    pub(super) fn run_journal(&mut self) {
        match self.damage.what {
            What::Flip { .. } => self.tally.flips += 1,
            What::Cut { .. } => self.tally.truncations += 1,
            _ => self.tally.others += 1,
        }
        let log = Log::of(self.base);
        let file = &self.image[self.damage.file];
        let left = Left::of(&log, self.base, self.damage, file);
        self.opened(&left);
        self.salvaged_journal(&left);
        if !left.is_lost() && !left.whole.contains(&false) {
            self.tally.harmless += 1;
        }
    }

    /// Opens it, twice.
    fn opened(&mut self, left: &Left) {
        let path = self.folder.join("journal");
        place(&path, &self.image);
        let is_lost = left.is_lost();
        // A frame that was moved may be found where it is now, and then it is a gap.
        let may_be_lost = is_lost || (self.damage.is_swap() && left.whole.contains(&false));
        let expected = state(self.base, |n| n < left.up_to());
        for verify in [false, true] {
            match builder(&self.base.clock).verify_on_open(verify).open(&path) {
                Ok(store) if is_lost => {
                    self.tally.missed_by_verify += 1;
                    self.fail("opened without groups that are lost");
                    drop(store);
                    return;
                }
                Ok(store) => {
                    let given = self.expecting(&expected).read(&store);
                    if !given.wrong.is_empty() || !given.hit.is_empty() {
                        self.tally.wrong += 1;
                        let hit = given.hit.len();
                        self.fail(&format!("hit {hit}, wrong values: {:?}", given.wrong));
                    }
                    if !store.check().is_ok_and(|check| check.is_clean()) {
                        self.tally.missed_by_check += 1;
                        self.fail("not clean");
                    }
                    store.close().unwrap();
                }
                Err(error) => {
                    self.tally.refused += u64::from(!verify);
                    let file = with(&path, self.damage.file);
                    let named = error.to_string().contains(file.to_str().unwrap());
                    if !may_be_lost || error.kind() != ErrorKind::Corrupt || !named {
                        self.tally.missed_by_verify += 1;
                        self.fail(&format!("refused: {error}"));
                    }
                    if files(&path) != self.image {
                        self.tally.missed_by_verify += 1;
                        self.fail("refused, and changed");
                    }
                }
            }
        }
    }

    fn salvaged_journal(&mut self, left: &Left) {
        let from = self.place("from");
        let to = self.folder.join("to");
        drop(fs::remove_file(&to));
        let report = builder(&self.base.clock).salvage(&from, &to);
        let changed = files(&from) != self.image;
        let mut amiss = Vec::new();
        if changed {
            amiss.push("it changed what it read".to_owned());
        }
        match report {
            Err(error) => amiss.push(format!("none: {error}")),
            Ok(report) => {
                let is_lost = left.is_lost() || left.torn;
                let is_moved = self.damage.is_swap() && left.whole.contains(&false);
                let name = with(&from, self.damage.file);
                let named = report
                    .losses
                    .iter()
                    .any(|loss| loss.error.to_string().contains(name.to_str().unwrap()));
                if !is_moved && (named != is_lost || report.is_whole() == is_lost) {
                    amiss.push(format!("lost {is_lost}, but it says {:?}", report.losses));
                }
                let store = builder(&self.base.clock).verify_on_open(true).open(&to);
                let store = store.unwrap();
                let expected = state(self.base, |n| left.whole[n]);
                let saved = self.expecting(&expected).read(&store);
                // Of frames that were moved, some may be found.
                if !(is_moved || saved.wrong.is_empty() && saved.hit.is_empty()) {
                    let hit = saved.hit.len();
                    amiss.push(format!("hit {hit}, wrong values: {:?}", saved.wrong));
                }
                if report.is_whole() {
                    self.tally.whole += 1;
                }
                drop(store.close());
            }
        }
        if !amiss.is_empty() {
            self.tally.salvage += 1;
            self.fail(&format!("salvage: {}", amiss.join("; ")));
        }
    }

    /// The same, where something else is to be found.
    fn expecting<'b>(&'b mut self, expected: &'b State) -> Trial<'b> {
        Trial {
            base: self.base,
            folder: self.folder,
            expected,
            image: Files::new(),
            damage: self.damage,
            tally: self.tally,
            name: self.name,
        }
    }
}
