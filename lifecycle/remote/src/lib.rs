//! Everything that opens a socket: registries, and the credentials for them.
//!
//! Rung 4 of the ladder. What runs other people's programs (detector, builder, launcher) never depends on this package.
//!
//! # Order of use
//!
//! ```text
//! AccessInputs ──acquire──▶ Access ──(drop privileges)──▶ open ──▶ Box<dyn Store> ──▶ phase::x::run
//! ```
//!
//! 1. [`acquire`] is called while the process still is what it was started as, before any buildpack runs: it reads
//!    credentials, runs credential helpers (with a time limit) and the proxies' variables, and keeps them.
//!    It opens no connection. Afterwards [`remove_credentials_from_own_environment`] may be called.
//! 2. Privileges are dropped.
//! 3. [`open`] gives the store that holds app and run images (a registry, or an OCI layout), [`open_registry`] the store
//!    for what always is in a registry: cache images. Both may be called more than once; all stores of one
//!    [`Access`] share connections, tokens and the decision between http and https.
//!
//! Stores are lazy: a registry is first spoken to when an image of it is.

mod access;
mod connect;
mod credentials;
mod proxy;
mod registry;
mod secret;
mod tls;
mod transport;
mod url;

pub use access::{
    Access, AccessError, AccessInputs, acquire, acquire_with, open, open_registry,
    remove_credentials_from_own_environment,
};
