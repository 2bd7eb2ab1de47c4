//! Environment variables and what buildpacks and platforms do to them.
//!
//! [`Env`] is data in memory: names and values are bytes, and the order of insertion is kept, so that the same input gives
//! the same environment. The rules of modification (buildpack.md, *Environment Variable Modification Rules*) are
//! pure; the file system is met in two functions only: one that lists a directory of variable files and
//! one that asks whether a layer has a root directory such as `bin`.
//!
//! Builder, detector and launcher share it: [`Stage`] says whose root directories count.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::file::{PathContext, PathError};

/// Variables: name to value, in the order in which the names first appeared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    // A list, not a map: environments are small, and the order is wanted.
    variables: Vec<(OsString, OsString)>,
}

/// When the variables are for: it decides which root directories of a layer count (buildpack.md, *Layer Paths*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `bin/build` of a later buildpack: `bin`, `lib`, `include`, `pkgconfig`.
    Build,
    /// The app: `bin`, `lib`.
    Launch,
}

/// What a variable file does to its variable; its suffix names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// `.append`: after the present value.
    Append,
    /// `.default`: only if the variable is unset or empty.
    Default,
    /// `.override`: replaces the value.
    Override,
    /// `.prepend`: before the present value.
    Prepend,
}

/// Why variable files or root directories could not be applied.
#[derive(Debug, Error)]
pub enum EnvError {
    /// A directory or file could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A fifo, socket or device: reading it could last for ever.
    #[error("read {}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// No process could be started with such a value.
    #[error("read {}: larger than {} MiB, too large for an environment variable", .0.display(), LARGEST >> 20)]
    TooLarge(PathBuf),
    /// The content has a NUL byte, which ends a value.
    #[error("read {}: it contains a NUL byte, which an environment variable cannot hold", .0.display())]
    Nul(PathBuf),
}

/// What stands between two entries of a list variable such as `PATH`.
const LIST_DELIMITER: &[u8] = b":";

/// Root directories of a layer, and the variables to which they are prepended. The flag: at launch too.
const ROOT_DIRS: &[(&str, &str, bool)] = &[
    ("bin", "PATH", true),
    ("lib", "LD_LIBRARY_PATH", true),
    ("lib", "LIBRARY_PATH", false),
    ("include", "CPATH", false),
    ("pkgconfig", "PKG_CONFIG_PATH", false),
];

/// Linux takes 128 KiB a variable, with large pages 2 MiB; a larger file is refused before it fills memory.
const LARGEST: u64 = 4 << 20;

/// Whether the variable is a list that layers' root directories add to during build: `PATH`, `LD_LIBRARY_PATH`,
/// `LIBRARY_PATH`, `CPATH` or `PKG_CONFIG_PATH`.
pub fn is_list_variable(name: &OsStr) -> bool {
    ROOT_DIRS.iter().any(|(_, variable, _)| name == *variable)
}

impl Env {
    /// From pairs, such as a process's own environment. Of a name given twice the last value counts.
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::default();
        for (name, value) in vars {
            env.set(name, value);
        }
        env
    }

    /// The value of a variable; `None` if it is unset.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable; one that is there keeps its place.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
    }

    /// Removes a variable; whether it was there.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) -> bool {
        let (name, before) = (name.as_ref(), self.variables.len());
        self.variables.retain(|(known, _)| known != name);
        self.variables.len() != before
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Puts `value` before the present one; the delimiter only if there is a present one.
    pub fn prepend(&mut self, name: impl AsRef<OsStr>, value: &OsStr, delimiter: &[u8]) {
        let joined = match self.get(&name) {
            Some(old) if !old.is_empty() => [value.as_bytes(), delimiter, old.as_bytes()].concat(),
            Some(_) | None => value.as_bytes().to_vec(),
        };
        self.set(name.as_ref(), OsString::from_vec(joined));
    }

    /// Puts `value` after the present one; the delimiter only if there is a present one.
    pub fn append(&mut self, name: impl AsRef<OsStr>, value: &OsStr, delimiter: &[u8]) {
        let joined = match self.get(&name) {
            Some(old) if !old.is_empty() => [old.as_bytes(), delimiter, value.as_bytes()].concat(),
            Some(_) | None => value.as_bytes().to_vec(),
        };
        self.set(name.as_ref(), OsString::from_vec(joined));
    }

    /// Prepends the layer's root directories (`bin` to `PATH`, …), as absolute paths, as far as they exist.
    pub fn add_root_dirs(&mut self, layer: &Path, stage: Stage) -> Result<(), EnvError> {
        let layer = std::path::absolute(layer).path("find", layer)?;
        for (dir, variable, at_launch) in ROOT_DIRS {
            if (stage == Stage::Build || *at_launch) && exists(&layer.join(dir))? {
                self.prepend(variable, layer.join(dir).as_os_str(), LIST_DELIMITER);
            }
        }
        Ok(())
    }

    /// Applies a layer's directory of variable files: `env`, `env.build` or `env.launch`. A file without suffix replaces
    /// a value. A directory that is not there is fine; so is a file in its place, as where `env.launch/web` sets a variable
    /// `web` and there is a process of that type.
    pub fn add_layer_env(&mut self, dir: &Path) -> Result<(), EnvError> {
        self.add_layer_env_if_there(dir).map(drop)
    }

    /// The same; whether it is there.
    pub(crate) fn add_layer_env_if_there(&mut self, dir: &Path) -> Result<bool, EnvError> {
        match self.add_files(dir, Action::Override) {
            Err(EnvError::Path(error)) if error.path == dir && error.source.kind() == io::ErrorKind::NotADirectory => {
                Ok(false)
            }
            result => result,
        }
    }

    /// Applies `<build-config>/env`, whose files are as a layer's, but one without suffix only gives a default
    /// (platform.md, *Operator-Defined Variables*). A directory that is not there is fine.
    pub fn add_build_config_env(&mut self, dir: &Path) -> Result<(), EnvError> {
        self.add_files(dir, Action::Default).map(drop)
    }

    /// Applies files, if the directory is there; `unsuffixed` is what one without suffix does.
    fn add_files(&mut self, dir: &Path, unsuffixed: Action) -> Result<bool, EnvError> {
        let files = read_dir(dir, |name| Role::of(name, unsuffixed) != Role::Ignored)?;
        if let Some(files) = &files {
            self.apply(files, unsuffixed);
        }
        Ok(files.is_some())
    }

    /// Applies `<platform>/env`: the whole name of a file is the variable's. Values go before those of list variables
    /// and replace others (platform.md, *User-Provided Variables*). A directory that is not there is fine.
    pub fn add_platform_env(&mut self, dir: &Path) -> Result<(), EnvError> {
        for (name, value) in read_dir(dir, |name| is_name(name.as_bytes()))?.unwrap_or_default() {
            if is_list_variable(&name) {
                self.prepend(&name, &value, LIST_DELIMITER);
            } else {
                self.set(name, value);
            }
        }
        Ok(())
    }

    /// The rules of modification, on files in the order of their names.
    fn apply(&mut self, files: &[(OsString, OsString)], unsuffixed: Action) {
        for (file, content) in files {
            let Role::Modify { name, action, delimiter } = Role::of(file, unsuffixed) else { continue };
            let own = files.iter().find(|(other, _)| Role::of(other, unsuffixed) == Role::DelimiterOf(name));
            let delimiter = own.map_or(delimiter, |(_, content)| content.as_bytes());
            match action {
                Action::Append => self.append(name, content, delimiter),
                Action::Prepend => self.prepend(name, content, delimiter),
                Action::Override => self.set(name, content),
                Action::Default if self.get(name).is_none_or(OsStr::is_empty) => self.set(name, content),
                Action::Default => {}
            }
        }
    }
}

/// Whether a variable can have this name. One with a `=` would set another variable, a second time.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0)
}

/// What a file in a directory of variable files is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Role<'a> {
    Modify {
        name: &'a OsStr,
        action: Action,
        /// Unless the directory has a `.delim` file for the name.
        delimiter: &'a [u8],
    },
    DelimiterOf(&'a OsStr),
    /// Unknown suffixes, and names that no variable can have, such as that of `.gitignore`.
    Ignored,
}

impl<'a> Role<'a> {
    /// The name ends, and the suffix begins, at the first period.
    fn of(file: &'a OsStr, unsuffixed: Action) -> Self {
        let bytes = file.as_bytes();
        let (name, suffix) = match bytes.iter().position(|byte| *byte == b'.') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let modify = |action, delimiter| Self::Modify { name: OsStr::from_bytes(name), action, delimiter };
        match suffix {
            _ if !is_name(name) => Self::Ignored,
            None => modify(unsuffixed, b"".as_slice()),
            Some(b"append") => modify(Action::Append, b"".as_slice()),
            Some(b"default") => modify(Action::Default, b"".as_slice()),
            Some(b"override") => modify(Action::Override, b"".as_slice()),
            Some(b"prepend") => modify(Action::Prepend, b"".as_slice()),
            // `PATH.`, not in the specification: the reference treats it so.
            Some(b"") => modify(Action::Prepend, LIST_DELIMITER),
            Some(b"delim") => Self::DelimiterOf(OsStr::from_bytes(name)),
            Some(_) => Self::Ignored,
        }
    }
}

/// Whether the path leads to something; it need not be a directory.
fn exists(path: &Path) -> Result<bool, PathError> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).path("stat", path),
    }
}

/// Names and contents.
type Files = Vec<(OsString, OsString)>;

/// The wanted files of a directory, in byte order of their names. Directories are skipped, symlinks followed. `None` if
/// it is not there.
fn read_dir(dir: &Path, wanted: impl Fn(&OsStr) -> bool) -> Result<Option<Files>, EnvError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.path("read directory", dir)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.path("read directory", dir)?.file_name();
        if !wanted(&name) {
            continue;
        }
        let path = dir.join(&name);
        // Opening a fifo waits for its other end, but not with O_NONBLOCK; a socket cannot be opened at all.
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
        let file = match options.open(&path) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
                return Err(EnvError::NotAFile(path));
            }
            file => file.path("open", &path)?,
        };
        let kind = file.metadata().path("stat", &path)?.file_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(EnvError::NotAFile(path));
        }
        let mut content = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut content).path("read", &path)?;
        if content.len() as u64 > LARGEST {
            return Err(EnvError::TooLarge(path));
        }
        if content.contains(&0) {
            return Err(EnvError::Nul(path));
        }
        files.push((name, OsString::from_vec(content)));
    }
    files.sort_unstable();
    Ok(Some(files))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net;

    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Env {
        Env::from_vars(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// A directory with these files in it; a name may have directories in front.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, content).expect("written");
        }
        dir
    }

    #[test]
    fn a_variable_keeps_its_place_and_the_last_value_counts() {
        let mut env = vars(&[("B", "1"), ("A", "2"), ("B", "3=4")]);
        env.set("C", "5");
        assert!(env.remove("A") && !env.remove("A"));
        env.set("A", "6");
        assert_eq!(env, vars(&[("B", "3=4"), ("C", "5"), ("A", "6")]));
        assert_eq!(env.get("B"), Some(OsStr::new("3=4")));
        assert_eq!(env.get("none"), None);
    }

    #[test]
    fn files_modify_by_suffix() {
        // Files of one directory; the value before (None: unset); the value after; unsuffixed is Override.
        type Case = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<&'static str>);
        let cases: &[Case] = &[
            (&[("V", "new")], Some("old"), Some("new")),
            (&[("V", "new\n")], None, Some("new\n")),
            (&[("V.override", "new")], Some("old"), Some("new")),
            (&[("V.append", "new")], Some("old"), Some("oldnew")),
            (&[("V.append", "new"), ("V.delim", ", ")], Some("old"), Some("old, new")),
            (&[("V.append", "new"), ("V.delim", ", ")], None, Some("new")),
            (&[("V.append", "new"), ("V.delim", ", ")], Some(""), Some("new")),
            (&[("V.prepend", "new")], Some("old"), Some("newold")),
            (&[("V.prepend", "new"), ("V.delim", "\n")], Some("old"), Some("new\nold")),
            (&[("V.prepend", "new"), ("V.delim", ";")], None, Some("new")),
            (&[("V.default", "new")], Some("old"), Some("old")),
            (&[("V.default", "new")], Some(""), Some("new")),
            (&[("V.default", "new")], None, Some("new")),
            (&[("V.", "new")], Some("old"), Some("new:old")),
            (&[("V.", "new"), ("V.delim", ";")], Some("old"), Some("new;old")),
            // An empty file is a value like any other.
            (&[("V", "")], Some("old"), Some("")),
            (&[("V.append", ""), ("V.delim", ",")], Some("old"), Some("old,")),
            // Not ours: a lone delimiter, unknown suffixes, further periods, upper case.
            (&[("V.delim", ",")], Some("old"), Some("old")),
            (&[("V.delim", ",")], None, None),
            (&[("V.txt", "new")], Some("old"), Some("old")),
            (&[("V.append.x", "new")], Some("old"), Some("old")),
            (&[("V.x.append", "new")], Some("old"), Some("old")),
            (&[("V.APPEND", "new")], Some("old"), Some("old")),
            (&[("W.delim", ","), ("V.append", "new")], Some("old"), Some("oldnew")),
            // Several files of one variable, in the byte order of their names: append, default, override, prepend.
            (&[("V.prepend", "p"), ("V.append", "a"), ("V.delim", "-")], Some("old"), Some("p-old-a")),
            (&[("V.prepend", "p"), ("V.override", "o"), ("V.append", "a")], Some("old"), Some("po")),
            (&[("V.default", "d"), ("V.append", "a")], None, Some("a")),
            (&[("V", "plain"), ("V.append", "a"), ("V.delim", "-")], Some("old"), Some("plain-a")),
        ];
        for (files, before, after) in cases {
            let mut env = Env::default();
            before.map(|value| env.set("V", value));
            env.add_layer_env(tree(files).path()).expect("applied");
            assert_eq!(env.get("V"), after.map(OsStr::new), "{files:?} on {before:?}");
        }
    }

    #[test]
    fn what_an_unsuffixed_file_does_is_the_callers_choice() {
        let dir = tree(&[("SET", "new"), ("EMPTY", "new"), ("UNSET", "new")]);
        let mut env = vars(&[("SET", "old"), ("EMPTY", "")]);
        env.add_build_config_env(dir.path()).expect("applied");
        assert_eq!(env, vars(&[("SET", "old"), ("EMPTY", "new"), ("UNSET", "new")]));
    }

    #[test]
    fn new_variables_come_in_byte_order_of_the_files() {
        let dir = tree(&[("b", "1"), ("B", "2"), ("a", "3"), ("_", "4"), ("a-b", "5")]);
        let mut env = Env::default();
        env.add_layer_env(dir.path()).expect("applied");
        let names: Vec<_> = env.iter().map(|(name, _)| name.to_str().expect("UTF-8")).collect();
        assert_eq!(names, ["B", "_", "a", "a-b", "b"]);
    }

    #[test]
    fn names_and_values_are_bytes() {
        let dir = tree(&[]);
        let name = OsStr::from_bytes(b"N\xffME.append");
        fs::write(dir.path().join(name), b"v\xfelue").expect("written");
        let mut env = Env::default();
        env.add_layer_env(dir.path()).expect("applied");
        assert_eq!(env.get(OsStr::from_bytes(b"N\xffME")), Some(OsStr::from_bytes(b"v\xfelue")));
    }

    #[test]
    fn what_is_not_a_variable_file_is_passed_over() {
        // A virtualenv called `env` has all of these.
        let dir =
            tree(&[(".gitignore", "*"), ("pyvenv.cfg", "x"), ("bin/activate", "x"), (".append", "x"), ("A=B", "x")]);
        symlink("bin", dir.path().join("scripts")).expect("linked");
        symlink("nowhere", dir.path().join("README.md")).expect("linked");
        let mut env = Env::default();
        env.add_layer_env(dir.path()).expect("applied");
        assert_eq!(env, Env::default());
    }

    #[test]
    fn no_directory_no_change() {
        let dir = tree(&[("file", "x")]);
        let mut env = Env::default();
        for name in ["none", "file", "file/web"] {
            env.add_layer_env(&dir.path().join(name)).expect("fine");
        }
        env.add_platform_env(&dir.path().join("none")).expect("fine");
        env.add_build_config_env(&dir.path().join("none")).expect("fine");
        assert_eq!(env, Env::default());
        // A mount gone wrong: what the user or the operator set must not get lost without a word.
        let file = dir.path().join("file");
        for result in [env.add_platform_env(&file), env.add_build_config_env(&file)] {
            let text = result.expect_err("not a directory").to_string();
            assert!(text.ends_with(&format!("read directory {}: not a directory", file.display())), "{text}");
        }
    }

    #[test]
    fn symlinks_are_followed() {
        let dir = tree(&[("real/value", "x")]);
        fs::create_dir(dir.path().join("env")).expect("created");
        symlink("../real/value", dir.path().join("env/V")).expect("linked");
        symlink("env", dir.path().join("link")).expect("linked");
        let mut env = Env::default();
        env.add_layer_env(&dir.path().join("link")).expect("applied");
        assert_eq!(env, vars(&[("V", "x")]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tree(&[("nul/V", "a\0b")]);
        for name in ["dangling", "loop", "fifo", "socket", "large"] {
            fs::create_dir(dir.path().join(name)).expect("created");
        }
        let at = |name: &str| dir.path().join(name).join("V");
        symlink("nowhere", at("dangling")).expect("linked");
        symlink("V", at("loop")).expect("linked");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        #[expect(clippy::disallowed_types, reason = "a socket file that must not be taken for a variable's")]
        let _socket = net::UnixListener::bind(at("socket")).expect("bound");
        fs::File::create(at("large")).expect("made").set_len(5 << 30).expect("sparse");
        for (name, reason) in [
            ("dangling", "no such file or directory"),
            ("loop", "too many levels of symbolic links"),
            ("fifo", "not a regular file"),
            ("socket", "not a regular file"),
            ("large", "larger than 4 MiB, too large for an environment variable"),
            ("nul", "it contains a NUL byte, which an environment variable cannot hold"),
        ] {
            let error = Env::default().add_layer_env(&dir.path().join(name)).expect_err(name);
            let text = error.to_string();
            assert!(text.contains(&format!("{}: {reason}", at(name).display())), "{text}");
        }
    }

    #[test]
    fn root_directories_go_before_what_is_there() {
        let dir = tree(&[("bin/x", ""), ("lib/x", ""), ("include/x", ""), ("pkgconfig", "a file"), ("share/x", "")]);
        let at = |name: &str| dir.path().join(name).into_os_string().into_string().expect("UTF-8");
        let before = vars(&[("PATH", "/bin"), ("LIBRARY_PATH", "")]);
        let mut build = before.clone();
        build.add_root_dirs(dir.path(), Stage::Build).expect("added");
        let expected = [
            ("PATH", &*format!("{}:/bin", at("bin"))),
            ("LIBRARY_PATH", &at("lib")),
            ("LD_LIBRARY_PATH", &at("lib")),
            ("CPATH", &at("include")),
            ("PKG_CONFIG_PATH", &at("pkgconfig")),
        ];
        assert_eq!(build, vars(&expected));
        let mut launch = before;
        launch.add_root_dirs(dir.path(), Stage::Launch).expect("added");
        assert_eq!(launch, vars(&[expected[0], ("LIBRARY_PATH", ""), expected[2]]));
    }

    #[test]
    fn root_directories_of_an_empty_or_missing_layer_are_none() {
        let dir = tree(&[]);
        let mut env = Env::default();
        env.add_root_dirs(dir.path(), Stage::Build).expect("added");
        env.add_root_dirs(&dir.path().join("none"), Stage::Build).expect("added");
        symlink("bin", dir.path().join("bin")).expect("linked");
        let error = env.add_root_dirs(dir.path(), Stage::Launch).expect_err("a loop").to_string();
        assert!(error.contains("bin: too many levels of symbolic links"), "{error}");
        assert_eq!(env, Env::default());
    }

    #[test]
    fn platform_variables_are_whole_names() {
        let dir = tree(&[
            ("PATH", "/new"),
            ("CPATH", "/inc"),
            ("V.append", "x"),
            ("HOME", "/h\n"),
            ("..data/HOME", "y"),
            ("A=B", ""),
        ]);
        let mut env = vars(&[("PATH", "/old"), ("HOME", "/root")]);
        env.add_platform_env(dir.path()).expect("applied");
        let expected = [("PATH", "/new:/old"), ("HOME", "/h\n"), ("CPATH", "/inc"), ("V.append", "x")];
        assert_eq!(env, vars(&expected));
    }
}
