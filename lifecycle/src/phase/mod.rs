//! The phases: each an `Inputs`, a `run`, and an error type with its exit codes.
