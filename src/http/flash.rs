//! Messages that are shown once, on the page that the visitor sees next. Knows no body and no cookie.

use http::{Extensions, Response};
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::error::Result;
use crate::session::{PkgData, Session};

/// The package and the key that hold the messages.
const PACKAGE: &str = "cloakroom.flash";
const KEY: &str = "messages";
/// The maximum number of messages that wait. Beyond it, the oldest are dropped.
const MAX_WAITING: usize = 32;

/// How important a [`FlashMessage`] is, and of which kind. Serialized as `"debug"`, `"info"`, `"success"`,
/// `"warning"` or `"error"`.
///
/// ```
/// use cloakroom::http::{FlashLevel, FlashMessage};
///
/// let message = FlashMessage::new(FlashLevel::Warning, "Only two are left.");
/// assert_eq!(format!("<p class={}>", message.level), "<p class=warning>");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashLevel {
    /// For developers.
    Debug,
    /// A neutral message.
    Info,
    /// Something was done.
    Success,
    /// Something needs attention.
    Warning,
    /// Something was not done.
    Error,
}

impl FlashLevel {
    /// The name, for example as a CSS class: `debug`, `info`, `success`, `warning` or `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for FlashLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that is shown once. In axum it is a part of a response: the session layer stores it when it commits.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::{IntoResponse, Redirect};
/// use cloakroom::http::FlashMessage;
///
/// async fn save() -> impl IntoResponse {
///     (FlashMessage::success("Your address was saved."), Redirect::to("/account"))
/// }
/// # let _ = axum::Router::<()>::new().route("/save", axum::routing::post(save));
/// # }
/// ```
///
/// As a part of a response it needs no session argument, so an application's own error type can answer with one. A
/// response that does not commit, for example one with the status 500, stores none.
///
/// It is serialized as a map with `level` and `text`, so that templates can show it. The text is not escaped; the
/// template does that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashMessage {
    /// The level.
    pub level: FlashLevel,
    /// The text.
    pub text: String,
}

impl FlashMessage {
    /// A message with this level.
    #[must_use]
    pub fn new(level: FlashLevel, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { level, text }
    }

    /// A message for developers.
    #[must_use]
    pub fn debug(text: impl Into<String>) -> Self {
        Self::new(FlashLevel::Debug, text)
    }

    /// A neutral message.
    #[must_use]
    pub fn info(text: impl Into<String>) -> Self {
        Self::new(FlashLevel::Info, text)
    }

    /// A message that something was done.
    #[must_use]
    pub fn success(text: impl Into<String>) -> Self {
        Self::new(FlashLevel::Success, text)
    }

    /// A message that something needs attention.
    #[must_use]
    pub fn warning(text: impl Into<String>) -> Self {
        Self::new(FlashLevel::Warning, text)
    }

    /// A message that something was not done.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(FlashLevel::Error, text)
    }

    /// Adds the message to a response, for services without axum: the session layer around them finds it in the
    /// response's extensions.
    pub fn attach_to(self, response: &mut Extensions) {
        let mut queue = response.remove::<FlashQueue>().unwrap_or_default();
        queue.0.push(self);
        response.insert(queue);
    }
}

/// The messages that wait for the visitor, and an extractor for axum.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use cloakroom::{Error, http::Flash};
///
/// async fn page(flash: Flash) -> Result<String, Error> {
///     let messages = flash.take()?;
///     let lines = messages.iter().map(|m| format!("{}: {}\n", m.level, m.text));
///     Ok(lines.collect())
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(page));
/// # }
/// ```
///
/// [`take`](Self::take) reads and removes the messages in the request's transaction. So each message is shown by
/// exactly one of several parallel requests, and a request whose response fails loses none. Messages survive a
/// redirect, because a redirect takes none. A message is stored in the session, so the first one creates a session.
///
/// At most 32 messages wait; then the oldest are dropped.
///
/// # Errors
///
/// As an extractor it is rejected as `Session` is.
#[derive(Clone)]
pub struct Flash(PkgData);

impl Flash {
    /// The messages of a session. This reads nothing.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self(session.pkg(PACKAGE))
    }

    /// Adds a message. Never conflicts with parallel requests that add some.
    ///
    /// # Errors
    ///
    /// As for [`PkgData::commute`].
    pub fn push(&self, message: FlashMessage) -> Result<()> {
        self.push_all(vec![message])
    }

    fn push_all(&self, messages: Vec<FlashMessage>) -> Result<()> {
        self.0.commute(KEY, move |waiting: Option<Vec<_>>| {
            let mut waiting = waiting.unwrap_or_default();
            waiting.extend(messages.iter().cloned());
            let surplus = waiting.len().saturating_sub(MAX_WAITING);
            waiting.drain(..surplus);
            waiting
        })
    }

    /// Adds a message for developers.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn debug(&self, text: impl Into<String>) -> Result<()> {
        self.push(FlashMessage::debug(text))
    }

    /// Adds a neutral message.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn info(&self, text: impl Into<String>) -> Result<()> {
        self.push(FlashMessage::info(text))
    }

    /// Adds a message that something was done.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn success(&self, text: impl Into<String>) -> Result<()> {
        self.push(FlashMessage::success(text))
    }

    /// Adds a message that something needs attention.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn warning(&self, text: impl Into<String>) -> Result<()> {
        self.push(FlashMessage::warning(text))
    }

    /// Adds a message that something was not done.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn error(&self, text: impl Into<String>) -> Result<()> {
        self.push(FlashMessage::error(text))
    }

    /// Returns all messages that wait, the oldest first, and removes them. The messages of this request's own
    /// transaction are among them. If a parallel request has taken some, this one conflicts and runs again.
    ///
    /// # Errors
    ///
    /// As for [`PkgData::take`].
    pub fn take(&self) -> Result<Vec<FlashMessage>> {
        self.0.take(KEY).map(Option::unwrap_or_default)
    }
}

impl fmt::Debug for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash").finish_non_exhaustive()
    }
}

/// The messages of a response, in its extensions until the layer stores them.
#[derive(Clone, Default)]
pub(super) struct FlashQueue(Vec<FlashMessage>);

impl FlashQueue {
    pub(super) fn of<R>(response: &Response<R>) -> Option<Self> {
        response.extensions().get().cloned()
    }

    pub(super) fn store(self, session: &Session) -> Result<()> {
        Flash::of(session).push_all(self.0)
    }
}
