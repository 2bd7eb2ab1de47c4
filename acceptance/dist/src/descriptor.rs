//! `lifecycle.toml`: the version, and the APIs that the lifecycle speaks, from the one list of them.

use platform_spec::api::{BUILDPACK, PLATFORM, Version};

/// The text of `lifecycle.toml`. Lists ascend, and nothing is deprecated: platforms read only `supported`, and some walk
/// both lists side by side. `[api]` is for platforms that know nothing newer.
pub(crate) fn text(version: &str) -> String {
    let oldest = |list: &[Version]| list.first().map(Version::to_string).unwrap_or_default();
    format!(
        "[apis]\n[apis.buildpack]\n  deprecated = []\n  supported = {}\n[apis.platform]\n  deprecated = []\n  supported = {}\n\n\
         [api]\n  platform = \"{}\"\n  buildpack = \"{}\"\n\n[lifecycle]\n  version = \"{version}\"\n  sbom-formats = {}\n",
        list(BUILDPACK),
        list(PLATFORM),
        oldest(PLATFORM),
        oldest(BUILDPACK),
        r#"["application/vnd.cyclonedx+json", "application/spdx+json", "application/vnd.syft+json"]"#,
    )
}

fn list(versions: &[Version]) -> String {
    let quoted: Vec<_> = versions.iter().map(|version| format!("\"{version}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_platforms_look_for() {
        let parsed: toml::Table = toml::from_str(&text(crate::VERSION)).expect("TOML");
        let strings = |value: &toml::Value| -> Vec<String> {
            value.as_array().expect("a list").iter().map(|item| item.as_str().expect("text").to_owned()).collect()
        };
        let platform = strings(&parsed["apis"]["platform"]["supported"]);
        assert_eq!(platform, ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"]);
        let buildpack = strings(&parsed["apis"]["buildpack"]["supported"]);
        assert_eq!(buildpack, ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"]);
        assert!(strings(&parsed["apis"]["platform"]["deprecated"]).is_empty());
        assert_eq!(parsed["api"]["platform"].as_str(), Some("0.7"));
        assert_eq!(strings(&parsed["lifecycle"]["sbom-formats"]).len(), 3);

        let version = parsed["lifecycle"]["version"].as_str().expect("text");
        let numbers: Vec<u64> = version.split('.').map(|part| part.parse().expect("digits only")).collect();
        assert_eq!(numbers.len(), 3, "{version}");
        assert!(numbers >= vec![0, 19, 0], "{version}: platforms take older ones for ones without abilities");
    }
}
