//! The session in templates of [minijinja](https://docs.rs/minijinja) 3: an object that reads, and cannot write.
//!
//! ```
//! use cloakroom::Store;
//! use minijinja::{Environment, context};
//!
//! let store = Store::in_memory()?;
//! let id = store.client_ids().issue();
//! let txn = store.begin()?;
//! let session = txn.session(&id)?;
//! session.pkg("products.foo").insert("size", 38)?;
//!
//! let page = r#"{{ session["products.foo"].size }} {{ session["products.foo"].color | default("green") }}"#;
//! let session = cloakroom::minijinja::session(&session);
//! let shown = Environment::new().render_str(page, context! { session })?;
//! assert_eq!(shown, "38 green");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `session["package.id"].key` or `session["package.id"]["key"]` is a value. It is undefined if it is missing, so
//!   `default` and `is defined` work, for packages that do not exist, too.
//! - `"key" in session["package.id"]` and `for key in session["package.id"]` work on the keys of one package. An empty
//!   package is false.
//! - `"package.id" in session` and `for package in session` work on the packages that have any key. A session without any
//!   is false.
//! - `session.path("products.foo/color | products.bar/color | 'green'")` gives the first that is there, see
//!   [`Session::path`].
//!
//! Values are read when the template asks for them, in the request's transaction. So a page is rendered in the handler,
//! before its response is made, and not in the stream of a body. What the page reads counts as read, as in the handler
//! itself. Rendering creates nothing and changes nothing.
//!
//! A value that cannot be read is an error of the template, with the [`Error`](crate::Error) among its sources
//! ([`Error::find_in`](crate::Error::find_in)). Texts of the session are never marked as safe, so that autoescaping
//! escapes them.

#[cfg(feature = "axum")]
use crate::http::CsrfToken;
use crate::session::{PkgData, Session};
use ::minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use ::minijinja::{Error as TemplateError, ErrorKind as TemplateErrorKind, State};
use std::fmt;
use std::sync::Arc;

/// Returns the object that templates read a session by.
#[must_use]
pub fn session(session: &Session) -> Value {
    Value::from_object(SessionObject(session.clone()))
}

/// Returns the hidden field of a form, marked as safe, for [`CsrfLayer`](crate::http::CsrfLayer).
#[cfg(feature = "axum")]
#[must_use]
pub fn csrf_input(token: &CsrfToken) -> Value {
    Value::from_safe_string(token.input())
}

fn failed(error: crate::Error) -> TemplateError {
    let what = "the session cannot be read";
    TemplateError::new(TemplateErrorKind::InvalidOperation, what).with_source(error)
}

/// The names, or one item that fails the template.
fn listed(names: Result<Vec<String>, crate::Error>) -> Enumerator {
    match names {
        Ok(names) => Enumerator::Values(names.into_iter().map(Value::from).collect()),
        Err(error) => {
            let error = Value::from(failed(error));
            Enumerator::Iter(Box::new(std::iter::once(error)))
        }
    }
}

struct SessionObject(Session);

impl fmt::Debug for SessionObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("session")
    }
}

impl Object for SessionObject {
    /// Not a map: minijinja would take each package for present, because a handle on it exists. It iterates over the
    /// packages.
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let package = self.0.pkg(key.as_str()?);
        Some(Value::from_object(PkgObject(package)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        listed(self.0.packages())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, TemplateError> {
        if method != "path" {
            return Err(TemplateErrorKind::UnknownMethod.into());
        }
        let (path,): (&str,) = ::minijinja::value::from_args(args)?;
        let value = self.0.path(path).map_err(failed)?;
        Ok(value.unwrap_or(Value::UNDEFINED))
    }
}

struct PkgObject(PkgData);

impl fmt::Debug for PkgObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("package")
    }
}

impl Object for PkgObject {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.0.get(key.as_str()?) {
            Ok(value) => value,
            Err(error) => Some(Value::from(failed(error))),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        listed(self.0.keys())
    }
}
