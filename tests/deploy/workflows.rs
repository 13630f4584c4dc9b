//! The workflows of GitHub and the scripts of a release.

use crate::{output, repository, text, yaml};
use std::{fs, process::Command};

fn workflows() -> Vec<String> {
    let entries = fs::read_dir(repository(".github/workflows")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| format!(".github/workflows/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    names.sort();
    names
}

#[test]
fn every_action_is_pinned_by_its_commit_and_every_job_has_an_end_and_few_rights() {
    let names = workflows();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        for line in text(&name).lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (_, pin) = line.split_once('@').unwrap_or_else(|| panic!("{name}: {line}"));
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{name}: {line}: which version?"));
            assert!(commit.len() == 40 && commit.chars().all(|it| it.is_ascii_hexdigit()), "{name}: {line}");
            assert!(!version.is_empty(), "{name}: {line}");
        }
        let workflow = yaml(&name);
        assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}), "{name}");
        for (job, it) in workflow["jobs"].as_object().unwrap() {
            assert!(it["timeout-minutes"].is_u64(), "{name}: {job} may run for hours");
        }
    }
}

#[test]
fn what_the_workflows_and_pages_call_is_a_target_of_the_makefile() {
    let makefile = text("Makefile");
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let pages = ["README.md", "deploy/README.md", ".github/CONTRIBUTING.md"].map(str::to_owned);
    let mut count = 0;
    for name in workflows().into_iter().chain(pages) {
        for line in text(&name).lines() {
            let calls = line.match_indices("make ").filter(|(at, _)| {
                let before = &line[..*at];
                before.ends_with('`') || before.ends_with("run: ") || before.trim().is_empty()
            });
            for (at, call) in calls {
                let target =
                    line[at + call.len()..].split(|it: char| !it.is_ascii_lowercase() && it != '-').next().unwrap();
                assert!(target.is_empty() || is_target(target), "{name}: make {target} is no target: {line}");
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count}");
    // `make help` has a line for each.
    let phony = makefile.replace("\\\n", " ");
    let phony = phony.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    for target in phony.split_whitespace() {
        assert!(is_target(target), "{target} is no target");
        assert!(makefile.contains(&format!("\n## {target}: ")), "make help does not tell of {target}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let version = output(&mut Command::new(repository("deploy/release/version")));
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
    let tag = Command::new(repository("deploy/release/version")).arg("v99.0.0").output().unwrap();
    assert!(!tag.status.success() && String::from_utf8_lossy(&tag.stderr).contains("the tag is v99.0.0"));
}

/// Packs an archive, unpacks it, and runs its program in an otherwise empty place.
#[test]
fn a_release_archive_holds_a_program_that_runs_and_every_licence() {
    let folder = tempfile::tempdir().unwrap();
    // Strips the debug build's symbols, which would take a minute to pack.
    let program = folder.path().join("program");
    output(Command::new("strip").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_aimpoint")));
    let mut pack = Command::new(repository("deploy/release/archive"));
    let said = output(pack.arg(&program).arg(folder.path()).env("CARGO", env!("CARGO")));
    let archive = said.trim();
    output(Command::new("tar").args(["-xzf", archive, "-C"]).arg(folder.path()));
    output(Command::new("sha256sum").arg("-c").arg(format!("{archive}.sha256")).current_dir(folder.path()));
    let root = std::path::PathBuf::from(archive.strip_suffix(".tar.gz").unwrap());
    let licences = fs::read_to_string(root.join("THIRD-PARTY.txt")).unwrap();
    for part in
        ["librdkafka - Apache Kafka C driver library", "jemalloc", "rdkafka-sys", "Permission is hereby granted"]
    {
        assert!(licences.contains(part), "{part}");
    }
    let said = output(
        Command::new(root.join("aimpoint"))
            .args(["check", "--offline", "--config"])
            .arg(repository("deploy/demo/aimpoint.toml"))
            .env_remove("ORT_DYLIB_PATH")
            .current_dir(folder.path()),
    );
    assert!(said.contains("cdnow-repurchase"), "the model is read by the archive's ONNX Runtime: {said}");
}

/// The program itself takes too long to be built twice. This package has what could differ: a panic's place in Rust, a file's name
/// in C, and a time.
#[test]
fn two_builds_of_a_release_in_different_folders_are_equal() {
    const FILES: [(&str, &str); 4] = [
        (
            "Cargo.toml",
            "[package]\nname = \"twin\"\nversion = \"0.1.0\"\nedition = \"2024\"\nbuild = \"build.rs\"\n\n[workspace]\n\n\
             [profile.release]\nstrip = \"debuginfo\"\n",
        ),
        ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"twin\"\nversion = \"0.1.0\"\n"),
        (
            "build.rs",
            r#"use std::{env, process::Command};
fn main() {
    let (out, source) = (env::var("OUT_DIR").unwrap(), env::var("CARGO_MANIFEST_DIR").unwrap() + "/place.c");
    let cc = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    assert!(Command::new(cc).args(["-c", &source, "-o", &format!("{out}/place.o")]).status().unwrap().success());
}
"#,
        ),
        ("place.c", "const char *place(void) { return __FILE__ \" \" __DATE__ \" \" __TIME__; }\n"),
    ];
    const MAIN: &str = r#"const PLACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/place.o"));
fn main() {
    println!("{PLACE:?} {}", file!());
    std::panic::Location::caller().file().parse::<u8>().unwrap();
}
"#;
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let built = |folder: &tempfile::TempDir, command: &mut Command| {
        output(command.current_dir(folder.path()).env("CARGO", env!("CARGO")).env_remove("CARGO_TARGET_DIR"));
        fs::read(folder.path().join("target/release/twin")).unwrap()
    };
    for folder in &folders {
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/main.rs"), MAIN).unwrap();
        for (name, text) in FILES {
            fs::write(folder.path().join(name), text).unwrap();
        }
    }
    let [one, other] = [0, 1].map(|index| {
        built(&folders[index], Command::new(repository("deploy/release/build")).arg(folders[index].path()))
    });
    assert!(one == other, "a release depends on the folder or the time of its build");
    // Otherwise they would differ.
    let [one, other] = [0, 1]
        .map(|index| built(&folders[index], Command::new(env!("CARGO")).args(["build", "--release", "--locked"])));
    assert!(one != other, "nothing in it depends on the folder, so the test shows nothing");
}

#[test]
fn the_loop_without_a_step_lists_its_steps_in_each_shell() {
    // dash, a usual /bin/sh, ends at once if a builtin such as `shift` fails.
    for shell in ["sh", "bash"] {
        let run =
            std::process::Command::new(shell).arg(crate::repository("deploy/examples/loop/loop")).output().unwrap();
        let steps = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(2), "{shell}: {}", String::from_utf8_lossy(&run.stderr));
        for step in ["first", "candidate", "promote", "look", "rollback"] {
            assert!(steps.contains(&format!("loop {step}")), "{shell}: {steps}");
        }
    }
}
