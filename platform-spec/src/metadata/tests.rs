//! What the reference writes for the same metadata, byte for byte.
