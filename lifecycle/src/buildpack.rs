//! Buildpacks and extensions on disk: found, read, run.
