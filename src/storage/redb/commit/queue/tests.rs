use super::*;
use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::storage::Limits;
use crate::storage::TombstonePolicy;
use crate::storage::redb::commit::errors::gone;
use crate::storage::redb::mark::RedbMark;
use std::sync::mpsc;
use std::task::Waker;
use std::thread::JoinHandle;

pub(crate) fn set() -> Box<ChangeSet> {
    Box::new(ChangeSet {
        now: Timestamp(0),
        since: RedbMark {
            commit: 0,
            looks: 0,
        }
        .into(),
        clients: Vec::new(),
        refusals: TombstonePolicy {
            now: Timestamp(0),
            lasts: Duration::ZERO,
            slack: Duration::ZERO,
        },
        limits: Limits {
            name: 0,
            package: 0,
            packages: 0,
            keys: 0,
        },
        registry: 0,
        foreign: None,
        carried: None,
        findings: None,
        swept: 0,
    })
}

#[test]
fn a_crowd_that_is_refused_is_woken_once() {
    let bounds = AdmissionBounds {
        commits: 1,
        bytes: usize::MAX,
    };
    let queue = Arc::new(Queue::new(bounds));
    let wake_group = queue.wake_group().clone();
    let commits = (0..5).map(|_| {
        let wake_group = Waker::from(wake_group.clone());
        queue.commit(
            set(),
            Box::new(move |_| wake_group.wake()),
            WaiterKind::Task,
        )
    });
    let outside: Vec<_> = commits.collect();
    queue.close();
    assert_eq!(wake_group.times(), 1, "four waited for room");
    QueueJob::refuse_all(queue.end(), &gone());
    assert_eq!(wake_group.times(), 2);
    drop(outside);
}

// C2.13
#[test]
fn the_end_of_the_writer_answers_those_that_wait_for_room_too() {
    let bounds = AdmissionBounds {
        commits: 1,
        bytes: usize::MAX,
    };
    let queue = Arc::new(Queue::new(bounds));
    let (tell, told) = mpsc::channel();
    let commit = || {
        let tell = tell.clone();
        let answer = move |outcome| match outcome {
            Outcome::Failed(error, _) => tell.send(error.kind()).unwrap(),
            _ => panic!("nothing was committed"),
        };
        queue.commit(set(), Box::new(answer), WaiterKind::Task)
    };
    let (queued, outside) = (commit(), commit());
    assert!(queued.is_none() && outside.is_some());
    let left = queue.end();
    let late = commit();
    assert!(late.is_none());
    QueueJob::refuse_all(left, &gone());
    let answers: Vec<_> = told.try_iter().collect();
    assert_eq!(answers, [ErrorKind::Unavailable; 3]);
    assert_eq!(queue.load().commits, 0);
    drop(outside);
}

fn large_queue() -> Arc<Queue> {
    Arc::new(Queue::new(AdmissionBounds {
        commits: 9,
        bytes: usize::MAX,
    }))
}

/// Someone who takes jobs, asleep; gives how many were taken.
fn asleep(queue: &Arc<Queue>, until: Option<Instant>, leaders: OtherLeaders) -> JoinHandle<usize> {
    let taker = std::thread::spawn({
        let queue = queue.clone();
        move || {
            let taken = queue.take(until, leaders);
            let many = taken.jobs.len();
            QueueJob::refuse_all(taken.jobs, &gone());
            many
        }
    });
    while !queue.lock().taker.is_asleep() {
        std::thread::yield_now();
    }
    taker
}

fn commit(queue: &Arc<Queue>, waiter: WaiterKind) {
    let outside = queue.commit(set(), Box::new(drop), waiter);
    assert!(outside.is_none());
}

fn refuse(jobs: Vec<QueueJob>) {
    QueueJob::refuse_all(jobs, &gone());
}

#[test]
fn a_leader_takes_a_group_and_lets_the_taker_sleep_unless_more_comes() {
    let queue = large_queue();
    let taker = asleep(&queue, None, OtherLeaders::Allowed);
    for _ in 0..3 {
        commit(&queue, WaiterKind::Thread);
        let jobs = queue.become_leader().unwrap();
        assert_eq!(jobs.len(), 1);
        refuse(jobs);
        queue.resign(None);
        assert!(queue.lock().taker.is_asleep() && queue.become_leader().is_none());
    }
    commit(&queue, WaiterKind::Thread);
    let jobs = queue.become_leader().unwrap();
    commit(&queue, WaiterKind::Task);
    commit(&queue, WaiterKind::Thread);
    assert!(queue.lock().taker.is_asleep() && queue.become_leader().is_none());
    refuse(jobs);
    queue.resign(None);
    assert_eq!(taker.join().unwrap(), 2);
}

#[test]
fn a_former_leader_wakes_the_taker_before_its_time_if_need_be() {
    let queue = large_queue();
    let hour = Duration::from_secs(3600);
    let until = Instant::now() + hour;
    let taker = asleep(&queue, Some(until), OtherLeaders::Allowed);
    for wake_at in [None, Some(until), Some(until + hour), Some(Instant::now())] {
        commit(&queue, WaiterKind::Thread);
        refuse(queue.become_leader().unwrap());
        assert!(queue.lock().taker.is_asleep());
        queue.resign(wake_at);
    }
    assert_eq!(taker.join().unwrap(), 0);
}

#[test]
fn the_jobs_of_a_leader_end_before_the_queue_does() {
    let queue = large_queue();
    let taker = asleep(&queue, None, OtherLeaders::Allowed);
    commit(&queue, WaiterKind::Thread);
    let jobs = queue.become_leader().unwrap();
    queue.close();
    // It is woken, and sleeps on.
    while !queue.lock().taker.is_asleep() {
        std::thread::yield_now();
    }
    assert!(!taker.is_finished());
    refuse(jobs);
    queue.resign(None);
    assert_eq!(taker.join().unwrap(), 0);
}

#[test]
fn nobody_leads_where_leaders_are_refused_or_the_taker_is_called() {
    let queue = large_queue();
    let taker = asleep(&queue, None, OtherLeaders::Refused);
    commit(&queue, WaiterKind::Thread);
    assert!(queue.become_leader().is_none());
    assert_eq!(taker.join().unwrap(), 1);
    let taker = asleep(&queue, None, OtherLeaders::Allowed);
    queue.wake();
    assert!(queue.become_leader().is_none());
    assert_eq!(taker.join().unwrap(), 0);
}

#[test]
fn the_first_to_end_the_queue_says_why_it_refuses_unless_the_store_is_closed() {
    let kind = |phase: Phase| phase.refusal().map(|error| error.to_string());
    assert_eq!(kind(Phase::Open), None);
    assert_eq!(kind(Phase::Open.ended()), Some(gone().to_string()));
    for phase in [
        Phase::Open.closed(),
        Phase::Open.closed().ended(),
        Phase::Open.ended().closed(),
        Phase::Open.closed().ended().closed().ended(),
    ] {
        assert!(phase.is_closing());
        assert_eq!(kind(phase), Some(closed().to_string()));
    }
}

#[test]
fn a_call_is_answered_once_and_the_graver_one_stays() {
    let queue = large_queue();
    queue.suspect();
    queue.wake();
    assert!(queue.take(None, OtherLeaders::Refused).suspect);
    queue.wake();
    assert!(!queue.take(None, OtherLeaders::Refused).suspect);
    let now = Instant::now();
    let taken = queue.take(Some(now), OtherLeaders::Refused);
    assert!(taken.jobs.is_empty() && !taken.suspect && !taken.finish);
}

#[test]
fn a_group_is_bounded_by_number_and_by_bytes_and_never_empty() {
    let group = |sizes: &[usize]| group(sizes.iter().copied());
    assert_eq!(group(&[]), 0);
    assert_eq!(group(&[1; 2000]), MAX_GROUP);
    assert_eq!(group(&[MAX_GROUP_BYTES + 1, 0, 1]), 1);
    assert_eq!(group(&[1, MAX_GROUP_BYTES, 1]), 1);
    assert_eq!(group(&[1, MAX_GROUP_BYTES - 1, 0, 1]), 3);
    assert_eq!(group(&[usize::MAX, usize::MAX]), 1);
}
