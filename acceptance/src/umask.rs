//! The modes of what the tests make.

use nix::sys::stat::{Mode, umask};

/// From now on this process and what it starts make files that all may read, whatever umask the caller has: modes are part
/// of layers, and phases run as another user than the one who makes their directories.
pub fn usual() {
    umask(Mode::from_bits_truncate(0o022));
}
