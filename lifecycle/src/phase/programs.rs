//! What is done about programs for another machine in layers (`CNB_ARCH_CHECK`; target-arch.md, *The ELF guard*).

use log::warn;
use platform_spec::input::env;
use platform_spec::layer::Types;
use platform_spec::target::Platform;

use crate::layer::{Foreign, Guard, PathGlobs};
use crate::target::{ArchCheck, BuildTarget};

/// The check, where it is made.
#[derive(Clone, Debug)]
pub struct ProgramCheck {
    /// Whether what is found is an error.
    fails: bool,
    target: Platform,
    /// More than one if nobody knows which.
    build: Vec<Platform>,
    ignored: PathGlobs,
}

impl ProgramCheck {
    /// `asked` is the variable's; without it the check warns where there is a target. `run_image` is the app's machine.
    pub fn new(
        asked: Option<ArchCheck>,
        build_for: &BuildTarget,
        run_image: &Platform,
        ignored: &PathGlobs,
    ) -> Option<Self> {
        let usual = if build_for.asked().is_some() { ArchCheck::Warn } else { ArchCheck::Off };
        let fails = match asked.unwrap_or(usual) {
            ArchCheck::Off => return None,
            ArchCheck::Warn => false,
            ArchCheck::Error => true,
        };
        let mut build = vec![build_for.build().clone()];
        if build_for.is_build_assumed() {
            build.push(Platform::of_this_program());
        }
        let target = run_image.clone();
        Some(Self { fails, target, build, ignored: ignored.clone() })
    }

    /// Whether what is found is an error.
    pub fn fails(&self) -> bool {
        self.fails
    }

    /// What looks at a layer of these types: one of the app image has to be for its machine, one only for building for
    /// the machine that buildpacks run on. One that is only cached is its buildpack's own matter, which may run what is
    /// in it or copy that into the app: it may be for either.
    pub fn guard(&self, types: Types) -> Guard {
        let expected: Vec<&Platform> = match types {
            Types { launch: true, .. } => vec![&self.target],
            Types { build: true, .. } => self.build.iter().collect(),
            Types { .. } => self.build.iter().chain([&self.target]).collect(),
        };
        Guard::new(&expected, &self.ignored)
    }

    /// Tells what was found in a layer. Gives it if it is an error.
    pub fn tell(&self, layer: &str, guard: &Guard) -> Option<Foreign> {
        let foreign = guard.foreign()?;
        if self.fails {
            return Some(foreign);
        }
        warn!(
            "Layer '{layer}' should be for {}, but has programs for other machines: {foreign} ({}, {})",
            foreign.expected,
            env::ARCH_CHECK,
            env::ARCH_CHECK_IGNORE
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_log::captured;

    #[test]
    fn when_it_is_made_and_what_for() {
        let amd64: Platform = "amd64".parse().expect("known");
        let arm64: Platform = "arm64".parse().expect("known");
        for (asked, target, fails) in [
            (None, None, None),
            (None, Some("arm64"), Some(false)),
            (Some(ArchCheck::Off), Some("arm64"), None),
            (Some(ArchCheck::Warn), None, Some(false)),
            (Some(ArchCheck::Error), None, Some(true)),
            (Some(ArchCheck::Error), Some("arm64"), Some(true)),
        ] {
            let target = target.map(|target| target.parse().expect("known"));
            let build_for = BuildTarget::new(target).on(amd64.clone());
            let check = ProgramCheck::new(asked, &build_for, &arm64, &PathGlobs::default());
            assert_eq!(check.as_ref().map(ProgramCheck::fails), fails, "{asked:?}");
            let program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
            // The target is arm64, the build architecture amd64; the program is for arm64.
            for (launch, build, foreign) in
                [(true, false, false), (true, true, false), (false, true, true), (false, false, false)]
            {
                let Some(check) = &check else { continue };
                let guard = check.guard(Types { launch, build, cache: true });
                guard.look(b"/layers/a/b/bin/c", 0o755, program);
                let (found, told) = captured(|| check.tell("a:b", &guard));
                assert_eq!(found.is_some(), foreign && check.fails());
                let line = "warn: Layer 'a:b' should be for linux/amd64, but has programs for other machines: \
                     /layers/a/b/bin/c (arm64) (CNB_ARCH_CHECK, CNB_ARCH_CHECK_IGNORE)";
                assert_eq!(told, if foreign && !check.fails() { vec![line.to_owned()] } else { Vec::new() });
            }
        }
    }
}
