//! The tar pipeline: from directories to layers and back. Knows no image, no phase and no network.
//!
//! A [`Recipe`] says what a layer's tar holds; the [`Pipeline`] reads each file once and makes what is
//! wanted of it: the diffID, a comparison with a tar that a cache has, an uncompressed tar, a compressed blob.
//! [`extract`](extract::extract) is the way back, and trusts nothing that it reads.

mod beneath;
mod chunk;
mod deflate;
pub mod extract;
mod glob;
mod guard;
mod gzip;
mod pipeline;
mod plan;
mod recipe;
mod remove;
mod slices;
mod spool;
mod tar;
mod untar;
mod walk;

pub use guard::{Expected, Foreign, Guard, PathGlobError, PathGlobs};
pub use pipeline::{Digested, LayerError, Packed, Pipeline, Reading, Want};
pub use recipe::{Entry, Owner, Recipe};
pub use slices::{SliceError, SlicePart, slices};
pub use spool::{Spool, SpoolReader};
