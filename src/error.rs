//! The one error type of the crate: opaque, cheap to clone, with a small kind to match on.
//! It never carries a client id, a secret or a value.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong: a [kind](ErrorKind), the container, package and key it concerns where there are
/// any, a sentence for the log, and the cause as [`source`](std::error::Error::source).
///
/// Clones share one allocation. Client ids, secrets and values never appear in it (C1.6).
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Inner>);

#[derive(thiserror::Error)]
#[error("{}", self.describe())]
struct Inner {
    kind: ErrorKind,
    detail: String,
    container: Option<String>,
    package: Option<String>,
    key: Option<String>,
    /// Trying again at once meets the same.
    lasting: bool,
    #[source]
    source: Option<Source>,
}

/// The kinds of [`Error`], for code that reacts to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction changed what this one read, or ended its session. Run it again (C2.7, C2.11).
    Conflict,
    /// A value inserted into the transaction cannot be serialized; nothing was written (C2.3).
    NotSerializable,
    /// A stored value is not of the type asked for (C5.1).
    TypeMismatch,
    /// A number would leave the range of its type (C2.9).
    Overflow,
    /// A key, a package or a session is beyond its limit (C5.3).
    TooLarge,
    /// The transaction was committed or aborted, or the store was closed (C2.4).
    Closed,
    /// The transaction was doomed (C2.6).
    Doomed,
    /// The savepoint was rolled past, or belongs to another transaction (C2.5).
    NoSuchSavepoint,
    /// The transaction outlived its snapshot (C2.14).
    SnapshotTooOld,
    /// The store is reopening itself after a failure of its storage (C2.13), or a limit on what it takes
    /// at a time is reached, as that of new sessions.
    Unavailable,
    /// Storage failed before anything of the commit could have become durable (C2.13).
    NotWritten,
    /// Storage failed when the commit may have become durable (C2.13).
    OutcomeUnknown,
    /// A stored record does not match its checksum, or the file's structure is damaged (C5.4).
    Corrupt,
    /// Another process, or another store of this process, owns the file (C7.1).
    Locked,
    /// The file was written by a newer version of this crate (C7.2).
    TooNew,
    /// The file is not a store (C7.2).
    NotAStore,
    /// No container of this name is registered (C1.2).
    NoSuchContainer,
    /// A setting, a name or an argument is not allowed.
    InvalidInput,
    /// A closure of the application panicked while a commit ran it (C2.9).
    Panicked,
    /// What was asked for cannot be done here.
    Unsupported,
    /// This request may not hand out a client id (C4.5).
    MissingClientId,
    /// The session layer is not installed, or not around this route (C6.5).
    NoSessionLayer,
    /// The operating system refused: no such folder, no permission, no space at opening, ….
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            detail: detail.into(),
            container: None,
            package: None,
            key: None,
            lasting: false,
            source: None,
        }))
    }

    pub(crate) fn with_source(self, source: impl Into<Source>) -> Self {
        self.map(|inner| inner.source = Some(source.into()))
    }

    pub(crate) fn in_container(self, name: impl Into<String>) -> Self {
        self.map(|inner| inner.container = Some(name.into()))
    }

    pub(crate) fn in_package(self, package: impl Into<String>) -> Self {
        self.map(|inner| inner.package = Some(package.into()))
    }

    pub(crate) fn at_key(self, key: impl Into<String>) -> Self {
        self.map(|inner| inner.key = Some(key.into()))
    }

    /// The same, said of the file at `path`, and of another kind.
    pub(crate) fn of_file(self, path: &Path, kind: ErrorKind) -> Self {
        self.map(|inner| {
            inner.kind = kind;
            inner.detail = format!("{}: {}", path.display(), inner.detail);
        })
    }

    /// Marks a conflict that trying again at once does not cure.
    pub(crate) fn lasting(self) -> Self {
        self.map(|inner| inner.lasting = true)
    }

    /// Whether running the transaction again may end otherwise.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        self.is_conflict() && !self.0.lasting
    }

    /// Errors are shared once they are out; while they are being made there is one owner.
    fn map(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => change(inner),
            None => {
                let mut inner = Inner {
                    kind: self.0.kind,
                    detail: self.0.detail.clone(),
                    container: self.0.container.clone(),
                    package: self.0.package.clone(),
                    key: self.0.key.clone(),
                    lasting: self.0.lasting,
                    source: Some(Box::new(self.clone())),
                };
                change(&mut inner);
                self.0 = Arc::new(inner);
            }
        }
        self
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The container it concerns. The unnamed container is `Some("")`.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.0.container.as_deref()
    }

    /// The package id it concerns.
    #[must_use]
    pub fn package(&self) -> Option<&str> {
        self.0.package.as_deref()
    }

    /// The key it concerns.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Whether it is a [`Conflict`](ErrorKind::Conflict), which running the transaction again may cure.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }
}

impl Inner {
    fn places(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("container", &self.container),
            ("package", &self.package),
            ("key", &self.key),
        ]
        .into_iter()
        .filter_map(|(name, place)| Some((name, place.as_deref()?)))
    }

    fn describe(&self) -> String {
        let mut out = self.detail.clone();
        for (i, (name, place)) in self.places().enumerate() {
            let lead = if i == 0 { " (" } else { ", " };
            out.push_str(&format!("{lead}{name} {place:?}"));
        }
        if self.places().next().is_some() {
            out.push(')');
        }
        out
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind).field("detail", &self.detail);
        for (name, place) in self.places() {
            out.field(name, &place);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
