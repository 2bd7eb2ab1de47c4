//! Which launcher an app image gets (target-arch.md, *Launchers*).
//!
//! Without a target it is the lifecycle's own, as ever, and one for another machine than the image is warned about. With
//! one it is for that machine or the export fails: an image whose launcher cannot start is worth nothing.

use std::path::{Path, PathBuf};

use log::{debug, warn};
use platform_spec::input::default;
use platform_spec::target::Platform;

use super::ExportError;
use crate::elf;
use crate::file::PathContext;

/// A launcher that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The executable.
    pub(super) path: PathBuf,
    /// The name of its SBOM files before `.sbom.`: `launcher`, `launcher-linux-arm64`.
    pub(super) component: String,
}

impl Chosen {
    fn new(path: &Path, component: &str) -> Self {
        Self { path: path.to_owned(), component: component.to_owned() }
    }
}

/// Chooses. `given` is what the platform named, `target` what the image is for, and `strict` whether that was asked for.
pub(super) fn choose(given: Option<&Path>, target: &Platform, strict: bool) -> Result<Chosen, ExportError> {
    choose_from(Path::new(default::LAUNCHER), given, target, strict)
}

fn choose_from(usual: &Path, given: Option<&Path>, target: &Platform, strict: bool) -> Result<Chosen, ExportError> {
    let named = given.and_then(Path::file_name).and_then(|name| name.to_str());
    let component = named.filter(|name| name.starts_with("launcher-linux-")).unwrap_or("launcher");
    let first = Chosen::new(given.unwrap_or(usual), component);
    if !strict {
        // One that cannot be read is an error where it is packed.
        if let Ok(Some(found)) = elf::of_file(&first.path)
            && found != target.arch()
        {
            warn!("Launcher '{}' is for {found}, the run image is for {}", first.path.display(), target.arch());
        }
        return Ok(first);
    }
    if let Some(path) = given {
        let found = elf::of_file(path).path("read", path)?;
        return match found {
            // A script, perhaps, which runs anywhere: it was asked for.
            None => Ok(first),
            Some(found) if found == target.arch() => Ok(first),
            Some(found) => Err(wrong(path, Some(found), target)),
        };
    }
    let mut looked_at = Vec::new();
    let other = format!("launcher-linux-{}", target.arch());
    for chosen in [Chosen::new(usual, "launcher"), Chosen::new(&usual.with_file_name(&other), &other)] {
        match elf::of_file(&chosen.path) {
            Ok(Some(found)) if found == target.arch() => {
                debug!("Launcher: {}", chosen.path.display());
                return Ok(chosen);
            }
            Ok(found) => looked_at.push((chosen.path, found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).path("read", &chosen.path).map_err(ExportError::from),
        }
    }
    Err(match looked_at.pop() {
        Some((path, found)) if path != usual => wrong(&path, found, target),
        _ => ExportError::NoLauncher { target: target.to_string(), path: usual.with_file_name(other) },
    })
}

fn wrong(path: &Path, found: Option<&str>, target: &Platform) -> ExportError {
    ExportError::OtherLauncher {
        path: path.to_owned(),
        found: found.map_or("no program that can be told".to_owned(), |found| format!("for {found}")),
        target: target.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_log::captured;

    fn program(machine: u8) -> Vec<u8> {
        [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".as_slice(), &[machine, 0], b"more"].concat()
    }

    #[test]
    fn by_target() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let (amd64, arm64) = (program(62), program(183));
        fs::write(path("launcher"), &amd64).expect("written");
        fs::write(path("script"), "#!/bin/sh\n").expect("written");
        fs::write(path("arm"), &arm64).expect("written");
        let choose = |given: Option<&str>, target: &str, strict| {
            let given = given.map(path);
            let chosen = choose_from(&path("launcher"), given.as_deref(), &target.parse().expect(target), strict);
            let shown = |chosen: Chosen| {
                let name = chosen.path.file_name().expect("a name").to_string_lossy().into_owned();
                format!("{name} {}", chosen.component)
            };
            let (chosen, lines) = captured(|| chosen.map(shown).map_err(|error| error.to_string()));
            drop(lines);
            chosen
        };
        assert_eq!(choose(None, "amd64", true).expect("chosen"), "launcher launcher");
        let missing = choose(None, "arm64", true).expect_err("no launcher");
        assert!(
            missing
                .ends_with("launcher-linux-arm64'; builders have it beside the launcher, or it is named by -launcher"),
            "{missing}"
        );
        fs::write(path("launcher-linux-arm64"), &amd64).expect("written");
        let wrong = choose(None, "arm64", true).expect_err("no launcher");
        assert!(wrong.ends_with("launcher-linux-arm64' is for amd64, not for linux/arm64"), "{wrong}");
        fs::write(path("launcher-linux-arm64"), &arm64).expect("written");
        assert_eq!(choose(None, "arm64", true).expect("chosen"), "launcher-linux-arm64 launcher-linux-arm64");
        assert_eq!(choose(None, "arm64", false).expect("chosen"), "launcher launcher", "as without the extension");
        assert_eq!(choose(Some("arm"), "arm64", true).expect("chosen"), "arm launcher");
        assert_eq!(choose(Some("script"), "arm64", true).expect("chosen"), "script launcher");
        let wrong = choose(Some("arm"), "amd64", true).expect_err("no launcher");
        assert!(wrong.ends_with("arm' is for arm64, not for linux/amd64"), "{wrong}");
        assert_eq!(choose(Some("arm"), "amd64", false).expect("chosen"), "arm launcher");
        let given = choose(Some("launcher-linux-arm64"), "arm64", true).expect("chosen");
        assert_eq!(given, "launcher-linux-arm64 launcher-linux-arm64", "its SBOM is the one of its name");
        fs::remove_file(path("launcher")).expect("removed");
        assert_eq!(choose(None, "arm64", true).expect("chosen"), "launcher-linux-arm64 launcher-linux-arm64");
        assert!(choose(Some("nowhere"), "arm64", true).is_err());
        assert_eq!(choose(None, "amd64", false).expect("chosen"), "launcher launcher", "packing it will fail");
    }

    #[test]
    fn a_launcher_of_another_machine_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("launcher");
        for (machine, lines) in [(62, 0), (183, 1)] {
            fs::write(&path, program(machine)).expect("written");
            let (_, told) = captured(|| choose_from(&path, None, &"amd64".parse().expect("known"), false));
            assert_eq!(told.len(), lines, "{told:?}");
            assert!(
                told.iter().all(|line| line.ends_with("launcher' is for arm64, the run image is for amd64")),
                "{told:?}"
            );
        }
    }
}
