//! Durable, transactional, server-side web sessions in one embedded file.

mod clock;
mod error;
mod value;

pub use clock::Clock;
pub use error::{Error, ErrorKind, Result};
