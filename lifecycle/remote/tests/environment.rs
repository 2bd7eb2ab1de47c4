//! What depends on this process's own environment, and so needs a process of its own with one thread.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::Registry;
use lifecycle::image::StoreError;
use lifecycle_remote::{AccessInputs, acquire, open, remove_credentials_from_own_environment};

fn set(name: &str, value: &str) {
    // SAFETY: this process has one thread, except while a registry is spoken to, which is never at the same time.
    unsafe { std::env::set_var(name, value) };
}

fn main() {
    let registry = Registry::start(true, None);
    let name = format!("{}/app", registry.address);
    let dir = tempfile::tempdir().expect("a directory");
    let helper = dir.path().join("docker-credential-test");
    let (user, password) = common::USER;
    let script = format!("#!/bin/sh\nread -r a || true\necho \"$a\" >>\"{}\"\n", dir.path().join("asked").display());
    let answer = format!(r#"echo '{{"Username":"{user}","Secret":"{password}"}}'"#);
    std::fs::write(&helper, format!("{script}{answer}\n")).expect("a script");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let config = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address);
    std::fs::write(dir.path().join("config.json"), config).expect("a file");
    let path = std::env::var("PATH").unwrap_or_default();
    set("PATH", &format!("{}:{path}", dir.path().display()));
    set("DOCKER_CONFIG", dir.path().to_str().expect("text"));

    // A helper is asked when access is acquired, for the registries of the images named then; never later.
    let known = acquire(&AccessInputs { images: vec![name.clone()], ..AccessInputs::default() }).expect("access");
    assert_eq!(std::fs::read_dir("/proc/self/task").map(Iterator::count).ok(), Some(1), "no thread is left");
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap_or_default();
    assert_eq!(asked().trim_end(), registry.address);
    open(&known).check_write(&name).expect("the helper's password is right");
    let unknown = acquire(&AccessInputs::default()).expect("access");
    let error = open(&unknown).check_write(&name).expect_err("nobody was asked");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    assert_eq!(asked().lines().count(), 1);
    set("CNB_REGISTRY_AUTH", &format!(r#"{{"{}": "{}"}}"#, registry.address, common::BASIC));
    let variable = acquire(&AccessInputs::default()).expect("access");

    // Not while there are threads.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || wait.recv());
        assert!(!remove_credentials_from_own_environment());
        assert!(std::env::var_os("CNB_REGISTRY_AUTH").is_some());
        drop(release);
    });
    assert!(remove_credentials_from_own_environment());
    for name in ["CNB_REGISTRY_AUTH", "DOCKER_CONFIG"] {
        assert!(std::env::var_os(name).is_none(), "{name}");
    }
    assert!(std::env::var_os("PATH").is_some());
    // What was acquired is still known.
    for access in [known, variable] {
        open(&access).check_write(&name).expect("written");
    }
}
