//! The Dockerfiles, the root file system and the Compose example.
//!
//! Docker is not needed: the root file system is built by `deploy/docker/rootfs`, which is run here.

use crate::{output, repository, text, tool, yaml};
use std::{fs, path::Path, process::Command};

const DOCKERFILES: [&str; 2] = ["deploy/docker/Dockerfile", "deploy/docker/Dockerfile.cuda"];

/// The instructions of a Dockerfile's last stage.
fn last_stage(dockerfile: &str) -> Vec<String> {
    let joined = text(dockerfile).replace("\\\n", " ");
    let lines: Vec<&str> = joined.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let from = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    lines[from..].iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn an_image_runs_unprivileged_without_a_shell_from_pinned_releases() {
    for dockerfile in DOCKERFILES {
        let stage = last_stage(dockerfile);
        assert!(stage.iter().any(|line| line == "USER 65532:65532"), "{dockerfile}");
        assert!(!stage.iter().any(|line| line.starts_with("RUN ")), "{dockerfile}: the last stage needs a shell");
        for instruction in ["ENTRYPOINT [", "CMD ["] {
            assert!(stage.iter().any(|line| line.starts_with(instruction)), "{dockerfile}: {instruction}");
        }
        let whole = text(dockerfile);
        for line in whole.lines().filter(|line| line.starts_with("FROM ")) {
            let image = line.split_whitespace().nth(1).unwrap();
            assert!(image == "scratch" || image.contains(':') && !image.ends_with(":latest"), "{dockerfile}: {line}");
        }
        assert!(whole.contains("--locked"), "{dockerfile}: other crates than those of Cargo.lock could be built");
        assert!(!whole.contains("--no-default-features"), "{dockerfile}: no TLS to the brokers");
    }
    // The sources support the compiler in the images.
    let manifest = text("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    for dockerfile in DOCKERFILES {
        assert!(text(dockerfile).contains(&format!("ARG RUST={version}\n")), "{dockerfile}: Rust {version}");
    }
}

/// What a host of agents reads is what the program proposes, and where the chart has its ports.
#[test]
fn an_image_says_what_kind_of_agent_it_is() {
    let command = Command::new(env!("CARGO_BIN_EXE_aimpoint")).arg("metrics").output().unwrap();
    let metrics = String::from_utf8(command.stdout).unwrap();
    let values = yaml("deploy/helm/aimpoint/values.yaml");
    for dockerfile in DOCKERFILES {
        let stage = last_stage(dockerfile);
        let owner = stage.iter().find_map(|line| line.strip_prefix("ARG AGENT_OWNER=")).unwrap();
        let label = stage.iter().find_map(|line| line.strip_prefix("LABEL agent-manifest=")).unwrap();
        let text: String = serde_json::from_str(&label.replace("${AGENT_OWNER}", owner)).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        for name in ["name", "vendor", "owner"] {
            assert_eq!(manifest[name], "aimpoint", "{dockerfile}: {name}");
        }
        let intents: Vec<&str> =
            manifest["intents"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let told = format!("changes proposed by gRPC, by intent: {}", intents.join(", "));
        assert!(metrics.contains(&told), "{dockerfile}: {told}");
        let least = &values["serve"]["resources"]["requests"];
        assert_eq!(manifest["resources"], *least, "{dockerfile}");
        assert_eq!(manifest["dependencies"], serde_json::json!(["kafka"]), "{dockerfile}");
        assert_eq!(manifest["probes"]["port"], values["metrics"]["port"], "{dockerfile}");
        for probe in ["liveness", "readiness"] {
            assert_eq!(manifest["probes"][probe], values["serve"]["probes"][probe]["path"], "{dockerfile}: {probe}");
        }
    }
}

/// Builds the image's file system, and runs the program with only the libraries in it.
#[test]
fn the_root_file_system_has_the_program_and_all_files_it_opens() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let program = env!("CARGO_BIN_EXE_aimpoint");
    let mut rootfs = Command::new(repository("deploy/docker/rootfs"));
    output(rootfs.arg(program).arg(repository(".onnxruntime")).arg(&root).env("CARGO", env!("CARGO")));

    let names = |path: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("usr/bin"), ["aimpoint"], "there is no shell");
    assert_eq!(names(""), ["etc", "lib", "lib64", "tmp", "usr"]);
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("nonroot:x:65532:"));
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").is_file());
    assert!(root.join("usr/share/doc/onnxruntime/LICENSE").is_file());
    assert!(fs::read_to_string(root.join("usr/share/doc/aimpoint/THIRD-PARTY.txt")).unwrap().contains("librdkafka"));

    // Without the program, which is large in a debug build.
    let rest = bytes(&root) - fs::metadata(program).unwrap().len();
    assert!(rest < 40_000_000, "{rest} bytes beside the program: an image has to stay below 150 MB");

    // With the image's loader and only its libraries.
    let machine = std::env::consts::ARCH;
    let loader = fs::read_dir(root.join("usr/lib64"))
        .or_else(|_| fs::read_dir(root.join("usr/lib")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("ld-linux"))
        .unwrap();
    let libraries = root.join(format!("usr/lib/{machine}-linux-gnu"));
    let said = output(
        Command::new(loader)
            .arg("--inhibit-cache")
            .arg("--library-path")
            .arg(&libraries)
            .arg(root.join("usr/bin/aimpoint"))
            .args(["check", "--offline", "--config"])
            .arg(repository("deploy/demo/aimpoint.toml"))
            .env("ORT_DYLIB_PATH", root.join("usr/lib/libonnxruntime.so")),
    );
    assert!(said.contains("cdnow-repurchase"), "the model is read by the image's ONNX Runtime: {said}");
}

/// The total size of the files in a folder.
fn bytes(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() { bytes(&path) } else { kind.len() }
        })
        .sum()
}

#[test]
fn the_compose_example_is_valid() {
    const COMPOSE: &str = "deploy/compose/compose.yaml";
    output(tool("compose").args(["-format", "json", COMPOSE]));
    let compose = yaml(COMPOSE);
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{name}: {image} is no fixed release");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port} is open to everybody");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                let path = repository("deploy/compose").join(source);
                assert!(path.exists(), "{name}: {} is mounted and absent", path.display());
            } else {
                assert!(compose["volumes"].as_object().unwrap().contains_key(source), "{name}: {source}");
            }
        }
    }
    // Prometheus scrapes the programs' addresses.
    let prometheus = text("deploy/prometheus/prometheus.yml");
    for target in ["aimpoint:9464", "control:9464", "serve:9464", "kafka-exporter:9308"] {
        assert!(prometheus.contains(target) && services.contains_key(target.split(':').next().unwrap()), "{target}");
    }
}
