//! Stores in a PostgreSQL server: their address, and where the password comes from.

mod address;
mod password;
mod url;

pub(crate) use address::{ServerAddress, StorePlace};
pub(crate) use url::without_passwords;
