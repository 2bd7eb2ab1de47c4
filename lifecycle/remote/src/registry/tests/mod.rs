//! The client against a registry that fails in every way that registries do.

mod auth;
mod fake;
mod index;
mod pull;
mod push;
mod reach;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::digest::Digest;
use lifecycle::image::{Draft, Image, Layer, StoreError};
use lifecycle::layer::Spool;
use platform_spec::target::Target as Platform;

use super::{Patience, Registries, RegistryStore};
use crate::credentials::Keychain;
use crate::proxy::Proxies;
use crate::tls::Roots;
use crate::transport::{Timeouts, Transport};

/// A store that is patient with the machine, with these variables.
fn store_with(variables: &[(&str, &str)], insecure: &[&str]) -> RegistryStore {
    store_that_waits(Duration::from_secs(20), variables, insecure)
}

/// One that soon gives up a registry that is silent, for tests in which one is.
fn impatient() -> RegistryStore {
    store_that_waits(Duration::from_millis(250), &[], &[])
}

fn store_that_waits(silence: Duration, variables: &[(&str, &str)], insecure: &[&str]) -> RegistryStore {
    let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let timeouts = Timeouts {
        connect: Duration::from_secs(20),
        idle: silence,
        commit: silence,
        total: 20 * silence,
        blob: 20 * silence,
        expect: Duration::from_millis(200),
        ..Timeouts::default()
    };
    let patience = Patience {
        first_delay: Duration::from_millis(2),
        longest_delay: Duration::from_millis(300),
        ..Patience::default()
    };
    let transport = Transport::new(timeouts, Proxies::from_variables(get), Roots::from_variables(get));
    let keychain = Keychain::read(&get, &[]).expect("credentials");
    let insecure = insecure.iter().map(|prefix| (*prefix).to_owned()).collect();
    RegistryStore(Arc::new(Registries::new(transport, keychain, insecure, patience)))
}

fn store() -> RegistryStore {
    store_with(&[], &[])
}

fn platform(arch: &str) -> Platform {
    Platform { os: "linux".to_owned(), arch: arch.to_owned(), ..Platform::default() }
}

/// A layer in a temporary file.
fn layer(dir: &Path, content: &[u8]) -> Layer {
    let digest = Digest::of(content);
    let path = dir.join(digest.hex());
    std::fs::write(&path, content).expect("a file");
    Layer::packed(
        Digest::of(&[content, b"tar"].concat()),
        Arc::new(Spool::new(std::fs::File::open(path).expect("opened"), digest, content.len() as u64)),
    )
}

fn image(layers: &[Layer]) -> Image {
    let add = |draft: Draft, layer: &Layer| draft.with_layer(layer.clone(), "a test");
    layers.iter().fold(Draft::empty("linux", "amd64", ""), add).finish().expect("an image")
}

/// Bytes that are not the same everywhere.
fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap_or(0)).collect()
}

fn chain(error: &StoreError) -> String {
    lifecycle_launch::console::chain(error)
}
