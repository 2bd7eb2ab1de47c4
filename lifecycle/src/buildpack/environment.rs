//! What a buildpack's executables find in their environment (buildpack.md, *Environment*).
//!
//! Three steps, of which the builder repeats the last two: what they [inherit] from the lifecycle, what the layers of
//! earlier buildpacks do to it ([`Env::add_root_dirs`], [`Env::add_layer_env`]), and for each buildpack what the user and
//! the operator set ([`build_environment`]). Variables of the specification itself are set last by each phase.

use std::ffi::OsString;
use std::path::Path;

use lifecycle_launch::env::{Env, EnvError, is_list_variable};
use platform_spec::api::BuildpackApi;
use platform_spec::target::Target;

/// Variables that executables inherit beside the list variables such as `PATH`. Nothing else of the lifecycle's own
/// environment reaches them: it may hold credentials.
const INHERITED: &[&str] = &[
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// What executables inherit of the lifecycle's own environment.
pub fn inherit(own: &Env) -> Env {
    let inherited =
        own.iter().filter(|(name, _)| is_list_variable(name) || INHERITED.iter().any(|known| name == known));
    Env::from_vars(inherited.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

/// The environment of one module: `base` is what it [inherit]s and what layers did to it; then `<platform>/env` unless
/// the module wants a clear environment, then `<build-config>/env` in any case (platform.md, *User-Provided Variables*,
/// *Operator-Defined Variables*). Directories that are not there are fine; a file that cannot be read is an error.
pub fn build_environment(
    base: &Env,
    platform_dir: &Path,
    build_config_dir: &Path,
    clear_env: bool,
) -> Result<Env, EnvError> {
    let mut env = base.clone();
    if !clear_env {
        env.add_platform_env(&platform_dir.join("env"))?;
    }
    env.add_build_config_env(&build_config_dir.join("env"))?;
    Ok(env)
}

/// The variables that describe the target to a module of this API (buildpack.md, *Targets*): the operating system and
/// the architecture always, the rest if it is known. Empty before the API that has them.
pub fn target_variables(api: BuildpackApi, target: &Target) -> Vec<(OsString, OsString)> {
    if !api.has_target_variables() {
        return Vec::new();
    }
    let distro = target.distro.clone().unwrap_or_default();
    let optional = [
        ("CNB_TARGET_ARCH_VARIANT", target.variant.clone()),
        ("CNB_TARGET_DISTRO_NAME", distro.name),
        ("CNB_TARGET_DISTRO_VERSION", distro.version),
    ];
    let always = [("CNB_TARGET_OS", target.os.clone()), ("CNB_TARGET_ARCH", target.arch.clone())];
    let known = optional.into_iter().filter(|(_, value)| !value.is_empty());
    always.into_iter().chain(known).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Env {
        Env::from_vars(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn shown(env: &Env) -> Vec<String> {
        env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    }

    #[test]
    fn only_what_is_listed_is_inherited() {
        let own = vars(&[
            ("CNB_REGISTRY_AUTH", "{}"),
            ("PATH", "/bin"),
            ("CNB_STACK_ID", "s"),
            ("HOME", "/home/x"),
            ("DOCKER_CONFIG", "/secret"),
            ("no_proxy", "a=b"),
            ("No_Proxy", "x"),
            ("CPATH", ""),
            ("LD_PRELOAD", "x"),
            ("CNB_EXEC_ENV", "test"),
        ]);
        assert_eq!(shown(&inherit(&own)), ["PATH=/bin", "CNB_STACK_ID=s", "HOME=/home/x", "no_proxy=a=b", "CPATH="]);
    }

    #[test]
    fn users_and_operators_add_to_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (platform, config) = (dir.path().join("platform"), dir.path().join("config"));
        // As Kubernetes mounts a volume: files are links through `..data`.
        fs::create_dir_all(platform.join("env/..2024")).expect("made");
        symlink("..2024", platform.join("env/..data")).expect("linked");
        for (name, value) in [("PATH", "/user/bin"), ("BP_X.append", "raw\n"), ("SHARED", "user")] {
            fs::write(platform.join("env/..2024").join(name), value).expect("written");
            symlink(Path::new("..data").join(name), platform.join("env").join(name)).expect("linked");
        }
        fs::create_dir_all(config.join("env")).expect("made");
        for (name, value) in [("SHARED", "operator"), ("PATH.append", "/op/bin"), ("PATH.delim", ":"), ("NEW", "n")] {
            fs::write(config.join("env").join(name), value).expect("written");
        }
        let base = vars(&[("PATH", "/bin"), ("HOME", "/h")]);
        let cases: [(bool, bool, &[&str]); 3] = [
            (false, true, &["PATH=/user/bin:/bin:/op/bin", "HOME=/h", "BP_X.append=raw\n", "SHARED=user", "NEW=n"]),
            (true, true, &["PATH=/bin:/op/bin", "HOME=/h", "NEW=n", "SHARED=operator"]),
            (false, false, &["PATH=/user/bin:/bin", "HOME=/h", "BP_X.append=raw\n", "SHARED=user"]),
        ];
        for (clear_env, configured, expected) in cases {
            let config = if configured { config.as_path() } else { Path::new("/none") };
            let env = build_environment(&base, &platform, config, clear_env).expect("read");
            assert_eq!(shown(&env), expected, "clear-env {clear_env}, build config {configured}");
        }
    }

    #[test]
    fn a_dangling_link_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("env")).expect("made");
        symlink("nowhere", dir.path().join("env/VAR")).expect("linked");
        let error = build_environment(&Env::default(), dir.path(), Path::new("/none"), false)
            .expect_err("nothing to read")
            .to_string();
        assert!(error.contains(&dir.path().join("env/VAR").display().to_string()), "{error}");
        build_environment(&Env::default(), dir.path(), Path::new("/none"), true).expect("not looked at");
    }

    #[test]
    fn the_target_is_told_from_0_10_on() {
        let target: Target =
            toml::from_str("os = 'linux'\narch = 'arm64'\n[distro]\nname = 'ubuntu'").expect("a target");
        let variables = |api| {
            let api = BuildpackApi::parse(api, "").expect("supported");
            shown(&Env::from_vars(target_variables(api, &target)))
        };
        assert_eq!(variables("0.9"), [""; 0]);
        assert_eq!(
            variables("0.10"),
            ["CNB_TARGET_OS=linux", "CNB_TARGET_ARCH=arm64", "CNB_TARGET_DISTRO_NAME=ubuntu"]
        );
    }
}
