//! An administration page for stores of [`cloakroom`], mounted in an axum application under any path.
//!
//! It shows how the store does, its containers with their settings, its sessions by key, owner or label, and what was
//! done here. With the right to change, it changes settings, ends sessions, sweeps, checks and rotates secrets. It works
//! without JavaScript; a small script adds live figures. Each address also answers with JSON, if `Accept` asks for it.
//!
//! The application decides, per request, who may do what. Without a decision in favour, every address answers 404.
//!
//! ```
//! use axum::Router;
//! use axum::http::request::Parts;
//! use cloakroom::Store;
//! use cloakroom_admin::Access;
//!
//! # #[derive(Clone)] struct Admin { name: String }
//! let store = Store::in_memory()?;
//! // What a layer of the application's own put into the request: here, the administrator who is logged in.
//! let access = |head: &Parts| {
//!     let admin = head.extensions.get::<Admin>().map(|admin| Access::all(&admin.name));
//!     async move { admin.unwrap_or_default() }
//! };
//! let app: Router = Router::new().nest("/sessions", cloakroom_admin::router(store, access));
//! # Ok::<(), cloakroom::Error>(())
//! ```

mod access;
mod admin;
mod audit;
mod census;
mod csrf;
mod entry;
mod failure;
mod fields;
mod forms;
mod health;
mod pages;
mod plot;
mod ranking;
mod render;
mod sampler;
mod shown;
mod tasks;
mod token;

pub use access::{Access, AccessResolver};
pub use admin::{Admin, router};
pub use audit::{AuditEntry, AuditLog};
pub use token::TokenAccess;
