//! From root, or from the user, to stores.

use std::path::Path;

use lifecycle::cache::{Cache, CacheError, ImageCache, VolumeCache, image_at};
use lifecycle::image::{Store, StoreError};
use lifecycle::layer::Pipeline;
use lifecycle::phase::PhaseError;
use lifecycle::privilege::{PrivilegeError, become_user, ensure_owner, hide_memory};
use lifecycle::target::BuildTarget;
use lifecycle_cmd::Inputs;
use lifecycle_remote::{
    Access, AccessError, AccessInputs, acquire, open, open_registry, remove_credentials_from_own_environment,
};
use platform_spec::exit;
use platform_spec::run::Run;
use platform_spec::stack::Stack;
use platform_spec::target::Target;
use thiserror::Error;

/// Why a phase cannot reach what it needs.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Credentials.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Volumes and the user.
    #[error("chown volumes")]
    Owner(#[source] PrivilegeError),
    /// The user.
    #[error(transparent)]
    User(PrivilegeError),
    /// The cache would take the app image's name from it. The inputs alone say so only where they name the target.
    #[error("resolve inputs: the image to write ({image}) and the cache image for this target ({cache}) are the same")]
    CacheIsImage {
        /// The app image, or a further name of it.
        image: String,
        /// The cache image.
        cache: String,
    },
    /// The cache.
    #[error("create {kind} cache")]
    Cache {
        /// `volume` or `image`.
        kind: &'static str,
        /// Why.
        #[source]
        cause: CacheError,
    },
}

impl PhaseError for ConnectError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Access(_) | Self::Owner(_) | Self::User(_) | Self::Cache { .. } => exit::GENERIC,
            Self::CacheIsImage { .. } => exit::INVALID_ARGUMENTS,
        }
    }
}

/// What a phase reaches.
pub struct Connection {
    /// App and run images: a registry, or an OCI layout.
    pub images: Box<dyn Store>,
    /// Registries: cache images are never in a layout.
    pub registry: Box<dyn Store>,
}

/// Reads the credentials for all images that the phase may touch (`more` beside those that the inputs name), makes the
/// directories of `volumes` the user's, and becomes the user.
pub fn connect<'a>(
    inputs: &Inputs,
    more: Vec<String>,
    volumes: impl IntoIterator<Item = &'a Path>,
) -> Result<Connection, ConnectError> {
    log::debug!("Ensuring privileges...");
    let access = access(inputs, images(inputs, more))?;
    drop_privileges(inputs, access, volumes)
}

/// The credentials for these images.
pub(crate) fn access(inputs: &Inputs, images: Vec<String>) -> Result<Access, AccessError> {
    acquire(&AccessInputs {
        images,
        insecure_registries: inputs.insecure_registries.clone(),
        layout_dir: inputs.layout.clone(),
    })
}

/// Makes the directories of `volumes` the user's, and becomes the user.
pub(crate) fn drop_privileges<'a>(
    inputs: &Inputs,
    access: Access,
    volumes: impl IntoIterator<Item = &'a Path>,
) -> Result<Connection, ConnectError> {
    // Not needed any more, and nobody's business: this process may start buildpacks.
    remove_credentials_from_own_environment();
    ensure_owner(inputs.user, volumes).map_err(ConnectError::Owner)?;
    become_user(inputs.user).map_err(ConnectError::User)?;
    hide_memory().map_err(ConnectError::User)?;
    log::debug!("Executing command...");
    Ok(Connection { images: open(&access), registry: open_registry(&access) })
}

/// Every image that the phase may touch: whom a credential helper is asked for.
fn images(inputs: &Inputs, mut images: Vec<String>) -> Vec<String> {
    let named = [&inputs.previous_image, &inputs.run_image, &inputs.build_image, &inputs.cache_image];
    images.extend(named.into_iter().flatten().cloned());
    images.push(inputs.image.clone());
    images.extend(inputs.tags.iter().cloned());
    if inputs.run_image.is_none() {
        // Broken files are reported where they are needed.
        let run: Option<Run> = lifecycle::file::load(&inputs.run).ok();
        let stack: Option<Stack> = lifecycle::file::load(&inputs.stack).ok();
        let known = run.into_iter().flat_map(|run| run.images).chain(stack.map(|stack| stack.run_image));
        for image in known {
            images.push(image.image);
            images.extend(image.mirrors);
        }
    }
    images.retain(|image| !image.is_empty());
    images
}

/// Opens the cache that the platform chose: an image goes before a directory. None is fine. `target` is the run image's;
/// with a target that was asked for, the cache is in a place of its own ([`BuildTarget::cache_place`]).
pub fn cache<'a>(
    inputs: &Inputs,
    connection: &'a Connection,
    target: &Target,
    build_for: &BuildTarget,
) -> Result<Option<Cache<'a>>, ConnectError> {
    let place = build_for.cache_place();
    if let Some(name) = &inputs.cache_image {
        let delete = !inputs.api.keeps_replaced_cache_image();
        let error = |cause| ConnectError::Cache { kind: "image", cause };
        let placed = place.map_or_else(|| Ok(name.clone()), |place| image_at(name, &place));
        let name = placed.map_err(|reason| {
            error(CacheError::Store { name: name.clone(), cause: StoreError::Name { name: name.clone(), reason } })
        })?;
        if let Some(image) = inputs.image_named(&name) {
            return Err(ConnectError::CacheIsImage { image: image.to_owned(), cache: name });
        }
        let cache = ImageCache::open(connection.registry.as_ref(), &name, target, delete).map_err(error)?;
        return Ok(Some(Cache::Image(Box::new(cache))));
    }
    let Some(dir) = &inputs.cache_dir else { return Ok(None) };
    let cache = match place {
        None => VolumeCache::open(dir),
        Some(place) => VolumeCache::open_place(dir, &place),
    };
    Ok(Some(Cache::Volume(cache.map_err(|cause| ConnectError::Cache { kind: "volume", cause })?)))
}

/// A pipeline. It spools to files without a name in `TMPDIR`.
pub fn pipeline() -> Pipeline {
    Pipeline::new(&std::env::temp_dir())
}
