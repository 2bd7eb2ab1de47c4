//! What a buildpack's executables find in their environment (buildpack.md, *Environment*).

use std::ffi::OsString;

use platform_spec::api::BuildpackApi;
use platform_spec::target::Target;

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
