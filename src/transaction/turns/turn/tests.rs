use super::*;
use crate::block_on::block_on;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(1);

fn session(n: u8) -> ClientKey {
    ClientKey::from_bytes([n; 16])
}

fn poll(wait: &mut TurnWait) -> Poll<Option<Turn>> {
    Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
}

fn granted(poll: Poll<Option<Turn>>) -> Turn {
    match poll {
        Poll::Ready(Some(turn)) => turn,
        _ => panic!("the turn was not granted"),
    }
}

#[test]
fn turns_are_taken_in_the_order_of_coming() {
    let turns = Arc::new(Turns::default());
    let first = granted(poll(&mut turns.hold(session(1), LONG)));
    let mut second = turns.hold(session(1), LONG);
    let mut third = turns.hold(session(1), LONG);
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    granted(poll(&mut turns.hold(session(2), LONG)));
    drop(first);
    assert!(poll(&mut third).is_pending());
    drop(granted(poll(&mut second)));
    granted(poll(&mut third));
}

#[test]
fn commits_pass_side_by_side_and_a_turn_waits_for_them() {
    let turns = Arc::new(Turns::default());
    let one = granted(poll(&mut turns.pass(session(1), LONG)));
    let two = granted(poll(&mut turns.pass(session(1), LONG)));
    let mut hold = turns.hold(session(1), LONG);
    assert!(poll(&mut hold).is_pending());
    let mut late = turns.pass(session(1), LONG);
    assert!(poll(&mut late).is_pending(), "a commit overtook the line");
    drop((one, two));
    drop(granted(poll(&mut hold)));
    granted(poll(&mut late));
}

#[test]
fn dropping_a_wait_leaves_the_line() {
    let turns = Arc::new(Turns::default());
    let first = granted(poll(&mut turns.hold(session(1), LONG)));
    let mut second = turns.hold(session(1), LONG);
    let mut third = turns.hold(session(1), LONG);
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    drop(first);
    // The second wait has got the turn, but was not polled since.
    drop(second);
    drop(granted(poll(&mut third)));
    assert!(turns.lock().is_empty());
}

// C5.5
#[test]
fn who_waits_costs_by_the_logarithm_of_how_many_do() {
    let work = |n: usize| {
        let turns = Arc::new(Turns::default());
        let (one, two) = (session(1), session(2));
        let mut held = Some(granted(poll(&mut turns.hold(one, LONG))));
        let _other = granted(poll(&mut turns.hold(two, LONG)));
        let join = |session, wait| {
            let mut wait = turns.hold(session, wait);
            assert!(poll(&mut wait).is_pending());
            // The timer wakes for each wait that is the next to end.
            assert!(turns.lock().next_deadline().is_some());
            wait
        };
        let mut waits: Vec<_> = (0..n).map(|_| join(one, LONG)).collect();
        assert!(waits.iter_mut().all(|wait| poll(wait).is_pending()));
        drop(waits.split_off(n / 2));
        for mut wait in waits {
            drop(held.take());
            held = Some(granted(poll(&mut wait)));
        }
        let late: Vec<_> = (0..n).map(|_| join(two, SHORT)).collect();
        let called = turns.lock().call_late(Instant::now() + SHORT);
        assert_eq!(called.len(), n);
        for mut wait in late.into_iter().rev() {
            assert!(matches!(poll(&mut wait), Poll::Ready(None)));
        }
    };
    let steps = |n| crate::steps::of(|| work(n));
    let (few, many) = (steps(250), steps(1000));
    assert!(few > 0, "nothing was counted");
    assert!(many <= 6 * few, "{few} steps, for four times {many}");
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let turns = Arc::new(Turns::default());
    let _held = granted(poll(&mut turns.hold(session(1), LONG)));
    let timer = {
        let turns = turns.clone();
        std::thread::spawn(move || turns.keep_deadlines())
    };
    let late = block_on(turns.hold(session(1), Duration::from_millis(1)));
    assert!(late.is_none());
    turns.close();
    timer.join().unwrap();
}

// C6.2
#[test]
fn waits_share_what_time_there_is() {
    let turns = Arc::new(Turns::default());
    let mut patience = Patience::new(LONG);
    let free = block_on(patience.wait_for(|left| turns.hold(session(1), left)));
    assert_eq!(
        patience,
        Patience::new(LONG),
        "there was nothing to wait for"
    );
    let timer = {
        let turns = turns.clone();
        std::thread::spawn(move || turns.keep_deadlines())
    };
    patience = Patience::new(Duration::from_millis(1));
    assert!(block_on(patience.wait_for(|left| turns.hold(session(1), left))).is_none());
    assert_eq!(patience, Patience::new(Duration::ZERO));
    // No waiting time is left.
    let mut again = Box::pin(patience.wait_for(|left| turns.pass(session(1), left)));
    let nobody = &mut Context::from_waker(Waker::noop());
    assert!(matches!(again.as_mut().poll(nobody), Poll::Ready(None)));
    drop(free);
    turns.close();
    timer.join().unwrap();
}

// C2.10
#[test]
fn a_wait_that_is_given_up_was_a_wait() {
    let turns = Arc::new(Turns::default());
    let _held = granted(poll(&mut turns.hold(session(1), LONG)));
    let mut patience = Patience::new(LONG);
    {
        let mut spend = Box::pin(patience.wait_for(|left| turns.hold(session(1), left)));
        let nobody = &mut Context::from_waker(Waker::noop());
        assert!(spend.as_mut().poll(nobody).is_pending());
        let joined = Instant::now();
        while joined.elapsed().is_zero() {}
    }
    assert!(patience.0 < LONG, "{patience:?}");
}

struct Startled;

impl std::task::Wake for Startled {
    fn wake(self: Arc<Self>) {
        panic!("startled");
    }
}

fn poll_with(wait: &mut TurnWait, waker: &Waker) -> Poll<Option<Turn>> {
    Pin::new(wait).poll(&mut Context::from_waker(waker))
}

// C2.10
#[test]
fn a_waker_that_panics_stops_neither_the_deadlines_nor_another_waiter() {
    let turns = Arc::new(Turns::default());
    let held = granted(poll(&mut turns.hold(session(1), LONG)));
    let startled = Waker::from(Arc::new(Startled));
    let timer = {
        let turns = turns.clone();
        std::thread::spawn(move || turns.keep_deadlines())
    };
    let short = Duration::from_millis(1);
    let mut first = turns.pass(session(1), short);
    assert!(poll_with(&mut first, &startled).is_pending());
    assert!(block_on(turns.hold(session(1), short)).is_none());

    let mut second = turns.pass(session(1), LONG);
    assert!(poll_with(&mut second, &startled).is_pending());
    let (tell, told) = std::sync::mpsc::channel();
    let mut third = turns.pass(session(1), LONG);
    assert!(poll_with(&mut third, &Waker::from(Arc::new(Tell(tell)))).is_pending());
    drop(held);
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(()));
    drop((granted(poll(&mut second)), granted(poll(&mut third))));

    let _held = granted(poll(&mut turns.hold(session(1), LONG)));
    let mut last = turns.pass(session(1), LONG);
    assert!(poll_with(&mut last, &startled).is_pending());
    turns.close();
    timer.join().unwrap();
    assert!(matches!(poll(&mut last), Poll::Ready(None)));
}

struct Tell(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Tell {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

// C2.10
#[test]
fn a_wait_may_be_as_long_as_a_duration_can_be() {
    let turns = Arc::new(Turns::default());
    let held = granted(poll(&mut turns.hold(session(1), Duration::MAX)));
    let mut second = turns.hold(session(1), Duration::MAX);
    let mut third = turns.hold(session(1), Duration::MAX);
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    drop(held);
    let _held = granted(poll(&mut second));
    turns.close();
    turns.keep_deadlines();
    assert!(matches!(poll(&mut third), Poll::Ready(None)));
}

/// Notes whether the lines were locked when it was dropped.
struct Dropped(Arc<Turns>, std::sync::mpsc::Sender<bool>);

impl std::task::Wake for Dropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.1.send(self.0.lines.try_lock().is_err()).unwrap();
    }
}

// C6.3
#[test]
fn wakers_are_dropped_outside_the_lock() {
    let turns = Arc::new(Turns::default());
    let (tell, told) = std::sync::mpsc::channel();
    let waker = || Waker::from(Arc::new(Dropped(turns.clone(), tell.clone())));
    let held = granted(poll_with(&mut turns.hold(session(1), LONG), &waker()));
    assert_eq!(told.try_recv(), Ok(false), "not needed");
    let mut second = turns.hold(session(1), LONG);
    assert!(poll_with(&mut second, &waker()).is_pending());
    assert!(told.try_recv().is_err(), "it waits");
    assert!(poll_with(&mut second, &waker()).is_pending());
    assert_eq!(told.try_recv(), Ok(false), "replaced");
    drop(second);
    assert_eq!(told.try_recv(), Ok(false), "removed");
    let mut third = turns.hold(session(1), LONG);
    assert!(poll_with(&mut third, &waker()).is_pending());
    drop(held);
    assert_eq!(told.try_recv(), Ok(false), "woken");
    let turn = granted(poll_with(&mut third, &waker()));
    assert_eq!(told.try_recv(), Ok(false), "not needed any more");
    drop(turn);
    assert!(turns.lock().is_empty());
}
