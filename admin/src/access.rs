//! Who may look and who may change: the application decides, for each request.

use axum::http::request::Parts;
use std::pin::Pin;
use std::sync::Arc;

/// What a request may do on the administration pages. The default is nothing: every address answers 404.
///
/// ```
/// use cloakroom_admin::Access;
///
/// let access = Access::all("ann@example.com");
/// assert!(access.may_change());
/// assert_eq!(access.who(), Some("ann@example.com"));
/// assert!(!Access::read_only("bob").may_change());
/// assert_eq!(Access::default(), Access::none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    granted: Option<Granted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    who: Arc<str>,
    right: Right,
    values: Values,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Read,
    Change,
}

/// Whether the values of sessions are shown on asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    OnAsking,
    Never,
}

impl Access {
    /// Nothing is shown, not even that there is an administration page.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything is shown to `who`, and nothing can be changed.
    #[must_use]
    pub fn read_only(who: &str) -> Self {
        Self::granted(who, Right::Read)
    }

    /// Everything is shown to `who`, and everything can be changed. The name goes into the audit log.
    #[must_use]
    pub fn all(who: &str) -> Self {
        Self::granted(who, Right::Change)
    }

    /// The same access without the values that sessions hold. Without this, they are shown on asking, and each asking
    /// is logged.
    ///
    /// ```
    /// use cloakroom_admin::Access;
    ///
    /// let support = Access::all("support").without_values();
    /// assert!(support.may_change() && !support.may_see_values());
    /// ```
    #[must_use]
    pub fn without_values(mut self) -> Self {
        if let Some(granted) = &mut self.granted {
            granted.values = Values::Never;
        }
        self
    }

    /// The name that was given, or `None` if there is no access.
    #[must_use]
    pub fn who(&self) -> Option<&str> {
        self.granted.as_ref().map(|granted| &*granted.who)
    }

    /// Whether it allows changes.
    #[must_use]
    pub fn may_change(&self) -> bool {
        let granted = self.granted.as_ref();
        granted.is_some_and(|granted| granted.right == Right::Change)
    }

    /// Whether it allows to ask for the values of sessions.
    #[must_use]
    pub fn may_see_values(&self) -> bool {
        let granted = self.granted.as_ref();
        granted.is_some_and(|granted| granted.values == Values::OnAsking)
    }

    fn granted(who: &str, right: Right) -> Self {
        let granted = Granted {
            who: who.into(),
            right,
            values: Values::OnAsking,
        };
        Self {
            granted: Some(granted),
        }
    }
}

/// Decides the access of a request. A closure from the head of the request to a future does, as in the example of the
/// crate; it is asked again for each request. [`TokenAccess`](crate::TokenAccess) is another.
pub trait AccessResolver: Send + Sync + 'static {
    /// The access of the request with this head.
    fn resolve(&self, head: &Parts) -> impl Future<Output = Access> + Send + use<Self>;
}

impl<F, Fut> AccessResolver for F
where
    F: Fn(&Parts) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Access> + Send + 'static,
{
    fn resolve(&self, head: &Parts) -> impl Future<Output = Access> + Send + use<F, Fut> {
        self(head)
    }
}

type Resolving = Pin<Box<dyn Future<Output = Access> + Send>>;

/// A resolver of any type.
#[derive(Clone)]
pub(crate) struct BoxedResolver(Arc<dyn Fn(&Parts) -> Resolving + Send + Sync>);

impl BoxedResolver {
    pub(crate) fn new(resolver: impl AccessResolver) -> Self {
        Self(Arc::new(move |head| Box::pin(resolver.resolve(head))))
    }

    pub(crate) fn resolve(&self, head: &Parts) -> Resolving {
        (self.0)(head)
    }
}
