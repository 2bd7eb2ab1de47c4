//! As much of ELF as is needed to see that an executable is static, and for which machine it is.

use std::fmt;

use thiserror::Error;

/// A machine that executables are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    I386,
    Amd64,
    Arm,
    Arm64,
    Ppc64le,
    Riscv64,
    S390x,
}

impl Architecture {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::I386, Self::Amd64, Self::Arm, Self::Arm64, Self::Ppc64le, Self::Riscv64, Self::S390x];

    /// Its name in images.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::I386 => "386",
            Self::Amd64 => "amd64",
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
            Self::Ppc64le => "ppc64le",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
        }
    }

    /// Its name in the tarball's file name, where platforms call one of them otherwise.
    pub(crate) fn in_file_names(self) -> &'static str {
        if self == Self::Amd64 { "x86-64" } else { self.name() }
    }

    /// The target that cargo is to resolve crates for.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::I386 => "i686-unknown-linux-musl",
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm => "armv5te-unknown-linux-musleabi",
            Self::Arm64 => "aarch64-unknown-linux-musl",
            Self::Ppc64le => "powerpc64le-unknown-linux-musl",
            Self::Riscv64 => "riscv64gc-unknown-linux-musl",
            Self::S390x => "s390x-unknown-linux-musl",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a file cannot be shipped.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ElfError {
    #[error("not an ELF executable")]
    NotElf,
    #[error("machine {0} is not one that is shipped")]
    Machine(u64),
    #[error("it needs a dynamic loader: link it statically")]
    Dynamic,
}

const INTERPRETER: u64 = 3;

/// Reads the headers of an executable.
pub(crate) fn check(file: &[u8]) -> Result<Architecture, ElfError> {
    let ident = file.first_chunk::<6>().filter(|ident| ident.starts_with(b"\x7fELF")).ok_or(ElfError::NotElf)?;
    let reader = Reader { file, big: ident[5] == 2 };
    let wide = ident[4] == 2;
    // An executable, or one that may be loaded anywhere.
    if ![2, 3].contains(&reader.number(16, 2)?) {
        return Err(ElfError::NotElf);
    }
    let architecture = match (reader.number(18, 2)?, wide, reader.big) {
        (3, false, false) => Architecture::I386,
        (62, true, false) => Architecture::Amd64,
        (40, false, false) => Architecture::Arm,
        (183, true, false) => Architecture::Arm64,
        (21, true, false) => Architecture::Ppc64le,
        (243, true, false) => Architecture::Riscv64,
        (22, true, true) => Architecture::S390x,
        (machine, _, _) => return Err(ElfError::Machine(machine)),
    };
    let (start, size, count) = if wide {
        (reader.number(32, 8)?, reader.number(54, 2)?, reader.number(56, 2)?)
    } else {
        (reader.number(28, 4)?, reader.number(42, 2)?, reader.number(44, 2)?)
    };
    for index in 0..count {
        let at = start.checked_add(index * size).ok_or(ElfError::NotElf)?;
        if reader.number(at, 4)? == INTERPRETER {
            return Err(ElfError::Dynamic);
        }
    }
    Ok(architecture)
}

struct Reader<'a> {
    file: &'a [u8],
    big: bool,
}

impl Reader<'_> {
    fn number(&self, at: u64, length: usize) -> Result<u64, ElfError> {
        let start = usize::try_from(at).map_err(|_| ElfError::NotElf)?;
        let bytes = start.checked_add(length).and_then(|end| self.file.get(start..end)).ok_or(ElfError::NotElf)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and the types of its segments.
    fn file(wide: bool, big: bool, machine: u16, segments: &[u64]) -> Vec<u8> {
        let mut file = vec![0; if wide { 64 } else { 52 }];
        let mut put = |at: usize, length: usize, number: u64| {
            file.resize(file.len().max(at + length), 0);
            for index in 0..length {
                let place = if big { length - 1 - index } else { index };
                file[at + place] = (number >> (8 * index)) as u8;
            }
        };
        let (start, size, at) = if wide { (64, 56, [32, 54, 56]) } else { (52, 32, [28, 42, 44]) };
        put(16, 2, 2);
        put(18, 2, machine.into());
        put(at[0], if wide { 8 } else { 4 }, start);
        put(at[1], 2, size);
        put(at[2], 2, segments.len() as u64);
        for (index, segment) in (0..).zip(segments) {
            put((start + size * index) as usize, 4, *segment);
            put((start + size * index + size - 4) as usize, 4, 0);
        }
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, if big { 2 } else { 1 }]);
        file
    }

    #[test]
    fn static_ones_are_taken_and_their_machine_known() {
        for (wide, big, machine, expected) in [
            (false, false, 3, Architecture::I386),
            (true, false, 62, Architecture::Amd64),
            (false, false, 40, Architecture::Arm),
            (true, false, 183, Architecture::Arm64),
            (true, false, 21, Architecture::Ppc64le),
            (true, false, 243, Architecture::Riscv64),
            (true, true, 22, Architecture::S390x),
        ] {
            assert_eq!(check(&file(wide, big, machine, &[1, 2])), Ok(expected));
            let dynamic = file(wide, big, machine, &[1, INTERPRETER]);
            assert_eq!(check(&dynamic), Err(ElfError::Dynamic), "{expected}");
        }
        // The same machines' other halves: x32, 32-bit RISC-V, big-endian ppc64.
        for (wide, big, machine) in [(false, false, 62), (false, false, 243), (true, true, 21), (true, false, 8)] {
            assert_eq!(check(&file(wide, big, machine, &[])), Err(ElfError::Machine(machine.into())));
        }
        let mut cut = file(true, false, 62, &[1, 1]);
        cut.truncate(120);
        let mut object = file(true, false, 62, &[]);
        object[16] = 1;
        for text in [&b""[..], b"#!/bin/sh\n", &cut, &object] {
            assert_eq!(check(text), Err(ElfError::NotElf));
        }
    }
}
