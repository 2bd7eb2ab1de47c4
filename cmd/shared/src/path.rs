//! Paths as Go's `path/filepath` cleans them, so that messages and `CNB_LAYERS_DIR` read as platforms know them.

use std::path::{Component, Path, PathBuf};

/// The shortest path that is the same by its text: no `.`, no `..` behind a name, no double or last `/`. Links are not read.
/// The empty path is `.`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir | Component::Prefix(_) => {}
            Component::RootDir | Component::Normal(_) => cleaned.push(component),
            Component::ParentDir => match cleaned.components().next_back() {
                Some(Component::Normal(_)) => {
                    cleaned.pop();
                }
                Some(Component::RootDir) => {}
                _ => cleaned.push(".."),
            },
        }
    }
    if cleaned.as_os_str().is_empty() { PathBuf::from(".") } else { cleaned }
}

/// `path` beneath the working directory `cwd` if it is relative, cleaned. The empty path is the working directory.
pub(crate) fn absolute(path: &Path, cwd: &Path) -> PathBuf {
    clean(&cwd.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_cleans() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/", "/"),
            ("/..", "/"),
            ("/../a/", "/a"),
            ("//layers//x/", "/layers/x"),
        ] {
            assert_eq!(clean(Path::new(path)).as_os_str(), expected, "{path:?}");
        }
    }

    #[test]
    fn relative_to_the_working_directory() {
        for (path, expected) in [("", "/w"), ("a", "/w/a"), ("../a", "/a"), ("/a/.", "/a")] {
            assert_eq!(absolute(Path::new(path), Path::new("/w")).as_os_str(), expected, "{path:?}");
        }
    }
}
