//! The harness: drives the executables from outside, ours or another implementation's.
