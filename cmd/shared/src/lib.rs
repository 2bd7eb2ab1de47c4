//! What the executables share.
