//! From a recipe to its entries, one after the other, with their status but without their content.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, lstat, openat, readlinkat_raw, stat, statat};
use rustix::path::Arg;

use super::beneath::{Beneath, LIST, SEARCH};
use super::pipeline::LayerError;
use super::recipe::{Entry, Owner, Recipe};
use super::slices::{Part, SlicePart, next_node};
use super::tar::{Header, Kind};
use super::walk::{Order, Walk, join};

/// The kernel's limit of a symlink's target, and one more.
const LONGEST_LINK: usize = 4096;

/// An entry that is to be written.
pub(super) struct Planned {
    /// Its name in the tar.
    pub(super) name: Vec<u8>,
    /// Where it points, if it is a symlink.
    pub(super) link: Vec<u8>,
    pub(super) header: Header,
    pub(super) content: Content,
}

/// Where an entry's content is.
#[derive(Clone)]
pub(super) enum Content {
    /// It has none.
    None,
    /// In a file beneath the plan's root, whose relative path is what follows `relative` in the entry's name. It must
    /// still be this inode when it is opened.
    Beneath { relative: usize, device: u64, inode: u64 },
    /// In a file of ours.
    Path(Arc<Path>),
}

/// The entries of a recipe.
pub(super) struct Plan {
    root: Option<Arc<OwnedFd>>,
    parents: VecDeque<(Vec<u8>, Header)>,
    owner: Owner,
    body: Body,
}

enum Body {
    Nothing,
    Walk { walk: Walk, relative: usize },
    Part { part: Arc<SlicePart>, app: Vec<u8>, next: u32, beneath: Beneath, path: Vec<u8> },
    AppLink(Vec<u8>),
    Entries(std::vec::IntoIter<Entry>),
}

impl Planned {
    pub(super) fn new() -> Self {
        let header = Header { kind: Kind::Directory, mode: 0, uid: 0, gid: 0, size: 0, major: 0, minor: 0 };
        Self { name: Vec::new(), link: Vec::new(), header, content: Content::None }
    }

    fn set(&mut self, name: &[u8], header: Header) {
        self.name.clear();
        self.name.extend_from_slice(name);
        self.link.clear();
        self.header = header;
        self.content = Content::None;
    }

    /// Fills in what depends on the kind: where a symlink points, where a file's content is.
    fn locate(
        &mut self,
        status: &Stat,
        directory: impl AsFd,
        name: impl Arg,
        relative: usize,
    ) -> Result<(), LayerError> {
        match self.header.kind {
            Kind::Symlink => {
                self.link.reserve(LONGEST_LINK);
                readlinkat_raw(directory, name, spare_capacity(&mut self.link))
                    .map_err(|error| LayerError::path("readlink", &self.name, error.into()))?;
            }
            Kind::File => {
                self.content = Content::Beneath { relative, device: status.st_dev, inode: status.st_ino };
            }
            Kind::Character | Kind::Block | Kind::Directory | Kind::Fifo => {}
        }
        Ok(())
    }
}

/// What a header says of a file; `None` for a socket.
fn header(status: &Stat, owner: Option<Owner>) -> Option<Header> {
    let kind = Kind::of_mode(status.st_mode)?;
    let Owner { uid, gid } = owner.unwrap_or(Owner { uid: status.st_uid, gid: status.st_gid });
    let is_device = matches!(kind, Kind::Character | Kind::Block);
    Some(Header {
        kind,
        mode: status.st_mode & 0o7777,
        uid,
        gid,
        size: if kind == Kind::File { u64::try_from(status.st_size).unwrap_or(0) } else { 0 },
        major: if is_device { rustix::fs::major(status.st_rdev) } else { 0 },
        minor: if is_device { rustix::fs::minor(status.st_rdev) } else { 0 },
    })
}

fn lstat_error(name: &[u8], error: rustix::io::Errno) -> LayerError {
    LayerError::path("lstat", name, error.into())
}

/// Every directory above `path` but the root directory, outermost first, as they are: symlinks are followed.
fn parents_of(path: &Path) -> Result<VecDeque<(Vec<u8>, Header)>, LayerError> {
    let mut parents = VecDeque::new();
    for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
        parents.push_front(status_of_parent(parent.as_os_str().as_bytes(), stat(parent))?);
    }
    Ok(parents)
}

fn status_of_parent(name: &[u8], status: rustix::io::Result<Stat>) -> Result<(Vec<u8>, Header), LayerError> {
    let status = status.map_err(|error| LayerError::path("stat", name, error.into()))?;
    let header = header(&status, None).ok_or_else(|| LayerError::replaced(name))?;
    Ok((name.to_owned(), header))
}

/// Opens an app directory; `None` if it is a symlink.
pub(super) fn open_app(app: &Path) -> Result<Option<OwnedFd>, LayerError> {
    let name = app.as_os_str().as_bytes();
    let status = lstat(app).map_err(|error| lstat_error(name, error))?;
    if Kind::of_mode(status.st_mode) == Some(Kind::Symlink) {
        return Ok(None);
    }
    openat(CWD, app, LIST, Mode::empty()).map(Some).map_err(|error| LayerError::path("open", name, error.into()))
}

impl Plan {
    pub(super) fn new(recipe: &Recipe) -> Result<Self, LayerError> {
        match recipe {
            Recipe::Directory { layers, relative, owner } => Self::directory(layers, relative, *owner),
            Recipe::Slice { app, owner, part } => Self::slice(app, *owner, part),
            Recipe::Entries(entries) => Ok(Self {
                root: None,
                parents: VecDeque::new(),
                owner: Owner { uid: 0, gid: 0 },
                body: Body::Entries(entries.clone().into_iter()),
            }),
        }
    }

    fn directory(layers: &Path, relative: &Path, owner: Owner) -> Result<Self, LayerError> {
        let mut name = layers.as_os_str().as_bytes().to_owned();
        let mut parents = parents_of(layers)?;
        // The layers directory may be a symlink; what is beneath may not.
        let flags = LIST.difference(OFlags::NOFOLLOW);
        let mut root =
            openat(CWD, layers, flags, Mode::empty()).map_err(|error| LayerError::path("open", &name, error.into()))?;
        for component in relative.components() {
            let Component::Normal(component) = component else {
                return Err(LayerError::path("open", &name, std::io::ErrorKind::InvalidInput.into()));
            };
            if layers.parent().is_some() || !parents.is_empty() {
                parents.push_back(status_of_parent(&name, fstat(&root))?);
            }
            name = join(&name, component.as_bytes());
            root =
                openat(&root, component, LIST, Mode::empty()).map_err(|error| LayerError::open(&name, error.into()))?;
        }
        let root = Arc::new(root);
        let walk = Walk::new(root.clone(), &name, Order::Walk);
        Ok(Self { root: Some(root), parents, owner, body: Body::Walk { walk, relative: start_of_relative(&name) } })
    }

    fn slice(app: &Path, owner: Owner, part: &Arc<SlicePart>) -> Result<Self, LayerError> {
        let name = app.as_os_str().as_bytes();
        let is_empty = !matches!(part.0, Part::Whole) && next_node(&part.0, &mut 0).is_none();
        if is_empty {
            return Ok(Self { root: None, parents: VecDeque::new(), owner, body: Body::Nothing });
        }
        let parents = parents_of(app)?;
        let Some(root) = open_app(app)?.map(Arc::new) else {
            return Ok(Self { root: None, parents, owner, body: Body::AppLink(name.to_owned()) });
        };
        let body = match part.0 {
            Part::Whole => {
                Body::Walk { walk: Walk::new(root.clone(), name, Order::FullPath), relative: start_of_relative(name) }
            }
            Part::Taken { .. } | Part::Rest { .. } => Body::Part {
                part: part.clone(),
                app: name.to_owned(),
                next: 0,
                beneath: Beneath::new(root.clone(), SEARCH),
                path: Vec::new(),
            },
        };
        Ok(Self { root: Some(root), parents, owner, body })
    }

    /// The directory that [`Content::Beneath`] is relative to.
    pub(super) fn root(&self) -> Option<Arc<OwnedFd>> {
        self.root.clone()
    }

    /// Fills in the next entry; `false` at the end.
    pub(super) fn next(&mut self, entry: &mut Planned) -> Result<bool, LayerError> {
        if let Some((name, header)) = self.parents.pop_front() {
            entry.set(&name, header);
            return Ok(true);
        }
        let owner = Some(self.owner);
        match &mut self.body {
            Body::Nothing => Ok(false),
            Body::Walk { walk, relative } => loop {
                let Some(is_directory) = walk.next()? else { return Ok(false) };
                let (name, directory) = (walk.name(), walk.directory());
                let status = status_in(directory, name.map(std::ffi::CStr::to_bytes), walk.path())?;
                let Some(header) = header(&status, owner) else { continue };
                if is_directory != (header.kind == Kind::Directory) {
                    return Err(LayerError::replaced(walk.path()));
                }
                entry.set(walk.path(), header);
                entry.locate(&status, directory, name.unwrap_or_default(), *relative)?;
                return Ok(true);
            },
            Body::Part { part, app, next, beneath, path } => loop {
                let Some(node) = next_node(&part.0, next) else { return Ok(false) };
                let (Part::Taken { tree, .. } | Part::Rest { tree }) = &part.0 else { return Ok(false) };
                tree.path(node, path);
                let full = if path.is_empty() { app.clone() } else { join(app, path) };
                let slash = path.iter().rposition(|byte| *byte == b'/');
                beneath.go_to(&path[..slash.unwrap_or(0)]).map_err(|error| LayerError::open(&full, error))?;
                let name = (!path.is_empty()).then(|| &path[slash.map_or(0, |at| at + 1)..]);
                let status = status_in(beneath.current(), name, &full)?;
                let Some(header) = header(&status, owner) else { continue };
                if tree.is_directory(node) != (header.kind == Kind::Directory) {
                    return Err(LayerError::replaced(&full));
                }
                entry.set(&full, header);
                entry.locate(&status, beneath.current(), name.unwrap_or_default(), start_of_relative(app))?;
                return Ok(true);
            },
            Body::AppLink(app) => {
                let app = std::mem::take(app);
                self.body = Body::Nothing;
                let path = Path::new(std::ffi::OsStr::from_bytes(&app));
                let status = lstat(path).map_err(|error| lstat_error(&app, error))?;
                let header = header(&status, owner).filter(|header| header.kind == Kind::Symlink);
                entry.set(&app, header.ok_or_else(|| LayerError::replaced(&app))?);
                entry.locate(&status, CWD, path, 0)?;
                Ok(true)
            }
            Body::Entries(entries) => {
                let Some(made) = entries.next() else { return Ok(false) };
                made_by_us(made, entry)?;
                Ok(true)
            }
        }
    }
}

/// Where the path relative to the root begins in the name of an entry beneath it.
fn start_of_relative(root: &[u8]) -> usize {
    root.len() + usize::from(!root.ends_with(b"/"))
}

/// Status of an entry of a directory, or (`name` is `None`) of the directory itself.
fn status_in(directory: BorrowedFd<'_>, name: Option<&[u8]>, full: &[u8]) -> Result<Stat, LayerError> {
    match name {
        Some(name) => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW),
        None => fstat(directory),
    }
    .map_err(|error| lstat_error(full, error))
}

/// An entry that is not of any directory: mode 0755, owned by root.
fn made_by_us(made: Entry, entry: &mut Planned) -> Result<(), LayerError> {
    let header = |kind, size| Header { kind, mode: 0o755, uid: 0, gid: 0, size, major: 0, minor: 0 };
    match made {
        Entry::Directory(name) => entry.set(name.as_os_str().as_bytes(), header(Kind::Directory, 0)),
        Entry::Symlink { name, target } => {
            entry.set(name.as_os_str().as_bytes(), header(Kind::Symlink, 0));
            entry.link = target.into_os_string().into_vec();
        }
        Entry::File { name, from } => {
            let from_name = from.as_os_str().as_bytes();
            let status = stat(&from).map_err(|error| LayerError::path("stat", from_name, error.into()))?;
            entry.set(name.as_os_str().as_bytes(), header(Kind::File, u64::try_from(status.st_size).unwrap_or(0)));
            entry.content = Content::Path(from.into());
        }
    }
    Ok(())
}
