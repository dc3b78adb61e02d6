//! Copies the readable rows of a damaged store into a new one (C5.4). The damaged file and its journal are only read,
//! without redb; the new file is written by redb. Only rows of the current commit and of the journal are copied. So a
//! destroyed session does not come back, unless the record of its end is lost.

mod copy;
mod own_records;
mod run;
mod start;

pub(crate) use own_records::OwnSecrets;
pub(crate) use start::salvage;
