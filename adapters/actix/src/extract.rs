//! What handlers take as arguments.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use cloakroom::Package;
use cloakroom::http as rules;
use http::Extensions;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use crate::attempts::AttemptExtensions;
use crate::error::Error;

pub(crate) type Extracting<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// Returns the extensions that the session layer gave a request: for [`cloakroom::http::session`] in middleware, and for
/// the [`VisitorAddress`](cloakroom::http::VisitorAddress). They are empty without a
/// [`SessionMiddleware`](crate::SessionMiddleware) around the route.
///
/// ```
/// use actix_web::HttpRequest;
/// use cloakroom::http::VisitorAddress;
///
/// async fn page(request: HttpRequest) -> String {
///     match cloakroom_actix::extensions(&request).get::<VisitorAddress>() {
///         Some(visitor) => format!("you come from {}", visitor.ip),
///         None => "from nowhere".to_owned(),
///     }
/// }
/// # drop(actix_web::web::resource("/").to(page));
/// ```
#[must_use]
pub fn extensions(request: &HttpRequest) -> Extensions {
    let extensions = request.extensions();
    let attempt = extensions.get::<AttemptExtensions>();
    attempt.map_or_else(Extensions::new, |AttemptExtensions(extensions)| {
        extensions.clone()
    })
}

/// The session of the request's client, in the request's one transaction, as a handler's argument. It is a
/// [`cloakroom::Session`], whose methods it has.
///
/// A visitor without a session gets an empty one. A cookie is set only if the handler inserts something. Clones and later
/// extractions are the same session.
///
/// ```
/// use cloakroom_actix::{Error, Session};
///
/// async fn log_in(session: Session) -> Result<&'static str, Error> {
///     session.log_in("ann")?;
///     Ok("welcome")
/// }
/// # drop(actix_web::web::resource("/").to(log_in));
/// ```
///
/// As an argument, `Option<Session>` is `None` after any error, because actix-web drops it. `Result<Session, Error>` tells
/// it.
///
/// # Errors
///
/// As [`cloakroom::http::session`].
#[derive(Clone, Debug)]
pub struct Session(cloakroom::Session);

impl Session {
    /// Returns the session itself.
    #[must_use]
    pub fn into_inner(self) -> cloakroom::Session {
        self.0
    }
}

impl Deref for Session {
    type Target = cloakroom::Session;

    fn deref(&self) -> &cloakroom::Session {
        &self.0
    }
}

impl FromRequest for Session {
    type Error = Error;
    type Future = Extracting<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = session(request);
        Box::pin(async { Ok(Self(session.await?)) })
    }
}

/// The session of a request.
pub(crate) fn session(
    request: &HttpRequest,
) -> impl Future<Output = cloakroom::Result<cloakroom::Session>> + 'static + use<> {
    let extensions = request.extensions();
    match extensions.get() {
        Some(AttemptExtensions(extensions)) => rules::session(extensions),
        None => rules::session(&Extensions::new()),
    }
}

/// The package `T::ID` of the request's session, as a `T`, as a handler's argument. It is a [`cloakroom::Pkg`], whose
/// methods it has.
///
/// ```
/// use cloakroom::Package;
/// use cloakroom_actix::{Error, Pkg};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Cart {
///     articles: Vec<String>,
/// }
///
/// impl Package for Cart {
///     const ID: &str = "cart";
/// }
///
/// async fn add_tea(mut cart: Pkg<Cart>) -> Result<String, Error> {
///     cart.update(|cart| cart.articles.push("tea".to_owned()))?;
///     Ok(format!("{} articles", cart.articles.len()))
/// }
/// # drop(actix_web::web::resource("/").to(add_tea));
/// ```
///
/// # Errors
///
/// As [`Session`], and those of [`cloakroom::Pkg::of`].
pub struct Pkg<T>(cloakroom::Pkg<T>);

impl<T> Pkg<T> {
    /// Returns the package itself.
    #[must_use]
    pub fn into_inner(self) -> cloakroom::Pkg<T> {
        self.0
    }
}

impl<T> Deref for Pkg<T> {
    type Target = cloakroom::Pkg<T>;

    fn deref(&self) -> &cloakroom::Pkg<T> {
        &self.0
    }
}

impl<T> DerefMut for Pkg<T> {
    fn deref_mut(&mut self) -> &mut cloakroom::Pkg<T> {
        &mut self.0
    }
}

impl<T> fmt::Debug for Pkg<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<T: Package> FromRequest for Pkg<T> {
    type Error = Error;
    type Future = Extracting<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = session(request);
        Box::pin(async { Ok(Self(cloakroom::Pkg::of(&session.await?)?)) })
    }
}

/// The messages that wait for the visitor, as a handler's argument. They are a [`cloakroom::http::Flash`], whose methods
/// they have.
///
/// ```
/// use cloakroom_actix::{Error, Flash};
///
/// async fn page(flash: Flash) -> Result<String, Error> {
///     let messages = flash.take()?;
///     Ok(messages.iter().map(|m| format!("{}: {}\n", m.level, m.text)).collect())
/// }
/// # drop(actix_web::web::resource("/").to(page));
/// ```
///
/// # Errors
///
/// As [`Session`].
#[derive(Clone, Debug)]
pub struct Flash(rules::Flash);

impl Deref for Flash {
    type Target = rules::Flash;

    fn deref(&self) -> &rules::Flash {
        &self.0
    }
}

impl FromRequest for Flash {
    type Error = Error;
    type Future = Extracting<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = session(request);
        Box::pin(async { Ok(Self(rules::Flash::of(&session.await?))) })
    }
}
