use super::*;
use crate::storage::Outcome;
use crate::storage::record::RecordCipher;
use crate::storage::redb::commit::job::CommitJob;
use crate::storage::redb::commit::queue::tests::set;
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::{AdmissionBounds, JournalRules};
use std::time::Duration;

fn in_memory() -> Engine {
    let options = OpenOptions {
        cache_size: 1 << 20,
        verify: false,
        wait: Duration::ZERO,
        private: false,
        creates: true,
        migrates: true,
        faults: FaultInjection::default(),
    };
    let rules = EngineRules {
        snapshot_max_age: Duration::from_secs(30),
        admission: AdmissionBounds {
            commits: 10,
            bytes: 1 << 20,
        },
        new_sessions: None,
        journal: JournalRules {
            size: 1 << 20,
            memory: 1 << 20,
            interval: Duration::from_secs(60),
            in_the_foreground: false,
            largest_group: 1 << 20,
        },
        cipher: RecordCipher::Plain,
        initial: None,
    };
    Engine::open(None, options, Clock::system(), rules, &mut |_| {}).unwrap()
}

// C2.2
#[test]
fn a_job_without_its_change_set_is_not_answered_as_committed() {
    let engine = in_memory();
    let (tell, told) = std::sync::mpsc::channel();
    let done = move |outcome| tell.send(outcome).unwrap();
    let mut job = CommitJob::new(set(), Box::new(done));
    job.take_set();
    engine.shared.queue.push(QueueJob::Commit(job));
    let Outcome::Failed(error, None) = told.recv().unwrap() else {
        panic!("nobody knows what was in it");
    };
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    engine.close().unwrap();
}

// C2.13: later requests fail, too. Waiting does not help, so no error says that it does.
#[test]
fn after_the_death_of_the_committer_nobody_is_told_that_the_store_reopens() {
    let engine = in_memory();
    engine.ready().unwrap();
    engine.leader.kill();
    engine.shared.queue.wake();
    let thread = engine.thread.lock().unwrap().take().unwrap();
    assert!(thread.join().unwrap().is_err());
    for error in [
        engine.ready().unwrap_err(),
        engine.snapshot().wait().err().unwrap(),
        engine.checkpoint().wait().unwrap_err(),
    ] {
        assert_eq!(error.to_string(), Error::stopped().to_string());
        assert_eq!(error.retry_after(), None);
    }
}
