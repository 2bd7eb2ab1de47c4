//! The files that one phase leaves for the next. They are in `<layers>`, where buildpacks write too: there they are not
//! followed, and errors quote nothing of them ([`load_shared`]).

use std::path::Path;

use platform_spec::analyzed::Analyzed;
use platform_spec::exit;
use platform_spec::group::Group;
use platform_spec::plan::Plan;
use thiserror::Error;

use super::PhaseError;
use crate::file::{LoadError, load_shared};

/// A file of an earlier phase that cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// `group.toml`.
    #[error("read group file: {0}")]
    Group(LoadError),
    /// `plan.toml`.
    #[error("read plan file: {0}")]
    Plan(LoadError),
    /// `analyzed.toml`.
    #[error("read analyzed file: {0}")]
    Analyzed(LoadError),
}

impl PhaseError for FileError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Group(_) | Self::Plan(_) | Self::Analyzed(_) => exit::GENERIC,
        }
    }

    fn says_what_failed(&self) -> bool {
        true
    }
}

/// Reads `group.toml`.
pub fn read_group(path: &Path, layers: &Path) -> Result<Group, FileError> {
    load_shared(path, layers).map_err(FileError::Group)
}

/// Reads `plan.toml`.
pub fn read_plan(path: &Path, layers: &Path) -> Result<Plan, FileError> {
    load_shared(path, layers).map_err(FileError::Plan)
}

/// Reads `analyzed.toml`. Without one nothing is known of the run image and of the previous image; it is warned about.
pub fn read_analyzed(path: &Path, layers: &Path) -> Result<Analyzed, FileError> {
    match load_shared(path, layers) {
        Err(error) if error.is_missing() => {
            log::warn!("No analyzed metadata found at path {path:?}");
            Ok(Analyzed::default())
        }
        read => read.map_err(FileError::Analyzed),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn missing_empty_and_malformed_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file.toml");
        for layers in [dir.path(), Path::new("/elsewhere")] {
            of_each(&path, layers);
            fs::remove_file(&path).expect("removed");
        }
    }

    fn of_each(path: &Path, layers: &Path) {
        let dir = path.parent().expect("a directory").display().to_string();
        let text = |error: FileError| error.to_string().replace(&dir, "");
        let missing = "open /file.toml: no such file or directory";
        assert_eq!(read_group(path, layers).map_err(text), Err(format!("read group file: {missing}")));
        assert_eq!(read_plan(path, layers).map_err(text), Err(format!("read plan file: {missing}")));
        assert_eq!(read_analyzed(path, layers).map_err(text), Ok(Analyzed::default()));
        fs::write(path, "").expect("written");
        assert_eq!(read_group(path, layers).map_err(text), Ok(Group::default()));
        assert_eq!(read_plan(path, layers).map_err(text), Ok(Plan::default()));
        assert_eq!(read_analyzed(path, layers).map_err(text), Ok(Analyzed::default()));
        fs::write(path, "group = 'secret'\nentries = 'secret'\nrun-image = 'secret'").expect("written");
        for error in [
            read_group(path, layers).map(drop).map_err(text),
            read_plan(path, layers).map(drop).map_err(text),
            read_analyzed(path, layers).map(drop).map_err(text),
        ] {
            let error = error.expect_err("malformed");
            assert!(error.contains("parse /file.toml: line ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_link_in_the_layers_directory_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (layers, secret) = (dir.path().join("layers"), dir.path().join("secret"));
        fs::create_dir(&layers).expect("created");
        fs::write(&secret, "").expect("written");
        let link = layers.join("group.toml");
        std::os::unix::fs::symlink(&secret, &link).expect("linked");
        let error = read_group(&link, &layers).expect_err("refused").to_string();
        assert!(error.ends_with("it is a symbolic link, not a regular file"), "{error}");
        read_group(&link, dir.path()).expect("elsewhere the path is the platform's");
    }
}
