//! The commands.

mod admin;
mod backup;
mod bench;
mod containers;
mod dispatch;
mod end;
mod generate;
mod import_from;
mod list;
mod moving;
mod secrets;
mod show;
mod stats;
mod tend;
mod transfer;
mod watch;

pub(crate) use dispatch::run;
