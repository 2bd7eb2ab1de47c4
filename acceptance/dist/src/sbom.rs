//! What the executables are made of, in the three formats that the exporter copies into app images.
//!
//! The documents say nothing of when and where they were made, so that the same crates give the same bytes.

use serde_json::{Value, json};

/// A crate that is linked into an executable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX license expression.
    pub(crate) license: Option<String>,
}

impl Package {
    fn url(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// Reads what `cargo tree` says, one crate a line: `name v1.2.3 (more)`, a tab, the license.
pub(crate) fn read_tree(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for line in text.lines() {
        let (package, license) = line.split_once('\t').unwrap_or((line, ""));
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        packages.push(Package {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
            // Old manifests separate alternatives by a slash.
            license: Some(license.replace('/', " OR ")).filter(|license| !license.is_empty()),
        });
    }
    packages.sort();
    packages.dedup();
    packages
}

/// The name in the file's name, and the document, of each format.
pub(crate) fn documents(name: &str, version: &str, packages: &[Package]) -> [(&'static str, String); 3] {
    let text = |document: Value| format!("{document}\n");
    [
        ("cdx", text(cyclonedx(name, version, packages))),
        ("spdx", text(spdx(name, version, packages))),
        ("syft", text(syft(name, version, packages))),
    ]
}

fn cyclonedx(name: &str, version: &str, packages: &[Package]) -> Value {
    let component = |package: &Package| {
        let mut component = json!({
            "type": "library",
            "bom-ref": package.url(),
            "name": package.name,
            "version": package.version,
            "purl": package.url(),
        });
        if let Some(license) = &package.license {
            component["licenses"] = json!([{ "expression": license }]);
        }
        component
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": name, "version": version } },
        "components": packages.iter().map(component).collect::<Vec<_>>(),
    })
}

fn spdx(name: &str, version: &str, packages: &[Package]) -> Value {
    const ROOT: &str = "SPDXRef-DocumentRoot";
    // An identifier has only letters, digits, dots and dashes.
    let id =
        |package: &Package| format!("SPDXRef-Package-{}-{}", package.name, package.version).replace(['_', '+'], "-");
    let mut elements = vec![json!({
        "SPDXID": ROOT,
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "primaryPackagePurpose": "APPLICATION",
    })];
    elements.extend(packages.iter().map(|package| {
        json!({
            "SPDXID": id(package),
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "licenseDeclared": package.license.as_deref().unwrap_or("NOASSERTION"),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.url(),
            }],
        })
    }));
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": ROOT,
    })];
    relationships.extend(packages.iter().map(
        |package| json!({ "spdxElementId": ROOT, "relationshipType": "CONTAINS", "relatedSpdxElement": id(package) }),
    ));
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("urn:buildpacks:lifecycle:{name}:{version}"),
        "creationInfo": { "created": "1980-01-01T00:00:01Z", "creators": [format!("Tool: dist-{version}")] },
        "packages": elements,
        "relationships": relationships,
    })
}

fn syft(name: &str, version: &str, packages: &[Package]) -> Value {
    let artifact = |package: &Package| {
        json!({
            "id": package.url(),
            "name": package.name,
            "version": package.version,
            "type": "rust-crate",
            "foundBy": "cargo-tree",
            "locations": [],
            "licenses": package.license.iter().collect::<Vec<_>>(),
            "language": "rust",
            "cpes": [],
            "purl": package.url(),
        })
    };
    json!({
        "artifacts": packages.iter().map(artifact).collect::<Vec<_>>(),
        "artifactRelationships": [],
        "source": { "id": name, "name": name, "version": version, "type": "file", "metadata": { "path": name } },
        "distro": {},
        "descriptor": { "name": "dist", "version": version },
        "schema": { "version": "16.0.0", "url": "https://raw.githubusercontent.com/anchore/syft/main/schema/json/schema-16.0.0.json" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "exporter v1.0.0 (/somewhere/cmd/exporter)\tApache-2.0\nserde v1.0.228\tMIT OR Apache-2.0\n\
        log v0.4.29\tMIT/Apache-2.0\nring v0.17.14\t\nserde v1.0.228\tMIT OR Apache-2.0\n\n";

    #[test]
    fn a_tree_is_read() {
        let packages = read_tree(TREE);
        let lines: Vec<_> = packages.iter().map(|p| format!("{} {} {:?}", p.name, p.version, p.license)).collect();
        assert_eq!(
            lines,
            [
                "exporter 1.0.0 Some(\"Apache-2.0\")",
                "log 0.4.29 Some(\"MIT OR Apache-2.0\")",
                "ring 0.17.14 None",
                "serde 1.0.228 Some(\"MIT OR Apache-2.0\")",
            ]
        );
    }

    #[test]
    fn every_format_names_every_crate_and_no_place() {
        let packages = read_tree(TREE);
        for (format, document) in documents("lifecycle", "1.0.0", &packages) {
            let parsed: Value = serde_json::from_str(&document).expect("JSON");
            for package in &packages {
                assert!(document.contains(&package.url()), "{format}: {document}");
            }
            assert!(!document.contains("somewhere"), "{format}: {document}");
            let list = match format {
                "cdx" => &parsed["components"],
                "spdx" => &parsed["packages"],
                _ => &parsed["artifacts"],
            };
            let count = list.as_array().expect("a list").len();
            assert_eq!(count, packages.len() + usize::from(format == "spdx"), "{format}");
        }
    }
}
