//! Durable, transactional, server-side web sessions in one embedded file.

mod client_id;
mod clock;
mod container;
mod error;
mod expiry;
#[cfg(feature = "http")]
pub mod http;
mod session;
mod storage;
mod store;
mod transaction;
mod value;

pub use client_id::{ClientId, ClientIds, ClientKey};
pub use clock::Clock;
pub use container::{
    Container, ContainerSettings, ContainerStatistics, ContainerTxn, Residence, Swept,
};
pub use error::{Error, ErrorKind, Result};
pub use session::{PkgData, Session, SessionData};
pub use store::{Check, Statistics, Store, StoreBuilder};
pub use transaction::{Savepoint, Transaction, Txn};
