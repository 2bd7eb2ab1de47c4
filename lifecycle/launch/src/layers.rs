//! Layers as the launcher finds them: directories. Their TOML files are not in an app image.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use platform_spec::name::BuildpackId;

use crate::file::{PathContext, PathError};

/// The layers of one buildpack in byte order of their names. A symlink is no layer. A buildpack without a directory
/// has none.
pub(crate) fn of_buildpack(layers_dir: &Path, id: &BuildpackId) -> Result<Vec<PathBuf>, PathError> {
    let layers = list(&layers_dir.join(id.escaped()), |entry| entry.file_type().map(|kind| kind.is_dir()))?;
    Ok(layers.unwrap_or_default())
}

/// The files in a directory such as `exec.d`, in byte order of their names, with symlinks to files, and those to
/// nothing, so that they are missed by whoever uses them. `None` if it is not there; nor is it with a file in its place, as
/// where an executable in `exec.d` is named like a process type.
pub(crate) fn files(dir: &Path) -> Result<Option<Vec<PathBuf>>, PathError> {
    list(dir, |entry| {
        let kind = entry.file_type()?;
        Ok(if kind.is_symlink() { !entry.path().is_dir() } else { !kind.is_dir() })
    })
}

fn list(
    dir: &Path,
    wanted: impl Fn(&fs::DirEntry) -> std::io::Result<bool>,
) -> Result<Option<Vec<PathBuf>>, PathError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        entries => entries.path("read directory", dir)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.path("read directory", dir)?;
        if wanted(&entry).path("stat", &entry.path())? {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(Some(paths))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn layers_are_directories_and_files_are_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("a_b");
        for name in ["b", "B", "a-b", "_", "10", "9"] {
            fs::create_dir_all(root.join(name)).expect("created");
        }
        fs::write(root.join("file"), "").expect("written");
        symlink("file", root.join("to-file")).expect("linked");
        symlink("b", root.join("to-directory")).expect("linked");
        symlink("nowhere", root.join("to-nothing")).expect("linked");
        let names = |paths: Vec<PathBuf>| {
            paths.iter().map(|path| path.strip_prefix(&root).expect("in it").display().to_string()).collect::<Vec<_>>()
        };
        let id = BuildpackId::new("a/b").expect("an id");
        assert_eq!(names(of_buildpack(dir.path(), &id).expect("listed")), ["10", "9", "B", "_", "a-b", "b"]);
        assert_eq!(names(files(&root).expect("listed").expect("there")), ["file", "to-file", "to-nothing"]);
    }

    #[test]
    fn what_is_missing_is_none_and_what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("file"), "").expect("written");
        symlink("loop", dir.path().join("loop")).expect("linked");
        for name in ["none", "file", "file/web"] {
            assert_eq!(files(&dir.path().join(name)).expect("fine"), None);
        }
        let error = files(&dir.path().join("loop")).expect_err("a loop").to_string();
        assert!(error.starts_with("read directory ") && error.contains("too many levels"), "{error}");
    }
}
