//! The layer that asks for a recent login before something important.

use chrono::{DateTime, Utc};
use http::Extensions;
use std::fmt;
#[cfg(feature = "axum")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "axum")]
use super::settings::Otherwise;
use super::slot::{Slot, read_early};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// A layer for routes that need a recent login, such as a change of the password. It lies inside the
/// [`SessionLayer`](super::SessionLayer). A request passes if [`Session::log_in`](crate::Session::log_in) was called for
/// its session within the given time.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::Redirect;
/// use axum::{Router, routing::post};
/// use cloakroom::Store;
/// use cloakroom::http::{RequireFresh, SessionLayer};
/// use std::time::Duration;
///
/// let fresh = RequireFresh::within(Duration::from_secs(5 * 60))
///     .or_else(|_request| Redirect::to("/login"));
/// let app: Router = Router::new()
///     .route("/password", post(|| async { "changed" }).layer(fresh))
///     .layer(SessionLayer::new(Store::in_memory()?));
/// # drop(app);
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// By default, other requests are answered with 401, and with the [`Error`] of the kind
/// [`NotFresh`](ErrorKind::NotFresh) in the response's extensions. `SessionLayer::on_error`
/// can give it a page.
///
/// The time counts from the login, not from the last access. A session whose owner was set by
/// [`set_owner`](crate::Session::set_owner) alone has none. The time of the request is when it arrived, by the store's
/// clock.
#[derive(Clone)]
pub struct RequireFresh {
    within: Duration,
    #[cfg(feature = "axum")]
    pub(super) otherwise: Option<Arc<Otherwise>>,
}

impl RequireFresh {
    /// Lets pass the requests of visitors who logged in within this time.
    #[must_use]
    pub fn within(time: Duration) -> Self {
        Self {
            within: time,
            #[cfg(feature = "axum")]
            otherwise: None,
        }
    }

    /// Lets the request with these extensions pass, or returns the error: for web frameworks that do not use tower. It
    /// needs the extensions that the service inside the [`SessionLayer`](super::SessionLayer) got.
    ///
    /// # Errors
    ///
    /// [`NotFresh`](ErrorKind::NotFresh) if the login is not recent enough, and the errors of
    /// [`session`](super::session).
    pub async fn check(&self, request: &Extensions) -> Result<()> {
        match self.passes(request).await? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::NotFresh,
                "This page needs a recent login. Log in again.",
            )),
        }
    }

    /// Whether the request's session has a login that is recent enough.
    async fn passes(&self, request: &Extensions) -> Result<bool> {
        let login = read_early(request, Session::authenticated_at).await?;
        let came = Slot::of(request).map(|slot| slot.came_at());
        let logged_in = login.zip(came);
        Ok(logged_in.is_some_and(|(login, now)| self.is_recent(login, now)))
    }

    /// A login that lies far in the future was noted by a clock that was wrong.
    fn is_recent(&self, login: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let distance = now.signed_duration_since(login).abs().to_std();
        distance.is_ok_and(|distance| distance <= self.within)
    }
}

impl fmt::Debug for RequireFresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireFresh")
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
