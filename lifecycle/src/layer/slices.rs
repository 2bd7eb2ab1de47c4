//! Which part of an app directory goes in which layer (buildpack.md, *launch.toml*, slices).
//!
//! The rules are the reference's. For each slice in turn: what a pattern matches goes in its layer, with everything
//! beneath it, unless an earlier slice has it. The directories above go in too, so that they exist in that layer; one of
//! which nothing is left then is not in the rest. The last layer has what no slice took.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use platform_spec::launch::Slice;
use thiserror::Error;

use super::glob::Pattern;
use super::pipeline::LayerError;
use super::plan;
use super::recipe::{Owner, Recipe};
use super::walk::{Order, Walk};

/// Why an app directory could not be sliced.
#[derive(Debug, Error)]
pub enum SliceError {
    /// A glob is malformed.
    #[error("slice path {0:?}: syntax error in pattern")]
    Pattern(String),
    /// The directory could not be walked.
    #[error(transparent)]
    Walk(#[from] LayerError),
}

/// The paths of one slice.
#[derive(Clone, Debug)]
pub struct SlicePart(pub(super) Part);

/// See [`SlicePart`].
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The whole directory, walked when it is read.
    Whole,
    /// What one slice took, and the directories above it (sorted).
    Taken { tree: Arc<Tree>, slice: u32, above: Vec<u32> },
    /// What no slice took.
    Rest { tree: Arc<Tree> },
}

/// What an app directory has in it: all names, in the order of their full paths, the directory itself first. So a
/// directory is always before what is in it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
}

#[derive(Debug)]
struct Node {
    /// The directory that it is in; the root is in itself.
    parent: u32,
    name: u32,
    length: u8,
    directory: bool,
    /// Which slice took it; [`REST`], or [`EMPTIED`] for a directory of which slices took everything.
    slice: u32,
}

const REST: u32 = u32::MAX;
const EMPTIED: u32 = u32::MAX - 1;

impl Tree {
    fn read(app: &Path, root: OwnedFd) -> Result<Self, LayerError> {
        let mut walk = Walk::new(Arc::new(root), app.as_os_str().as_bytes(), Order::FullPath);
        let mut tree = Self::default();
        while let Some(directory) = walk.next()? {
            let name = walk.name().map_or(&b""[..], |name| name.to_bytes());
            let too_many = || LayerError::path("read", walk.path(), std::io::ErrorKind::FileTooLarge.into());
            tree.nodes.push(Node {
                parent: walk.parent(),
                name: u32::try_from(tree.names.len()).map_err(|_| too_many())?,
                length: u8::try_from(name.len()).map_err(|_| too_many())?,
                directory,
                slice: REST,
            });
            tree.names.extend_from_slice(name);
        }
        Ok(tree)
    }

    /// The path of a node relative to the root, in `path`; the root's is empty.
    pub(super) fn path(&self, node: u32, path: &mut Vec<u8>) {
        path.clear();
        let mut at = node as usize;
        while at != 0 {
            let found = &self.nodes[at];
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(self.names[found.name as usize..][..usize::from(found.length)].iter().rev());
            at = found.parent as usize;
        }
        path.reverse();
    }

    /// Whether a node was a directory.
    pub(super) fn is_directory(&self, node: u32) -> bool {
        self.nodes[node as usize].directory
    }

    /// Lets the next slice take what matches; gives the directories above that.
    fn take(&mut self, slice: u32, patterns: &[(Pattern, &str)], left: &mut [u32]) -> Result<Vec<u32>, SliceError> {
        let mut path = Vec::new();
        let mut above = Vec::new();
        let mut is_above = vec![false; self.nodes.len()];
        for node in 1..self.nodes.len() {
            self.path(node as u32, &mut path);
            let mut taken = self.nodes[self.nodes[node].parent as usize].slice == slice;
            for (pattern, text) in patterns {
                taken |= pattern.matches(&path).map_err(|_| SliceError::Pattern((*text).to_owned()))?;
            }
            if !taken || self.nodes[node].slice != REST {
                continue;
            }
            self.nodes[node].slice = slice;
            left[self.nodes[node].parent as usize] -= 1;
            let mut parent = self.nodes[node].parent as usize;
            while self.nodes[parent].slice != slice && !is_above[parent] {
                is_above[parent] = true;
                above.push(parent as u32);
                parent = self.nodes[parent].parent as usize;
            }
        }
        above.sort_unstable();
        for &directory in above.iter().rev() {
            let directory = directory as usize;
            if left[directory] == 0 {
                self.nodes[directory].slice = EMPTIED;
                if directory != 0 {
                    left[self.nodes[directory].parent as usize] -= 1;
                }
            }
        }
        Ok(above)
    }
}

/// Nodes of a part, in order; `next` is where to look on.
pub(super) fn next_node(part: &Part, next: &mut u32) -> Option<u32> {
    let (tree, slice, above) = match part {
        Part::Whole => return None,
        Part::Taken { tree, slice, above } => (tree, *slice, &above[..]),
        Part::Rest { tree } => (tree, REST, &[][..]),
    };
    while let Some(node) = tree.nodes.get(*next as usize) {
        let index = *next;
        *next += 1;
        if node.slice == slice || above.binary_search(&index).is_ok() {
            return Some(index);
        }
    }
    None
}

/// Divides an app directory: one recipe for each of `slices`, then one for what is left. Without slices, one for all.
/// If the app directory is a symlink, the symlink is all there is, and it is in the last.
pub fn slices(app: &Path, owner: Owner, slices: &[Slice]) -> Result<Vec<Recipe>, SliceError> {
    let recipe = |part| Recipe::Slice { app: app.to_owned(), owner, part: Arc::new(SlicePart(part)) };
    if slices.is_empty() {
        return Ok(vec![recipe(Part::Whole)]);
    }
    let mut tree = match plan::open_app(app)? {
        Some(root) => Tree::read(app, root)?,
        None => Tree::default(),
    };
    let mut left = vec![0; tree.nodes.len()];
    for node in tree.nodes.iter().skip(1) {
        left[node.parent as usize] += 1;
    }
    let mut above = Vec::new();
    for (index, slice) in slices.iter().enumerate() {
        let patterns: Vec<_> = slice.paths.iter().flatten().map(|path| (Pattern::new(path), path.as_str())).collect();
        above.push(tree.take(index as u32, &patterns, &mut left)?);
    }
    let tree = Arc::new(tree);
    let last = if tree.nodes.is_empty() { Part::Whole } else { Part::Rest { tree: tree.clone() } };
    let taken = above.into_iter().zip(0..).map(|(above, slice)| Part::Taken { tree: tree.clone(), slice, above });
    Ok(taken.chain([last]).map(recipe).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::digest::Digest;
    use crate::layer::{Pipeline, Want};

    /// Names of the entries of each slice's layer, relative to the app directory and without the directories above it.
    fn sliced(app: &Path, paths: &[&[&str]]) -> Vec<Vec<String>> {
        let list: Vec<Slice> = paths
            .iter()
            .map(|paths| Slice { paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()) })
            .collect();
        let temp = tempfile::tempdir().expect("a directory");
        let pipeline = Pipeline::new(temp.path());
        let recipes = slices(app, Owner { uid: 1, gid: 1 }, &list).expect("sliced");
        recipes
            .iter()
            .map(|recipe| {
                let packed = pipeline.pack(recipe, Want { blob: true, tar: None }).expect("packed");
                let mut tar = Vec::new();
                let blob = packed.blob.expect("wanted").open();
                super::super::gzip::decompressed(blob).expect("gzip").read_to_end(&mut tar).expect("read");
                assert_eq!(Digest::of(&tar), packed.diff_id);
                let mut archive = ::tar::Archive::new(&tar[..]);
                let paths = archive.entries().expect("entries").map(|entry| {
                    let path = entry.expect("readable").path().expect("a path").into_owned();
                    path.strip_prefix(app).map(|path| format!("./{}", path.display()))
                });
                let all: Vec<_> = paths.collect();
                let above = all.iter().take_while(|path| path.is_err()).count();
                assert!(all.is_empty() || above == app.components().count() - 2);
                all.into_iter().skip(above).map(|path| path.expect("beneath the app")).collect()
            })
            .collect()
    }

    fn app() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let app = dir.path().join("app");
        for directory in ["dir", "dir/sub", "other", "other/empty", "a"] {
            fs::create_dir_all(app.join(directory)).expect("made");
        }
        for file in ["file.txt", ".hidden", "dir/file.txt", "dir/sub/file.md", "other/file.txt", "a/x", "a-b"] {
            fs::write(app.join(file), file).expect("written");
        }
        symlink("dir", app.join("link")).expect("linked");
        dir
    }

    const ALL: [&str; 14] = [
        "./",
        "./.hidden",
        "./a",
        "./a-b",
        "./a/x",
        "./dir",
        "./dir/file.txt",
        "./dir/sub",
        "./dir/sub/file.md",
        "./file.txt",
        "./link",
        "./other",
        "./other/empty",
        "./other/file.txt",
    ];

    #[test]
    fn slices_take_what_matches_and_the_last_layer_has_the_rest() {
        let dir = app();
        let app = dir.path().join("app");
        let all = &ALL[..];
        let without = |taken: &[&str]| -> Vec<&str> {
            let taken: BTreeSet<_> = taken.iter().collect();
            all.iter().copied().filter(|name| !taken.contains(name)).collect()
        };
        let none: &[&str] = &[];
        type Case<'a> = (&'a [&'a [&'a str]], Vec<Vec<&'a str>>);
        let cases: &[Case<'_>] = &[
            (&[], vec![all.to_vec()]),
            (&[none], vec![vec![], all.to_vec()]),
            (&[&["file.txt"]], vec![vec!["./", "./file.txt"], without(&["./file.txt"])]),
            // Beneath one directory only, and no symlink is followed.
            (
                &[&["*/*.txt", "link/*"]],
                vec![
                    vec!["./", "./dir", "./dir/file.txt", "./other", "./other/file.txt"],
                    without(&["./dir/file.txt", "./other/file.txt"]),
                ],
            ),
            // A directory is taken whole; the rest has nothing of it.
            (
                &[&["dir/"]],
                vec![
                    vec!["./", "./dir", "./dir/file.txt", "./dir/sub", "./dir/sub/file.md"],
                    without(&["./dir", "./dir/file.txt", "./dir/sub", "./dir/sub/file.md"]),
                ],
            ),
            // What one slice has taken, a later one does not; a directory that is emptied is not in the rest.
            (
                &[&["dir/sub"], &["dir/*", "nothing"], &["dir"]],
                vec![
                    vec!["./", "./dir", "./dir/sub", "./dir/sub/file.md"],
                    vec!["./", "./dir", "./dir/file.txt"],
                    vec![],
                    without(&["./dir", "./dir/file.txt", "./dir/sub", "./dir/sub/file.md"]),
                ],
            ),
            // A directory whose directories are emptied is emptied too, up to the app itself.
            (
                &[&["*/*/*", "*/file*", "a/x"], &["[^x]*"]],
                vec![
                    vec![
                        "./",
                        "./a",
                        "./a/x",
                        "./dir",
                        "./dir/file.txt",
                        "./dir/sub",
                        "./dir/sub/file.md",
                        "./other",
                        "./other/file.txt",
                    ],
                    vec!["./", "./.hidden", "./a-b", "./file.txt", "./link", "./other", "./other/empty"],
                    vec![],
                ],
            ),
            // Nothing outside, nothing absolute, not the app itself.
            (&[&["../*", "/*", ".", "..", ""]], vec![vec![], all.to_vec()]),
        ];
        for (paths, expected) in cases {
            assert_eq!(sliced(&app, paths), *expected, "{paths:?}");
        }
    }

    #[test]
    fn an_app_that_is_a_symlink_is_a_symlink_and_is_in_the_last_layer() {
        let dir = app();
        let link = dir.path().join("linked");
        symlink("app", &link).expect("linked");
        assert_eq!(sliced(&link, &[]), [["./"]]);
        assert_eq!(sliced(&link, &[&["*"]]), [vec![], vec!["./"]]);
    }

    #[test]
    fn malformed_patterns_and_missing_directories_are_errors() {
        let dir = app();
        let list = [Slice { paths: Some(vec!["[a".to_owned()]) }];
        let owner = Owner { uid: 1, gid: 1 };
        let error = slices(&dir.path().join("app"), owner, &list).expect_err("malformed");
        assert_eq!(error.to_string(), "slice path \"[a\": syntax error in pattern");
        let error = slices(Path::new("/no/such/app"), owner, &list).expect_err("missing");
        assert_eq!(error.to_string(), "lstat /no/such/app: no such file or directory");
    }
}
