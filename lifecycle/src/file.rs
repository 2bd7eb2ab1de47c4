//! Files of the specification: read with an error that names them, written whole.
//!
//! What reads is shared with the launcher, and so lives in [`lifecycle_launch::file`].

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

pub use lifecycle_launch::file::{
    LoadError, PathContext, PathError, describe, load, load_hostile, load_if_there, parse_hostile,
};

/// Writes a file whole: a temporary file beside it, then a rename, so that a reader sees the old content or the new.
/// Where that cannot be (a directory we may not write, a bind-mounted file, `/dev/stdout`) it is written in place.
/// Missing parent directories are created. The mode is 0666 less the umask, as for any new file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), PathError> {
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
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let renamed = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        drop(file);
        fs::rename(&beside, path)
    })();
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            let elsewhere =
                [libc_errno::EACCES, libc_errno::EPERM, libc_errno::EROFS, libc_errno::EBUSY, libc_errno::EXDEV];
            if error.raw_os_error().is_some_and(|code| elsewhere.contains(&code)) {
                in_place()
            } else {
                Err(error).path("write", path)
            }
        }
    }
}

/// The few error numbers after which writing in place is tried.
mod libc_errno {
    use nix::errno::Errno;

    pub(super) const EACCES: i32 = Errno::EACCES as i32;
    pub(super) const EPERM: i32 = Errno::EPERM as i32;
    pub(super) const EROFS: i32 = Errno::EROFS as i32;
    pub(super) const EBUSY: i32 = Errno::EBUSY as i32;
    pub(super) const EXDEV: i32 = Errno::EXDEV as i32;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

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
    fn a_symlink_and_a_device_are_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        write_whole(&link, b"x").expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"x");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        write_whole(Path::new("/dev/null"), b"x").expect("written");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    }
}
