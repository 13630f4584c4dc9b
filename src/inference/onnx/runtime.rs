//! Finds and loads the ONNX Runtime library, and owns the process-wide environment.

use ort::{LoadDynamicError, environment::Environment, logging::LogLevel};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The environment variable with the library's path, as in ONNX Runtime's bindings.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The folder that `deploy/onnxruntime/fetch` fills.
const FOLDER: &str = ".onnxruntime";

/// The environment of this process. ONNX Runtime allows only one, and the library is never unloaded.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, loaded. Clones share the process's one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) environment: Environment,
    pub(super) version: String,
    library: PathBuf,
}

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library was not found.
    #[error(
        "find ONNX Runtime: expected the library at one of: {}; run make onnxruntime or set ORT_DYLIB_PATH ({reason})",
        list(places)
    )]
    NotFound {
        /// The places searched.
        places: Vec<PathBuf>,
        /// The error of the system's loader.
        reason: String,
    },
    /// The file is not ONNX Runtime for this machine.
    #[error(
        "load ONNX Runtime from {}: expected its library for this machine, found: {reason}; run make onnxruntime or set \
         ORT_DYLIB_PATH",
        path.display()
    )]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library is older than this program's API.
    #[error(
        "load ONNX Runtime from {}: expected version 1.{least} or newer, found {version}; run make onnxruntime or set \
         ORT_DYLIB_PATH to a newer one",
        path.display()
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest supported minor version.
        least: u32,
    },
    /// Another library is already loaded; a process can load only one.
    #[error(
        "load ONNX Runtime from {}: this process has already loaded {}; start another process",
        path.display(),
        loaded.display()
    )]
    Another {
        /// The requested file.
        path: PathBuf,
        /// The loaded file.
        loaded: PathBuf,
    },
    /// The library does not start.
    #[error("start ONNX Runtime from {}: {reason}", path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// Its message.
        reason: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Runtime {
    /// Loads ONNX Runtime, or returns the one already loaded: from `path` if given, else from `ORT_DYLIB_PATH`, else from the first of
    /// the other [`Runtime::places`] that has it.
    ///
    /// # Errors
    /// The library was not found, or cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return match path.map(library_of) {
                Some(path) if path != runtime.library => {
                    Err(RuntimeError::Another { path, loaded: runtime.library.clone() })
                }
                _ => Ok(runtime.clone()),
            };
        }
        let runtime = match path.map(Path::to_path_buf).or_else(named) {
            Some(path) => {
                let library = library_of(&path);
                // The loader would block until someone writes to the pipe.
                if library.exists() && !library.is_file() {
                    let reason = "something that is not a file".to_owned();
                    return Err(RuntimeError::Unloadable { path: library, reason });
                }
                Self::open(&library)?
            }
            None => match folders(env::current_dir().ok(), env::current_exe().ok()).find(|place| place.exists()) {
                Some(place) => Self::open(&library_of(&place))?,
                None => Self::open_by_name()?,
            },
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The places that are searched if no path is given, in order; the last one is the system's loader.
    pub fn places() -> Vec<PathBuf> {
        let folders = folders(env::current_dir().ok(), env::current_exe().ok());
        named().into_iter().chain(folders).chain([PathBuf::from(file_name())]).collect()
    }

    /// The process-wide environment, for other sessions than the models', such as in a bench.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library's version, such as `1.22.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Opens the library that the system's loader finds.
    fn open_by_name() -> Result<Self, RuntimeError> {
        Self::open(Path::new(&file_name())).map_err(|error| match error {
            RuntimeError::Unloadable { reason, .. } => RuntimeError::NotFound { places: Self::places(), reason },
            error => error,
        })
    }

    fn open(path: &Path) -> Result<Self, RuntimeError> {
        let builder = ort::init_from(path).map_err(|error| match error {
            LoadDynamicError::BadVersion { version_str, path } => {
                RuntimeError::TooOld { path, version: version_str, least: ort::MINOR_VERSION }
            }
            LoadDynamicError::Dlopen { error, path } => {
                // The loader's message is in the source; the error itself only says `dlopen failed`.
                let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                RuntimeError::Unloadable { path, reason }
            }
            error => RuntimeError::Unloadable { path: path.to_path_buf(), reason: error.to_string() },
        })?;
        let start = |error: ort::Error| RuntimeError::Start { path: path.to_path_buf(), reason: error.to_string() };
        let environment = builder
            .with_name("aimpoint")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, category, _, _, message| log(level, category, message)))
            .build()
            .map_err(start)?;
        environment.set_log_level(LogLevel::Warning);
        let library = if path.is_absolute() { path.to_path_buf() } else { mapped().unwrap_or_else(|| path.into()) };
        let version = version_of(&library).unwrap_or_else(|| format!("1.{} or newer", ort::MINOR_VERSION));
        tracing::debug!(library = %library.display(), version, "loaded ONNX Runtime");
        Ok(Self { environment, version, library })
    }
}

/// Logs a message of ONNX Runtime. Errors are also returned to the caller, so they are logged as details.
fn log(level: LogLevel, category: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, "{message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(target: "onnxruntime", category, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", category, "{message}"),
    }
}

/// The library's file name on this system.
fn file_name() -> String {
    format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)
}

/// The path in the environment.
fn named() -> Option<PathBuf> {
    env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// `.onnxruntime` in the working directory and its parents, then in the executable's ancestors.
fn folders(directory: Option<PathBuf>, executable: Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let executable = executable.and_then(|file| file.parent().map(Path::to_path_buf));
    let mut places: Vec<PathBuf> = Vec::new();
    for start in [directory, executable].into_iter().flatten() {
        for folder in start.ancestors() {
            let place = folder.join(FOLDER).join(file_name());
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places.into_iter()
}

/// The library at a path: the file itself, or the one in that folder; canonical if it exists.
fn library_of(path: &Path) -> PathBuf {
    let path = if path.is_dir() { path.join(file_name()) } else { path.to_path_buf() };
    fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

/// The library chosen by the system's loader, from this process's memory mappings (Linux only).
fn mapped() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| line.find('/').map(|at| &line[at..]).filter(|it| it.contains("onnxruntime.")))?;
    Some(library_of(Path::new(path)))
}

/// The library's version. Its API returns it only as a C pointer, so it is read from the version of its symbols (`VERS_1.22.1`), or
/// else from the file name.
fn version_of(library: &Path) -> Option<String> {
    const TAG: &[u8] = b"VERS_";
    let number = |text: &[u8]| {
        let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(text.len());
        let text = std::str::from_utf8(&text[..end]).ok()?.trim_end_matches('.');
        (text.split('.').count() == 3).then(|| text.to_owned())
    };
    let bytes = fs::read(library).unwrap_or_default();
    let tagged = bytes.windows(TAG.len()).enumerate().filter(|(_, window)| *window == TAG);
    tagged.map(|(at, _)| &bytes[at + TAG.len()..]).find_map(number).or_else(|| {
        let name = library.file_name()?.to_str()?;
        name.split_once(".so.").and_then(|(_, version)| number(version.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_from_the_inside_out_and_each_once() {
        let places: Vec<_> = folders(Some("/a/b".into()), Some("/a/target/aimpoint".into())).collect();
        let expected = ["/a/b", "/a", "/", "/a/target"].map(|folder| Path::new(folder).join(FOLDER).join(file_name()));
        assert_eq!(places, expected);
    }

    #[test]
    fn a_file_that_is_not_a_library_is_rejected_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        fs::write(&path, b"not a library").unwrap();
        let error = Runtime::open(&path).unwrap_err();
        assert!(matches!(&error, RuntimeError::Unloadable { path: found, .. } if *found == path), "{error}");
        assert!(error.to_string().contains("run make onnxruntime or set ORT_DYLIB_PATH"), "{error}");
        assert!(error.to_string().contains("found: /"), "the loader's message names the file: {error}");
    }

    #[test]
    fn the_version_is_read_from_the_symbols_or_else_from_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.9.0");
        fs::write(&path, b"..VERS_x..VERS_1.22.1\0..").unwrap();
        assert_eq!(version_of(&path).as_deref(), Some("1.22.1"));
        fs::write(&path, b"").unwrap();
        assert_eq!(version_of(&path).as_deref(), Some("1.9.0"));
    }
}
