//! From entries to files.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, fchmod, linkat, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use super::super::guard::Guard;
use super::ExtractError;
use super::target::{Holder, LAYER, Place, Target, put_in_place, to_path};
use crate::file::PathError;
use crate::layer::beneath::{Beneath, LIST, SEARCH};
use crate::layer::untar::{Bytes, Entry, Kind, Untar};

/// A layer that is being extracted.
pub(super) struct Extraction<'a> {
    target: &'a Target,
    holder: &'a Holder,
    beneath: Beneath,
    /// A second one, for what hard links point to.
    links: Beneath,
    has_layer: bool,
    /// Modes of directories above the layer, by their number of names.
    above: Vec<Option<u32>>,
    /// Directories that get their mode at the end, since it would be in the way or since others inherit it.
    late: Vec<(Vec<u8>, u32)>,
    guard: Option<&'a Guard>,
}

impl<'a> Extraction<'a> {
    pub(super) fn new(target: &'a Target, holder: &'a Holder, guard: Option<&'a Guard>) -> Self {
        let beneath = || Beneath::new(holder.fd.clone(), SEARCH);
        let above = vec![None; target.names.len()];
        Self { target, holder, beneath: beneath(), links: beneath(), has_layer: false, above, late: Vec::new(), guard }
    }

    pub(super) fn extract(&mut self, tar: &mut Untar<impl Bytes>) -> Result<(), ExtractError> {
        while let Some(entry) = tar.next()? {
            match self.target.place(&entry.name)? {
                Place::Above(depth) if entry.kind == Some(Kind::Directory) => self.above[depth] = Some(entry.mode),
                Place::Above(_) => return Err(refused(&entry, "a directory above the layer is something else")),
                Place::Inside(place) => self.entry(&entry, &place, tar)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, place: &[u8], tar: &mut Untar<impl Bytes>) -> Result<(), ExtractError> {
        let slash = place.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = (&place[..slash.unwrap_or(0)], &place[slash.map_or(0, |at| at + 1)..]);
        if slash.is_none() && entry.kind != Some(Kind::Directory) {
            return Err(refused(entry, "the layer is not a directory"));
        }
        self.has_layer = true;
        self.go_to(entry, directory)?;
        let failed = |operation, error: Errno| match error {
            Errno::EXIST => refused(entry, "is there already"),
            error => ExtractError::Write(PathError { operation, path: self.target.shown(place), source: error.into() }),
        };
        let here = self.beneath.current();
        match entry.kind {
            Some(Kind::Directory) => return self.directory(entry, place, name),
            Some(Kind::File) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(entry.mode & 0o777);
                let file = openat(here, name, flags, mode).map_err(|error| failed("create", error))?;
                let mut file = std::fs::File::from(file);
                let mut guard = self.guard;
                let mut write = |part: &[u8]| {
                    // The first part has a file's beginning: it is a block at least, or all there is.
                    if let Some(guard) = guard.take() {
                        guard.look(&entry.name, entry.mode, part);
                    }
                    file.write_all(part).map_err(|source| {
                        ExtractError::Write(PathError { operation: "write", path: self.target.shown(place), source })
                    })
                };
                while tar.take(&mut write)? {}
                // After writing, which takes setuid and setgid away.
                if entry.mode != entry.mode & 0o777 & !self.holder.mask {
                    fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(|error| failed("chmod", error))?;
                }
            }
            Some(Kind::Symlink) => {
                symlinkat(&entry.link[..], here, name).map_err(|error| failed("create symlink", error))?;
            }
            Some(Kind::Fifo) => {
                let mode = Mode::from_raw_mode(entry.mode & 0o777);
                mknodat(here, name, FileType::Fifo, mode, 0).map_err(|error| failed("create fifo", error))?;
                if entry.mode != entry.mode & 0o777 & !self.holder.mask {
                    let mode = Mode::from_raw_mode(entry.mode);
                    chmodat(here, name, mode, AtFlags::empty()).map_err(|error| failed("chmod", error))?;
                }
            }
            Some(Kind::HardLink) => return self.hard_link(entry, place, name),
            Some(Kind::Other(_)) | None => return Err(refused(entry, "entries of this kind are not extracted")),
        }
        Ok(())
    }

    /// Goes to the directory that an entry is in. Those that no entry has made are made.
    fn go_to(&mut self, entry: &Entry, directory: &[u8]) -> Result<(), ExtractError> {
        match self.beneath.go_to(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.not_entered(entry, directory, error)),
            Ok(()) => return Ok(()),
        }
        let ends = directory.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([directory.len()]) {
            let path = &directory[..end];
            if self.beneath.go_to(path).is_ok() {
                continue;
            }
            let slash = path.iter().rposition(|byte| *byte == b'/');
            let parent = &path[..slash.unwrap_or(0)];
            self.beneath.go_to(parent).map_err(|error| self.not_entered(entry, parent, error))?;
            let name = &path[slash.map_or(0, |at| at + 1)..];
            match mkdirat(self.beneath.current(), name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(self.not_entered(entry, path, error.into())),
            }
            self.beneath.go_to(path).map_err(|error| self.not_entered(entry, path, error))?;
        }
        Ok(())
    }

    fn not_entered(&self, entry: &Entry, directory: &[u8], source: io::Error) -> ExtractError {
        let is_other = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
        if is_other.contains(&source.raw_os_error()) {
            return refused(entry, "it is beneath a symlink or a file");
        }
        ExtractError::Write(PathError { operation: "open", path: self.target.shown(directory), source })
    }

    fn directory(&mut self, entry: &Entry, place: &[u8], name: &[u8]) -> Result<(), ExtractError> {
        let path = self.target.shown(place);
        let failed = |operation, error: Errno| PathError { operation, path: path.clone(), source: error.into() };
        let here = self.beneath.current();
        let made = entry.mode & 0o777 | 0o700;
        match mkdirat(here, name, Mode::from_raw_mode(made)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                self.beneath.enter(name).map_err(|error| self.not_entered(entry, place, error))?;
                self.late.push((place.to_owned(), entry.mode));
                return Ok(());
            }
            Err(error) => return Err(failed("create directory", error).into()),
        }
        let mut mode = made & !self.holder.mask;
        if self.holder.mask & 0o700 != 0 {
            chmodat(here, name, Mode::RWXU, AtFlags::empty()).map_err(|error| failed("chmod", error))?;
            mode = 0o700;
        }
        if mode == entry.mode {
            return Ok(());
        }
        if entry.mode & 0o7700 == 0o700 {
            let mode = Mode::from_raw_mode(entry.mode);
            return Ok(chmodat(here, name, mode, AtFlags::empty()).map_err(|error| failed("chmod", error))?);
        }
        self.late.push((place.to_owned(), entry.mode));
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, place: &[u8], name: &[u8]) -> Result<(), ExtractError> {
        let Place::Inside(target) = self.target.place(&entry.link)? else {
            let (entry, layer) = (to_path(&entry.link), self.target.path.clone());
            return Err(ExtractError::Outside { entry, layer });
        };
        let Some(slash) = target.iter().rposition(|byte| *byte == b'/') else {
            return Err(refused(entry, "a hard link to the layer's directory"));
        };
        if self.links.go_to(&target[..slash]).is_err() {
            return Err(refused(entry, "what it links to is not there"));
        }
        linkat(self.links.current(), &target[slash + 1..], self.beneath.current(), name, AtFlags::empty()).map_err(
            |error| match error {
                Errno::EXIST => refused(entry, "is there already"),
                Errno::NOENT => refused(entry, "what it links to is not there"),
                Errno::PERM => refused(entry, "a hard link to a directory"),
                error => PathError { operation: "link", path: self.target.shown(place), source: error.into() }.into(),
            },
        )
    }

    /// Sets the modes that were left and puts the layer in its place.
    pub(super) fn finish(mut self) -> Result<(), ExtractError> {
        if !self.has_layer {
            return Ok(());
        }
        let failed = |path: PathBuf, operation, source: io::Error| PathError { operation, path, source };
        let mut late = std::mem::take(&mut self.late);
        // A directory before those above it, which may be closed afterwards.
        late.sort_by_key(|(place, _)| std::cmp::Reverse(place.iter().filter(|byte| **byte == b'/').count()));
        let mut layer_mode = None;
        for (place, mode) in late {
            if place == LAYER && mode & 0o200 == 0 {
                // It could not be moved without the right to write to it.
                layer_mode = Some(mode);
                continue;
            }
            let path = || self.target.shown(&place);
            self.beneath.go_to(&place).map_err(|error| failed(path(), "open", error))?;
            chmod_current(&self.beneath, mode).map_err(|error| failed(path(), "chmod", error))?;
        }
        let (parent, name) = self.parent()?;
        put_in_place(self.holder, &parent, &name)
            .map_err(|error| failed(self.target.path.clone(), "rename to", error))?;
        if let Some(mode) = layer_mode {
            chmodat(&parent, &name[..], Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(|error| failed(self.target.path.clone(), "chmod", error.into()))?;
        }
        Ok(())
    }

    /// The directory that the layer belongs in, made if it is missing, and the layer's name there.
    fn parent(&self) -> Result<(OwnedFd, Vec<u8>), ExtractError> {
        let names = &self.target.names[self.target.depth..];
        let (name, above) = names.split_last().map_or((Vec::new(), names), |(name, above)| (name.clone(), above));
        let mut path: PathBuf = self.target.path.ancestors().nth(names.len()).unwrap_or(Path::new("/")).to_owned();
        let failed = |path: &Path, operation, error: Errno| {
            ExtractError::Write(PathError { operation, path: path.to_owned(), source: error.into() })
        };
        let mut parent =
            openat(&self.target.layers, c".", LIST, Mode::empty()).map_err(|error| failed(&path, "open", error))?;
        for (step, depth) in above.iter().zip(self.target.depth + 1..) {
            path.push(to_path(step));
            let is_new = match mkdirat(&parent, &step[..], Mode::from_raw_mode(0o777)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(failed(&path, "create directory", error)),
            };
            parent = openat(&parent, &step[..], LIST, Mode::empty()).map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => ExtractError::Refused {
                    entry: path.clone(),
                    reason: "a directory above the layer is a symlink or a file",
                },
                error => failed(&path, "open", error),
            })?;
            if let Some(mode) = self.above[depth].filter(|_| is_new) {
                fchmod(&parent, Mode::from_raw_mode(mode)).map_err(|error| failed(&path, "chmod", error))?;
            }
        }
        Ok((parent, name))
    }
}

fn refused(entry: &Entry, reason: &'static str) -> ExtractError {
    ExtractError::Refused { entry: to_path(&entry.name), reason }
}

fn chmod_current(beneath: &Beneath, mode: u32) -> io::Result<()> {
    let directory = openat(beneath.current(), c".", LIST, Mode::empty())?;
    Ok(fchmod(&directory, Mode::from_raw_mode(mode))?)
}
