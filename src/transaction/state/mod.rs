//! The reads and the changes of an open transaction.

pub(crate) mod attributes;
pub(crate) mod changes;
mod container_end;
pub(crate) mod indexed_list;
pub(crate) mod lifecycle;
mod listing;
pub(crate) mod logins;
pub(crate) mod look;
pub(crate) mod read;
pub(crate) mod savepoint;
pub(crate) mod subject;
pub(crate) mod txn_state;
mod write;
