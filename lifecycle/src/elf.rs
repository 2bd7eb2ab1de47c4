//! For which machine a program is: the first bytes of an ELF file (System V ABI, *ELF Header*).
//!
//! Only executables and shared objects count, and only architectures that the OCI image specification has a name for:
//! a kernel module, a GPU's code or a game's data say nothing about where an app runs.
//!
//! ```
//! use lifecycle::elf;
//!
//! let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
//! assert_eq!(elf::architecture(&header), Some("arm64"));
//! header[0] = 0;
//! assert_eq!(elf::architecture(&header), None);
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use platform_spec::target::Platform;

/// So many bytes of a file are needed.
pub const HEADER: usize = 20;

/// The architecture that a file's first [`HEADER`] bytes name, in GOARCH's words. `None`: no program of an architecture
/// that is known.
pub fn architecture(header: &[u8]) -> Option<&'static str> {
    let header: &[u8; HEADER] = header.first_chunk()?;
    let [0x7f, b'E', b'L', b'F', class, order, _, abi, _, _, _, _, _, _, _, _, type_0, type_1, machine_0, machine_1] =
        *header
    else {
        return None;
    };
    // System V's, or GNU's and Linux's own; other systems have numbers of their own.
    if !matches!(abi, 0 | 3) {
        return None;
    }
    let little = match order {
        1 => true,
        2 => false,
        _ => return None,
    };
    let number = |bytes| if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    // ET_EXEC and ET_DYN.
    if !matches!(number([type_0, type_1]), 2 | 3) {
        return None;
    }
    let wide = class == 2;
    Some(match (number([machine_0, machine_1]), wide, little) {
        (3, false, true) => "386",
        // x32 programs run where amd64's do.
        (62, _, true) => "amd64",
        (40, false, true) => "arm",
        (183, true, true) => "arm64",
        (258, true, true) => "loong64",
        (8, false, true) => "mipsle",
        (8, false, false) => "mips",
        (8, true, true) => "mips64le",
        (8, true, false) => "mips64",
        (21, true, true) => "ppc64le",
        (21, true, false) => "ppc64",
        (243, true, true) => "riscv64",
        (22, true, false) => "s390x",
        _ => return None,
    })
}

/// The architecture of a file; `None` if it is no program.
pub fn of_file(path: &Path) -> io::Result<Option<&'static str>> {
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)?.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(architecture(&header))
}

/// Whether a program of `found` runs on a machine that `wanted` names: the same architecture, or the 32-bit one that its
/// processors know too.
pub fn runs_on(found: &str, wanted: &Platform) -> bool {
    found == wanted.arch() || matches!((found, wanted.arch()), ("386", "amd64") | ("arm", "arm64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, abi: u8, kind: u16, machine: u16) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1, abi]);
        let bytes = |number: u16| if order == 2 { number.to_be_bytes() } else { number.to_le_bytes() };
        header[16..18].copy_from_slice(&bytes(kind));
        header[18..].copy_from_slice(&bytes(machine));
        header
    }

    #[test]
    fn headers() {
        for (class, order, abi, kind, machine, expected) in [
            (2, 1, 0, 3, 62, Some("amd64")),
            (2, 1, 3, 2, 62, Some("amd64")),
            (1, 1, 0, 2, 62, Some("amd64")),
            (1, 1, 0, 2, 3, Some("386")),
            (2, 1, 0, 3, 183, Some("arm64")),
            (1, 1, 0, 3, 40, Some("arm")),
            (2, 2, 0, 2, 22, Some("s390x")),
            (2, 1, 0, 2, 21, Some("ppc64le")),
            (2, 2, 0, 2, 21, Some("ppc64")),
            (2, 1, 0, 2, 243, Some("riscv64")),
            (2, 1, 0, 2, 258, Some("loong64")),
            (1, 1, 0, 2, 8, Some("mipsle")),
            (2, 2, 0, 2, 8, Some("mips64")),
            (2, 1, 0, 1, 62, None),  // a relocatable file: a kernel module, an object
            (2, 1, 0, 4, 62, None),  // a core
            (2, 1, 9, 2, 62, None),  // FreeBSD's
            (2, 3, 0, 2, 62, None),  // no byte order
            (2, 2, 0, 3, 183, None), // big-endian arm64 has no name
            (2, 1, 0, 3, 190, None), // CUDA
            (2, 1, 0, 3, 247, None), // BPF
        ] {
            let header = header(class, order, abi, kind, machine);
            assert_eq!(architecture(&header), expected, "{header:?}");
            assert_eq!(architecture(&header[..HEADER - 1]), None, "cut off");
        }
        assert_eq!(architecture(b"#!/bin/sh\necho and more text than a header has"), None);
        assert_eq!(architecture(b""), None);
    }

    #[test]
    fn this_program() {
        let own = std::env::current_exe().expect("a path");
        assert_eq!(of_file(&own).expect("read"), Some(Platform::of_this_program().arch()));
        assert!(of_file(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn what_runs_where() {
        for (found, wanted, runs) in [
            ("amd64", "amd64", true),
            ("386", "amd64", true),
            ("arm", "arm64", true),
            ("amd64", "386", false),
            ("arm64", "arm", false),
            ("amd64", "arm64", false),
            ("arm64", "amd64", false),
        ] {
            let wanted: Platform = wanted.parse().expect(wanted);
            assert_eq!(runs_on(found, &wanted), runs, "{found} on {wanted}");
        }
    }
}
