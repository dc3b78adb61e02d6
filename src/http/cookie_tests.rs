use super::*;
use crate::error::ErrorKind;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn cookie(settings: CookieSettings) -> SessionCookie {
    SessionCookie::new(settings, "id-01234567")
}

fn sent(settings: CookieSettings, timeout: Option<Duration>) -> String {
    let field = cookie(settings).handing_out("v", timeout).unwrap();
    field.to_str().unwrap().to_owned()
}

fn refused(result: Result<CookieSettings>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_default_is_safe() {
    assert_eq!(
        sent(CookieSettings::new(), None),
        "__Host-id-01234567=v; HttpOnly; SameSite=Lax; Secure; Path=/"
    );
}

#[test]
fn a_domain_or_a_path_takes_the_weaker_prefix_and_plain_http_none() {
    let named = || CookieSettings::new().name("sid").unwrap();
    let text = sent(named().domain(".Example.com").unwrap(), None);
    assert_eq!(
        text,
        "__Secure-sid=v; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com"
    );
    let text = sent(named().path("/app").unwrap(), None);
    assert!(text.starts_with("__Secure-sid=v;"), "{text}");
    let text = sent(named().plain_http(), None);
    assert_eq!(text, "sid=v; HttpOnly; SameSite=Lax; Path=/");
}

#[test]
fn every_setting_shows() {
    let settings = CookieSettings::new()
        .script_readable()
        .same_site(SameSite::None)
        .and_then(CookieSettings::partitioned)
        .unwrap()
        .lifetime(CookieLifetime::For(Duration::from_secs(90)));
    assert_eq!(
        sent(settings, None),
        "__Host-id-01234567=v; SameSite=None; Partitioned; Secure; Path=/; Max-Age=90"
    );
    let settings = CookieSettings::new().same_site(SameSite::Strict).unwrap();
    assert!(sent(settings, None).contains("SameSite=Strict"));
}

#[test]
fn max_age_is_the_sessions_own_timeout_else_the_lifetime() {
    let max_age = |lifetime, timeout| {
        let text = sent(CookieSettings::new().lifetime(lifetime), timeout);
        text.split_once("Max-Age=").map(|(_, age)| age.to_owned())
    };
    let minute = Duration::from_secs(60);
    assert_eq!(max_age(CookieLifetime::Browser, None), None);
    assert_eq!(
        max_age(CookieLifetime::Max, None).as_deref(),
        Some("34560000")
    );
    assert_eq!(
        max_age(CookieLifetime::Max, Some(minute)).as_deref(),
        Some("60")
    );
    assert_eq!(
        max_age(CookieLifetime::Browser, Some(Duration::ZERO)).as_deref(),
        Some("34560000")
    );
    assert_eq!(
        max_age(CookieLifetime::For(2 * YEAR), None).as_deref(),
        Some("34560000")
    );
    assert_eq!(
        max_age(CookieLifetime::For(Duration::ZERO), None).as_deref(),
        Some("1")
    );
}

#[test]
fn a_removal_bears_the_attributes_of_the_cookie() {
    let settings = CookieSettings::new()
        .domain("example.com")
        .and_then(|c| c.path("/app"))
        .and_then(CookieSettings::partitioned)
        .unwrap();
    let field = cookie(settings.clone()).removal().unwrap();
    let attributes = |text: &str| text.split_once("; ").unwrap().1.to_owned();
    let removal = field.to_str().unwrap();
    assert!(removal.starts_with("__Secure-id-01234567=; "), "{removal}");
    assert_eq!(
        attributes(removal),
        attributes(&sent(settings, None)) + "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
}

#[test]
fn our_cookie_never_shows_in_a_log() {
    let field = cookie(CookieSettings::new()).handing_out("secret", None);
    assert_eq!(format!("{:?}", field.unwrap()), "Sensitive");
}

#[test]
fn a_domain_that_browsers_drop_is_refused() {
    for domain in [
        "com",
        ".com",
        "1",
        "localhost",
        "10.0.0.1",
        "1.2",
        "a.0x7f",
        "::1",
        "[::1]",
        "example.com.",
    ] {
        refused(CookieSettings::new().domain(domain));
    }
    for domain in [
        "example.com",
        "sub.example.co.uk",
        "1.example.com",
        "0xy.a0",
        "corp.internal",
    ] {
        assert!(CookieSettings::new().domain(domain).is_ok(), "{domain}");
    }
    let long = CookieSettings::new().domain(&"a".repeat(9999)).unwrap_err();
    assert!(long.to_string().len() < 200, "{long}");
}

#[cfg(feature = "public-suffixes")]
#[test]
fn a_domain_that_others_register_under_is_refused() {
    for domain in ["co.uk", "CO.UK", "github.io", ".herokuapp.com"] {
        refused(CookieSettings::new().domain(domain));
    }
    for domain in ["example.co.uk", "me.github.io", "corp.internal"] {
        assert!(CookieSettings::new().domain(domain).is_ok(), "{domain}");
    }
}

#[test]
fn what_browsers_would_drop_is_refused() {
    for name in ["", "a b", "a=b", "a;b", "ü", &"x".repeat(31)] {
        refused(CookieSettings::new().name(name));
    }
    for name in ["__Host-sid", "__secure-sid", "__HTTP-sid"] {
        refused(CookieSettings::new().name(name));
    }
    for name in ["connect.sid", "shop.v2_b-c", &"x".repeat(30)] {
        assert!(CookieSettings::new().name(name).is_ok(), "{name}");
    }
    for domain in ["", ".", "a..b", "-a.b", "a b", "ü.de", "a;b"] {
        refused(CookieSettings::new().domain(domain));
    }
    for path in ["", "app", "/a;b", "/a b", "/\u{7f}", "/ü", "/{tenant}"] {
        refused(CookieSettings::new().path(path));
    }
}

#[test]
fn what_needs_secure_is_refused_without_it_in_either_order() {
    let plain = || CookieSettings::new().plain_http();
    refused(plain().same_site(SameSite::None));
    refused(plain().partitioned());

    let late = CookieSettings::new().partitioned().unwrap().plain_http();
    assert!(late.check().is_err());
    refused(late.name("sid"));
    let late = CookieSettings::new().same_site(SameSite::None);
    let late = late.unwrap().plain_http();
    assert!(late.check().is_err());
    assert!(late.same_site(SameSite::Lax).is_ok());
}

fn found(fields: &[&[u8]]) -> Vec<String> {
    let cookie = cookie(CookieSettings::new().name("sid").unwrap().plain_http());
    let fields: Vec<_> = fields
        .iter()
        .map(|field| HeaderValue::from_bytes(field).unwrap())
        .collect();
    let values = cookie.candidates(&fields);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
fn foreign_cookies_hide_nothing() {
    assert_eq!(found(&[b"a=\xff\xfe; sid=1", b"x; =; ;;sid=2"]), ["1", "2"]);
    assert_eq!(found(&[b"sid"]), [""; 0]);
    assert_eq!(found(&[b"q=\"; sid=1; \""]), ["1"]);
}

#[test]
fn names_compare_exactly() {
    assert_eq!(
        found(&[b"SID=1; sidx=2; xsid=3; __Host-sid=4; sid =5;\tsid=a=b\t"]),
        ["5", "a=b"]
    );
}

#[test]
fn at_most_eight_are_looked_at() {
    let many: String = (0..20).map(|n| format!("sid={n}; ")).collect();
    assert_eq!(found(&[many.as_bytes()]).len(), 8);
}
