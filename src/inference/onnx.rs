//! Loads and runs models with ONNX Runtime.
//!
//! Owns the sessions; together with its submodules it is the only code that uses `ort`. Guarantees: a model is checked against its
//! features, by its declared shapes and by a run on three rows, when it is loaded and not at its first batch; copies of a model share
//! its weights. Limits: ONNX Runtime 1.21 or newer; one library per process; one thread per session of a scoring
//! model, since the workers are the threads. ONNX Runtime's telemetry is disabled, and it logs to `tracing` under the target
//! `onnxruntime`.

mod contract;
mod deadline;
mod provider;
mod runtime;
mod sentence;

pub use runtime::{Runtime, RuntimeError};
pub(super) use sentence::{Encoder, EncoderSpec};

use super::{
    Calibration, FeatureMatrix, ModelFiles, ModelSpec,
    files::{name_fault, shown},
    graph::Graph,
    model::{Model, ModelError, ModelInfo, metadata},
};
use contract::{Column, Input, Named, Pick};
use deadline::Deadline;
use ort::{
    logging::LogLevel,
    session::{Session, SessionInputValue, SessionInputs, builder::PrepackedWeights},
    value::DynValue,
};
use provider::Provider;
use std::{path::Path, sync::Arc};

/// State shared by the copies of a model.
struct Shared {
    runtime: Runtime,
    spec: ModelSpec,
    files: ModelFiles,
    provider: Provider,
    /// The weights, packed for the CPU's kernels, shared by all sessions.
    weights: PrepackedWeights,
    /// The outputs of the scores, the main one first.
    outputs: Vec<Pick>,
}

/// An ONNX model with its own session.
pub struct OnnxModel {
    shared: Arc<Shared>,
    info: ModelInfo,
    session: Session,
    inputs: Vec<Input>,
    deadline: Deadline,
}

impl std::fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxModel")
            .field("path", &self.shared.spec.path)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl OnnxModel {
    /// Loads and checks a model. Its features are those in `spec`, else those in the file's metadata, else `declared`; `fingerprint`
    /// is that of the declared features.
    ///
    /// # Errors
    /// The file cannot be read or run, or does not match the features.
    pub fn load(
        runtime: &Runtime,
        spec: &ModelSpec,
        declared: &[String],
        fingerprint: &str,
    ) -> Result<Self, ModelError> {
        let files = ModelFiles::read(&spec.path, ModelFiles::BYTES_MAX)?;
        Self::from_bytes(runtime, spec, files, declared, fingerprint)
    }

    /// As [`OnnxModel::load`], from files that have already been read.
    ///
    /// # Errors
    /// The model cannot be run, or does not match the features.
    pub fn from_bytes(
        runtime: &Runtime,
        spec: &ModelSpec,
        files: impl Into<ModelFiles>,
        declared: &[String],
        fingerprint: &str,
    ) -> Result<Self, ModelError> {
        let path = spec.path.as_path();
        let mut files = files.into();
        let sha256 = files.sha256();
        let graph = Graph::read(&files.bytes);
        if let Some(graph) = &graph {
            files.check(path, graph)?;
            if let Some(operator) = graph.foreign() {
                return Err(ModelError::Operator { path: path.to_path_buf(), operator: shown(operator) });
            }
            if let Some(bytes) = graph.without_zipmaps(&files.bytes) {
                files.bytes = bytes.into();
            }
        }
        let weights = PrepackedWeights::new();
        let (session, provider) = first_that_works(runtime, spec, &files, &weights, 1)?;
        let custom = {
            let found = session.metadata().map_err(|error| refuse(path, &error))?;
            Custom::read(|key| found.custom(key), path)?
        };
        let names_features = custom.features.is_some();
        let is_vouched_for = spec.features.is_some() || !spec.inputs.is_empty();
        let (named, by) = if !spec.inputs.is_empty() {
            (Named::ByInput(spec.inputs.clone()), "model.inputs")
        } else if let Some(features) = &spec.features {
            (Named::InOrder(features.clone()), "model.features")
        } else if let Some(features) = custom.features {
            (features, "its metadata")
        } else {
            (Named::InOrder(declared.to_vec()), "the declared features")
        };
        if let (false, Some(model)) = (is_vouched_for, &custom.fingerprint)
            && model != fingerprint
        {
            let (model, declared) = (shown(model), fingerprint.to_owned());
            return Err(ModelError::Fingerprint { path: path.to_path_buf(), model, declared });
        }
        // The fingerprint does not depend on the order of the features, but the model does.
        if !is_vouched_for && !names_features && custom.fingerprint.is_some() {
            return Err(ModelError::Metadata {
                path: path.to_path_buf(),
                key: metadata::FEATURES,
                expected: "the names of its features in order, since the fingerprint does not give the order",
                found: "nothing".to_owned(),
            });
        }
        let (inputs, features) = contract::lay_out(path, session.inputs(), &named, by)?;
        let outputs = contract::choose_outputs(path, session.outputs(), graph.as_ref(), spec)?;
        let calibration = spec.calibration.clone().or(custom.calibration);
        if let Some(reason) = calibration.as_ref().and_then(Calibration::error) {
            return Err(ModelError::Calibration { path: path.to_path_buf(), reason });
        }
        if let Some(baseline) = &custom.baseline
            && baseline.len() != features.len()
        {
            let expected = "a JSON array with a number for each feature";
            let found = format!("{} numbers for {} features", baseline.len(), features.len());
            return Err(ModelError::Metadata { path: path.to_path_buf(), key: metadata::BASELINE, expected, found });
        }
        let stem = || path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let info = ModelInfo {
            name: spec.name.clone().or(custom.name).unwrap_or_else(stem),
            version: spec.version.clone().or(custom.version).unwrap_or_else(|| sha256[..12].to_owned()),
            sha256,
            runtime: format!("onnxruntime {}", runtime.version()),
            provider: provider.name().to_owned(),
            features,
            fingerprint: custom.fingerprint,
            heads: spec.heads.keys().cloned().collect(),
            output: outputs[0].described.clone(),
            ranges: spec.ranges(calibration.as_ref()),
            calibration,
            baseline: custom.baseline,
        };
        for (what, text) in [("name", &info.name), ("version", &info.version)] {
            if let Some(reason) = name_fault(text) {
                return Err(ModelError::Identity { path: path.to_path_buf(), what, reason });
            }
        }
        let (runtime, spec) = (runtime.clone(), spec.clone());
        let shared = Arc::new(Shared { runtime, spec, files, provider, weights, outputs });
        let mut model = Self::assemble(shared, info, session, inputs)?;
        model.probe()?;
        Ok(model)
    }

    /// A copy with its own session, for another worker: from the same bytes, even if the file has changed, and with shared weights.
    ///
    /// # Errors
    /// The runtime cannot create another session.
    pub fn twin(&self) -> Result<Self, ModelError> {
        let Shared { runtime, spec, files, provider, weights, .. } = &*self.shared;
        let session = open(runtime, spec, *provider, files, weights, 1).map_err(|error| refuse(&spec.path, &error))?;
        let inputs = self.inputs.iter().map(Input::twin).collect();
        Self::assemble(Arc::clone(&self.shared), self.info.clone(), session, inputs)
    }

    /// Copies for all workers: on the CPU with a session each, on a GPU with one shared session that batches their rows.
    ///
    /// # Errors
    /// As [`OnnxModel::twin`], or a batch does not fit into the GPU's memory.
    pub fn copies(&self, workers: usize) -> Result<Vec<Box<dyn Model>>, ModelError> {
        if self.shared.provider == Provider::Cpu {
            return (0..workers).map(|_| Ok(Box::new(self.twin()?) as Box<dyn Model>)).collect();
        }
        let ModelSpec { batch, deadline, .. } = self.shared.spec;
        let ends = super::batch(Box::new(self.twin()?), batch, deadline, workers)?;
        Ok(ends.into_iter().map(|end| Box::new(end) as Box<dyn Model>).collect())
    }

    fn assemble(
        shared: Arc<Shared>,
        info: ModelInfo,
        session: Session,
        inputs: Vec<Input>,
    ) -> Result<Self, ModelError> {
        let deadline = Deadline::new(shared.spec.deadline).map_err(|error| refuse(&shared.spec.path, &error))?;
        Ok(Self { shared, info, session, inputs, deadline })
    }

    /// Runs three rows, to check shapes that the file leaves dynamic and to allocate the session's buffers. Three, so that two class
    /// columns cannot be mistaken for rows.
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
        let Self { shared, info, session, inputs, deadline } = self;
        let failed =
            |error: ort::Error| ModelError::Run { model: info.name.clone(), rows, reason: shown(&error.to_string()) };
        for input in inputs.iter_mut() {
            input.fill(matrix);
        }
        let tensors: Vec<SessionInputValue> =
            inputs.iter().map(|input| input.tensor(matrix)).collect::<Result<_, _>>().map_err(failed)?;
        let (outcome, is_in_time) = deadline.guard(|options| {
            let tensors: SessionInputs<'_, '_> = SessionInputs::from(&tensors[..]);
            let outputs = session.run_with_options(tensors, options).map_err(failed)?;
            let append = |pick: &Pick| append(&info.name, &outputs[pick.output.as_str()], pick.column, rows, scores);
            shared.outputs.iter().try_for_each(append)
        });
        if !is_in_time {
            scores.clear();
            return Err(ModelError::Late { model: info.name.clone(), rows, limit: deadline.limit() });
        }
        outcome.inspect_err(|_| scores.clear())
    }
}

/// Appends the score of each row.
fn append(
    model: &str,
    output: &DynValue,
    column: Column,
    rows: usize,
    scores: &mut Vec<f32>,
) -> Result<(), ModelError> {
    if let Ok((shape, values)) = output.try_extract_tensor::<f32>() {
        match stride(model, shape, column, rows)? {
            (_, 1) => scores.extend_from_slice(values),
            (start, step) => scores.extend(values.iter().skip(start).step_by(step)),
        }
        return Ok(());
    }
    let failed = |error: ort::Error| ModelError::Run { model: model.to_owned(), rows, reason: error.to_string() };
    let (shape, values) = output.try_extract_tensor::<f64>().map_err(failed)?;
    let (start, step) = stride(model, shape, column, rows)?;
    scores.extend(values.iter().skip(start).step_by(step).map(|value| *value as f32));
    Ok(())
}

/// The index of the first score, and the distance to the next one.
fn stride(model: &str, shape: &[i64], column: Column, rows: usize) -> Result<(usize, usize), ModelError> {
    let columns = match *shape {
        [n] if n == rows as i64 => Some(1),
        [n, columns] if n == rows as i64 => usize::try_from(columns).ok(),
        _ => None,
    };
    let found = columns.and_then(|columns| Some((column.among(columns)?, columns)));
    found.ok_or_else(|| {
        let (model, columns) = (model.to_owned(), column.expected());
        ModelError::Scores { model, rows, columns, found: format!("{shape:?}") }
    })
}

/// The model file's metadata.
struct Custom {
    name: Option<String>,
    version: Option<String>,
    features: Option<Named>,
    fingerprint: Option<String>,
    calibration: Option<Calibration>,
    baseline: Option<Vec<f32>>,
}

impl Custom {
    fn read(get: impl Fn(&str) -> Option<String>, path: &Path) -> Result<Self, ModelError> {
        let wrong = |key: &'static str, expected: &'static str, found: &str| ModelError::Metadata {
            path: path.to_path_buf(),
            key,
            expected,
            found: shown(found),
        };
        let features = get(metadata::FEATURES).map(|text| contract::named_by(&text, path)).transpose()?;
        let calibration = get(metadata::CALIBRATION).map(|text| {
            let expected =
                "{\"method\": \"platt\", \"slope\": …, \"offset\": …} or {\"method\": \"isotonic\", \"points\": […]}";
            serde_json::from_str(&text).map_err(|_| wrong(metadata::CALIBRATION, expected, &text))
        });
        let baseline = get(metadata::BASELINE).map(|text| {
            let values = serde_json::from_str::<Vec<Option<f32>>>(&text);
            let values =
                values.map_err(|_| wrong(metadata::BASELINE, "a JSON array with a number for each feature", &text))?;
            Ok(values.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect())
        });
        Ok(Self {
            name: get(metadata::NAME),
            version: get(metadata::VERSION),
            features,
            fingerprint: get(metadata::FINGERPRINT),
            calibration: calibration.transpose()?,
            baseline: baseline.transpose()?,
        })
    }
}

fn refuse(path: &Path, error: &ort::Error) -> ModelError {
    ModelError::Load { path: path.to_path_buf(), reason: shown(&error.to_string()) }
}

/// Opens a session with the first requested provider that works. An error in the file itself is not blamed on a provider: it is the
/// error of the last one.
fn first_that_works(
    runtime: &Runtime,
    spec: &ModelSpec,
    files: &ModelFiles,
    weights: &PrepackedWeights,
    threads: usize,
) -> Result<(Session, Provider), ModelError> {
    let mut wanted = Provider::parse(&spec.providers)?.into_iter().peekable();
    while let Some(provider) = wanted.next() {
        let reason = if provider.is_built_in() {
            match open(runtime, spec, provider, files, weights, threads) {
                Ok(session) => {
                    tracing::info!(provider = provider.name(), path = %spec.path.display(), "opened a session for the model");
                    return Ok((session, provider));
                }
                Err(error) if provider == Provider::Cpu => return Err(refuse(&spec.path, &error)),
                Err(error) => format!("{:?} does not start: {error}", provider.name()),
            }
        } else {
            let library = runtime.library().display();
            format!("{:?} is not in the library {library}; set ORT_DYLIB_PATH to a build with it", provider.name())
        };
        match wanted.peek() {
            Some(next) => tracing::warn!(
                provider = provider.name(),
                next = next.name(),
                reason,
                "falling back to the next execution provider"
            ),
            None => return Err(ModelError::Provider { reason, available: provider::available() }),
        }
    }
    unreachable!("the list of providers is not empty, and its last one returns")
}

fn open(
    runtime: &Runtime,
    spec: &ModelSpec,
    provider: Provider,
    files: &ModelFiles,
    weights: &PrepackedWeights,
    threads: usize,
) -> Result<Session, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_prepacked_weights(weights)?
        // Batch sizes vary, so memory patterns would only cost memory.
        .with_memory_pattern(false)?
        .with_log_level(LogLevel::Warning)?;
    for (location, content) in &files.data {
        builder = builder.with_external_initializer_file_in_memory(location, Arc::clone(content))?;
    }
    provider.register(builder, spec)?.commit_from_memory(&files.bytes)
}
