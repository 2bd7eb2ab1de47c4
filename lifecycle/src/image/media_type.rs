//! Media types of manifests, configs and layers, in Docker's words and in OCI's.

use oci_spec::image::MediaType;

const MANIFEST: MediaType = MediaType::ImageManifest;
const INDEX: MediaType = MediaType::ImageIndex;
const CONFIG: MediaType = MediaType::ImageConfig;
const LAYER: MediaType = MediaType::ImageLayerGzip;

/// Docker's names (image manifest version 2, schema 2). The library that has OCI's knows them only as a fallible conversion.
mod docker {
    pub(super) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(super) const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(super) const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub(super) const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// Whose words a manifest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Docker image manifest version 2, schema 2.
    Docker,
    /// OCI image specification.
    Oci,
}

macro_rules! media_types {
    ($($(#[$doc:meta])+ $name:ident: $constant:ident;)+) => {
        impl Format {
            $($(#[$doc])+
            pub fn $name(self) -> &'static str {
                static OCI: MediaType = $constant;
                match self {
                    Self::Docker => docker::$constant,
                    Self::Oci => OCI.as_ref(),
                }
            })+
        }
    };
}

media_types! {
    /// Of an image manifest.
    manifest: MANIFEST;
    /// Of an image index (Docker: manifest list).
    index: INDEX;
    /// Of an image config.
    config: CONFIG;
    /// Of a layer that is a tar compressed with gzip.
    layer: LAYER;
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Oci];

    /// The format whose image manifest has this media type.
    pub fn of_manifest(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.manifest() == media_type)
    }

    /// The format whose index has this media type.
    pub fn of_index(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.index() == media_type)
    }

    /// A layer's media type in this format's words: the two names of a gzip-compressed tar mean the same bytes;
    /// any other type stays what it is.
    pub fn translate_layer(self, media_type: &str) -> &str {
        if Self::ALL.iter().any(|format| format.layer() == media_type) { self.layer() } else { media_type }
    }
}

/// What an image manifest or an index may be: the `Accept` header of a registry request.
pub fn acceptable() -> [&'static str; 4] {
    [Format::Docker.manifest(), Format::Docker.index(), Format::Oci.manifest(), Format::Oci.index()]
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ToDockerV2S2;

    use super::*;

    #[test]
    fn dockers_names_are_those_of_the_library() {
        for (ours, theirs) in
            [(docker::MANIFEST, MANIFEST), (docker::INDEX, INDEX), (docker::CONFIG, CONFIG), (docker::LAYER, LAYER)]
        {
            assert_eq!(theirs.to_docker_v2s2(), Ok(ours));
        }
    }

    #[test]
    fn formats_know_their_names() {
        for format in Format::ALL {
            assert_eq!(Format::of_manifest(format.manifest()), Some(format));
            assert_eq!(Format::of_index(format.index()), Some(format));
            assert_eq!(format.translate_layer(Format::Docker.layer()), format.layer());
            assert_eq!(format.translate_layer(Format::Oci.layer()), format.layer());
            assert_eq!(format.translate_layer("application/x"), "application/x");
        }
        assert_eq!(Format::of_manifest(Format::Oci.index()), None);
        assert_eq!(Format::of_index("text/plain"), None);
    }
}
