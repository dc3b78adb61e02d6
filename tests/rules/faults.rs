//! Web frameworks with faults, which the suite must find.

use crate::on_axum::Axum;
use crate::suite::{Answer, Backend, Sent, Site, all};
use bytes::Bytes;
use cloakroom::Error;
use cloakroom::http::{Rerun, SessionLayer};
use http::{HeaderValue, Request, header};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a framework does wrong: to the layer, to requests on their way in, or to answers on their way out.
trait Fault: 'static {
    fn site(site: Site) -> Site {
        site
    }

    fn request(_: &mut Request<Sent>) {}

    fn answer(_: &mut Answer) {}
}

/// axum, with a fault.
struct Faulty<F>(Axum, PhantomData<F>);

impl<F: Fault> Backend for Faulty<F> {
    fn run(case: impl Future<Output = ()>) {
        Axum::run(case);
    }

    async fn start(site: Site) -> Self {
        Self(Axum::start(F::site(site)).await, PhantomData)
    }

    async fn send(&self, mut request: Request<Sent>) -> Answer {
        F::request(&mut request);
        let mut answer = self.0.send(request).await;
        F::answer(&mut answer);
        answer
    }
}

/// The cases that a back end fails.
fn failed<B: Backend>() -> Vec<&'static str> {
    let fails = |case: fn() -> _| catch_unwind(AssertUnwindSafe(|| B::run(case()))).is_err();
    let cases = all::<B>().into_iter();
    cases
        .filter(|(_, case)| fails(*case))
        .map(|(name, _)| name)
        .collect()
}

fn map_layers(mut site: Site, set: fn(SessionLayer) -> SessionLayer) -> Site {
    site.layers = site.layers.into_iter().map(set).collect();
    site
}

macro_rules! faults {
    ($($test:ident: $fault:ident { $($item:tt)* } fails $($case:ident)+;)*) => {
        $(
            struct $fault;

            impl Fault for $fault {
                $($item)*
            }

            #[test]
            fn $test() {
                let failed = failed::<Faulty<$fault>>();
                for case in [$(stringify!($case)),+] {
                    assert!(failed.contains(&case), "{case} does not find it: {failed:?}");
                }
                assert!(failed.len() < all::<Axum>().len(), "it breaks everything");
            }
        )*
    };
}

faults! {
    commits_whatever_the_response_says: CommitsAlways {
        fn site(site: Site) -> Site {
            map_layers(site, |layer| layer.commit_when(|_| true))
        }
    } fails responses_of_500_and_408_abort;

    commits_nothing_but_200: CommitsSuccess {
        fn site(site: Site) -> Site {
            map_layers(site, |layer| layer.commit_when(|response| response.status == 200))
        }
    } fails a_response_below_500_commits;

    runs_nothing_again: NeverAgain {
        fn site(site: Site) -> Site {
            map_layers(site, |layer| layer.rerun(Rerun::Never))
        }
    } fails an_idempotent_request_runs_again always_runs_a_post_again;

    runs_everything_again: AlwaysAgain {
        fn site(site: Site) -> Site {
            map_layers(site, |layer| layer.rerun(Rerun::Always))
        }
    } fails any_other_request_runs_once_and_is_answered_503 never_runs_not_even_a_get_again;

    ignores_the_setting_of_a_route: NoRoutes {
        fn site(mut site: Site) -> Site {
            site.routes.iter_mut().for_each(|route| route.rerun = None);
            site
        }
    } fails a_routes_own_setting_replaces_the_layers;

    replays_no_body: NoReplay {
        fn site(site: Site) -> Site {
            map_layers(site, |layer| layer.replay_limit(0))
        }
    } fails a_body_is_replayed_up_to_the_limit the_request_is_there_again_as_it_arrived;

    reads_one_field_of_a_name: OneField {
        fn request(request: &mut Request<Sent>) {
            if let Some(first) = request.headers().get(header::COOKIE).cloned() {
                request.headers_mut().insert(header::COOKIE, first);
            }
        }
    } fails several_cookie_fields_are_read_as_bytes headers_print_no_id_inside_the_layer;

    reads_fields_as_text: TextOnly {
        fn request(request: &mut Request<Sent>) {
            let is_text = |value: &HeaderValue| value.to_str().is_ok();
            if !request.headers().get_all(header::COOKIE).iter().all(is_text) {
                request.headers_mut().remove(header::COOKIE);
            }
        }
    } fails several_cookie_fields_are_read_as_bytes;

    sends_one_field_of_a_name: OneCookie {
        fn answer(answer: &mut Answer) {
            if let Some(first) = answer.head.headers.get(header::SET_COOKIE).cloned() {
                answer.head.headers.insert(header::SET_COOKIE, first);
            }
        }
    } fails the_handlers_own_cookies_stay;

    forgets_what_varies: NoVary {
        fn answer(answer: &mut Answer) {
            answer.head.headers.remove(header::VARY);
        }
    } fails a_response_that_read_the_session_is_private_and_varies a_response_with_our_cookie_is_not_stored;

    forgets_when_to_come_again: NoRetry {
        fn answer(answer: &mut Answer) {
            answer.head.headers.remove(header::RETRY_AFTER);
        }
    } fails any_other_request_runs_once_and_is_answered_503;

    drops_the_error: NoError {
        fn answer(answer: &mut Answer) {
            answer.head.extensions.remove::<Error>();
        }
    } fails what_is_too_large_is_answered_413;

    hides_the_body: NoBody {
        fn request(request: &mut Request<Sent>) {
            *request.body_mut() = Sent::Whole(Bytes::new());
        }
    } fails a_nested_layer_steps_aside;

    nests_a_second_layer: TwoLayers {
        fn site(mut site: Site) -> Site {
            site.layers.drain(1..);
            site
        }
    } fails a_nested_layer_steps_aside;
}
