//! The one error type of the crate: opaque, cheap to clone, with a small kind to match on.
//! It never carries a client id, a secret or a value.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The result of every fallible operation of this crate.
///
/// ```
/// use cloakroom::{Result, Session};
///
/// fn visits(session: &Session) -> Result<u64> {
///     session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

type AnyError = dyn std::error::Error + Send + Sync + 'static;

/// An error: a [kind](ErrorKind), a line for the log, and, if known, the container, package and key that it concerns.
///
/// `Display` prints the complete line: the file, the operation that failed, the place, and the causes down to the
/// message of the operating system. [`source`](std::error::Error::source) omits the causes that the line contains, so
/// printing the chain of sources repeats nothing. [`io_error`](Self::io_error) gives the operating system's error.
///
/// Client ids, secrets and values never appear in an error, with one exception. The cause of
/// [`NotSerializable`](ErrorKind::NotSerializable) is the message of a type's own `Serialize`, which may contain the
/// value. It is available only from [`source`](std::error::Error::source); neither `Display` nor `Debug` prints it.
/// Code that prints the chain of sources prints it too.
///
/// Names are escaped and quoted with at most 64 characters, because a visitor may have chosen them. Clones share one
/// allocation.
///
/// ```
/// use cloakroom::{ErrorKind, Store};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let cart = txn.session(&id)?.pkg("cart");
/// cart.insert("tea", 2)?;
/// let error = cart.get::<String>("tea").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::TypeMismatch);
/// assert_eq!((error.package(), error.key()), (Some("cart"), Some("tea")));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<ErrorInner>);

#[derive(Clone)]
struct ErrorInner {
    kind: ErrorKind,
    file: Option<PathBuf>,
    detail: String,
    container: Option<String>,
    package: Option<String>,
    key: Option<String>,
    /// Trying again sooner meets the same.
    lasts: Option<Duration>,
    /// Sessions that had ended before it.
    ended: Option<u64>,
    source: Option<Arc<AnyError>>,
}

/// The kinds of [`Error`], to match on.
///
/// ```
/// use cloakroom::{ErrorKind, Store};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let (one, two) = (store.begin()?, store.begin()?);
/// for txn in [&one, &two] {
///     txn.session(&id)?.pkg("cart").update("tea", |n: Option<u32>| n.unwrap_or(0) + 1)?;
/// }
/// one.commit()?;
/// match two.commit() {
///     Err(error) if error.kind() == ErrorKind::Conflict => {} // run it again
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction changed what this one read, or ended its session. Run it again.
    Conflict,
    /// A value inserted into the transaction cannot be serialized; nothing was written.
    NotSerializable,
    /// A stored value does not have the requested type.
    TypeMismatch,
    /// A number would leave the range of its type.
    Overflow,
    /// A key, a package or a session exceeds its limit, or a value is nested in more than 128 lists and maps.
    TooLarge,
    /// The transaction was committed or aborted, or the store was closed.
    Closed,
    /// The transaction was doomed.
    Doomed,
    /// The savepoint was rolled past, or belongs to another transaction.
    NoSuchSavepoint,
    /// The session of a [handle](crate::SessionHandle) was rotated or destroyed, or has expired.
    SessionEnded,
    /// The transaction is older than the maximum age of its snapshot.
    SnapshotTooOld,
    /// The store is reopening after a storage failure, or a limit is reached, for example that of new sessions.
    Unavailable,
    /// Storage failed before any part of the commit could become durable.
    NotWritten,
    /// Storage failed after the commit might have become durable.
    OutcomeUnknown,
    /// A stored record does not match its checksum, or the file's structure is damaged.
    Corrupt,
    /// Another process, or another store of this process, owns the file.
    Locked,
    /// The store was opened in another process, from which this one was forked. Daemonize before opening.
    OtherProcess,
    /// The file was written by a newer version of this crate, or is of a newer version of redb's file format.
    TooNew,
    /// The file is not a store, or not a backup of one.
    NotAStore,
    /// Users other than the one who runs this process can access the file, and the store was opened with
    /// `require_private_files`.
    NotPrivate,
    /// The store is encrypted, and its keys were not given, or others were (`StoreBuilder::encryption`). On a server also
    /// later, if another process has encrypted the store again with another current key (`Store::reseal`).
    WrongKey,
    /// No container of this name is registered.
    NoSuchContainer,
    /// A setting, a name or an argument is not allowed.
    InvalidInput,
    /// A closure of the application panicked while a commit ran it.
    Panicked,
    /// The operation is not supported here.
    Unsupported,
    /// The caller broke a long operation off. It left what was there before.
    Interrupted,
    /// This request may not hand out a client id.
    MissingClientId,
    /// The request comes from another site, or has no valid token (`CsrfLayer`).
    CsrfRefused,
    /// The last login of the session is not recent enough (`RequireFresh`).
    NotFresh,
    /// The application does not allow this request to create a session (`SessionLayer::admit_new`), or the owner has as many
    /// as one may have (`StoreBuilder::max_sessions_per_owner`).
    NotAdmitted,
    /// The session layer is not installed, or not around this route.
    NoSessionLayer,
    /// The operating system reported an error, such as a missing folder, a missing permission, or no space at
    /// opening.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Arc::new(ErrorInner {
            kind,
            file: None,
            detail: detail.into(),
            container: None,
            package: None,
            key: None,
            lasts: None,
            ended: None,
            source: None,
        }))
    }

    /// The thread that commits has ended, and no other takes its place: waiting does not help.
    pub(crate) fn stopped() -> Self {
        let why = "the store's writer has stopped; open the store again";
        Self::new(ErrorKind::Unavailable, why).lasting(Duration::MAX)
    }

    pub(crate) fn with_source(self, source: impl Into<Box<AnyError>>) -> Self {
        self.map(|inner| inner.source = Some(source.into().into()))
    }

    /// What caused it, whether its line tells that or not.
    pub(crate) fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }

    pub(crate) fn after_ending(self, sessions: u64) -> Self {
        self.map(|inner| inner.ended = Some(sessions))
    }

    pub(crate) fn in_container(self, name: impl AsRef<str>) -> Self {
        self.map(|inner| inner.container = Some(kept(name.as_ref())))
    }

    pub(crate) fn in_package(self, package: impl AsRef<str>) -> Self {
        self.map(|inner| inner.package = Some(kept(package.as_ref())))
    }

    pub(crate) fn at_key(self, key: impl AsRef<str>) -> Self {
        self.map(|inner| inner.key = Some(kept(key.as_ref())))
    }

    /// The same, of another kind, and said of the file at `path` unless it is said of one already.
    pub(crate) fn of_file(self, path: &Path, kind: ErrorKind) -> Self {
        self.map(|inner| {
            inner.kind = kind;
            inner.file.get_or_insert_with(|| path.to_owned());
        })
    }

    /// The file that it is said of.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The same, with more to it.
    pub(crate) fn and_says(self, more: &str) -> Self {
        self.map(|inner| {
            inner.detail.push_str(", ");
            inner.detail.push_str(more);
        })
    }

    /// Notes that trying again sooner than after `time` meets the same.
    pub(crate) fn lasting(self, time: Duration) -> Self {
        self.map(|inner| inner.lasts = Some(time))
    }

    /// Whether running the transaction again may end otherwise.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        self.is_conflict() && self.0.lasts.is_none()
    }

    /// Whether the session had ended that the transaction wrote to, and no further attempt would create another one.
    #[cfg(feature = "http")]
    pub(crate) fn is_of_ended_session(&self) -> bool {
        self.is_conflict() && self.0.lasts.is_some()
    }

    /// Errors are shared once they are out; while they are being made there is one owner.
    fn map(mut self, change: impl FnOnce(&mut ErrorInner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The line without container, package and key, for who tells these apart from it.
    #[cfg(feature = "http")]
    pub(crate) fn without_location(&self) -> String {
        self.0.summary() + &self.0.cause()
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The time after which the same operation may succeed, for `Retry-After`. `None` if waiting does not help.
    ///
    /// It is one second for conflicts and storage failures. For a write under an id that was rotated or destroyed, it
    /// is the rest of the time during which such ids are refused. A client with the new cookie need not wait; a
    /// client without it gets a new session afterwards. For a limit on new sessions, it is the time until new
    /// sessions are admitted.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let waiting_helps = matches!(
            self.0.kind,
            ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::NotWritten
        );
        let shortest = Duration::from_secs(1);
        let lasts = self.0.lasts.unwrap_or(shortest).max(shortest);
        (waiting_helps && lasts < Duration::MAX).then_some(lasts)
    }

    /// How many sessions had ended when a call that ends several failed: [`Store::end_all`](crate::Store::end_all),
    /// [`end_all_of`](crate::Store::end_all_of) and [`end`](crate::Store::end). `None` of every other error.
    #[must_use]
    pub fn sessions_ended(&self) -> Option<u64> {
        self.0.ended
    }

    /// The container that the error concerns. The unnamed container is `Some("")`. Here and below, a name of more
    /// than 1,024 bytes is cut.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.0.container.as_deref()
    }

    /// The package id that the error concerns.
    #[must_use]
    pub fn package(&self) -> Option<&str> {
        self.0.package.as_deref()
    }

    /// The key that the error concerns.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Whether this is a [`Conflict`](ErrorKind::Conflict). Running the transaction again may succeed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// Finds an error of this crate in another error: the error itself, or one in its chain of sources. Applications
    /// that wrap errors can thus answer those of this crate with their own status.
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind, Store};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("the cart cannot be read")]
    /// struct CartError(#[from] Error);
    ///
    /// fn cart(store: &Store) -> Result<(), CartError> {
    ///     store.begin()?;
    ///     Ok(())
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// store.clone().close()?;
    /// let error = cart(&store).unwrap_err();
    /// assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::Closed);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut links = std::iter::successors(Some(error), |error| error.source());
        links.find_map(|error| error.downcast_ref())
    }

    /// The operating system's error, if it is the cause: for example a missing folder, a missing permission, or a
    /// full disk.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Store};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let error = Store::open(folder.path().join("missing/sessions.redb")).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Io);
    /// assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        let source = self.0.source.as_deref()?;
        let io = source.downcast_ref();
        io.or_else(|| source.downcast_ref::<Self>()?.io_error())
    }
}

impl std::error::Error for Error {
    /// The cause that the line does not contain.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        if self.0.shows_cause() {
            source.source()
        } else {
            Some(source)
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.describe())
    }
}

impl ErrorInner {
    /// The message of a type's own `Serialize` may contain a value.
    fn shows_cause(&self) -> bool {
        self.kind != ErrorKind::NotSerializable
    }

    fn location(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("container", &self.container),
            ("package", &self.package),
            ("key", &self.key),
        ]
        .into_iter()
        .filter_map(|(name, place)| Some((name, place.as_deref()?)))
    }

    fn summary(&self) -> String {
        match &self.file {
            Some(file) if file.as_os_str().is_empty() => format!("\"\": {}", self.detail),
            Some(file) => format!("{}: {}", file.display(), self.detail),
            None => self.detail.clone(),
        }
    }

    fn cause(&self) -> String {
        let source = self.source.as_ref().filter(|_| self.shows_cause());
        source.map_or(String::new(), |source| format!(": {source}"))
    }

    fn describe(&self) -> String {
        let mut out = self.summary();
        for (i, (name, place)) in self.location().enumerate() {
            let lead = if i == 0 { " (" } else { ", " };
            out.push_str(&format!("{lead}{name} {}", Quoted(place)));
        }
        if self.location().next().is_some() {
            out.push(')');
        }
        out + &self.cause()
    }
}

impl fmt::Debug for ErrorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind);
        if let Some(file) = &self.file {
            out.field("file", file);
        }
        out.field("detail", &self.detail);
        for (name, place) in self.location() {
            out.field(name, &format_args!("{}", Quoted(place)));
        }
        match &self.source {
            Some(_) if !self.shows_cause() => {
                out.field(
                    "source",
                    &format_args!("(not shown: it may tell the value)"),
                );
            }
            Some(source) => {
                out.field("source", source);
            }
            None => {}
        }
        out.finish()
    }
}

/// So much of a name is kept, which is more than any name within the default limits has.
const KEPT: usize = 1024;
/// So many characters of a name are quoted.
const QUOTED: usize = 64;

fn kept(name: &str) -> String {
    let mut end = name.len().min(KEPT);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.split_at(end).0.to_owned()
}

/// A name as messages quote it: escaped, and not much of it, for it may be a visitor's.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = *self;
        match name.char_indices().nth(QUOTED) {
            Some((end, _)) => write!(f, "{:?}…", name.split_at(end).0),
            None => write!(f, "{name:?}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_key(key: &str) -> Error {
        Error::new(ErrorKind::TooLarge, "too large").at_key(key)
    }

    #[test]
    fn a_name_is_quoted_with_64_characters_at_most() {
        assert_eq!(of_key(&"k".repeat(64)).key().unwrap().len(), 64);
        let whole = of_key(&"é".repeat(64)).to_string();
        assert_eq!(whole, format!("too large (key \"{}\")", "é".repeat(64)));
        let cut = of_key(&"é".repeat(65)).to_string();
        assert_eq!(cut, format!("too large (key \"{}\"…)", "é".repeat(64)));
        assert_eq!(
            of_key("a\n\u{202e}").to_string(),
            r#"too large (key "a\n\u{202e}")"#
        );
    }

    #[test]
    fn a_name_of_megabytes_makes_a_small_error() {
        for name in [
            "k".repeat(5_000_000),
            "\u{1}".repeat(5_000_000),
            "é".repeat(2_000_000),
        ] {
            let error = of_key(&name).in_container(&name).in_package(&name);
            assert!(error.to_string().len() < 2000);
            assert!(format!("{error:?}").len() < 2000);
            assert!(error.key().unwrap().len() <= KEPT);
            assert!(name.starts_with(error.package().unwrap()));
        }
    }

    #[test]
    fn what_a_serializer_said_is_printed_by_none_but_who_asks_for_it() {
        let error =
            Error::new(ErrorKind::NotSerializable, "no").with_source("the value is hunter2");
        assert!(!format!("{error} {error:?} {error:#?}").contains("hunter2"));
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().contains("hunter2"));
        let io = Error::new(ErrorKind::Io, "no").with_source("no space");
        assert!(format!("{io:?}").contains("no space"));
    }

    // C7: an error that others hold too is told of a file like any.
    #[test]
    fn a_line_tells_the_file_and_the_cause_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let inner = Error::new(ErrorKind::Unavailable, "the journal cannot be made")
            .with_source(full())
            .of_file(Path::new("/x/store.journal-1"), ErrorKind::Io);
        let shared = inner.clone().of_file(Path::new("/x/store"), ErrorKind::Io);
        let expected = "/x/store.journal-1: the journal cannot be made: no storage space";
        assert_eq!(shared.to_string(), expected);
        let outer = Error::new(ErrorKind::NotWritten, "storage failed").with_source(inner);
        assert_eq!(outer.to_string(), format!("storage failed: {expected}"));
        for error in [&shared, &outer] {
            assert!(std::error::Error::source(error).is_none());
            let kind = error.io_error().map(io::Error::kind);
            assert_eq!(kind, Some(io::ErrorKind::StorageFull));
            assert_eq!(format!("{error:?}").matches("StorageFull").count(), 1);
        }
    }

    #[test]
    fn waiting_is_told_of_where_it_helps() {
        let second = Duration::from_secs(1);
        for (kind, waiting) in [
            (ErrorKind::Conflict, Some(second)),
            (ErrorKind::Unavailable, Some(second)),
            (ErrorKind::NotWritten, Some(second)),
            (ErrorKind::SnapshotTooOld, None),
            (ErrorKind::TooLarge, None),
        ] {
            assert_eq!(Error::new(kind, "").retry_after(), waiting, "{kind:?}");
        }
        let ended = Error::new(ErrorKind::Conflict, "").lasting(10 * second);
        assert_eq!(ended.retry_after(), Some(10 * second));
        assert!(!ended.is_worth_another_try());
        assert_eq!(Error::stopped().retry_after(), None);
    }
}
