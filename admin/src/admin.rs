//! The router, and what all pages share.

use crate::access::{Access, AccessResolver, BoxedResolver};
use crate::audit::AuditLog;
use crate::census::Census;
use crate::csrf::FormTokens;
use crate::entry::gate;
use crate::pages;
use crate::pages::sign_in::WrongTokens;
use crate::ranking::Rankings;
use crate::render;
use crate::sampler::Samples;
use crate::tasks::Tasks;
use crate::token::TokenAccess;
use axum::Router;
use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use cloakroom::Store;
use cloakroom::http::SessionLayer;
use minijinja::Environment;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_layer::Layer as _;

/// The administration pages of a store, as a router that an application nests under a path of its choice. The resolver
/// decides for each request what it may do.
///
/// The router knows the path that it is nested under. Behind a proxy that takes a part of the path away, that part is told
/// by [`Admin::outer_path`].
pub fn router(store: Store, access: impl AccessResolver) -> Router {
    Admin::new(store, access).router()
}

/// The settings of the administration pages.
///
/// ```
/// use axum::Router;
/// use axum::http::request::Parts;
/// use cloakroom::Store;
/// use cloakroom::http::SessionLayer;
/// use cloakroom_admin::{Access, Admin, AuditLog};
///
/// let store = Store::in_memory()?;
/// let layer = SessionLayer::new(store.clone());
/// let nobody = |_: &Parts| async { Access::none() };
/// let pages = Admin::new(store, nobody).audit_log(AuditLog::in_memory()).session_layer(&layer);
/// let app: Router = Router::new().nest("/sessions", pages.router()).layer(layer);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[must_use]
pub struct Admin {
    app: App,
}

/// How browsers reach the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieScheme {
    Https,
    /// Without TLS.
    PlainHttp,
}

/// What all pages share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) log: AuditLog,
    pub(crate) tasks: Tasks,
    pub(crate) rankings: Rankings,
    pub(crate) census: Census,
    /// One backup, export or import goes on at a time.
    pub(crate) transfers: Arc<Semaphore>,
    pub(crate) samples: Arc<Samples>,
    pub(crate) tokens: FormTokens,
    pub(crate) templates: Environment<'static>,
    pub(crate) sign_in: Option<TokenAccess>,
    pub(crate) wrong_tokens: WrongTokens,
    pub(crate) cookie: CookieScheme,
    /// The settings of the layer, as its `Debug` shows them.
    pub(crate) layer: Option<String>,
    resolver: BoxedResolver,
    outer_path: String,
}

impl Admin {
    /// The pages of this store, with the access that the resolver grants.
    pub fn new(store: Store, access: impl AccessResolver) -> Self {
        let app = App {
            samples: Samples::start(store.clone()),
            store,
            log: AuditLog::in_memory(),
            tasks: Tasks::default(),
            rankings: Rankings::default(),
            census: Census::default(),
            transfers: Arc::new(Semaphore::new(1)),
            tokens: FormTokens::new(),
            templates: render::environment(),
            sign_in: None,
            wrong_tokens: WrongTokens::default(),
            cookie: CookieScheme::Https,
            layer: None,
            resolver: BoxedResolver::new(access),
            outer_path: String::new(),
        };
        Self { app }
    }

    /// Keeps the record of what is done on the pages there. Default: in memory.
    pub fn audit_log(mut self, log: AuditLog) -> Self {
        self.app.log = log;
        self
    }

    /// Shows the settings of this layer, which are code, on a page.
    pub fn session_layer(mut self, layer: &SessionLayer) -> Self {
        self.app.layer = Some(format!("{layer:#?}"));
        self
    }

    /// Offers a form that asks for this token, for people without access. With this, the pages say that they exist.
    /// Nothing else is shown before the token was given. The browser then gets a cookie for this path, which is
    /// `Secure`, `HttpOnly` and `SameSite=Strict` and works for twelve hours or until the process ends.
    pub fn sign_in(mut self, token: TokenAccess) -> Self {
        self.app.sign_in = Some(token);
        self
    }

    /// Leaves `Secure` out of that cookie, for pages that browsers reach without TLS. Anybody on the way can read it then.
    pub fn plain_http(mut self) -> Self {
        self.app.cookie = CookieScheme::PlainHttp;
        self
    }

    /// Sets the part of the path that a proxy in front takes away, such as `/internal`. Default: none.
    pub fn outer_path(mut self, path: &str) -> Self {
        self.app.outer_path = path.trim_end_matches('/').to_owned();
        self
    }

    /// The router, to be nested under a path or to be served alone.
    ///
    /// It must be called in a program that runs the router in a runtime of tokio.
    pub fn router(self) -> Router {
        let app = Arc::new(self.app);
        let pages = pages::router().with_state(app.clone());
        // The gate is around the router and not its layer: the router adds the methods that an address takes to the
        // answers of its layers, and so tells who has no access which addresses there are.
        let pages = from_fn_with_state(app, gate).layer(pages);
        Router::new().fallback_service(pages)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("sign_in", &self.app.sign_in)
            .field("outer_path", &self.app.outer_path)
            .finish_non_exhaustive()
    }
}

impl App {
    /// The access of a request: of a browser that signed in, or what the resolver says.
    pub(crate) async fn access(&self, head: &Parts) -> Access {
        let signed_in = self.sign_in.as_ref();
        match signed_in.and_then(|token| token.of_browser(&head.headers)) {
            Some(access) => access,
            None => self.resolver.resolve(head).await,
        }
    }

    /// The path that the pages are mounted under, without a slash at its end, as browsers know it.
    pub(crate) fn base(&self, head: &Parts) -> String {
        let inner = head.uri.path();
        let original = head.extensions.get::<OriginalUri>();
        let original = original.map_or(inner, |original| original.0.path());
        let base = original.strip_suffix(inner).unwrap_or(original);
        format!("{}{}", self.outer_path, base.trim_end_matches('/'))
    }
}
