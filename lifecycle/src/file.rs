//! Files of the specification: read with an error that names them, written whole.
//!
//! What reads is shared with the launcher, and so lives in [`lifecycle_launch::file`].

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use serde::de::DeserializeOwned;

use crate::beneath::{BeneathError, Directory};

pub use lifecycle_launch::file::{
    LoadError, PathContext, PathError, describe, load, load_hostile, load_if_there, parse_hostile,
};

/// Writes a file whole: a temporary file beside it, then a rename, so that a reader sees the old content or the new.
/// Where that cannot be (a directory we may not write, a bind-mounted file, `/dev/stdout`) it is written in place.
/// Missing parent directories are created. The mode is 0666 less the umask, as for any new file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), PathError> {
    if let Some(descriptor) = own_descriptor(path) {
        return descriptor.and_then(|mut file| file.write_all(content)).path("write", path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).path("create directory", parent)?;
    }
    let in_place = || -> Result<(), PathError> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).path("open", path)?;
        file.write_all(content).path("write", path)
    };
    // A symlink is written through, and so is a device or a pipe: none of them is to be replaced by a file.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return in_place(),
        Ok(_) | Err(_) => {}
    }
    let renamed = (|| {
        let (mut file, beside) = create_beside(path)?;
        let written = fs::metadata(path)
            .map_or(Ok(()), |old| file.set_permissions(old.permissions()))
            .and_then(|()| file.write_all(content))
            .and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    })();
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => {
            let elsewhere = [Errno::EACCES, Errno::EPERM, Errno::EROFS, Errno::EBUSY, Errno::EXDEV];
            if elsewhere.iter().any(|errno| error.raw_os_error() == Some(*errno as i32)) {
                in_place()
            } else {
                Err(error).path("write", path)
            }
        }
    }
}

/// Creates a file beside another, under a name that nobody has: `.<process>-<number>.tmp`, whatever a killed process or
/// one in another container has left.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return Ok((created?, beside)),
        }
    }
}

/// What the process already has open by this name. Opening it again would be refused where it is a pipe or a terminal of
/// root's, and would empty a file that others write to.
fn own_descriptor(path: &Path) -> Option<io::Result<File>> {
    let descriptor = match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => io::stdout().as_fd().try_clone_to_owned(),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => io::stderr().as_fd().try_clone_to_owned(),
        _ => return None,
    };
    Some(descriptor.map(File::from))
}

/// The most that a file in the layers directory may have, in bytes: what the analyzer writes holds a label of an image.
const LARGEST: u64 = 64 << 20;

/// Loads a TOML file of the build that may be in the layers directory `layers`, where buildpacks write too: there it is
/// not followed, and only a regular file will do. Anywhere else the path is the platform's. Errors quote nothing.
pub fn load_shared<T: DeserializeOwned>(path: &Path, layers: &Path) -> Result<T, LoadError> {
    let (Some(name), Ok(directory)) = (name_in(path, layers), Directory::open(layers)) else {
        return load_hostile(path);
    };
    let source = match directory.read(name, LARGEST) {
        Ok(Some(content)) => return parse_hostile(path, &content),
        Ok(None) => io::Error::from_raw_os_error(Errno::ENOENT as i32),
        Err(BeneathError::Path(error)) => return Err(error.into()),
        Err(BeneathError::Refused { found, .. }) => {
            io::Error::new(io::ErrorKind::InvalidData, format!("it is {found}, not a regular file"))
        }
        Err(BeneathError::TooLarge { limit, .. }) => {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", limit >> 20))
        }
    };
    Err(PathError { operation: "open", path: path.to_owned(), source }.into())
}

/// Writes a file of the build whole, as [`write_whole`] does; but what is in its place in the layers directory is
/// replaced even if it is a symlink, since a buildpack may have put it there.
pub fn write_shared(path: &Path, layers: &Path, content: &[u8]) -> Result<(), PathError> {
    match (name_in(path, layers), Directory::open(layers)) {
        (Some(name), Ok(directory)) => directory.write(name, content),
        (Some(_) | None, _) => write_whole(path, content),
    }
}

/// The name of a file that is directly in the layers directory.
fn name_in<'a>(path: &'a Path, layers: &Path) -> Option<&'a OsStr> {
    path.file_name().filter(|_| path.parent() == Some(layers))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn written_whole_and_the_mode_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sub/a.toml");
        write_whole(&path, b"one").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let before = fs::metadata(&path).expect("there").ino();
        write_whole(&path, b"two").expect("written");
        let after = fs::metadata(&path).expect("there");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(after.permissions().mode() & 0o7777, 0o640);
        assert_ne!(before, after.ino(), "a reader of the old file still sees it whole");
        assert_eq!(
            fs::read_dir(path.parent().expect("parent")).expect("listed").count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in 0..300 {
            fs::write(dir.path().join(format!(".{}-{number}.tmp", std::process::id())), "half").expect("written");
        }
        let path = dir.path().join("a.toml");
        write_whole(&path, b"whole").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 301);
    }

    #[test]
    fn a_symlink_and_a_device_are_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        symlink(&file, &link).expect("linked");
        write_whole(&link, b"x").expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"x");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        write_whole(Path::new("/dev/null"), b"x").expect("written");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    }
    #[test]
    fn what_buildpacks_put_in_the_layers_directory_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (layers, outside) = (dir.path().join("layers"), dir.path().join("outside"));
        let path = layers.join("analyzed.toml");
        let load = || load_shared::<toml::Table>(&path, &layers);
        let missing = format!("open {}: no such file or directory", path.display());
        let error = load().expect_err("no directory");
        assert!(error.is_missing() && error.to_string() == missing, "{error}");
        write_shared(&path, &layers, b"a = 1").expect("written, with its directory");
        assert_eq!(load().expect("read")["a"].as_integer(), Some(1));
        fs::remove_file(&path).expect("removed");
        assert_eq!(load().expect_err("no file").to_string(), missing);

        fs::write(&outside, "secret = 1").expect("written");
        symlink(&outside, &path).expect("linked");
        let error = load().expect_err("a link").to_string();
        assert_eq!(error, format!("open {}: it is a symbolic link, not a regular file", path.display()));
        write_shared(&path, &layers, b"a = 2").expect("replaced");
        assert_eq!(fs::read(&outside).expect("there"), b"secret = 1");
        assert_eq!(load().expect("read")["a"].as_integer(), Some(2));
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(5 << 30)).expect("sparse");
        assert!(load().expect_err("too large").to_string().ends_with("analyzed.toml: it is larger than 64 MiB"));
        fs::write(&path, "a = hunter2").expect("written");
        assert!(!load().expect_err("malformed").to_string().contains("hunter2"));

        // Elsewhere the platform's links count.
        let link = dir.path().join("link");
        symlink(&outside, &link).expect("linked");
        assert!(load_shared::<toml::Table>(&link, &layers).expect("read").contains_key("secret"));
        write_shared(&link, &layers, b"").expect("written through");
        assert_eq!(fs::read(&outside).expect("there"), b"");
    }
}
