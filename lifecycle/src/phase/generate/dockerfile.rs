//! What an extension's Dockerfiles may say, and what they say of the base image (image_extension.md, *Dockerfile
//! Requirements*).

use parse_dockerfile::{Dockerfile, Instruction, parse};
use thiserror::Error;

/// How a Dockerfile names the base image that the lifecycle gives it.
const BASE: [&str; 2] = ["${base_image}", "$base_image"];

/// A larger one is not looked at, in bytes: the parser keeps it all in memory.
pub(super) const LARGEST: usize = 4 << 20;

/// What a `run.Dockerfile` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunDockerfile {
    /// The image that takes the place of the run image, if it names one.
    pub(super) base: Option<String>,
    /// Whether it has instructions beside `FROM`, which the extender would apply.
    pub(super) extends: bool,
}

/// Why a Dockerfile is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DockerfileError {
    /// It is no Dockerfile.
    #[error("{0}")]
    Parse(String),
    /// It is too large.
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    TooLarge,
    /// It has more than one `FROM`.
    #[error("{0} is not permitted to use multistage build")]
    MultiStage(&'static str),
    /// A `build.Dockerfile` that does not begin with `ARG base_image`.
    #[error("build.Dockerfile did not start with required ARG command")]
    NoArg,
    /// A `build.Dockerfile` that builds on something else.
    #[error("build.Dockerfile did not contain required FROM ${{base_image}} command")]
    NoBase,
    /// A `run.Dockerfile` whose base image is not known before it is applied.
    #[error("run.Dockerfile names its base image by a variable other than base_image: {0:?}")]
    VariableBase(String),
}

/// Checks a `build.Dockerfile`.
pub(super) fn check_build(content: &[u8]) -> Result<(), DockerfileError> {
    const NAME: &str = "build.Dockerfile";
    let text = text(content)?;
    let dockerfile = parsed(NAME, text)?;
    warn_of_others(NAME, text, &dockerfile);
    let mut arguments = dockerfile.global_args().map(|arg| arg.arguments.value.as_ref());
    let (Some(argument), None) = (arguments.next(), arguments.next()) else { return Err(DockerfileError::NoArg) };
    let name = argument.split(|c: char| c == '=' || c.is_whitespace()).next();
    if name != Some("base_image") {
        return Err(DockerfileError::NoArg);
    }
    // Here the specification wants the very words.
    let [base, _] = BASE;
    if dockerfile.stages().next().is_none_or(|stage| stage.from.image.value != base) {
        return Err(DockerfileError::NoBase);
    }
    Ok(())
}

/// Checks a `run.Dockerfile`, and says what it does.
pub(super) fn check_run(content: &[u8]) -> Result<RunDockerfile, DockerfileError> {
    const NAME: &str = "run.Dockerfile";
    let text = text(content)?;
    let dockerfile = parsed(NAME, text)?;
    warn_of_others(NAME, text, &dockerfile);
    let stage = dockerfile.stages().next();
    let base =
        stage.as_ref().map(|stage| stage.from.image.value.to_string()).filter(|base| !BASE.contains(&base.as_str()));
    match base {
        Some(base) if base.contains('$') => Err(DockerfileError::VariableBase(base)),
        base => Ok(RunDockerfile { base, extends: stage.is_some_and(|stage| !stage.instructions.is_empty()) }),
    }
}

fn text(content: &[u8]) -> Result<&str, DockerfileError> {
    if content.len() > LARGEST {
        return Err(DockerfileError::TooLarge);
    }
    std::str::from_utf8(content).map_err(|error| DockerfileError::Parse(error.to_string()))
}

fn parsed<'a>(name: &'static str, text: &'a str) -> Result<Dockerfile<'a>, DockerfileError> {
    let dockerfile = parse(text).map_err(|error| DockerfileError::Parse(error.to_string()))?;
    if dockerfile.stages().len() > 1 { Err(DockerfileError::MultiStage(name)) } else { Ok(dockerfile) }
}

/// Warns of instructions that the specification would rather not see.
fn warn_of_others(name: &str, text: &str, dockerfile: &Dockerfile) {
    for (instruction, at) in dockerfile.instructions.iter().filter_map(not_recommended) {
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        log::warn!("{name} command {instruction} on line {line} is not recommended");
    }
}

/// The instruction's name and where it is, if it is one of those.
fn not_recommended(instruction: &Instruction) -> Option<(&'static str, usize)> {
    Some(match instruction {
        Instruction::Cmd(found) => ("CMD", found.cmd.span.start),
        Instruction::Entrypoint(found) => ("ENTRYPOINT", found.entrypoint.span.start),
        Instruction::Expose(found) => ("EXPOSE", found.expose.span.start),
        Instruction::Healthcheck(found) => ("HEALTHCHECK", found.healthcheck.span.start),
        Instruction::Maintainer(found) => ("MAINTAINER", found.maintainer.span.start),
        Instruction::Onbuild(found) => ("ONBUILD", found.onbuild.span.start),
        Instruction::Stopsignal(found) => ("STOPSIGNAL", found.stopsignal.span.start),
        Instruction::Volume(found) => ("VOLUME", found.volume.span.start),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_dockerfile_does() {
        let does = |base: Option<&str>, extends| Ok(RunDockerfile { base: base.map(str::to_owned), extends });
        let cases: &[(&str, Result<RunDockerfile, DockerfileError>)] = &[
            ("FROM some/image:1", does(Some("some/image:1"), false)),
            ("# comment\n\nfrom some/image", does(Some("some/image"), false)),
            ("FROM --platform=linux/amd64 image@sha256:abc AS x\n", does(Some("image@sha256:abc"), false)),
            ("ARG base_image\nFROM ${base_image}", does(None, false)),
            ("ARG base_image=other\nFROM $base_image\nRUN true", does(None, true)),
            ("ARG base_image\nFROM ${base_image}\nRUN <<EOF\nFROM x\nEOF\n", does(None, true)),
            ("FROM other\r\nUSER root\r\nENV a=b \\\r\n  c=d\r\n", does(Some("other"), true)),
            ("FROM other\nEXPOSE 80", does(Some("other"), true)),
            ("FROM a\nFROM b", Err(DockerfileError::MultiStage("run.Dockerfile"))),
            ("ARG v=1\nFROM a:${v}", Err(DockerfileError::VariableBase("a:${v}".to_owned()))),
        ];
        for (text, expected) in cases {
            assert_eq!(&check_run(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_a_build_dockerfile_must_begin_with() {
        let start = "ARG base_image\nFROM ${base_image}\n";
        let cases: &[(&str, Result<(), DockerfileError>)] = &[
            (start, Ok(())),
            ("# syntax=docker/dockerfile:1\nARG base_image=x\nFROM ${base_image}\nRUN true\nCMD x", Ok(())),
            ("FROM ${base_image}", Err(DockerfileError::NoArg)),
            ("ARG other\nFROM ${base_image}", Err(DockerfileError::NoArg)),
            ("ARG base_image\nARG other\nFROM ${base_image}", Err(DockerfileError::NoArg)),
            ("ARG base_image\nFROM other", Err(DockerfileError::NoBase)),
            ("ARG base_image\nFROM $base_image", Err(DockerfileError::NoBase)),
            (
                "ARG base_image\nFROM ${base_image}\nFROM ${base_image}",
                Err(DockerfileError::MultiStage("build.Dockerfile")),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(&check_build(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_dockerfile() {
        let deep = "ONBUILD ".repeat(100_000);
        let texts: [&[u8]; 8] = [
            b"",
            b"# nothing",
            b"ARG base_image",
            b"RUN true\nFROM x",
            b"FROM",
            b"FROM x\nNONSENSE y",
            b"FROM \xff",
            deep.as_bytes(),
        ];
        for text in texts {
            for error in [check_run(text).err(), check_build(text).err()] {
                assert!(matches!(error, Some(DockerfileError::Parse(_))), "{:?}: {error:?}", text.get(..20));
            }
        }
        assert_eq!(check_run(&vec![b'#'; LARGEST + 1]), Err(DockerfileError::TooLarge));
    }
}
