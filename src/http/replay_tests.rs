use super::*;
use crate::http::Rerun;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

/// Gives its frames one by one and notes how often it was asked.
struct Script {
    frames: VecDeque<Frame<Bytes>>,
    asked: Arc<Mutex<usize>>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        *self.asked.lock().unwrap() += 1;
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.frames.iter().filter_map(Frame::data_ref);
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

struct Fixture {
    home: Arc<BodyReturn<Script>>,
    policy: Arc<RerunPolicy>,
    asked: Arc<Mutex<usize>>,
}

impl AsRef<Self> for RerunPolicy {
    fn as_ref(&self) -> &Self {
        self
    }
}

fn fixture(rerun: Rerun, limit: usize, frames: Vec<Frame<Bytes>>) -> (Fixture, Replay<Script>) {
    let (parts, ()) = http::Request::new(()).into_parts();
    let policy = Arc::new(RerunPolicy::new(rerun, &parts));
    let home = BodyReturn::new(policy.clone(), limit);
    let asked = Arc::default();
    let body = home.admit(Script {
        frames: frames.into(),
        asked: Arc::clone(&asked),
    });
    let fixture = Fixture {
        home,
        policy,
        asked,
    };
    (fixture, body)
}

fn data(bytes: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(bytes.as_bytes()))
}

fn trailers() -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert("sum", http::HeaderValue::from_static("42"));
    Frame::trailers(map)
}

/// The next frame: data as text, trailers as the value of theirs, `None` at the end.
fn read(body: &mut Replay<Script>) -> Option<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(frame) = Pin::new(body).poll_frame(&mut cx) else {
        panic!("a script is always ready");
    };
    let frame = frame?.unwrap();
    Some(match frame.into_data() {
        Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
        Err(other) => other.into_trailers().unwrap()["sum"]
            .to_str()
            .unwrap()
            .to_owned(),
    })
}

fn rest(body: &mut Replay<Script>) -> Vec<String> {
    std::iter::from_fn(|| read(body)).collect()
}

#[test]
fn what_was_read_is_read_again_and_the_rest_from_where_it_came() {
    let (f, mut body) = fixture(
        Rerun::Always,
        99,
        vec![data("ab"), data("c"), data("d"), trailers()],
    );
    assert_eq!(read(&mut body).as_deref(), Some("ab"));
    assert_eq!(read(&mut body).as_deref(), Some("c"));
    drop(body);

    let mut body = f.home.again().unwrap();
    assert_eq!(rest(&mut body), ["abc", "d", "42"]);
    drop(body);

    let mut body = f.home.again().unwrap();
    assert_eq!(rest(&mut body), ["abcd", "42"]);
    assert_eq!(*f.asked.lock().unwrap(), 5, "the end is asked for once");
}

#[test]
fn nothing_is_read_ahead() {
    let (f, body) = fixture(Rerun::Always, 99, vec![data("ab")]);
    drop(body);
    let mut body = f.home.again().unwrap();
    assert_eq!(*f.asked.lock().unwrap(), 0);
    assert_eq!(rest(&mut body), ["ab"]);
}

#[test]
fn a_body_is_held_by_one_attempt_at_a_time() {
    let (f, body) = fixture(Rerun::Always, 99, vec![data("ab")]);
    assert!(f.home.again().is_none(), "the first attempt has it still");
    drop(body);
    let _second = f.home.again().unwrap();
    assert!(f.home.again().is_none());
}

#[test]
fn a_body_beyond_the_limit_is_passed_on_but_not_kept() {
    let (f, mut body) = fixture(
        Rerun::Always,
        3,
        vec![data("ab"), data("c"), data("d"), data("e")],
    );
    assert_eq!(read(&mut body).as_deref(), Some("ab"));
    assert_eq!(read(&mut body).as_deref(), Some("c"));
    assert!(f.policy.permits(), "exactly the limit");
    assert_eq!(rest(&mut body), ["d", "e"]);
    assert!(!f.policy.permits());
    drop(body);
    assert!(f.home.again().is_none());
}

#[test]
fn trailers_count_towards_the_limit() {
    let (f, mut body) = fixture(Rerun::Always, 6, vec![data("ab"), trailers()]);
    assert_eq!(rest(&mut body), ["ab", "42"]);
    drop(body);
    assert!(f.home.again().is_none());
}

#[test]
fn nothing_is_recorded_where_a_request_may_not_run_again() {
    let (f, mut body) = fixture(Rerun::Always, 99, vec![data("ab")]);
    f.policy.set(Rerun::Never);
    assert_eq!(rest(&mut body), ["ab"]);
    drop(body);
    f.policy.set(Rerun::Always);
    assert!(!f.policy.permits());
    assert!(f.home.again().is_none());
}

#[test]
fn a_route_may_allow_it_as_long_as_nothing_was_read() {
    let (f, mut body) = fixture(Rerun::Never, 99, vec![data("ab")]);
    f.policy.set(Rerun::Always);
    assert_eq!(rest(&mut body), ["ab"]);
    drop(body);
    assert_eq!(rest(&mut f.home.again().unwrap()), ["ab"]);
}

#[test]
fn hints_are_right_in_every_state() {
    let (f, mut body) = fixture(Rerun::Always, 99, vec![data("ab"), data("c")]);
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(3), false)
    );
    read(&mut body);
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(1), false)
    );
    drop(body);

    let mut body = f.home.again().unwrap();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(3), false)
    );
    read(&mut body);
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(1), false)
    );
    read(&mut body);
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(0), true)
    );
    assert_eq!(read(&mut body), None);
    drop(body);

    let body = f.home.again().unwrap();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(3), false)
    );
}

#[test]
fn recorded_trailers_are_not_the_end() {
    let (f, mut body) = fixture(Rerun::Always, 99, vec![trailers()]);
    assert_eq!(rest(&mut body), ["42"]);
    assert!(body.is_end_stream());
    drop(body);
    let mut body = f.home.again().unwrap();
    assert!(!body.is_end_stream());
    assert_eq!(rest(&mut body), ["42"]);
}

#[test]
fn a_request_without_a_body_has_none_again_and_nothing_is_asked() {
    let (parts, ()) = http::Request::new(()).into_parts();
    let policy = Arc::new(RerunPolicy::new(Rerun::Always, &parts));
    let asked = Arc::<Mutex<usize>>::default();
    let script = Script {
        frames: VecDeque::new(),
        asked: Arc::clone(&asked),
    };
    let (bodies, first) = RequestBody::of(script, &policy, 99);
    for mut body in [first, bodies.again().unwrap()] {
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(read(&mut body), None);
    }
    assert_eq!(*asked.lock().unwrap(), 0);
    assert!(policy.permits());
}
