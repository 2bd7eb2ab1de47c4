//! Makes the tarball that platforms put into builders: `dist <directory of executables> <output directory>`.
//!
//! `lifecycle.toml` at the root says what the lifecycle speaks ([`descriptor`]); beside it one directory holds the
//! executables, the launchers of other architectures (`launcher-linux-<architecture>`), and what each is made of
//! ([`sbom`]). The same files give the same bytes ([`tarball`]). Executables have to run in images without a libc, so
//! one that is not static is refused ([`elf`]), and so is one that is of another architecture than it should be.

mod descriptor;
mod elf;
mod sbom;
mod tarball;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use thiserror::Error;

use crate::elf::{Architecture, ElfError};
use crate::tarball::Entry;

/// The version of everything in this workspace: digits only, because platforms parse and compare it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is built, in the order of their names. Platforms refuse a tarball that lacks one of the phases.
const EXECUTABLES: [&str; 10] = [
    "analyzer",
    "builder",
    "creator",
    "detector",
    "exporter",
    "indexer",
    "launcher",
    "lifecycle",
    "rebaser",
    "restorer",
];

/// Why there is no tarball.
#[derive(Debug, Error)]
enum DistError {
    #[error("usage: dist <directory of executables> <output directory>")]
    Usage,
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{}", .0.display())]
    Executable(PathBuf, #[source] ElfError),
    #[error("{} is for {found}, and has to be for {wanted}", .path.display())]
    Mixed { path: PathBuf, found: Architecture, wanted: Architecture },
    #[error("cargo tree for {package}: {said}")]
    Tree { package: String, said: String },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    let made = match &*arguments {
        [executables, output] => make(executables, output),
        _ => Err(DistError::Usage),
    };
    match made {
        Ok(path) => {
            #[expect(clippy::print_stdout, reason = "a tool of the build prints what it made")]
            {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            #[expect(clippy::print_stderr, reason = "a tool of the build prints why it failed")]
            {
                eprintln!("dist: {error}{cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn make(executables: &Path, output: &Path) -> Result<PathBuf, DistError> {
    let mut entries =
        vec![Entry::file("lifecycle.toml", descriptor::text(VERSION).into_bytes()), Entry::directory("lifecycle")];
    let mut here = None;
    for name in EXECUTABLES {
        let (bytes, found) = read(executables.join(name), here)?;
        here = Some(found);
        entries.push(Entry::executable(&format!("lifecycle/{name}"), bytes));
    }
    let here = here.unwrap_or(Architecture::Amd64);
    let mut launchers = vec![("launcher".to_owned(), here)];
    for architecture in Architecture::ALL {
        let name = format!("launcher-linux-{architecture}");
        let path = executables.join(&name);
        if path.exists() {
            entries.push(Entry::executable(&format!("lifecycle/{name}"), read(path, Some(architecture))?.0));
            launchers.push((name, architecture));
        }
    }
    let mut describe = |file: &str, name: &str, packages: &[sbom::Package]| {
        for (format, document) in sbom::documents(name, VERSION, packages) {
            entries.push(Entry::file(&format!("lifecycle/{file}.sbom.{format}.json"), document.into_bytes()));
        }
    };
    let phases = EXECUTABLES.into_iter().filter(|name| *name != "launcher").map(package);
    describe("lifecycle", "lifecycle", &tree(phases, &here.target().replace("musl", "gnu"))?);
    for (file, architecture) in launchers {
        // In an image each of them is called launcher, and its documents are the same wherever it came from.
        describe(&file, "launcher", &tree(["launcher"], architecture.target())?);
    }
    let path = output.join(format!("lifecycle-v{VERSION}+linux.{}.tgz", here.in_file_names()));
    let bytes = tarball::pack(entries).map_err(|error| DistError::File(path.clone(), error))?;
    fs::create_dir_all(output)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|error| DistError::File(path.clone(), error))?;
    Ok(path)
}

/// An executable, and its architecture, which has to be the wanted one if one is wanted.
fn read(path: PathBuf, wanted: Option<Architecture>) -> Result<(Vec<u8>, Architecture), DistError> {
    let bytes = fs::read(&path).map_err(|error| DistError::File(path.clone(), error))?;
    let found = elf::check(&bytes).map_err(|error| DistError::Executable(path.clone(), error))?;
    match wanted {
        Some(wanted) if wanted != found => Err(DistError::Mixed { path, found, wanted }),
        Some(_) | None => Ok((bytes, found)),
    }
}

/// The package of an executable. One executable has the name of a library, so its package has another.
fn package(executable: &str) -> &str {
    if executable == "lifecycle" { "lifecycle-dispatch" } else { executable }
}

/// What packages are made of, as cargo resolves it for each of them alone.
fn tree<'a>(packages: impl IntoIterator<Item = &'a str>, target: &str) -> Result<Vec<sbom::Package>, DistError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut all = Vec::new();
    for package in packages {
        let told = |said: String| DistError::Tree { package: package.to_owned(), said };
        let answer = Command::new(&cargo)
            .args(["tree", "--locked", "--package", package, "--target", target])
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(|error| told(error.to_string()))?;
        if !answer.status.success() {
            return Err(told(String::from_utf8_lossy(&answer.stderr).into_owned()));
        }
        all.extend(sbom::read_tree(&String::from_utf8_lossy(&answer.stdout)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}
