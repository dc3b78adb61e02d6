//! The settings of a container.

use crate::storage::record::{millis, whole_millis};
use crate::storage::{ContainerHome, ContainerSpec};
use crate::transaction::ContainerEntry;
use std::time::Duration;

/// Where the sessions of a container live.
///
/// ```
/// use cloakroom::{ContainerSettings, Residence};
///
/// assert_eq!(ContainerSettings::new().residence, Residence::File);
/// assert_eq!(ContainerSettings::new().in_memory().residence, Residence::Memory);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Residence {
    /// In the store's file.
    #[default]
    File,
    /// In memory, until the store is closed.
    Memory,
    /// In the visitor's cookie: see [`ContainerSettings::cookie`]. Needs the feature `cookie-containers`.
    Cookie,
}

/// The settings of a container. They are stored with the container, survive a restart, and can change while the store
/// runs. Times are kept in milliseconds, rounded up.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
/// use std::time::Duration;
///
/// let store = Store::in_memory()?;
/// let settings = ContainerSettings::new().timeout(Duration::from_secs(1800));
/// let carts = store.register("shop.cart", settings)?;
/// assert_eq!(carts.settings()?.timeout, Duration::from_secs(1800));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSettings {
    /// A session that is idle for longer than this expires. Zero: never. Default: one hour.
    pub timeout: Duration,
    /// An access is recorded only if the recorded one is older than this. The resolution in force is at most half the
    /// timeout. Default: ten minutes.
    pub resolution: Duration,
    /// The age at which a session ends, even if it is in use. Default: none.
    pub max_lifetime: Option<Duration>,
    /// Whether the store sweeps it once per resolution. If not, expired sessions keep their rows until
    /// [`Container::sweep`](crate::Container::sweep) is called; they are not served either way. Has no effect in a
    /// store that was opened with [`StoreBuilder::implicit_sweeps(false)`](crate::StoreBuilder::implicit_sweeps).
    /// Default: yes.
    pub implicit_sweeps: bool,
    /// Where the sessions live. Cannot change later, except for the unnamed container while it holds no session: see
    /// [`in_memory`](Self::in_memory). Default: in the file.
    pub residence: Residence,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3600),
            resolution: Duration::from_secs(600),
            max_lifetime: None,
            implicit_sweeps: true,
            residence: Residence::File,
        }
    }
}

impl ContainerSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: whole_millis(timeout),
            ..self
        }
    }

    /// Sets [`resolution`](Self::resolution).
    #[must_use]
    pub fn resolution(self, resolution: Duration) -> Self {
        Self {
            resolution: whole_millis(resolution),
            ..self
        }
    }

    /// Sets [`max_lifetime`](Self::max_lifetime).
    #[must_use]
    pub fn max_lifetime(self, max_lifetime: Option<Duration>) -> Self {
        Self {
            max_lifetime: max_lifetime.map(whole_millis),
            ..self
        }
    }

    /// Sets [`implicit_sweeps`](Self::implicit_sweeps).
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let quiet = ContainerSettings::new().implicit_sweeps(false);
    /// let carts = store.register("shop.cart", quiet.clone())?;
    /// // At night, by a job of one's own:
    /// carts.sweep()?;
    /// // In force at once:
    /// carts.configure(quiet.implicit_sweeps(true))?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn implicit_sweeps(self, implicit_sweeps: bool) -> Self {
        Self {
            implicit_sweeps,
            ..self
        }
    }

    /// Keeps the sessions in memory. They are gone after a restart; this setting stays.
    ///
    /// The unnamed container can live in memory too. It moves while the store runs, in both directions, but only while it
    /// holds no session: otherwise the change gives [`InvalidInput`](crate::ErrorKind::InvalidInput) and nothing
    /// happens. To end all sessions of it, give it a [`max_lifetime`](Self::max_lifetime) of a millisecond, and
    /// [sweep](crate::Container::sweep) it after that.
    ///
    /// Move it while no request begins a session. The move takes several steps: if the process ends, the store is closed,
    /// or the storage fails between them, a session that began meanwhile can stay behind, unreachable. It is not served
    /// again, and sweeps remove it once it has expired. Until then the container cannot move back to where it lies.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Residence, Store};
    ///
    /// let store = Store::in_memory()?;
    /// // Only what has a container of its own is durable.
    /// store.register("", ContainerSettings::new().in_memory())?;
    /// store.register("login", ContainerSettings::new())?;
    /// assert_eq!(store.container_for("cart")?.settings()?.residence, Residence::Memory);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self {
            residence: Residence::Memory,
            ..self
        }
    }

    /// Keeps the packages of the container in a cookie of the visitor, sealed: for small things that change with nearly
    /// every request, such as the last pages seen. The store gets no row of it, so a commit that changes nothing else waits
    /// for no disk.
    ///
    /// Sessions, packages, transactions and errors are the same. The container has a cookie of its own beside the session's
    /// cookie, with the same attributes. It is encrypted and authenticated (XChaCha20-Poly1305) under keys that are derived
    /// from the secrets of the client ids and rotate with them. It belongs to one store, container and client id, and has an
    /// expiry inside, which is renewed as an access is recorded: at most once per [`resolution`](Self::resolution). A cookie
    /// that was changed, is another visitor's or another store's, or has expired reads as an empty container.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::get};
    /// use cloakroom::{ContainerSettings, Error, Session, Store, http::SessionLayer};
    ///
    /// async fn page(session: Session) -> Result<String, Error> {
    ///     let n = session.pkg("seen").update("pages", |n: Option<u32>| n.unwrap_or(0) + 1)?;
    ///     Ok(format!("page {n}"))
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// store.register("seen", ContainerSettings::new().cookie())?;
    /// let app: Router = Router::new().route("/", get(page)).layer(SessionLayer::new(store));
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # What it cannot do
    ///
    /// - **Replay.** A visitor can send an older cookie of the same session again until that has expired: put no balance,
    ///   no vote and no right there that must not come back.
    /// - **Revocation.** The rows in a cookie are valid until the cookie expires. An id that was destroyed, rotated or
    ///   ended by its key is refused for the store's [`tombstone_lifetime`](crate::StoreBuilder::tombstone_lifetime), ten
    ///   seconds by default, and the container reads as empty that long. A visitor who has kept the cookie can read it
    ///   again afterwards, until it expires. A session that expired leaves the cookie readable until the cookie expires.
    ///   The cookie keeps no owner, label or time of log-in, so no cookie logs anybody in.
    /// - **Size.** The whole `Set-Cookie` field has at most 4,096 bytes. A commit that would exceed this is
    ///   [`TooLarge`](crate::ErrorKind::TooLarge): nothing is stored or sent.
    /// - **Parallel requests.** They see the cookie that each was sent with, and never conflict over it. The browser keeps
    ///   that of the response which comes last. If a response is lost on its way, so is its cookie, although its commit
    ///   succeeded. A request that still comes with an id which another one had renewed by its age
    ///   ([`renew_after`](crate::http::SessionLayer::renew_after)) finds the container empty. A session that lives in cookies
    ///   alone is not renewed by its age.
    /// - **Administration.** Sweeps, statistics, lists of sessions and [`Store::end`](crate::Store::end) do not see the
    ///   sessions in cookies.
    /// - **Elsewhere than in the visitor's request.** In a transaction of [`Store::begin`](crate::Store::begin), in a
    ///   [`SessionHandle`](crate::SessionHandle) and for clients whose id does not come in the cookie the container is
    ///   empty, and a commit that writes to it is [`Unsupported`](crate::ErrorKind::Unsupported). A session that lives in
    ///   cookies alone has ended there, and one that is rotated there loses its cookies' content.
    ///
    /// A session may live in cookies alone: then the store does not know it. When something of it is first put into a stored
    /// container, or it gets an owner, a label or a timeout, it also gets a new id, as after a log-in: a cookie is no proof that its id was not
    /// ended long ago.
    #[cfg(feature = "cookie-containers")]
    #[must_use]
    pub fn cookie(self) -> Self {
        Self {
            residence: Residence::Cookie,
            ..self
        }
    }

    pub(super) fn spec(&self, name: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.to_owned(),
            home: match self.residence {
                Residence::File => ContainerHome::Durable,
                Residence::Memory => ContainerHome::Memory,
                Residence::Cookie => ContainerHome::Cookie,
            },
            timeout_ms: millis(self.timeout),
            resolution_ms: millis(self.resolution),
            max_lifetime_ms: self.max_lifetime.map(millis),
            implicit_sweeps: self.implicit_sweeps,
        }
    }

    pub(crate) fn of(container: &ContainerEntry) -> Self {
        Self {
            timeout: container.policy.timeout,
            resolution: container.policy.resolution,
            max_lifetime: container.policy.max_lifetime,
            implicit_sweeps: container.implicit_sweeps,
            residence: match container.id().home() {
                ContainerHome::Durable => Residence::File,
                ContainerHome::Memory => Residence::Memory,
                ContainerHome::Cookie => Residence::Cookie,
            },
        }
    }
}
