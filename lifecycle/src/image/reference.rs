//! Names of images in registries.
//!
//! The grammar is the one that container tools share: what is missing is filled in (`ubuntu` is
//! `index.docker.io/library/ubuntu:latest`), what is there is checked for length and characters.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::Digest;

/// The registry of a name that states none, and what `docker.io` means.
pub const DEFAULT_REGISTRY: &str = "index.docker.io";

/// The tag of a name that states neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// An image reference, normalised: `ubuntu` is `index.docker.io/library/ubuntu:latest`.
///
/// With a tag and a digest the digest says which image is meant; the tag is only a note.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and port: `index.docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/ubuntu`.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

/// Text that is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("could not parse reference: {text}: {reason}")]
pub struct ParseReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parts(text).map_err(|reason| ParseReferenceError { text: text.to_owned(), reason })
    }

    fn parts(text: &str) -> Result<Self, &'static str> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| "the part after the '@' is not a sha256 digest")?))
            }
        };
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(check_tag(tag)?.to_owned())),
            Some(_) | None => (name, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (Some(first), rest),
            Some(_) | None => (None, name),
        };
        check_repository(path)?;
        let registry = match registry {
            None | Some("docker.io") => DEFAULT_REGISTRY,
            Some(registry) => check_registry(registry)?,
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// `<registry>/<repository>`.
    pub fn repository_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What distinguishes the image inside its repository: the digest if there is one, else the tag.
    /// This is the last part of a registry's `/v2/<repository>/manifests/…`.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The full name: `<registry>/<repository>@<digest>` or `<registry>/<repository>:<tag>`.
    pub fn name(&self) -> String {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        format!("{}{separator}{}", self.repository_name(), self.identifier())
    }

    /// The short name that people type: without Docker Hub's host, `library/` and the tag `latest`.
    pub fn familiar(&self) -> String {
        let repository = match self.registry.as_str() {
            DEFAULT_REGISTRY => match self.repository.strip_prefix("library/") {
                Some(name) if !name.contains('/') => name.to_owned(),
                Some(_) | None => self.repository.clone(),
            },
            _ => self.repository_name(),
        };
        match (&self.digest, self.tag.as_deref()) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(DEFAULT_TAG) | None) => repository,
            (None, Some(tag)) => format!("{repository}:{tag}"),
        }
    }

    /// The image of this tag in the same repository.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseReferenceError> {
        let tag = check_tag(tag).map_err(|reason| ParseReferenceError { text: tag.to_owned(), reason })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The image of this digest in the same repository.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

/// Whether two names mean the same image of a list such as `run.toml`, whichever version of it: names are
/// normalised and digests left out. Text that is no name is equal only to itself.
pub fn same_image(a: &str, b: &str) -> bool {
    fn normalised(name: &str) -> String {
        let without_digest = match name.split_once('@') {
            Some((before, after)) if after.starts_with("sha256:") => before,
            Some(_) | None => name,
        };
        match Reference::parse(without_digest) {
            Ok(reference) => reference.name(),
            Err(_) => name.to_owned(),
        }
    }
    normalised(a) == normalised(b)
}

fn check_tag(tag: &str) -> Result<&str, &'static str> {
    match tag {
        "" => Err("there is no tag after the colon"),
        _ if tag.len() > 128 => Err("a tag has at most 128 characters"),
        _ if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) => {
            Err("a tag has only letters, digits and the characters '_', '-' and '.'")
        }
        _ => Ok(tag),
    }
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if !(2..=255).contains(&path.chars().count()) {
        return Err("a repository has between 2 and 255 characters");
    }
    if !path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-./".contains(&b)) {
        return Err("a repository has only lower-case letters, digits and the characters '_', '-', '.' and '/'");
    }
    // No registry has such a repository, and in a URL or a layout's path it would mean another place.
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a part of the repository between slashes is empty, '.' or '..'");
    }
    Ok(())
}

fn check_registry(registry: &str) -> Result<&str, &'static str> {
    let port = |rest: &str| match rest.strip_prefix(':') {
        None => rest.is_empty(),
        Some(port) => port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()),
    };
    let valid = if let Some(rest) = registry.strip_prefix('[') {
        rest.split_once(']').is_some_and(|(host, rest)| host.parse::<std::net::Ipv6Addr>().is_ok() && port(rest))
    } else {
        let (host, rest) = registry.split_at(registry.find(':').unwrap_or(registry.len()));
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        // `..` would be a step up in a layout's path.
        !host.trim_matches('.').is_empty() && host.bytes().all(known) && port(rest)
    };
    if valid { Ok(registry) } else { Err("the registry is not a host name or address with or without a port") }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// As [`Reference::name`], with the tag before the digest if both are known.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_missing_is_filled_in() {
        let digest = format!("@sha256:{HEX}");
        for (text, name, familiar) in [
            ("ubuntu", "index.docker.io/library/ubuntu:latest", "ubuntu"),
            ("ubuntu:22.04", "index.docker.io/library/ubuntu:22.04", "ubuntu:22.04"),
            ("docker.io/ubuntu", "index.docker.io/library/ubuntu:latest", "ubuntu"),
            ("index.docker.io/ubuntu", "index.docker.io/library/ubuntu:latest", "ubuntu"),
            ("index.docker.io/library/ubuntu", "index.docker.io/library/ubuntu:latest", "ubuntu"),
            ("me/app", "index.docker.io/me/app:latest", "me/app"),
            ("library/a/b", "index.docker.io/library/a/b:latest", "library/a/b"),
            ("localhost/app", "localhost/app:latest", "localhost/app"),
            ("localhost:5000", "index.docker.io/library/localhost:5000", "localhost:5000"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app"),
            ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
            ("gcr.io/p/app:V_1.0-x", "gcr.io/p/app:V_1.0-x", "gcr.io/p/app:V_1.0-x"),
            ("10.0.0.1/app", "10.0.0.1/app:latest", "10.0.0.1/app"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app"),
            ("[::1]/app", "[::1]/app:latest", "[::1]/app"),
            ("REG.io/app", "REG.io/app:latest", "REG.io/app"),
            (
                &format!("ubuntu{digest}"),
                &format!("index.docker.io/library/ubuntu{digest}"),
                &format!("ubuntu{digest}"),
            ),
            (
                &format!("ubuntu:1{digest}"),
                &format!("index.docker.io/library/ubuntu{digest}"),
                &format!("ubuntu{digest}"),
            ),
            (&format!("r.io:1/ab{digest}"), &format!("r.io:1/ab{digest}"), &format!("r.io:1/ab{digest}")),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((reference.name().as_str(), reference.familiar().as_str()), (name, familiar), "{text}");
            assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()), "{text} and back");
        }
    }

    #[test]
    fn parts() {
        let reference = Reference::parse("localhost:5000/a/b:v1").expect("valid");
        assert_eq!(reference.registry, "localhost:5000");
        assert_eq!(reference.repository, "a/b");
        assert_eq!(reference.tag.as_deref(), Some("v1"));
        assert_eq!(reference.repository_name(), "localhost:5000/a/b");
        assert_eq!(reference.identifier(), "v1");
        let digest = Digest::of(b"");
        assert_eq!(reference.with_digest(digest).name(), format!("localhost:5000/a/b@sha256:{HEX}"));
        assert_eq!(
            reference.with_digest(digest).with_tag("x").map(|r| r.name()),
            Ok("localhost:5000/a/b:x".to_owned())
        );
        assert!(reference.with_tag("a/b").is_err());
    }

    #[test]
    fn refuses_other_text() {
        let long = |n: usize| "a".repeat(n);
        for text in [
            "",
            "a",
            ":",
            "a b",
            "Ubuntu",
            "reg.io/App",
            "ubuntu:",
            "ubuntu:a b",
            "ubuntu:ä",
            "ubuntü",
            "ubuntu@",
            "ubuntu@sha256:",
            "ubuntu@sha256:abc",
            "ubuntu@sha512:abc",
            &format!("ubuntu@sha256:{}", HEX.to_uppercase()),
            &format!("ubuntu@sha256:{HEX}@sha256:{HEX}"),
            &format!("ubuntu:{}", long(129)),
            &long(256),
            "reg.io/",
            "reg.io//app",
            "reg.io/../app",
            "reg.io/a/..",
            "../../etc",
            "./app",
            "reg io/app",
            "http://reg.io/app",
            "reg.io:port/app",
            "reg.io:99999/app",
            "reg.io:+1/app",
            "user@reg.io/app",
            "a.b\n/app",
            "..:80/app",
            "[::1/app",
            "[zz]:1/app",
            "!@#$",
        ] {
            let error = Reference::parse(text).expect_err(text);
            assert!(error.to_string().starts_with(&format!("could not parse reference: {text}: ")), "{error}");
        }
        assert!(Reference::parse(&long(255)).is_ok());
        assert!(Reference::parse(&format!("ubuntu:{}", long(128))).is_ok());
    }

    #[test]
    fn the_same_image_by_other_names() {
        let digest = format!("@sha256:{HEX}");
        for (a, b, same) in [
            ("ubuntu", "index.docker.io/library/ubuntu:latest", true),
            ("ubuntu", "docker.io/ubuntu", true),
            ("ubuntu:1", "ubuntu", false),
            (&format!("ubuntu{digest}"), "ubuntu:latest", true),
            (&format!("ubuntu:1{digest}"), "ubuntu:1", true),
            (&format!("ubuntu:1{digest}"), "ubuntu", false),
            ("some.registry/repo:tag", "some.registry/repo:tag", true),
            ("some.registry/repo:tag", "other.registry/repo:tag", false),
            ("!@#$", "!@#$", true),
            ("!@#$", "ubuntu", false),
            ("", "", true),
        ] {
            assert_eq!(same_image(a, b), same, "{a:?} and {b:?}");
        }
    }
}
