//! Which requests may run again after a conflict. Knows no session.

use http::{Method, header, request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Which requests run again after a conflict at commit.
///
/// A setting of [`SessionLayer::rerun`](super::SessionLayer::rerun). It is also a layer for one route, where it
/// overrides that setting:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::post};
/// use cloakroom::{Store, http::{Rerun, SessionLayer}};
///
/// let app: Router = Router::new()
///     .route("/basket", post(|| async {}).layer(Rerun::Always))
///     .layer(SessionLayer::new(Store::in_memory()?));
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// In any case, an upgrade (`CONNECT`, WebSocket) never runs again, and neither does a request whose body exceeds
/// [`replay_limit`](super::SessionLayer::replay_limit). A request that may not run again waits for its session's turn
/// when it extracts the session, and keeps the turn until its commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rerun {
    /// Requests whose method is idempotent (RFC 9110 §9.2.2): GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    #[default]
    Idempotent,
    /// Every request. The handler must tolerate running twice: its effects outside the session happen twice.
    Always,
    /// None.
    Never,
}

/// Whether one request may run again. Its attempts and its body share it. They read it as late as possible, because a
/// route's own setting replaces the layer's after the request was created.
pub(super) struct RerunPolicy {
    rerun: AtomicU8,
    idempotent: bool,
    /// The request cannot run again: its connection or its body was used up, or it was answered.
    is_forbidden: AtomicBool,
}

/// The policy within the state that the attempts share.
pub(super) type SharedPolicy = Arc<dyn AsRef<RerunPolicy> + Send + Sync>;

impl RerunPolicy {
    pub(super) fn new(rerun: Rerun, request: &request::Parts) -> Self {
        Self {
            rerun: AtomicU8::new(rerun as u8),
            idempotent: request.method.is_idempotent(),
            is_forbidden: AtomicBool::new(is_upgrade(request)),
        }
    }

    pub(super) fn set(&self, rerun: Rerun) {
        self.rerun.store(rerun as u8, Ordering::Relaxed);
    }

    /// Forbids another run. This cannot be undone.
    pub(super) fn forbid(&self) {
        self.is_forbidden.store(true, Ordering::Relaxed);
    }

    pub(super) fn permits(&self) -> bool {
        const ALWAYS: u8 = Rerun::Always as u8;
        const IDEMPOTENT: u8 = Rerun::Idempotent as u8;
        !self.is_forbidden.load(Ordering::Relaxed)
            && match self.rerun.load(Ordering::Relaxed) {
                ALWAYS => true,
                IDEMPOTENT => self.idempotent,
                _ => false,
            }
    }
}

/// Whether the handler may take over the connection. Its effects there are unknown. An `Upgrade` that the server
/// ignores counts, too.
pub(super) fn is_upgrade(request: &request::Parts) -> bool {
    request.method == Method::CONNECT
        || request
            .headers
            .get_all(header::UPGRADE)
            .iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
            .any(is_for_a_handler)
}

/// Whether a handler can serve a protocol that an `Upgrade` offers. Others lie below HTTP's messages, and only the
/// server can switch to them. Some clients offer `h2c` with every request (RFC 9110 §7.8).
fn is_for_a_handler(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    let name = name.unwrap_or_default().trim_ascii();
    !name.is_empty()
        && !["h2c", "http", "tls"]
            .iter()
            .any(|servers| name.eq_ignore_ascii_case(servers.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn policy(rerun: Rerun, method: &str, upgrade: Option<&str>) -> RerunPolicy {
        let mut request = Request::builder().method(method);
        if let Some(protocols) = upgrade {
            request = request.header("upgrade", protocols);
        }
        RerunPolicy::new(rerun, &request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn idempotent_methods_are_those_of_rfc_9110() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(
                policy(Rerun::Idempotent, method, None).permits(),
                "{method}"
            );
        }
        for method in ["POST", "PATCH", "CONNECT", "PROPFIND"] {
            assert!(
                !policy(Rerun::Idempotent, method, None).permits(),
                "{method}"
            );
        }
    }

    #[test]
    fn always_and_never_do_not_ask_for_the_method() {
        assert!(policy(Rerun::Always, "POST", None).permits());
        assert!(!policy(Rerun::Never, "GET", None).permits());
    }

    #[test]
    fn an_upgrade_never_runs_again() {
        for protocols in ["websocket", "WebSocket", "h2c, websocket", "foo/2"] {
            let policy = policy(Rerun::Always, "GET", Some(protocols));
            assert!(!policy.permits(), "{protocols}");
        }
        assert!(!policy(Rerun::Always, "CONNECT", None).permits());
    }

    #[test]
    fn what_only_the_server_could_take_up_is_no_upgrade() {
        for protocols in ["h2c", "H2C", " h2c ,", "TLS/1.2, HTTP/2.0", ""] {
            let policy = policy(Rerun::Idempotent, "GET", Some(protocols));
            assert!(policy.permits(), "{protocols}");
        }
    }

    #[test]
    fn a_route_overrides_the_layer_until_the_request_is_spent() {
        let policy = policy(Rerun::Never, "POST", None);
        policy.set(Rerun::Always);
        assert!(policy.permits());
        policy.forbid();
        policy.set(Rerun::Always);
        assert!(!policy.permits());
    }
}
