//! The bytes of a model: its ONNX file, and its external weight files.
//!
//! Guarantees: only regular files are opened, so a pipe or device cannot block the reader; at most 2 GiB are read per model; a weight
//! file must be inside the model's folder after following links. The hash covers all of these files.

use super::{
    ModelError,
    graph::{External, Graph},
};
use crate::terminal::moves_a_terminal;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// Maximum length of a model's name or version, which appear in decisions, logs and metrics.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// How much of an external text a message shows.
const SHOWN_CHARS: usize = 1_000;

/// An external text for a message: control characters escaped, and cut to a maximum length.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(SHOWN_CHARS) {
        if moves_a_terminal(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Why a name cannot be used in decisions, logs and metrics.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("it is longer than 256 bytes");
    }
    name.contains(char::is_control).then_some("it contains a control character")
}

/// Reads a regular file of at most `bytes_max` bytes.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other(format!("expected a file, found a {}", kind_of(&about))));
    }
    let too_long = |bytes: u64| io::Error::other(format!("expected at most {bytes_max} bytes, found {bytes}"));
    if about.len() > bytes_max {
        return Err(too_long(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
}

fn kind_of(about: &fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = about.file_type();
        if kind.is_fifo() {
            return "pipe";
        }
        if kind.is_socket() {
            return "socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "device";
        }
    }
    if about.is_dir() { "folder" } else { "special file" }
}

/// The bytes of a model.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    pub(super) bytes: Bytes,
    /// External weights, by their location in the ONNX file.
    pub(super) data: BTreeMap<String, Arc<[u8]>>,
}

impl From<Vec<u8>> for ModelFiles {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), data: BTreeMap::new() }
    }
}

impl ModelFiles {
    /// Maximum size of a model with its weights: the limit of Protobuf, and so of an ONNX file.
    pub const BYTES_MAX: u64 = 2 << 30;

    /// Reads an ONNX file and its external weights, at most `bytes_max` bytes in total.
    ///
    /// # Errors
    /// A file cannot be read, is too large, or is outside of the model's folder.
    pub fn read(path: &Path, bytes_max: u64) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read { path: path.to_path_buf(), source };
        let bytes: Bytes = read_file(path, bytes_max).map_err(failed)?.into();
        let mut left = bytes_max - bytes.len() as u64;
        let mut data = BTreeMap::new();
        let graph = Graph::read(&bytes);
        for external in graph.iter().flat_map(Graph::external) {
            if data.contains_key(&external.location) {
                continue;
            }
            let wrong = |reason| wrong(path, external, reason);
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let file = resolve(folder, &external.location).map_err(wrong)?;
            let content = read_file(&file, left).map_err(|error| wrong(error.to_string()))?;
            left -= content.len() as u64;
            data.insert(external.location.clone(), content.into());
        }
        Ok(Self { bytes, data })
    }

    /// The SHA-256 in lower-case hexadecimal: of the ONNX file or, with external weights, of the file followed by the name and the
    /// SHA-256 of each weight file.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.bytes);
        for (location, content) in &self.data {
            digest.update(format!("\0{location}\0{:x}", Sha256::digest(content)));
        }
        format!("{:x}", digest.finalize())
    }

    /// The external weight files, as named in the ONNX file.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }

    /// Checks that each external tensor lies within a weight file that was read.
    pub(super) fn check(&self, path: &Path, graph: &Graph) -> Result<(), ModelError> {
        for external in graph.external() {
            let wrong = |reason| wrong(path, external, reason);
            let Some(content) = self.data.get(&external.location) else {
                return Err(wrong("the file does not exist".to_owned()));
            };
            let number = |text: &Option<String>, absent: usize| match text {
                None => Ok(absent),
                Some(text) => text.parse::<usize>().map_err(|_| wrong(format!("{text:?} is not an offset"))),
            };
            let start = number(&external.offset, 0)?;
            let length = number(&external.length, content.len().saturating_sub(start))?;
            if start.checked_add(length).is_none_or(|end| end > content.len()) {
                let reason =
                    format!("expected {length} bytes from byte {start} on, found a file of {} bytes", content.len());
                return Err(wrong(reason));
            }
        }
        Ok(())
    }
}

/// The error for unusable weights.
fn wrong(path: &Path, external: &External, reason: String) -> ModelError {
    ModelError::External {
        path: path.to_path_buf(),
        tensor: shown(&external.tensor),
        location: external.location.clone(),
        reason,
    }
}

/// Resolves a location named by a model, which must be in the model's folder.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let parts = || Path::new(location).components();
    // ONNX Runtime interprets a location with asterisks as a memory address.
    let is_plain = !location.contains(['*', '\\']) && !location.contains(char::is_control);
    if parts().next().is_none() || !is_plain || parts().any(|part| !matches!(part, Component::Normal(_))) {
        return Err("expected the name of a file in the model's folder".to_owned());
    }
    let resolve = |path: &Path| {
        fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{} does not exist; copy it along with the model", path.display()),
            _ => format!("{}: {error}", path.display()),
        })
    };
    let file = resolve(&folder.join(location))?;
    if !file.starts_with(resolve(folder)?) {
        return Err("it is a link out of the model's folder; copy the file there".to_owned());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_too_large_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, [7; 11]).unwrap();
        assert!(ModelFiles::read(&path, 11).is_ok());
        let error = ModelFiles::read(&path, 10).unwrap_err();
        assert!(matches!(error, ModelError::Read { .. }), "{error}");
        // A file without a size, such as a device or a growing one, is not read without end either.
        let endless = ModelFiles::read(Path::new("/dev/zero"), 1_000);
        assert!(endless.is_err());
    }

    #[test]
    fn weights_must_be_in_the_model_s_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (models, other) = (dir.path().join("models"), dir.path().join("other"));
        fs::create_dir_all(models.join("sub")).unwrap();
        fs::create_dir(&other).unwrap();
        for file in [models.join("a"), models.join("sub/b"), other.join("c"), dir.path().join("models-x")] {
            fs::write(file, b"w").unwrap();
        }
        std::os::unix::fs::symlink("a", models.join("inside")).unwrap();
        std::os::unix::fs::symlink("../other/c", models.join("outside")).unwrap();
        std::os::unix::fs::symlink("../other", models.join("folder")).unwrap();
        for location in ["a", "sub/b", "inside"] {
            assert!(resolve(&models, location).is_ok(), "{location}");
        }
        let absolute = other.join("c").display().to_string();
        for location in [
            "",
            ".",
            "../other/c",
            "sub/../../other/c",
            &absolute,
            "outside",
            "folder/c",
            "*/_ORT_MEM_ADDR_/*",
            "a\0",
            "..\\other\\c",
            "../models-x",
        ] {
            assert!(resolve(&models, location).is_err(), "{location}");
        }
        let missing = resolve(&models, "gone").unwrap_err();
        assert!(missing.contains("does not exist") && missing.contains("models/gone"), "{missing}");
    }

    #[test]
    fn only_regular_files_up_to_a_maximum_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_file(&path, 5).unwrap(), b"12345");
        assert!(read_file(&path, 4).unwrap_err().to_string().contains("at most 4 bytes, found 5"));
        assert!(read_file(dir.path(), 4).unwrap_err().to_string().contains("found a folder"));
        assert!(read_file(Path::new("/dev/zero"), 4).unwrap_err().to_string().contains("found a device"));
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read_file(&pipe, 4).unwrap_err().to_string().contains("found a pipe"));
    }

    #[test]
    fn shown_text_is_escaped_and_cut() {
        assert_eq!(shown("a\u{1b}[31m\0b\u{9b}"), "a\\u{1b}[31m\\u{0}b\\u{9b}");
        assert_eq!(shown(&"x".repeat(2_000)).chars().count(), SHOWN_CHARS + 1);
    }
}
