#![doc = include_str!("../README.md")]

mod answer;
mod attempts;
mod body;
mod checked;
mod error;
mod extract;
mod head;
mod middleware;
mod rerun;
mod respond;

pub use checked::{CheckedService, CsrfMiddleware, CsrfToken, FreshMiddleware, RequestCheck};
pub use error::Error;
pub use extract::{Flash, Pkg, Session, extensions};
pub use middleware::{SessionMiddleware, SessionService};
pub use rerun::{RouteRerun, RouteRerunService};
pub use respond::{Aborting, WithFlash};

/// The examples of the guide are compiled as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../docs/guide/actix.md")]
    mod guide {}
}
