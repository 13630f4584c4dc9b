//! Reads a configuration: the file, the environment and the flags, on a stack that is large enough.

use super::{Config, Document, add_further};
use crate::{engine::Pipeline, panics::words_of_panic};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Maximum size of a file: more than anybody writes by hand, and checked within seconds.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 20;

/// The TOML parser accepts tables 80 deep, each with keys of 80 parts; dropping one level takes some hundred bytes of
/// stack.
const STACK_BYTES: usize = 64 << 20;

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigLoadError {
    /// The file cannot be read.
    #[error("read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It has errors; the text lists all of them with their positions.
    #[error("{0}")]
    Invalid(String),
    /// Reading it panicked.
    #[error("read the configuration {}: this is a bug in Aimpoint, please report it: {words}", path.display())]
    Bug {
        /// The file; empty if there is none.
        path: PathBuf,
        /// The panic message.
        words: String,
    },
}

impl Config {
    /// Reads the file, if there is one, the environment and the flags' `key=value`.
    ///
    /// Runs on its own thread, whose stack is large enough for the deepest file that the TOML parser accepts.
    ///
    /// # Errors
    /// Lists everything that is wrong, with positions.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let mut variables: Vec<_> = environment.filter(|(name, _)| Document::is_ours(name)).collect();
        variables.sort();
        on_large_stack(path, || Self::load_here(path, &variables, sets))
    }

    fn load_here(
        path: Option<&Path>,
        variables: &[(OsString, OsString)],
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let (name, text) = match path {
            Some(path) => {
                let text =
                    text_of(path).map_err(|error| ConfigLoadError::Unreadable { path: path.to_owned(), error })?;
                (path.display().to_string(), text)
            }
            None => ("(no file)".to_owned(), String::new()),
        };
        Self::of_text(&name, text, path.and_then(Path::parent), variables, sets)
    }

    pub(super) fn of_text(
        name: &str,
        text: String,
        folder: Option<&Path>,
        variables: &[(OsString, OsString)],
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let mut document = Document::parse(name, text).map_err(ConfigLoadError::Invalid)?;
        let mut errors = Vec::new();
        for (name, value) in variables {
            document.set_from_environment(name, value, &mut errors);
        }
        for (index, set) in sets.iter().enumerate() {
            document.set_from_flag(index, set, &mut errors);
        }
        let config = Self::read(&document, folder, &mut errors);
        if errors.is_empty() {
            return Ok((config, document));
        }
        // Report errors in rules and features too, not only at the next attempt.
        let is_whole = |name, count| document.count(name) == count;
        let spec = &config.pipeline;
        if config.too_many().is_empty()
            && is_whole("feature", spec.features.len())
            && is_whole("field", spec.fields.len())
        {
            let further = Pipeline::compile(&config.pipeline, config.origin()).err().unwrap_or_default();
            add_further(&mut errors, further);
        }
        Err(ConfigLoadError::Invalid(document.explain(&errors)))
    }
}

/// Reads on a thread with a large stack. A panic there is returned as an error.
pub(super) fn on_large_stack<T: Send>(
    path: Option<&Path>,
    read: impl FnOnce() -> Result<T, ConfigLoadError> + Send,
) -> Result<T, ConfigLoadError> {
    let path = || path.unwrap_or(Path::new("")).to_owned();
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new()
            .name("config".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, read)
            .map_err(|error| ConfigLoadError::Unreadable { path: path(), error })?;
        reading
            .join()
            .unwrap_or_else(|panic| Err(ConfigLoadError::Bug { path: path(), words: words_of_panic(&*panic) }))
    })
}

/// Reads a file that must not be larger than [`FILE_BYTES_MAX`].
fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name the file in it"));
    }
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes, the maximum for a configuration");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8; save the file as UTF-8"))
    })
}
