//! Software Bill of Materials files (buildpack.md, *Software-Bill-of-Materials*).
//!
//! ```
//! use platform_spec::sbom::SbomFormat;
//!
//! // Of a buildpack that declares it in `sbom-formats`, `<layers>/launch.sbom.cdx.json` is one.
//! let format = SbomFormat::CycloneDx;
//! assert!(format.is_declared(&["application/vnd.cyclonedx+json".to_owned()]));
//! assert!(!format.is_declared(&["application/spdx+json".to_owned()]));
//! assert_eq!(format!("launch.{}", format.file_name()), "launch.sbom.cdx.json");
//! ```

use std::fmt;

/// A format of SBOM files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SbomFormat {
    /// CycloneDX.
    CycloneDx,
    /// SPDX.
    Spdx,
    /// Syft's own.
    Syft,
}

impl SbomFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CycloneDx, Self::Spdx, Self::Syft];

    /// The media type that a buildpack declares in `sbom-formats`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::Syft => "application/vnd.syft+json",
        }
    }

    /// The name of its files in `<layers>/sbom`, and what ends their name elsewhere: `sbom.cdx.json`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "sbom.cdx.json",
            Self::Spdx => "sbom.spdx.json",
            Self::Syft => "sbom.syft.json",
        }
    }

    /// Whether a buildpack declared this format. Parameters of a media type say nothing, nor does its case.
    pub fn is_declared(self, sbom_formats: &[String]) -> bool {
        sbom_formats.iter().any(|declared| {
            let essence = declared.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case(self.media_type())
        })
    }
}

impl fmt::Display for SbomFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.media_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_with_parameters_in_any_case_and_not_by_a_prefix() {
        for (declared, expected) in [
            ("application/vnd.cyclonedx+json", true),
            ("application/vnd.cyclonedx+json;version=1.4", true),
            (" Application/vnd.CycloneDX+json ; version=1.4", true),
            ("application/vnd.cyclonedx", false),
            ("application/spdx+json", false),
            ("", false),
        ] {
            assert_eq!(SbomFormat::CycloneDx.is_declared(&[declared.to_owned()]), expected, "{declared}");
        }
        assert!(SbomFormat::Spdx.is_declared(&["nonsense".to_owned(), "application/spdx+json".to_owned()]));
        assert!(!SbomFormat::Syft.is_declared(&[]));
    }
}
