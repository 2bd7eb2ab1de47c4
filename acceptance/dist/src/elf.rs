//! As much of ELF as is needed to see that an executable is static, and for which machine it is.

use std::fmt;

use thiserror::Error;

/// A machine that executables are for, named as platforms name it in the tarball's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    Arm64,
    Ppc64le,
    S390x,
}

impl Architecture {
    /// Its name in a target triple.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
            Self::Ppc64le => "powerpc64le",
            Self::S390x => "s390x",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        })
    }
}

/// Why a file cannot be shipped.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ElfError {
    #[error("not a 64-bit ELF executable")]
    NotElf,
    #[error("machine {0} is not one that is shipped")]
    Machine(u16),
    #[error("it needs a dynamic loader: link it statically")]
    Dynamic,
}

const INTERPRETER: u32 = 3;

/// Reads the headers of an executable.
pub(crate) fn check(file: &[u8]) -> Result<Architecture, ElfError> {
    let header =
        file.first_chunk::<64>().filter(|header| header.starts_with(b"\x7fELF\x02")).ok_or(ElfError::NotElf)?;
    let reader = Reader { file, big: header[5] == 2 };
    let machine = reader.number(18, 2)?;
    let architecture = match machine {
        62 => Architecture::X86_64,
        183 => Architecture::Arm64,
        21 if !reader.big => Architecture::Ppc64le,
        22 => Architecture::S390x,
        _ => return Err(ElfError::Machine(u16::try_from(machine).unwrap_or_default())),
    };
    let (start, size, count) = (reader.number(32, 8)?, reader.number(54, 2)?, reader.number(56, 2)?);
    for index in 0..count {
        let at = start.checked_add(index * size).ok_or(ElfError::NotElf)?;
        if reader.number(at, 4)? == u64::from(INTERPRETER) {
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

    fn file(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(segments.len()).expect("few").to_le_bytes());
        for segment in segments {
            file.extend(segment.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn static_ones_are_taken_and_their_machine_known() {
        assert_eq!(check(&file(62, &[1, 2])), Ok(Architecture::X86_64));
        assert_eq!(check(&file(183, &[1])), Ok(Architecture::Arm64));
        assert_eq!(check(&file(62, &[1, INTERPRETER])), Err(ElfError::Dynamic));
        assert_eq!(check(&file(3, &[])), Err(ElfError::Machine(3)));
        let mut cut = file(62, &[1, 1]);
        cut.truncate(120);
        for text in [&b""[..], b"#!/bin/sh\n", &cut] {
            assert_eq!(check(text), Err(ElfError::NotElf));
        }
    }
}
