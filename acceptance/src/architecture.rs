//! The architectures that executables are built for, and their names.

use std::path::{Path, PathBuf};

/// An architecture that executables are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// This machine's: the one that these tests were compiled for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// The other one, whose executables this machine can run only by emulation.
    pub const OTHER: Self = match Self::HERE {
        Self::Amd64 => Self::Arm64,
        Self::Arm64 => Self::Amd64,
    };

    /// Its name in images, and Debian's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name of it, and QEMU's.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Its name in the name of the tarball.
    pub fn in_tarballs(self) -> &'static str {
        match self {
            Self::Amd64 => "x86-64",
            Self::Arm64 => "arm64",
        }
    }

    /// `busybox` and `bash` that need no libc: this machine's own, or what `make set-up` unpacked of Debian's packages.
    pub(crate) fn shells(self) -> [(PathBuf, &'static str); 2] {
        let from = |package: &str, path: &str| {
            if self == Self::HERE {
                return Path::new("/").join(path);
            }
            let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../out/debian").join(self.name());
            // Where /bin is a link to /usr/bin, later packages have their files there.
            let unpacked = unpacked.join(package);
            let merged = unpacked.join("usr").join(path);
            if merged.exists() { merged } else { unpacked.join(path) }
        };
        [(from("busybox-static", "bin/busybox"), "bin/busybox"), (from("bash-static", "bin/bash-static"), "bin/bash")]
    }
}
