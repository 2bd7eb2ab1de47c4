//! The contract between platforms, the lifecycle and buildpacks.
//!
//! Rung 1 of the ladder: every file format, label, input name, exit code and API version of the
//! Cloud Native Buildpacks specification, as types and pure functions. No files, no environment, no
//! clock. Each module is a page of the specification.

pub mod analyzed;
pub mod api;
pub mod build;
pub mod buildpack;
pub mod buildpack_plan;
pub mod exit;
pub mod extension;
pub mod group;
pub mod index_report;
pub mod input;
pub mod label;
pub mod launch;
pub mod layer;
pub mod metadata;
pub mod name;
pub mod order;
pub mod plan;
pub mod project_metadata;
pub mod report;
pub mod run;
pub mod sbom;
pub mod stack;
pub mod store;
pub mod system;
pub mod target;
pub mod text;
