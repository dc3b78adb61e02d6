//! Durable, transactional, server-side web sessions in one embedded file.

mod client_id;
mod clock;
mod error;
mod expiry;
mod storage;
mod value;

pub use client_id::{ClientId, ClientIds, ClientKey};
pub use clock::Clock;
pub use error::{Error, ErrorKind, Result};
