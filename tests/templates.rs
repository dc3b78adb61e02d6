//! C8.8: templates read the session; they create and write nothing.
#![cfg(feature = "minijinja")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, Error, ErrorKind, Session, Store, Txn};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use std::collections::BTreeMap;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
}

fn render(session: &Session, page: &str) -> Result<String, minijinja::Error> {
    let session = cloakroom::minijinja::session(session);
    environment().render_str(page, context! { session })
}

fn shown(session: &Session, page: &str) -> String {
    render(session, page).unwrap()
}

/// A store with one visitor, whose packages `fill` fills.
fn filled(fill: impl Fn(&Session) -> Result<(), Error>) -> (Store, ClientId) {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    store.transact(|txn| fill(&txn.session(&id)?)).unwrap();
    (store, id)
}

fn products() -> (Store, ClientId) {
    filled(|session| {
        let shoes = session.pkg("products.foo");
        shoes.insert("color", "red")?;
        shoes.insert("sizes", [36, 38])?;
        shoes.insert("maker", BTreeMap::from([("name", "Ann & Co")]))?;
        shoes.insert("nothing", None::<u8>)?;
        session.pkg("plain").insert("n", 5)
    })
}

fn session_of(txn: &Txn, id: &ClientId) -> Session {
    txn.session(id).unwrap()
}

#[test]
fn values_are_read_by_package_and_key() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    for (page, expected) in [
        (r#"{{ session["products.foo"].color }}"#, "red"),
        (r#"{{ session["products.foo"]["color"] }}"#, "red"),
        (r#"{{ session.plain.n + 1 }}"#, "6"),
        (r#"{{ session["products.foo"].sizes[1] }}"#, "38"),
        (
            r#"{{ session["products.foo"].maker.name }}"#,
            "Ann &amp; Co",
        ),
        (r#"{{ session["products.foo"].nothing is none }}"#, "True"),
    ] {
        assert_eq!(
            shown(&session, page).to_lowercase(),
            expected.to_lowercase(),
            "{page}"
        );
    }
}

#[test]
fn what_is_missing_is_undefined_in_packages_that_exist_and_in_others() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    for package in ["products.foo", "products.bar"] {
        let page = format!(r#"{{{{ session["{package}"].weight | default("light") }}}}"#);
        assert_eq!(shown(&session, &page), "light");
        let page = format!(r#"{{{{ session["{package}"].weight is defined }}}}"#);
        assert_eq!(shown(&session, &page).to_lowercase(), "false");
    }
    let mut strict = environment();
    strict.set_undefined_behavior(UndefinedBehavior::Strict);
    let object = cloakroom::minijinja::session(&session);
    let page = r#"{{ session["products.bar"].weight }}"#;
    strict
        .render_str(page, context! { session => object })
        .unwrap_err();
}

#[test]
fn a_package_is_iterated_and_asked_for_its_keys() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    for (page, expected) in [
        (
            r#"{% for key in session["products.foo"] %}{{ key }} {% endfor %}"#,
            "color maker nothing sizes ",
        ),
        (
            r#"{% for key, n in session.plain | items %}{{ key }}={{ n }}{% endfor %}"#,
            "n=5",
        ),
        (
            r#"{% if "color" in session["products.foo"] %}yes{% endif %}"#,
            "yes",
        ),
        (
            r#"{% if "weight" in session["products.foo"] %}yes{% else %}no{% endif %}"#,
            "no",
        ),
        (r#"{% if session["products.foo"] %}some{% endif %}"#, "some"),
        (
            r#"{% if session["products.bar"] %}some{% else %}none{% endif %}"#,
            "none",
        ),
        (r#"{{ session["products.foo"] | length }}"#, "4"),
    ] {
        assert_eq!(shown(&session, page), expected, "{page}");
    }
}

#[test]
fn a_session_is_iterated_and_asked_for_its_packages() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    let empty = session_of(&txn, &store.client_ids().issue());
    for (page, expected, of_nobody) in [
        (
            "{% for package in session %}{{ package }} {% endfor %}",
            "plain products.foo ",
            "",
        ),
        (
            r#"{% if "plain" in session %}yes{% else %}no{% endif %}"#,
            "yes",
            "no",
        ),
        (
            r#"{% if "other" in session %}yes{% else %}no{% endif %}"#,
            "no",
            "no",
        ),
        (
            "{% if session %}some{% else %}none{% endif %}",
            "some",
            "none",
        ),
        ("{{ session | length }}", "2", "0"),
        (
            "{% for p in session %}{% for k in session[p] %}{{ k }} {% endfor %}{% endfor %}",
            "n color maker nothing sizes ",
            "",
        ),
    ] {
        assert_eq!(shown(&session, page), expected, "{page}");
        assert_eq!(shown(&empty, page), of_nobody, "{page}");
    }
    session.pkg("plain").clear().unwrap();
    assert_eq!(shown(&session, r#"{{ "plain" in session }}"#), "False");
    txn.abort();
    let error = render(&session, "{% for p in session %}{% endfor %}").unwrap_err();
    assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::Closed);
}

#[test]
fn paths_lead_to_the_first_that_is_there() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    for (page, expected) in [
        (
            r#"{{ session.path("products.foo/color | products.bar/color | 'green'") }}"#,
            "red",
        ),
        (
            r#"{{ session.path("products.bar/color | products.foo/color | 'green'") }}"#,
            "red",
        ),
        (
            r#"{{ session.path("products.bar/color | 'green'") }}"#,
            "green",
        ),
        (
            r#"{{ session.path("products.bar/color") | default("none") }}"#,
            "none",
        ),
        (r#"{{ session.path("products.bar/n | 7") + 1 }}"#, "8"),
        (
            r#"{{ session.path("products.foo/maker").name }}"#,
            "Ann &amp; Co",
        ),
    ] {
        assert_eq!(shown(&session, page), expected, "{page}");
    }
    let error = render(&session, r#"{{ session.path("color") }}"#).unwrap_err();
    assert_eq!(
        Error::find_in(&error).unwrap().kind(),
        ErrorKind::InvalidInput
    );
    render(&session, "{{ session.destroy() }}").unwrap_err();
}

#[test]
fn a_path_in_rust_says_when_a_value_is_of_another_type() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    // The first is there, and is no number: the others do not count.
    let error = session
        .path::<u32>("products.foo/color | plain/n | 7")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(error.key(), Some("color"));
    let error = session.path::<u32>("a/b | 'seven'").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    // A value that is stored as nothing is there.
    let nothing = session
        .path::<Option<u8>>("products.foo/nothing | 7")
        .unwrap();
    assert_eq!(nothing, Some(None));
    assert_eq!(session.path::<f32>("a/b | 0.5").unwrap(), Some(0.5));
}

/// C1.4
#[test]
fn rendering_creates_and_changes_nothing() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    let page =
        r#"{{ session.a.b }}{{ session.path("a/b | 'c'") }}{% for k in session.a %}{% endfor %}"#;
    assert_eq!(shown(&session, page), "c");
    assert!(session.client_id().is_none());
    assert!(!session.exists().unwrap());
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    assert!(!session_of(&txn, &id).exists().unwrap());
}

#[test]
fn a_page_sees_what_the_handler_wrote_before_it() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    let object = cloakroom::minijinja::session(&session);
    session.pkg("plain").insert("n", 6).unwrap();
    let page = environment().render_str("{{ session.plain.n }}", context! { session => object });
    assert_eq!(page.unwrap(), "6");
}

#[test]
fn hostile_values_are_escaped() {
    let hostile = "<script>alert('x')</script>";
    let (store, id) = filled(|session| {
        let pkg = session.pkg("p");
        pkg.insert("text", hostile)?;
        pkg.insert("list", [hostile])?;
        pkg.insert("map", BTreeMap::from([(hostile, hostile)]))?;
        // The forms by which minijinja hands values through serde.
        pkg.insert("safe", BTreeMap::from([("__minijinja_ValueHandle", 1)]))?;
        pkg.insert(hostile, 1)
    });
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    for page in [
        "{{ session.p.text }}",
        "{{ session.p.list }}",
        "{{ session.p.list[0] }}",
        "{{ session.p.map }}",
        "{% for key in session.p.map %}{{ key }}{% endfor %}",
        "{% for key in session.p %}{{ key }}{% endfor %}",
        "{{ session.p.safe }}",
        "{{ session.p }}",
        "{{ session }}",
        r#"{{ session.path("p/text") }}"#,
        r#"{{ session.path("p/none | '<script>'") }}"#,
    ] {
        let shown = shown(&session, page);
        assert!(!shown.contains("<script"), "{page}: {shown}");
    }
}

#[test]
fn a_value_that_cannot_be_read_fails_the_page_with_its_error() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    txn.abort();
    for page in [
        "{{ session.plain.n }}",
        r#"{{ session.plain.n | default("5") }}"#,
        "{% for key in session.plain %}{{ key }}{% endfor %}",
        r#"{{ session.path("plain/n | 'x'") }}"#,
    ] {
        let error = render(&session, page).unwrap_err();
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{page}: {error:#}"));
        assert_eq!(ours.kind(), ErrorKind::Closed, "{page}");
    }
}

#[cfg(feature = "axum")]
#[test]
fn the_hidden_field_of_a_form_is_safe() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let token = cloakroom::http::CsrfToken::of(&session_of(&txn, &id)).unwrap();
    let csrf = cloakroom::minijinja::csrf_input(&token);
    let page = environment().render_str("{{ csrf }}", context! { csrf });
    assert_eq!(page.unwrap(), token.input());
}

#[cfg(feature = "axum")]
#[test]
fn flash_messages_are_shown_by_a_template() {
    let messages = [cloakroom::http::FlashMessage::warning("<b>")];
    let page = "{% for m in messages %}<p class={{ m.level }}>{{ m.text }}</p>{% endfor %}";
    let messages = minijinja::value::Serde(&messages);
    let shown = environment().render_str(page, context! { messages });
    assert_eq!(shown.unwrap(), "<p class=warning>&lt;b&gt;</p>");
}

#[test]
fn a_path_is_a_function_and_a_filter_too() {
    let (store, id) = products();
    let txn = store.begin().unwrap();
    let session = session_of(&txn, &id);
    let mut environment = environment();
    cloakroom::minijinja::add_path(&mut environment);
    let render = |page: &str| {
        let session = cloakroom::minijinja::session(&session);
        environment.render_str(page, context! { session })
    };
    for (page, expected) in [
        (
            r#"{{ path("products.bar/color | products.foo/color | 'green'") }}"#,
            "red",
        ),
        (
            r#"{{ "products.foo/maker" | path | attr("name") }}"#,
            "Ann &amp; Co",
        ),
        (r#"{{ path("products.foo/none") | default("-") }}"#, "-"),
    ] {
        assert_eq!(render(page).unwrap(), expected, "{page}");
    }
    let error = render(r#"{{ path("no path") }}"#).unwrap_err();
    assert_eq!(
        Error::find_in(&error).unwrap().kind(),
        ErrorKind::InvalidInput
    );
    let bare = environment.render_str(r#"{{ path("a/b") }}"#, context! {});
    assert!(bare.unwrap_err().to_string().contains("session"));
}

#[cfg(feature = "axum")]
mod pages {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, Response, header};
    use axum::response::Html;
    use axum::routing::get;
    use cloakroom::http::{Flash, FlashMessage, SessionLayer};
    use tower::ServiceExt as _;

    const PAGE: &str = r#"{% for p in session %}{{ p }}{% endfor %}{{ session.path("a/b | 'none'") }}
        {{ session["a"].b | default("-") }}{% if "a" in session %}!{% endif %}"#;

    async fn rendered(session: Session) -> Html<String> {
        Html(shown(&session, PAGE))
    }

    async fn with_messages(flash: Flash) -> Result<Html<String>, Error> {
        let messages = cloakroom::minijinja::messages(&flash)?;
        let page = "{% for m in messages %}<p class={{ m.level }}>{{ m.text }}</p>{% endfor %}";
        Ok(Html(
            environment()
                .render_str(page, context! { messages })
                .unwrap(),
        ))
    }

    async fn send(app: &Router, path: &str, cookie: &str) -> Response<Body> {
        let request = Request::builder().uri(path).header(header::COOKIE, cookie);
        let request = request.body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap()
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX);
        String::from_utf8(bytes.await.unwrap().to_vec()).unwrap()
    }

    fn app() -> (Store, Router) {
        let store = Store::in_memory().unwrap();
        let say = async || (FlashMessage::success("<b>saved</b>"), "said");
        let app = Router::new()
            .route("/", get(rendered))
            .route("/messages", get(with_messages))
            .route("/say", get(say))
            .layer(SessionLayer::new(store.clone()));
        (store, app)
    }

    #[tokio::test]
    async fn a_page_that_only_renders_the_session_sends_no_cookie_and_stores_nothing() {
        let (store, app) = app();
        let dead = store.client_ids().issue();
        let name = SessionLayer::new(store.clone()).cookie_name().to_owned();
        for cookie in [String::new(), format!("{name}={}", dead.as_str())] {
            let response = send(&app, "/", &cookie).await;
            assert!(!response.headers().contains_key(header::SET_COOKIE));
            assert!(text(response).await.contains("none"));
        }
        let container = store.container("").unwrap();
        assert_eq!(container.statistics().unwrap().live, 0);
    }

    #[tokio::test]
    async fn messages_are_shown_once_and_escaped() {
        let (_, app) = app();
        let said = send(&app, "/say", "").await;
        let cookie = said.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let shown = text(send(&app, "/messages", cookie).await).await;
        assert_eq!(shown, "<p class=success>&lt;b&gt;saved&lt;&#x2f;b&gt;</p>");
        assert_eq!(text(send(&app, "/messages", cookie).await).await, "");
    }

    #[cfg(feature = "url-ids")]
    #[tokio::test]
    async fn a_template_puts_the_id_into_urls_and_forms() {
        use cloakroom::http::{FormTransport, QueryTransport, TrustedProxies, UrlId};
        async fn page(session: Session, id: UrlId) -> Result<Html<String>, Error> {
            session.pkg("a").insert("b", 1)?;
            let url_id = cloakroom::minijinja::url_id(&id);
            let page = r#"<a href="{{ url_id.url("/a?b=<") }}">{{ url_id.input() }}"#;
            Ok(Html(
                environment().render_str(page, context! { url_id }).unwrap(),
            ))
        }
        let layer = SessionLayer::new(Store::in_memory().unwrap())
            .proxies(TrustedProxies::new(|_| Some([192, 0, 2, 1].into())))
            .transport(QueryTransport::new("sid").unwrap())
            .transport(FormTransport::new("sid").unwrap());
        let app = Router::new().route("/", get(page)).layer(layer);
        let shown = text(send(&app, "/", "").await).await;
        let start = r#"<a href="&#x2f;a?b=&lt;&amp;sid="#;
        let field = r#""><input type="hidden" name="sid" value=""#;
        assert!(shown.starts_with(start) && shown.contains(field), "{shown}");
    }
}
