//! The engine on a PostgreSQL server, which several processes use at once. A client is one row: a commit takes place only
//! if the row is the one that it started from. Merging is done here, by the same code as for files.

mod backoff;
mod batch;
mod body;
mod cache;
mod client_gates;
mod client_queue;
mod client_rows;
mod commit;
mod committer;
mod connect;
mod connection;
mod current;
mod engine;
mod event;
mod failure;
mod guarantee;
mod heard;
mod hosts;
mod in_line;
mod keys;
mod lasting;
mod late_outcome;
mod load;
mod load_batch;
mod load_queue;
mod locked;
mod memory_parts;
mod migrate;
mod pages;
mod pipeline;
mod plan;
mod pool;
mod random;
mod reading;
mod reclaim;
mod reclaim_state;
#[cfg(feature = "encryption")]
mod reseal;
mod row_edit;
mod rules;
mod runtime;
mod seen;
mod server_snapshot;
mod settings;
mod shared;
mod snapshot;
mod statements;
mod sweep_state;
mod sweep_times;
mod sweeps;
mod times;
#[cfg(feature = "postgres-tls")]
mod tls;
mod touches;
mod write_terms;
mod writes;

#[cfg(feature = "torture")]
pub(crate) use connect::prepare_all;
pub(crate) use connect::{connect, migrate};
#[cfg(test)]
pub(crate) use event::ENDS_KEPT;
pub(crate) use random::seed;
pub(crate) use rules::{PostgresRules, ServerSettings};
