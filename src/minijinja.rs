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
//!   [`Session::path`]. [`add_path`] adds the same as a function and a filter.
//!
//! Values are read when the template asks for them, in the request's transaction. So a page is rendered in the handler,
//! before its response is made, and not in the stream of a body. The values that the page reads count as read, as in
//! the handler itself. Rendering creates nothing and changes nothing.
//!
//! A value that cannot be read is an error of the template, with the [`Error`](crate::Error) among its sources
//! ([`Error::find_in`](crate::Error::find_in)). Texts of the session are never marked as safe, so that autoescaping
//! escapes them.

#[cfg(feature = "axum")]
use crate::http::CsrfToken;
#[cfg(feature = "http")]
use crate::http::Flash;
#[cfg(feature = "url-ids")]
use crate::http::UrlId;
use crate::session::{PkgData, Session};
#[cfg(feature = "http")]
use ::minijinja::value::Serde;
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

/// Takes the messages that wait for the visitor, for the page that shows them: a list of objects with `level` and `text`.
/// The handler takes them; the template only reads.
///
/// ```
/// use cloakroom::{Store, http::{Flash, FlashMessage}};
/// use minijinja::{Environment, context};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let flash = Flash::of(&txn.session(&id)?);
/// flash.push(FlashMessage::success("saved <now>"))?;
///
/// let page = "{% for m in messages %}{{ m.level }}: {{ m.text }}{% endfor %}";
/// let mut templates = Environment::new();
/// templates.add_template("page.html", page)?;
/// let messages = cloakroom::minijinja::messages(&flash)?;
/// let shown = templates.get_template("page.html")?.render(context! { messages })?;
/// assert_eq!(shown, "success: saved &lt;now&gt;");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As for [`Flash::take`].
#[cfg(feature = "http")]
pub fn messages(flash: &Flash) -> Result<Value, crate::Error> {
    let messages = flash.take()?;
    Ok(messages.iter().map(|it| Value::from(Serde(it))).collect())
}

/// Adds the function and the filter `path` to an environment: `path("products.foo/color | 'green'")` and
/// `"products.foo/color | 'green'" | path`. They read the object `session` of the template's context.
///
/// ```
/// use cloakroom::Store;
/// use minijinja::{Environment, context};
///
/// let mut templates = Environment::new();
/// cloakroom::minijinja::add_path(&mut templates);
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let session = txn.session(&id)?;
/// session.pkg("products.bar").insert("color", "blue")?;
/// let session = cloakroom::minijinja::session(&session);
/// let page = r#"{{ path("products.foo/color | products.bar/color") }} {{ "products.foo/size | 38" | path }}"#;
/// assert_eq!(templates.render_str(page, context! { session })?, "blue 38");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_path(environment: &mut ::minijinja::Environment<'_>) {
    environment.add_function("path", by_path);
    environment.add_filter("path", by_path);
}

fn by_path(state: &mut State<'_, '_>, path: &str) -> Result<Value, TemplateError> {
    let session = state.lookup("session").unwrap_or_default();
    let Some(SessionObject(session)) = session.downcast_object_ref() else {
        let what = "`path` reads the object `session`, which the template's context lacks";
        return Err(TemplateError::new(
            TemplateErrorKind::InvalidOperation,
            what,
        ));
    };
    let value = session.path(path).map_err(failed)?;
    Ok(value.unwrap_or(Value::UNDEFINED))
}

/// Returns the object by which templates put the id into their URLs and forms: `{{ url_id.url("/cart") }}` is the URL with
/// the token if one is needed ([`UrlId::encode_url`]), escaped as any text, and `{{ url_id.input() }}` the hidden field
/// ([`UrlId::input`]), marked as safe.
#[cfg(feature = "url-ids")]
#[must_use]
pub fn url_id(id: &UrlId) -> Value {
    Value::from_object(UrlObject(id.clone()))
}

#[cfg(feature = "url-ids")]
struct UrlObject(UrlId);

#[cfg(feature = "url-ids")]
impl fmt::Debug for UrlObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("url_id")
    }
}

#[cfg(feature = "url-ids")]
impl Object for UrlObject {
    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, TemplateError> {
        match method {
            "url" => {
                let (url,): (&str,) = ::minijinja::value::from_args(args)?;
                self.0.encode_url(url).map(Value::from).map_err(failed)
            }
            "input" => {
                let (): () = ::minijinja::value::from_args(args)?;
                self.0.input().map(Value::from_safe_string).map_err(failed)
            }
            _ => Err(TemplateErrorKind::UnknownMethod.into()),
        }
    }
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
