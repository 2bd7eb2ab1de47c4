//! Removing a directory that nobody vouches for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RawDir, chmodat, fchmod, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::beneath::LIST;

/// Removes a directory and all that is in it, or a file; what is not there is removed. Nothing is followed. Directories
/// that may not be changed are made writable first. Depth does not matter: a directory that is not empty is moved up
/// beside those that are left.
pub(super) fn remove_tree(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let parent = parent.as_fd();
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says the first for a directory, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open_writable(parent, name)?;
    let mut moved = 0;
    loop {
        // What was beneath comes up, until nothing is left.
        let mut is_empty = true;
        empty(top.as_fd(), |entry| {
            is_empty = false;
            let directory = open_writable(top.as_fd(), entry)?;
            empty(directory.as_fd(), |inner| move_up(directory.as_fd(), inner, top.as_fd(), &mut moved))?;
            Ok(unlinkat(&top, entry, AtFlags::REMOVEDIR)?)
        })?;
        if is_empty {
            return Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
    }
}

/// Removes files and empty directories; the other directories are left to `full`.
fn empty(directory: BorrowedFd<'_>, mut full: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let listing = openat(directory, c".", LIST, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(&listing, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let may_be_file = !matches!(entry.file_type(), FileType::Directory);
        if may_be_file {
            match unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if unlinkat(directory, name, AtFlags::REMOVEDIR).is_err() {
            full(name.to_bytes())?;
        }
    }
    Ok(())
}

/// Opens a directory to remove what is in it.
fn open_writable(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let open = || openat(parent, name, LIST, Mode::empty());
    let directory = match open() {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        opened => opened?,
    };
    if fstat(&directory)?.st_mode & 0o700 != 0o700 {
        fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

fn move_up(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    // Moving a directory changes its `..`, so it must be writable itself.
    open_writable(from, name)?;
    loop {
        *moved += 1;
        match renameat(from, name, to, format!("~{moved}")) {
            // The name is taken; an empty directory there would be replaced, which is as well.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn removes_what_is_in_it_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let (gone, kept) = (dir.path().join("gone"), dir.path().join("kept"));
        fs::create_dir_all(gone.join("a/b/c/d")).expect("made");
        fs::create_dir_all(gone.join("~1/x")).expect("made");
        fs::write(gone.join("~2"), "").expect("written");
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("file"), "kept").expect("written");
        for place in ["link", "a/link", "a/b/c/link"] {
            symlink(&kept, gone.join(place)).expect("linked");
        }
        fs::write(gone.join("a/b/c/d/file"), "x").expect("written");
        for place in ["a/b/c/d", "a/b"] {
            fs::set_permissions(gone.join(place), fs::Permissions::from_mode(0o555)).expect("chmod");
        }
        fs::set_permissions(gone.join("a/b/c"), fs::Permissions::from_mode(0o0)).expect("chmod");
        let path = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().to_owned();
        remove_tree(CWD, &path(&gone)).expect("removed");
        assert!(!gone.exists());
        assert_eq!(fs::read(kept.join("file")).expect("there"), b"kept");

        remove_tree(CWD, &path(&gone)).expect("nothing is there");
        let link = dir.path().join("link");
        symlink(&kept, &link).expect("linked");
        remove_tree(CWD, &path(&link)).expect("removed");
        assert!(kept.join("file").exists() && fs::symlink_metadata(&link).is_err());
    }
}
