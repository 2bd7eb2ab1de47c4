use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::layer::{Owner, Pipeline, Recipe, Want};

/// One entry: type flag, name, link target, mode, content.
type Made<'a> = (u8, &'a str, &'a str, u32, &'a [u8]);

fn tar(entries: &[Made<'_>]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (flag, name, link, mode, content) in entries {
        builder.append_pax_extensions([("path", name.as_bytes()), ("linkpath", link.as_bytes())]).expect("appended");
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(::tar::EntryType::new(*flag));
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).expect("appended");
    }
    builder.into_inner().expect("finished")
}

/// A place with a layers directory, and beside it what must not be touched.
struct Place {
    _dir: tempfile::TempDir,
    layers: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (layers, outside) = (dir.path().join("layers"), dir.path().join("outside"));
        fs::create_dir_all(layers.join("bp")).expect("made");
        fs::create_dir(layers.join("other")).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("secret"), "secret").expect("written");
        Self { _dir: dir, layers, outside }
    }

    /// Extracts entries whose names, and targets of hard links, are given relative to the layers directory.
    fn extract(&self, entries: &[Made<'_>]) -> Result<(), ExtractError> {
        let layers = self.layers.display();
        let absolute = |name: &str| if name.starts_with('/') { name.to_owned() } else { format!("{layers}/{name}") };
        let names: Vec<_> = entries
            .iter()
            .map(|(flag, name, link, ..)| {
                (absolute(name), if *flag == b'1' { absolute(link) } else { (*link).to_owned() })
            })
            .collect();
        let named: Vec<Made<'_>> = entries
            .iter()
            .zip(&names)
            .map(|((flag, _, _, mode, content), (name, link))| (*flag, &**name, &**link, *mode, *content))
            .collect();
        let tar = tar(&named);
        extract(&tar[..], &Digest::of(&tar), &self.layers, Path::new("bp/layer"))
    }

    /// Everything beneath the layers directory: path, kind, mode, content or target.
    fn found(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.layers).min_depth(1) {
            let entry = entry.expect("walked");
            let path = entry.path().strip_prefix(&self.layers).expect("beneath").display().to_string();
            let status = fs::symlink_metadata(entry.path()).expect("there");
            let kind = status.file_type();
            let mode = status.mode() & 0o7777;
            let shown = if kind.is_dir() {
                format!("dir {mode:o}")
            } else if kind.is_symlink() {
                format!("link {}", fs::read_link(entry.path()).expect("a link").display())
            } else if kind.is_fifo() {
                format!("fifo {mode:o}")
            } else {
                format!("file {mode:o} {}", String::from_utf8_lossy(&fs::read(entry.path()).expect("read")))
            };
            all.insert(path, shown);
        }
        all
    }

    fn is_untouched(&self) -> bool {
        self.found().into_keys().collect::<Vec<_>>() == ["bp", "other"]
            && fs::read(self.outside.join("secret")).is_ok_and(|found| found == b"secret")
            && fs::read_dir(&self.outside).is_ok_and(|entries| entries.count() == 1)
    }
}

#[test]
fn what_belongs_to_the_layer_is_extracted_with_its_modes() {
    let place = Place::new();
    fs::set_permissions(place.layers.join("bp"), fs::Permissions::from_mode(0o751)).expect("chmod");
    let long = format!("bp/layer/{}", "deep-directory/".repeat(200));
    place
        .extract(&[
            (b'5', "bp", "", 0o700, b""),
            (b'5', "bp/layer", "", 0o755, b""),
            (b'5', "bp/layer/read-only", "", 0o555, b""),
            (b'0', "bp/layer/read-only/file", "", 0o444, b"x"),
            (b'5', "bp/layer/none", "", 0o0, b""),
            (b'5', "bp/layer/none/inner", "", 0o3777, b""),
            (b'0', "bp/layer/setuid", "", 0o6755, b"s"),
            (b'0', "bp/layer/wide", "", 0o777, b""),
            (b'0', "bp/layer/./dots//file", "", 0o640, b"made its directory"),
            (b'2', "bp/layer/absolute", "/etc/passwd", 0o777, b""),
            (b'2', "bp/layer/up", "../../../..", 0o777, b""),
            (b'1', "bp/layer/hard", "bp/layer/setuid", 0o6755, b""),
            (b'6', "bp/layer/fifo", "", 0o622, b""),
            (b'g', "ignored", "", 0, b"12 comment=\n"),
            (b'5', &long, "", 0o755, b""),
        ])
        .expect("extracted");
    let mut found = place.found();
    assert_eq!(found.len(), 15 + 200);
    found.retain(|path, _| !path.contains("deep"));
    let made = fs::metadata(place.layers.join("other")).expect("there").mode() & 0o777;
    let dots = format!("dir {made:o}");
    let expected = [
        ("bp", "dir 751"),
        ("bp/layer", "dir 755"),
        ("bp/layer/absolute", "link /etc/passwd"),
        ("bp/layer/dots", &dots),
        ("bp/layer/dots/file", "file 640 made its directory"),
        ("bp/layer/fifo", "fifo 622"),
        ("bp/layer/hard", "file 6755 s"),
        ("bp/layer/none", "dir 0"),
        ("bp/layer/none/inner", "dir 3777"),
        ("bp/layer/read-only", "dir 555"),
        ("bp/layer/read-only/file", "file 444 x"),
        ("bp/layer/setuid", "file 6755 s"),
        ("bp/layer/up", "link ../../../.."),
        ("bp/layer/wide", "file 777 "),
        ("other", &dots),
    ];
    assert_eq!(found, expected.map(|(path, shown)| (path.to_owned(), shown.to_owned())).into());
}

#[test]
fn what_would_get_out_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let outside = place.outside.join("new").display().to_string();
    let outside_link = place.outside.join("secret").display().to_string();
    let directory = (b'5', "bp/layer", "", 0o755, &b""[..]);
    let file = |name| (b'0', name, "", 0o644, &b"x"[..]);
    let cases: &[(&str, &[Made<'_>], &str)] = &[
        ("dots", &[directory, file("bp/layer/../../../outside/new")], "is outside of"),
        ("dots that stay inside", &[directory, file("bp/layer/a/../b")], "is outside of"),
        ("another layer", &[directory, file("bp/other/file")], "is outside of"),
        ("a name that begins alike", &[directory, file("bp/layer2")], "is outside of"),
        ("beside", &[directory, file("bp/layer.toml")], "is outside of"),
        ("another buildpack", &[directory, file("other/file")], "is outside of"),
        ("anywhere", &[directory, file(&outside)], "is outside of"),
        ("the layers directory's link", &[(b'2', "", "/etc", 0o777, b"")], "a directory above the layer"),
        ("the buildpack's directory as a file", &[file("bp")], "a directory above the layer"),
        ("the root directory as a file", &[file("/")], "a directory above the layer"),
        ("the layer as a link", &[(b'2', "bp/layer", "/etc", 0o777, b"")], "the layer is not a directory"),
        ("the layer as a file", &[file("bp/layer")], "the layer is not a directory"),
        (
            "through a link",
            &[directory, (b'2', "bp/layer/link", "../../../outside", 0o777, b""), file("bp/layer/link/new")],
            "beneath a symlink or a file",
        ),
        (
            "a directory through a link",
            &[directory, (b'2', "bp/layer/link", "/", 0o777, b""), (b'5', "bp/layer/link/x", "", 0o755, b"")],
            "beneath a symlink or a file",
        ),
        (
            "a link as a directory",
            &[
                directory,
                (b'2', "bp/layer/link", "../../../outside", 0o777, b""),
                (b'5', "bp/layer/link", "", 0o777, b""),
            ],
            "beneath a symlink or a file",
        ),
        (
            "a file over a link",
            &[directory, (b'2', "bp/layer/link", &outside_link, 0o777, b""), file("bp/layer/link")],
            "is there already",
        ),
        ("a hard link out", &[directory, (b'1', "bp/layer/hard", &outside_link, 0o644, b"")], "is outside of"),
        ("a hard link to another layer", &[directory, (b'1', "bp/layer/hard", "bp/x", 0o644, b"")], "is outside of"),
        (
            "a hard link through a link",
            &[
                directory,
                (b'2', "bp/layer/link", "../../../outside", 0o777, b""),
                (b'1', "bp/layer/hard", "bp/layer/link/secret", 0o644, b""),
            ],
            "what it links to is not there",
        ),
        ("a hard link to a directory", &[directory, (b'1', "bp/layer/hard", "bp/layer", 0o644, b"")], "a hard link to"),
        (
            "a hard link to nothing",
            &[directory, (b'1', "bp/layer/hard", "bp/layer/none", 0o644, b"")],
            "what it links to is not there",
        ),
        ("a device", &[directory, (b'3', "bp/layer/null", "", 0o666, b"")], "entries of this kind"),
        ("a block device", &[directory, (b'4', "bp/layer/sda", "", 0o666, b"")], "entries of this kind"),
        ("a sparse file", &[directory, (b'S', "bp/layer/sparse", "", 0o666, b"")], "entries of this kind"),
        ("twice", &[directory, file("bp/layer/f"), file("bp/layer/f")], "is there already"),
    ];
    for (what, entries, expected) in cases {
        let error = place.extract(entries).expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(place.is_untouched(), "{what}: {:?}", place.found());
    }
}

#[test]
fn what_is_damaged_leaves_nothing_and_what_was_there_stays() {
    let place = Place::new();
    let layers = place.layers.display().to_string();
    let tar = tar(&[
        (b'5', &format!("{layers}/bp/layer"), "", 0o755, b""),
        (b'0', &format!("{layers}/bp/layer/file"), "", 0o644, &[b'x'; 2_000_000]),
    ]);
    fs::create_dir(place.layers.join("bp/layer")).expect("made");
    fs::write(place.layers.join("bp/layer/old"), "old").expect("written");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).expect("compressed");
    let packed = encoder.finish().expect("compressed");
    let mut flipped = tar.clone();
    flipped[1_500_000] ^= 1;
    let mut header = tar.clone();
    header[10] ^= 1;
    let digest = Digest::of(&tar);
    let cases: [(&str, &[u8], &str); 8] = [
        ("empty", b"", "expected layer contents to have SHA"),
        ("a byte is another", &flipped, "expected layer contents to have SHA"),
        ("a header is damaged", &header, "expected layer contents to have SHA"),
        ("cut short", &tar[..1_500_000], "expected layer contents to have SHA"),
        ("the end is missing", &tar[..tar.len() - 512], "expected layer contents to have SHA"),
        ("something follows", &[&tar[..], b"x"].concat(), "expected layer contents to have SHA"),
        ("compressed, cut short", &packed[..packed.len() / 2], "read layer: "),
        ("compressed, damaged", &[&packed[..100], &packed[200..]].concat(), "read layer: "),
    ];
    for (what, bytes, expected) in cases {
        let error = extract(bytes, &digest, &place.layers, Path::new("bp/layer")).expect_err(what).to_string();
        assert!(error.starts_with(expected), "{what}: {error}");
        let found: Vec<_> = place.found().into_keys().collect();
        assert_eq!(found, ["bp", "bp/layer", "bp/layer/old", "other"], "{what}");
    }
    // A tar that is what was asked for but is none.
    let error = extract(&header[..], &Digest::of(&header), &place.layers, Path::new("bp/layer")).expect_err("damaged");
    assert_eq!(error.to_string(), "read layer: a tar header has a wrong checksum");

    for bytes in [&tar, &packed] {
        extract(&bytes[..], &digest, &place.layers, Path::new("bp/layer")).expect("extracted");
        assert_eq!(place.found().into_keys().collect::<Vec<_>>(), ["bp", "bp/layer", "bp/layer/file", "other"]);
    }
}

#[test]
fn a_symlink_above_the_layer_is_not_followed_and_one_in_its_place_is_replaced() {
    let place = Place::new();
    let entries: &[Made<'_>] = &[(b'5', "bp/layer", "", 0o755, b""), (b'0', "bp/layer/file", "", 0o644, b"x")];
    fs::remove_dir(place.layers.join("bp")).expect("removed");
    symlink(&place.outside, place.layers.join("bp")).expect("linked");
    let error = place.extract(entries).expect_err("a link").to_string();
    assert!(error.ends_with("a directory above the layer is a symlink or a file"), "{error}");
    assert_eq!(fs::read_dir(&place.outside).expect("listed").count(), 1);

    fs::remove_file(place.layers.join("bp")).expect("removed");
    fs::create_dir(place.layers.join("bp")).expect("made");
    symlink(&place.outside, place.layers.join("bp/layer")).expect("linked");
    place.extract(entries).expect("extracted");
    assert_eq!(place.found()["bp/layer/file"], "file 644 x");
    assert_eq!(fs::read_dir(&place.outside).expect("listed").count(), 1);
}

#[test]
fn directories_above_that_are_missing_are_made_with_their_mode() {
    let place = Place::new();
    let layers = place.layers.display().to_string();
    let names = ["", "/sbom", "/sbom/launch", "/sbom/launch/sbom.legacy.json"].map(|name| format!("{layers}{name}"));
    let tar = tar(&[
        (b'5', &names[0], "", 0o700, b""),
        (b'5', &names[1], "", 0o2711, b""),
        (b'5', &names[2], "", 0o775, b""),
        (b'0', &names[3], "", 0o666, b"null\n"),
    ]);
    let before = fs::metadata(&place.layers).expect("there").mode();
    extract(&tar[..], &Digest::of(&tar), &place.layers, Path::new("sbom/launch")).expect("extracted");
    assert_eq!(fs::metadata(&place.layers).expect("there").mode(), before);
    let found = place.found();
    assert_eq!(found["sbom"], "dir 2711");
    assert_eq!(found["sbom/launch"], "dir 775");
    assert_eq!(found["sbom/launch/sbom.legacy.json"], "file 666 null\n");
}

#[test]
fn a_tar_without_the_layer_extracts_nothing() {
    let place = Place::new();
    place.extract(&[]).expect("nothing to do");
    place.extract(&[(b'5', "bp", "", 0o755, b"")]).expect("nothing to do");
    assert!(place.is_untouched());
}

#[test]
fn leftovers_are_removed_and_nothing_else() {
    let place = Place::new();
    let left = place.layers.join(format!("{TEMPORARY}123.0/layer/read-only"));
    fs::create_dir_all(&left).expect("made");
    symlink(&place.outside, left.join("link")).expect("linked");
    fs::set_permissions(&left, fs::Permissions::from_mode(0o555)).expect("chmod");
    remove_leftovers(&place.layers).expect("removed");
    assert!(place.is_untouched());
    assert!(remove_leftovers(Path::new("/no/such/directory")).is_err());
}

#[test]
fn a_layer_comes_back_as_it_was_packed() {
    let place = Place::new();
    let layer = place.layers.join("bp/layer");
    fs::create_dir_all(layer.join("a/b")).expect("made");
    for (name, length, mode) in [("a/small", 10, 0o644), ("a/b/large", 3_000_000, 0o700), ("empty", 0, 0o4711)] {
        let content: Vec<u8> = (0..length).map(|at: u32| (at.wrapping_mul(at) / 7) as u8).collect();
        fs::write(layer.join(name), content).expect("written");
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    symlink("small", layer.join("a/link")).expect("linked");
    let pipeline = Pipeline::new(&place.outside);
    let recipe = Recipe::Directory {
        layers: place.layers.clone(),
        relative: "bp/layer".into(),
        owner: Owner { uid: 1000, gid: 1000 },
    };
    let packed = pipeline.pack(&recipe, Want { blob: true, tar: None }).expect("packed");
    let before = place.found();
    fs::remove_dir_all(&layer).expect("removed");
    let blob = packed.blob.expect("wanted");
    extract(blob.open(), &packed.diff_id, &place.layers, Path::new("bp/layer")).expect("extracted");
    assert_eq!(place.found(), before);
    assert_eq!(pipeline.digest(&recipe, None).expect("read").diff_id, packed.diff_id);
}

#[test]
fn paths_that_are_none_of_a_layer_are_refused() {
    let place = Place::new();
    for relative in ["", "..", "bp/../../outside", "/etc"] {
        let error = extract(&b""[..], &Digest::of(b""), &place.layers, Path::new(relative));
        assert!(error.is_err(), "{relative}");
    }
    assert!(place.is_untouched());
}
