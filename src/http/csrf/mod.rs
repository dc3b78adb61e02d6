//! Refuses requests that another site makes a browser send: by the headers in which browsers tell where a request
//! comes from, and by a token of the session.

mod layer;
mod refusal;
#[cfg(feature = "axum")]
mod service;
mod token;

pub use layer::CsrfLayer;
pub use token::CsrfToken;
