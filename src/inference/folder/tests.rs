use super::*;
use sha2::Digest;

fn folder() -> (tempfile::TempDir, ModelFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = ModelFolder::at(dir.path());
    (dir, folder)
}

fn add(folder: &ModelFolder, version: &str, bytes: &[u8]) {
    try_add(folder, version, bytes).unwrap();
}

fn try_add(folder: &ModelFolder, version: &str, bytes: &[u8]) -> Result<(), FolderError> {
    let files = ModelFiles::from(bytes.to_vec());
    let manifest =
        Manifest { name: "m".to_owned(), file: "model.onnx".into(), sha256: files.sha256(), ..Manifest::default() };
    folder.add(version, &files, &manifest)
}

/// A version with an old manifest without a time, written at this second.
fn put_old(dir: &Path, version: &str, second: u64) {
    fs::create_dir(dir.join(version)).unwrap();
    fs::write(dir.join(version).join("model.onnx"), version).unwrap();
    let sha256 = ModelFiles::from(version.as_bytes().to_vec()).sha256();
    let text = format!(r#"{{"name":"m","file":"model.onnx","sha256":"{sha256}"}}"#);
    fs::write(dir.join(version).join(MANIFEST), text).unwrap();
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(second * 1_000 + second % 7 * 100);
    fs::File::open(dir.join(version).join(MANIFEST)).unwrap().set_modified(time).unwrap();
}

#[test]
fn versions_are_in_natural_order() {
    let mut versions = ["10", "9", "v2", "1.10", "1.9", "v10", "2026-01-02", "2026-01-10"];
    versions.sort_by(|a, b| natural(a, b));
    assert_eq!(versions, ["1.9", "1.10", "9", "10", "2026-01-02", "2026-01-10", "v2", "v10"]);
}

#[test]
fn the_newest_is_active_until_one_is_activated_and_rollback_goes_back_step_by_step() {
    let (_dir, folder) = folder();
    assert!(folder.active().unwrap_err().to_string().contains("found no version"));
    for version in ["1", "2", "9", "10"] {
        add(&folder, version, version.as_bytes());
    }
    assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("10", false));
    assert_eq!(folder.rollback().unwrap(), "9");
    assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("9", true));
    assert_eq!((folder.rollback().unwrap(), folder.active().unwrap()), ("2".to_owned(), "2".to_owned()));
    folder.activate("10").unwrap();
    folder.activate("1").unwrap();
    assert_eq!(folder.rollback().unwrap(), "10", "the one active before");
    assert_eq!(folder.rollback().unwrap(), "2");
    let error = folder.activate("7").unwrap_err().to_string();
    assert!(error.contains("expected version \"7\", found the versions 1, 2, 9, 10"), "{error}");
    folder.follow_newest().unwrap();
    folder.follow_newest().unwrap();
    assert_eq!(folder.active().unwrap(), "10");
}

#[test]
fn a_partially_written_version_does_not_exist_or_has_a_wrong_hash() {
    let (dir, folder) = folder();
    add(&folder, "1", b"one");
    // The file exists, but its manifest does not yet.
    fs::create_dir(dir.path().join("2")).unwrap();
    fs::write(dir.path().join("2/model.onnx"), b"tw").unwrap();
    assert_eq!(folder.versions().unwrap(), ["1"]);
    let spec = ModelSpec::at(dir.path());
    let (read, files, _) = folder.read("1", &spec).unwrap();
    assert_eq!((read.name.as_deref(), read.version.as_deref()), (Some("m"), Some("1")));
    assert_eq!(&files.bytes[..], b"one");
    fs::write(dir.path().join("1/model.onnx"), b"on").unwrap();
    assert!(matches!(folder.read("1", &spec), Err(FolderError::Hash { .. })));
    fs::write(dir.path().join("1/manifest.json"), b"{\"name\":").unwrap();
    assert!(matches!(folder.read("1", &spec), Err(FolderError::Manifest { .. })));
    fs::write(dir.path().join("1/manifest.json"), br#"{"name":"m","file":"../x","sha256":""}"#).unwrap();
    assert!(folder.read("1", &spec).unwrap_err().to_string().contains("in its folder"));
    let again = try_add(&folder, "1", b"other").unwrap_err().to_string();
    assert!(again.contains("versions do not change"), "{again}");
    let half = try_add(&folder, "2", b"two").unwrap_err().to_string();
    assert!(half.contains("without a manifest; remove it"), "{half}");
}

/// Two of four versions never became active when versions were ordered by name, which may be a hash.
#[test]
fn the_version_added_last_is_active_whatever_its_name() {
    let (dir, folder) = folder();
    let versions = ["f3c1", "0a77", "c001", "12", "2", "b7"];
    for version in versions {
        add(&folder, version, version.as_bytes());
        assert_eq!(folder.active().unwrap(), version);
    }
    assert_eq!(folder.versions().unwrap(), versions);
    for version in versions.iter().rev().skip(1) {
        assert_eq!(folder.rollback().unwrap(), *version);
    }
    assert!(folder.rollback().unwrap_err().to_string().contains("a version before f3c1"));
    // A copy has the same order, in whatever order its files are written.
    let copy = tempfile::tempdir().unwrap();
    for version in ["b7", "2", "f3c1", "12", "c001", "0a77"] {
        fs::create_dir(copy.path().join(version)).unwrap();
        for file in ["model.onnx", MANIFEST] {
            fs::copy(dir.path().join(version).join(file), copy.path().join(version).join(file)).unwrap();
        }
    }
    assert_eq!(ModelFolder::at(copy.path()).versions().unwrap(), versions);
}

#[test]
fn rollback_activates_the_previously_active_version_and_not_an_unused_one() {
    let (_dir, folder) = folder();
    add(&folder, "1", b"one");
    add(&folder, "2", b"two");
    folder.activate("1").unwrap();
    add(&folder, "3", b"three");
    add(&folder, "4", b"four");
    assert_eq!(folder.active().unwrap(), "1");
    folder.follow_newest().unwrap();
    assert_eq!((folder.active().unwrap(), folder.rollback().unwrap()), ("4".to_owned(), "1".to_owned()));
    assert_eq!(folder.rollback().unwrap(), "2", "which was active before 1");
}

#[test]
fn versions_without_a_time_are_ordered_by_the_time_of_their_files() {
    let (dir, folder) = folder();
    for (version, second) in [("9", 1_700_000_000), ("10", 1_700_000_000), ("ab", 1_600_000_000)] {
        put_old(dir.path(), version, second);
    }
    assert_eq!(folder.versions().unwrap(), ["ab", "9", "10"]);
    // The old format: the active version, followed by the earlier ones.
    fs::write(dir.path().join(ACTIVE), "9\nab\n").unwrap();
    assert_eq!(folder.active().unwrap(), "9");
    add(&folder, "00", b"new");
    assert_eq!(folder.versions().unwrap(), ["ab", "9", "10", "00"]);
    // Now their manifests have a time.
    for version in ["ab", "9", "10"] {
        let manifest = dir.path().join(version).join(MANIFEST);
        fs::File::open(manifest).unwrap().set_modified(SystemTime::now()).unwrap();
    }
    let again = ModelFolder::at(dir.path());
    assert_eq!(again.versions().unwrap(), ["ab", "9", "10", "00"]);
    assert_eq!(again.rollback().unwrap(), "ab");
}

#[test]
fn a_version_is_not_a_path_and_nothing_outside_of_the_folder_is_written_or_read() {
    let outer = tempfile::tempdir().unwrap();
    let folder = ModelFolder::at(outer.path().join("models"));
    add(&folder, "1", b"one");
    let long = "x".repeat(300);
    for version in [
        "..",
        ".",
        "",
        "../escape",
        "/tmp/escape",
        "a/b",
        "a\\b",
        ".hidden",
        "active",
        "served",
        "audit.jsonl",
        "-v",
        "a\nb",
        "a\u{1b}[2J",
        &long,
    ] {
        let error = try_add(&folder, version, b"other").unwrap_err();
        assert!(matches!(error, FolderError::Name { .. }), "{version:?}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    // A link in place of a version is rejected, and its target is not changed.
    let target = outer.path().join("target");
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, outer.path().join("models/link")).unwrap();
    assert!(try_add(&folder, "link", b"other").is_err());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    let mut entries: Vec<_> =
        fs::read_dir(outer.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["models", "target"]);

    // `active` must name one of the versions.
    let stray = outer.path().join("stray");
    put_old(outer.path(), "stray", 1);
    assert!(stray.join(MANIFEST).exists());
    for forged in ["../stray", "/etc", "2", ".."] {
        fs::write(outer.path().join("models/active"), forged).unwrap();
        let error = folder.active().unwrap_err().to_string();
        assert!(error.contains("named in active, found version 1"), "{error}");
        assert!(folder.read(forged, &ModelSpec::at("models")).is_err(), "{forged}");
    }
    fs::remove_file(outer.path().join("models/active")).unwrap();
    fs::write(outer.path().join("secret"), "1\n").unwrap();
    std::os::unix::fs::symlink("../secret", outer.path().join("models/active")).unwrap();
    assert!(folder.active().unwrap_err().to_string().contains("a link out of the folder"));
    // A partial file that is a link is replaced, not followed.
    std::os::unix::fs::symlink("../secret", outer.path().join("models/active.partial")).unwrap();
    fs::remove_file(outer.path().join("models/active")).unwrap();
    folder.activate("1").unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "1\n");
    // A pipe does not block.
    fs::remove_file(outer.path().join("models/active")).unwrap();
    let pipe = outer.path().join("models/active");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(folder.active().unwrap_err().to_string().contains("found a pipe"));
}

#[test]
fn external_weights_are_part_of_the_version() {
    let (dir, folder) = folder();
    let mut files = ModelFiles::from(b"graph".to_vec());
    files.data.insert("weights/one.bin".to_owned(), b"12345678".to_vec().into());
    let manifest =
        Manifest { name: "m".to_owned(), file: "model.onnx".into(), sha256: files.sha256(), ..Manifest::default() };
    folder.add("1", &files, &manifest).unwrap();
    assert_eq!(fs::read(dir.path().join("1/weights/one.bin")).unwrap(), b"12345678");
    let other = ModelFiles::from(b"graph".to_vec());
    assert_ne!(files.sha256(), other.sha256(), "the hash covers them");
    assert_eq!(
        other.sha256(),
        format!("{:x}", sha2::Sha256::digest(b"graph")),
        "and without weights it is that of the file"
    );
}
