//! Exit codes (platform.md, *Lifecycle Errors*). One table for all Platform API versions.
//!
//! ```
//! use platform_spec::exit;
//!
//! // "`20`: All buildpacks groups have failed to detect w/o error", and what the builder's own codes are.
//! assert_eq!(exit::DETECT_FAILED, 20);
//! assert!((50..60).contains(&exit::BUILDPACK_BUILD_FAILED) && (50..60).contains(&exit::BUILD_ERROR));
//! ```

/// Success.
pub const SUCCESS: u8 = 0;
/// Generic lifecycle errors.
pub const GENERIC: u8 = 1;
/// Flags that cannot be parsed.
pub const FLAGS: u8 = 2;
/// Invalid arguments or inputs.
pub const INVALID_ARGUMENTS: u8 = 3;
/// Platform API incompatibility.
pub const INCOMPATIBLE_PLATFORM_API: u8 = 11;
/// Buildpack API incompatibility.
pub const INCOMPATIBLE_BUILDPACK_API: u8 = 12;
/// Detection: all groups failed without an error.
pub const DETECT_FAILED: u8 = 20;
/// Detection: no group passed, and at least one buildpack errored.
pub const DETECT_FAILED_WITH_ERRORS: u8 = 21;
/// Detection: any other error.
pub const DETECT_ERROR: u8 = 22;
/// Analysis.
pub const ANALYZE_ERROR: u8 = 32;
/// Restoration.
pub const RESTORE_ERROR: u8 = 42;
/// Build: a buildpack's `bin/build` failed.
pub const BUILDPACK_BUILD_FAILED: u8 = 51;
/// Build: any other error.
pub const BUILD_ERROR: u8 = 52;
/// Export.
pub const EXPORT_ERROR: u8 = 62;
/// Rebase.
pub const REBASE_ERROR: u8 = 72;
/// Launch.
pub const LAUNCH_ERROR: u8 = 82;
/// Generate: an extension's `bin/generate` failed.
pub const EXTENSION_GENERATE_FAILED: u8 = 91;
/// Generate: any other error.
pub const GENERATE_ERROR: u8 = 92;
/// Extend.
pub const EXTEND_ERROR: u8 = 102;
