//! The store that a command works on: a file, or that of a running application, through its administration.

mod address;
mod client;
mod interface;
mod local;
mod remote;
mod token;
mod transfer;
mod wire;

pub(crate) use client::Patience;
pub(crate) use interface::{
    Backend, Ended, Figures, Filter, ImportHow, SettingsChange, Source, Transfer,
};
pub(crate) use local::LocalStore;
pub(crate) use remote::RemoteStore;
pub(crate) use token::read_token;
pub(crate) use wire::FiguresWire;
