use super::*;
use crate::storage::{
    ContainerHome, ContainerId, ContainerRef, Limits, Mark, RecordedTimes, SeenState, SessionEnd,
    TombstonePolicy, Touch, TouchAt,
};

const MINUTE: i64 = 60_000;

fn place() -> ContainerRef {
    ContainerRef {
        id: ContainerId::new(1, ContainerHome::Memory),
        name: "ram".into(),
    }
}

fn client() -> ClientKey {
    ClientKey::from_bytes([7; 16])
}

fn engine() -> (Clock, Arc<MemoryEngine>) {
    let clock = Clock::manual(chrono::DateTime::UNIX_EPOCH);
    let rules = MemoryRules {
        snapshot_max_age: Duration::from_secs(30),
        new_sessions: Some(SharedQuota::new(1, Duration::from_secs(60))),
        seed: 1,
    };
    (clock.clone(), Arc::new(MemoryEngine::new(clock, rules)))
}

fn after(engine: &MemoryEngine) -> Mark {
    Mark {
        durable: [0; 2],
        memory: engine.revision(),
    }
}

fn access(time: i64) -> TouchAt {
    TouchAt {
        time: Timestamp(time),
        slack: Duration::from_secs(3600),
        founded: None,
        lowered_from: None,
    }
}

/// A change set that gives the client's session a timeout, which founds it.
fn set(engine: &MemoryEngine, state: SeenState, touch: Option<TouchAt>) -> ChangeSet {
    let now = engine.clock.timestamp();
    let seen = Seen {
        container_ref: place(),
        row: None,
        state,
        observed: false,
        listed: false,
        touch,
    };
    ChangeSet {
        now,
        since: after(engine),
        clients: vec![ClientChange {
            client: client(),
            seen: vec![seen],
            exists: None,
            replaced: None,
            founder: None,
            packages: Vec::new(),
            home: Some(place().id),
            timeout: Some(Some(Duration::from_secs(7200))),
            ends_of: None,
            keeps_owner: false,
            ends_in: Vec::new(),
            leads_on: None,
            owner: None,
            label: None,
            authenticated_at: None,
            ends_at: None,
            end: SessionEnd::Stays,
            imported: None,
            carries: 0,
        }],
        refusals: TombstonePolicy {
            now,
            lasts: Duration::ZERO,
            slack: Duration::ZERO,
        },
        limits: Limits {
            name: 255,
            package: 1000,
            packages: 10,
            keys: 10,
        },
        registry: 0,
        foreign: None,
        carried: None,
        findings: None,
        swept: 0,
    }
}

/// The session that was founded at first.
fn founded(engine: &MemoryEngine) -> SessionRef {
    let mut founding = set(engine, SeenState::Absent, None);
    engine.commit(&mut founding, 0).unwrap();
    let row = engine.tables().newest_session(place().id, client());
    SessionRef {
        container: place().id,
        client: client(),
        incarnation: row.unwrap().incarnation,
    }
}

fn newest(times: NewestTimes) -> RecordedTimes {
    times[0].as_ref().unwrap().unwrap()
}

fn last_access(engine: &MemoryEngine, session: SessionRef) -> i64 {
    newest(engine.recorded_times(&[session])).last_access.0
}

fn live(session: SessionRef) -> SeenState {
    SeenState::Live {
        incarnation: session.incarnation,
    }
}

// C1.7, C3.2
#[test]
fn what_is_lent_stays_as_it_is_until_its_commit_has_ended() {
    for is_committed in [true, false] {
        let (_, engine) = engine();
        let session = founded(&engine);
        let accessing = |time| Some(access(time));
        let mut lent = set(&engine, live(session), accessing(2 * MINUTE));
        // It only records an access beside what it writes elsewhere.
        lent.clients[0].timeout = None;
        let hold = engine.lend(&mut lent).unwrap();
        assert_eq!(last_access(&engine, session), 2 * MINUTE);
        let mut other = set(&engine, live(session), None);
        let Err(MergeRefusal::Failed(error, _)) = engine.commit(&mut other, 0) else {
            panic!("committed");
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(engine.lend(&mut other).is_err());
        let touch = Touch {
            session,
            since: after(&engine),
            at: access(MINUTE),
        };
        assert!(engine.tables().touch(touch, engine.clock.timestamp()));
        // A look sees the access of the commit, and does not keep it from being recorded.
        let found = newest(engine.found_expired(&[session]));
        assert_eq!(found.last_access, Timestamp(2 * MINUTE));
        let commit = lent.foreign.take().unwrap().commit;
        if is_committed {
            let mut is_shown = false;
            ForeignCommit::show_all(vec![commit], || is_shown = true);
            assert!(is_shown);
        } else {
            drop(commit);
        }
        hold.end();
        let recorded = if is_committed { 2 * MINUTE } else { MINUTE };
        assert_eq!(last_access(&engine, session), recorded);
        let mut other = set(&engine, live(session), None);
        engine.commit(&mut other, 0).unwrap();
    }
}

// C2.13
#[test]
fn what_is_lent_to_a_commit_of_unknown_outcome_waits_for_the_engine_that_knows() {
    let (_, engine) = engine();
    let session = founded(&engine);
    let mut lent = set(&engine, live(session), None);
    let hold = engine.lend(&mut lent).unwrap();
    let kept = lent.foreign.take().unwrap().commit;
    drop((lent, hold));
    let mut other = set(&engine, live(session), None);
    assert!(engine.commit(&mut other, 0).is_err());
    ForeignCommit::show_all(vec![kept], || ());
    engine.commit(&mut other, 0).unwrap();
}

// C2.14: no forgotten transaction makes the memory grow.
#[test]
fn old_contents_are_kept_for_a_snapshot_until_it_is_too_old() {
    let (clock, engine) = engine();
    let session = founded(&engine);
    let snapshot = engine.tables().snapshot();
    let write = |secs| {
        let mut set = set(&engine, live(session), None);
        set.clients[0].timeout = Some(Some(Duration::from_secs(secs)));
        engine.commit(&mut set, 0).unwrap();
    };
    write(100);
    clock.advance(Duration::from_secs(30));
    write(200);
    let mut counters = Counters::default();
    engine.add_to(&mut counters);
    let age = Some(Duration::from_secs(30));
    assert_eq!((counters.held, counters.oldest_held), (1, age));
    assert!(!engine.tables().is_expired(&snapshot));
    clock.advance(Duration::from_secs(1));
    write(300);
    assert!(engine.tables().is_expired(&snapshot));
    engine.tables().give_back(snapshot);
}

#[test]
fn sessions_in_memory_take_from_the_quota_of_the_store() {
    let (_, engine) = engine();
    founded(&engine);
    let mut another = set(&engine, SeenState::Absent, None);
    another.clients[0].client = ClientKey::from_bytes([8; 16]);
    let Err(MergeRefusal::Failed(error, _)) = engine.commit(&mut another, 0) else {
        panic!("founded");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut counters = Counters::default();
    engine.add_to(&mut counters);
    assert_eq!((counters.commits, counters.refused), (1, 1));
}
