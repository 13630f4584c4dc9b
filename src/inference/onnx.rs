//! ONNX Runtime: finding it, loading a model with it, running the model.
//!
//! Owns the one environment of the process, and is the only file that names `ort`. Guarantees: the library is looked
//! for in known places which an error lists; a model is checked against its features by its declared shapes and by a
//! run on three rows before it is handed out, so that a wrong one is refused at start and not by its first batch.
//! Limits: ONNX Runtime 1.21 or newer; one library a process; one thread a session, since the workers are the threads.
//! ONNX Runtime's telemetry is off, and its log goes to `tracing` under the target `onnxruntime`.

use super::{
    FeatureMatrix, ModelSpec,
    model::{Model, ModelError, ModelInfo, metadata},
};
use ort::{
    LoadDynamicError,
    environment::Environment,
    logging::LogLevel,
    session::{HasSelectedOutputs, OutputSelector, RunOptions, Session},
    value::{Outlet, TensorElementType, TensorRef, ValueType},
};
use sha2::{Digest, Sha256};
use std::{
    env,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The variable that names the library, as ONNX Runtime's bindings have it.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The folder that `deploy/onnxruntime/fetch` fills.
const FOLDER: &str = ".onnxruntime";
/// The execution providers of this build.
const PROVIDERS: &str = "cpu";

/// The environment of this process. ONNX Runtime allows one, and the library stays loaded once it is.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, loaded. Clones share the process's one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    version: String,
    library: PathBuf,
}

/// Why ONNX Runtime is not there.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It lies in none of the places.
    #[error(
        "find ONNX Runtime: expected the library at one of: {}; run make onnxruntime or set ORT_DYLIB_PATH ({reason})",
        list(places)
    )]
    NotFound {
        /// Where it was looked for.
        places: Vec<PathBuf>,
        /// What the system's loader says.
        reason: String,
    },
    /// A file is there, and is not ONNX Runtime for this machine.
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
        /// The oldest minor version that will do.
        least: u32,
    },
    /// Another library is loaded already, and a process holds one.
    #[error(
        "load ONNX Runtime from {}: this process has loaded {} already; start another process",
        path.display(),
        loaded.display()
    )]
    Another {
        /// The file that was asked for.
        path: PathBuf,
        /// The file that is loaded.
        loaded: PathBuf,
    },
    /// The library is loaded and does not start.
    #[error("start ONNX Runtime from {}: {reason}", path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Runtime {
    /// Loads ONNX Runtime, or returns what this process has loaded before: from `path` where given, else from
    /// `ORT_DYLIB_PATH`, else from the first of the other [`Runtime::places`] where it lies.
    ///
    /// # Errors
    /// No library is there, or none that this program can use.
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
            Some(path) => Self::open(&library_of(&path))?,
            None => match folders(env::current_dir().ok(), env::current_exe().ok()).find(|place| place.exists()) {
                Some(place) => Self::open(&library_of(&place))?,
                None => Self::open_by_name()?,
            },
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Where the library is looked for when no path is given, in this order; the last one is left to the system's
    /// loader.
    pub fn places() -> Vec<PathBuf> {
        let folders = folders(env::current_dir().ok(), env::current_exe().ok());
        named().into_iter().chain(folders).chain([PathBuf::from(file_name())]).collect()
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
                // The loader's own words stand in the source; the error itself says no more than `dlopen failed`.
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

/// ONNX Runtime's errors come back to the caller, who reports them: what it logs besides is detail.
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

/// `.onnxruntime` beside the working directory and up its parents, then beside the executable's ancestors.
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

/// The library that a path means: itself, or the one in that folder; absolute and without links where it exists.
fn library_of(path: &Path) -> PathBuf {
    let path = if path.is_dir() { path.join(file_name()) } else { path.to_path_buf() };
    fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

/// The library that the system's loader chose: the file of that name among this process's mappings (Linux alone).
fn mapped() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| line.find('/').map(|at| &line[at..]).filter(|it| it.contains("onnxruntime.")))?;
    Some(library_of(Path::new(path)))
}

/// The library's version. Its API tells it through a C pointer alone, so it is read from the name of its symbols'
/// version (`VERS_1.22.1`), then from the file's name.
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

/// An ONNX model in a session of its own.
pub struct OnnxModel {
    runtime: Runtime,
    path: PathBuf,
    bytes: Arc<[u8]>,
    info: ModelInfo,
    session: Session,
    options: RunOptions<HasSelectedOutputs>,
}

impl std::fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxModel").field("path", &self.path).field("info", &self.info).finish_non_exhaustive()
    }
}

impl OnnxModel {
    /// Loads a model and checks that it fits. Its features are those that `spec` names, else those of the file's
    /// metadata, else `declared`; `fingerprint` is the declared features'.
    ///
    /// # Errors
    /// The file cannot be read or run, or does not fit the features.
    pub fn load(
        runtime: &Runtime,
        spec: &ModelSpec,
        declared: &[String],
        fingerprint: &str,
    ) -> Result<Self, ModelError> {
        let path = spec.path.as_path();
        let provider = choose(&spec.providers)?;
        let bytes: Arc<[u8]> =
            fs::read(path).map_err(|source: io::Error| ModelError::Read { path: path.to_path_buf(), source })?.into();
        let session = open(runtime, &bytes).map_err(|error| refuse(path, &error))?;
        let custom = {
            let found = session.metadata().map_err(|error| refuse(path, &error))?;
            Custom::read(|key| found.custom(key), path)?
        };
        let (features, by) = match (&spec.features, custom.features) {
            (Some(features), _) => (features.clone(), "model.features"),
            (None, Some(features)) => (features, "its metadata"),
            (None, None) => (declared.to_vec(), "the declared features"),
        };
        if let (None, Some(model)) = (&spec.features, &custom.fingerprint)
            && model != fingerprint
        {
            let (model, declared) = (model.clone(), fingerprint.to_owned());
            return Err(ModelError::Fingerprint { path: path.to_path_buf(), model, declared });
        }
        check_input(path, session.inputs(), features.len(), by)?;
        let output = choose_output(path, session.outputs(), spec.output.as_deref())?;
        let sha256 = format!("{:x}", Sha256::digest(&bytes));
        let stem = || path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let info = ModelInfo {
            name: spec.name.clone().or(custom.name).unwrap_or_else(stem),
            version: spec.version.clone().or(custom.version).unwrap_or_else(|| sha256[..12].to_owned()),
            sha256,
            runtime: format!("onnxruntime {}", runtime.version),
            provider: provider.to_owned(),
            features,
            fingerprint: custom.fingerprint,
            output,
        };
        let options = select(&info.output).map_err(|error| refuse(path, &error))?;
        let mut model = Self { runtime: runtime.clone(), path: path.to_path_buf(), bytes, info, session, options };
        model.probe()?;
        Ok(model)
    }

    /// The same model in another session, for another worker: from the same bytes, whatever the file holds by now.
    ///
    /// # Errors
    /// The runtime has no room for another session.
    pub fn twin(&self) -> Result<Self, ModelError> {
        let session = open(&self.runtime, &self.bytes).map_err(|error| refuse(&self.path, &error))?;
        let options = select(&self.info.output).map_err(|error| refuse(&self.path, &error))?;
        Ok(Self {
            runtime: self.runtime.clone(),
            path: self.path.clone(),
            bytes: Arc::clone(&self.bytes),
            info: self.info.clone(),
            session,
            options,
        })
    }

    /// Runs three rows, which tells what shapes the file leaves open and grows the session's buffers. Three, so that a
    /// pair of class columns cannot be taken for rows.
    fn probe(&mut self) -> Result<(), ModelError> {
        let mut matrix = FeatureMatrix::new(self.info.features.len());
        matrix.reset(3).fill(0.0);
        self.score(&matrix, &mut Vec::new())
    }
}

impl Model for OnnxModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
        scores.clear();
        let rows = matrix.rows();
        if rows == 0 {
            return Ok(());
        }
        let model = &self.info.name;
        let failed = |error: ort::Error| ModelError::Run { model: model.clone(), rows, reason: error.to_string() };
        let input = TensorRef::from_array_view(([rows, matrix.width()], matrix.values())).map_err(failed)?;
        let outputs = self.session.run_with_options(ort::inputs![input], &self.options).map_err(failed)?;
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        match **shape {
            [n] | [n, 1] if n == rows as i64 => scores.extend_from_slice(values),
            // A classifier's two columns: the second one is the probability of the positive class.
            [n, 2] if n == rows as i64 => scores.extend(values.iter().skip(1).step_by(2)),
            _ => return Err(ModelError::Scores { model: model.clone(), rows, found: format!("{shape:?}") }),
        }
        Ok(())
    }
}

/// The file's own account of itself.
struct Custom {
    name: Option<String>,
    version: Option<String>,
    features: Option<Vec<String>>,
    fingerprint: Option<String>,
}

impl Custom {
    fn read(get: impl Fn(&str) -> Option<String>, path: &Path) -> Result<Self, ModelError> {
        let features = match get(metadata::FEATURES) {
            None => None,
            Some(text) => Some(serde_json::from_str(&text).map_err(|_| ModelError::Metadata {
                path: path.to_path_buf(),
                key: metadata::FEATURES,
                expected: "a JSON array of feature names",
                found: text,
            })?),
        };
        Ok(Self {
            name: get(metadata::NAME),
            version: get(metadata::VERSION),
            features,
            fingerprint: get(metadata::FINGERPRINT),
        })
    }
}

fn refuse(path: &Path, error: &ort::Error) -> ModelError {
    ModelError::Load { path: path.to_path_buf(), reason: error.to_string() }
}

/// The first of the wanted providers that this build has.
fn choose(wanted: &[String]) -> Result<&'static str, ModelError> {
    for (index, provider) in wanted.iter().enumerate() {
        match provider.as_str() {
            "cpu" => return Ok("cpu"),
            "cuda" | "tensorrt" if index + 1 < wanted.len() => {
                tracing::warn!(provider, next = wanted[index + 1], "this build has no such provider: falling back");
            }
            "cuda" | "tensorrt" => {
                let reason = format!("this build has no provider {provider:?}");
                return Err(ModelError::Provider { reason, available: PROVIDERS });
            }
            _ => {
                let reason = format!("expected cpu, cuda or tensorrt, found {provider:?}");
                return Err(ModelError::Provider { reason, available: PROVIDERS });
            }
        }
    }
    Err(ModelError::Provider { reason: "expected at least one".to_owned(), available: PROVIDERS })
}

fn open(runtime: &Runtime, bytes: &[u8]) -> Result<Session, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_log_level(LogLevel::Warning)?;
    builder.commit_from_memory(bytes)
}

fn select(output: &str) -> Result<RunOptions<HasSelectedOutputs>, ort::Error> {
    Ok(RunOptions::new()?.with_outputs(OutputSelector::no_default().with(output)))
}

/// Checks that there is one float32 input [rows, `features`].
fn check_input(path: &Path, inputs: &[Outlet], features: usize, by: &'static str) -> Result<(), ModelError> {
    let wrong = || ModelError::Input { path: path.to_path_buf(), width: features, found: describe(inputs) };
    let [input] = inputs else { return Err(wrong()) };
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = input.dtype() else { return Err(wrong()) };
    match **shape {
        // Where the width is open, the probe tells.
        [-1, -1] => Ok(()),
        [-1, width] if width == features as i64 => Ok(()),
        [-1, width] => Err(ModelError::Width { path: path.to_path_buf(), width, named: features, by }),
        _ => Err(wrong()),
    }
}

/// The output that is asked for, or the first float one, whose declared shape may hold a score a row.
fn choose_output(path: &Path, outputs: &[Outlet], wanted: Option<&str>) -> Result<String, ModelError> {
    let float = |output: &&Outlet| match output.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
            // A file may leave the rank open as well, which reads as no dimensions: the probe tells.
            matches!(**shape, [] | [-1] | [-1, -1 | 1 | 2])
        }
        _ => false,
    };
    let found = match wanted {
        Some(name) => outputs.iter().find(|output| output.name() == name).filter(float),
        None => outputs.iter().find(float),
    };
    found.map(|output| output.name().to_owned()).ok_or_else(|| ModelError::Output {
        path: path.to_path_buf(),
        wanted: wanted.map(|name| format!(" {name:?}")).unwrap_or_default(),
        found: describe(outputs),
    })
}

/// The names, types and shapes of inputs or outputs.
fn describe(outlets: &[Outlet]) -> String {
    let mut text = String::new();
    for outlet in outlets {
        let separator = if text.is_empty() { "" } else { ", " };
        let written = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => write!(text, "{separator}{:?}: {ty} {shape:?}", outlet.name()),
            ValueType::Sequence(_) => write!(text, "{separator}{:?}: a sequence", outlet.name()),
            ValueType::Map { .. } => write!(text, "{separator}{:?}: a map", outlet.name()),
            ValueType::Optional(_) => write!(text, "{separator}{:?}: an optional value", outlet.name()),
        };
        written.expect("writing to a string cannot fail");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_looked_for_from_the_inside_out_and_each_once() {
        let places: Vec<_> = folders(Some("/a/b".into()), Some("/a/target/aimpoint".into())).collect();
        let expected = ["/a/b", "/a", "/", "/a/target"].map(|folder| Path::new(folder).join(FOLDER).join(file_name()));
        assert_eq!(places, expected);
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        fs::write(&path, b"not a library").unwrap();
        let error = Runtime::open(&path).unwrap_err();
        assert!(matches!(&error, RuntimeError::Unloadable { path: found, .. } if *found == path), "{error}");
        assert!(error.to_string().contains("run make onnxruntime or set ORT_DYLIB_PATH"), "{error}");
        assert!(error.to_string().contains("found: /"), "the loader's words name the file: {error}");
    }

    #[test]
    fn the_version_is_read_from_the_symbols_and_then_from_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.9.0");
        fs::write(&path, b"..VERS_x..VERS_1.22.1\0..").unwrap();
        assert_eq!(version_of(&path).as_deref(), Some("1.22.1"));
        fs::write(&path, b"").unwrap();
        assert_eq!(version_of(&path).as_deref(), Some("1.9.0"));
    }

    #[test]
    fn providers_are_tried_in_order_and_unknown_ones_refused() {
        let choose = |names: &[&str]| choose(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(choose(&["cpu"]).unwrap(), "cpu");
        assert_eq!(choose(&["cuda", "cpu"]).unwrap(), "cpu");
        let cases = [
            (&["cuda"][..], "model.providers: this build has no provider \"cuda\"; this build has: cpu"),
            (&["gpu", "cpu"], "model.providers: expected cpu, cuda or tensorrt, found \"gpu\"; this build has: cpu"),
            (&[], "model.providers: expected at least one; this build has: cpu"),
        ];
        for (names, message) in cases {
            assert_eq!(choose(names).unwrap_err().to_string(), message);
        }
    }
}
