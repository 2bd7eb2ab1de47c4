//! The bash script that sources profiles and then becomes the app (platform.md, *launcher*, *Execution*).
//!
//! It runs as `bash -c <script> <argv0 of the launcher> <command> <args>…`. Profiles see the launcher's name as `$0` and the command
//! and its arguments as `$1` and on; they may change the environment, change directory, or `set` other arguments. Then the
//! script replaces itself by another bash, for which
//!
//! - a command without arguments is a script of its own: `exec bash -c "<command>"`;
//! - a command with arguments is words, of which each is expanded once more (`eval echo`), so that `$PORT` in an
//!   argument means the variable.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The only shell: a launcher's scripts may use all that bash has.
pub(crate) const BASH: &str = "/bin/bash";

/// The script. `words` is how many words the command has: itself and its arguments.
///
/// The working directory stands in double quotes, so that variables in it are expanded, as they always were. Names of
/// profiles are quoted whole.
pub(crate) fn script(profiles: &[PathBuf], working_dir: &Path, words: usize) -> OsString {
    let mut script = Vec::new();
    for profile in profiles {
        script.extend_from_slice(b"source \"");
        script.extend(escaped(profile.as_os_str()));
        script.extend_from_slice(b"\"\n");
    }
    script.extend_from_slice(b"cd \"");
    script.extend_from_slice(working_dir.as_os_str().as_bytes());
    script.extend_from_slice(b"\"\n");
    if words > 1 {
        let expanded: Vec<_> = (0..words).map(|n| format!(r#""$(eval echo \"${{{n}}}\")""#)).collect();
        script.extend_from_slice(format!(r#"exec bash -c '{}' "${{@:1}}""#, expanded.join(" ")).as_bytes());
    } else {
        script.extend_from_slice(br#"exec bash -c "$@""#);
    }
    OsString::from_vec(script)
}

/// A name for between double quotes.
fn escaped(name: &OsStr) -> impl Iterator<Item = u8> {
    name.as_bytes().iter().flat_map(|byte| {
        let special = matches!(byte, b'"' | b'\\' | b'$' | b'`');
        special.then_some(b'\\').into_iter().chain([*byte])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_then_the_directory_then_the_command() {
        for (profiles, words, expected) in [
            (&[][..], 1, "cd \"/app\"\nexec bash -c \"$@\""),
            (
                &["/l/a b", "/app/.profile"],
                1,
                "source \"/l/a b\"\nsource \"/app/.profile\"\ncd \"/app\"\nexec bash -c \"$@\"",
            ),
            (
                &["/l/$x`\"\\"],
                2,
                "source \"/l/\\$x\\`\\\"\\\\\"\ncd \"/app\"\n\
                 exec bash -c '\"$(eval echo \\\"${0}\\\")\" \"$(eval echo \\\"${1}\\\")\"' \"${@:1}\"",
            ),
        ] {
            let profiles: Vec<_> = profiles.iter().map(PathBuf::from).collect();
            assert_eq!(script(&profiles, Path::new("/app"), words), expected);
        }
    }

    #[test]
    fn a_name_need_not_be_utf_8() {
        let name = OsStr::from_bytes(b"/l/\xff");
        assert_eq!(
            script(&[name.into()], Path::new(name), 1).as_bytes(),
            b"source \"/l/\xff\"\ncd \"/l/\xff\"\nexec bash -c \"$@\""
        );
    }
}
