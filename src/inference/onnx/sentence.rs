//! The session of a sentence model.
//!
//! Owns the check of its inputs and outputs, and the average over tokens. Guarantees: what is loaded has run on two texts of
//! different lengths and on the last token of its vocabulary. All processors work on a run, because nothing else does then.

use super::{ModelFiles, ModelSpec, Runtime, contract::describe, first_that_works};
use crate::inference::{
    ModelError,
    files::shown,
    graph::Graph,
    sentences::{Batch, SentenceError},
};
use ort::{
    session::{Session, SessionInputValue, builder::PrepackedWeights},
    value::{Outlet, TensorElementType, TensorRef, ValueType},
};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";
/// The output of models that average by themselves.
const SENTENCE: &str = "sentence_embedding";

/// What to open.
pub(in crate::inference) struct EncoderSpec<'a> {
    pub(in crate::inference) path: PathBuf,
    pub(in crate::inference) providers: &'a [String],
    /// The largest token.
    pub(in crate::inference) token_last: u32,
}

/// A sentence model with its session.
pub(in crate::inference) struct Encoder {
    path: PathBuf,
    sha256: String,
    session: Session,
    /// Whether it takes the numbers of sentences, which are all 0.
    has_types: bool,
    output: String,
    width: usize,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("path", &self.path).field("output", &self.output).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Opens and checks a model.
    pub(in crate::inference) fn open(runtime: &Runtime, spec: &EncoderSpec<'_>) -> Result<Self, SentenceError> {
        let path = spec.path.clone();
        let files = ModelFiles::read(&path, ModelFiles::BYTES_MAX)?;
        if let Some(graph) = Graph::read(&files.bytes) {
            files.check(&path, &graph)?;
            if let Some(operator) = graph.foreign() {
                return Err(ModelError::Operator { path, operator: shown(operator) }.into());
            }
        }
        let settings = ModelSpec { providers: spec.providers.to_vec(), ..ModelSpec::at(&path) };
        let threads = available_parallelism().map_or(1, std::num::NonZero::get);
        let (session, _) = first_that_works(runtime, &settings, &files, &PrepackedWeights::new(), threads)?;
        let has_types = check_inputs(&path, session.inputs())?;
        let output = choose_output(&path, session.outputs())?;
        let sha256 = files.sha256();
        let mut encoder = Self { path, sha256, session, has_types, output, width: 0 };
        let probe = |token: u32| Batch::of([&[token, token][..], &[token, token, token]].into_iter(), 0);
        encoder.width = encoder.encode(&probe(0))?.len() / 2;
        encoder.encode(&probe(spec.token_last)).map_err(|error| match error {
            SentenceError::Run { path, reason, .. } => SentenceError::Token { path, token: spec.token_last, reason },
            error => error,
        })?;
        Ok(encoder)
    }

    pub(in crate::inference) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::inference) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(in crate::inference) fn width(&self) -> usize {
        self.width
    }

    /// A vector per text, not yet of length one.
    pub(in crate::inference) fn encode(&mut self, batch: &Batch) -> Result<Vec<f32>, SentenceError> {
        let Self { path, session, has_types, output, width, .. } = self;
        let failed = |error: ort::Error| SentenceError::Run {
            path: path.clone(),
            rows: batch.rows,
            reason: shown(&error.to_string()),
        };
        let shape = [batch.rows as i64, batch.length as i64];
        let zeros = if *has_types { vec![0_i64; batch.ids.len()] } else { Vec::new() };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        let values = [(IDS, &batch.ids), (MASK, &batch.mask), (TYPES, &zeros)];
        for (name, values) in values.into_iter().take(if *has_types { 3 } else { 2 }) {
            let tensor = TensorRef::from_array_view((shape, &values[..])).map_err(failed)?;
            inputs.push((name.into(), tensor.into()));
        }
        let outputs = session.run(inputs).map_err(failed)?;
        let (shape, values) = outputs[output.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
        let size = |extent: i64| usize::try_from(extent).unwrap_or_default();
        let is_expected = |found: usize| found > 0 && (*width == 0 || found == *width);
        match shape[..] {
            [rows, tokens, found]
                if size(rows) == batch.rows && size(tokens) == batch.length && is_expected(size(found)) =>
            {
                Ok(averages(values, batch, size(found)))
            }
            [rows, found] if size(rows) == batch.rows && is_expected(size(found)) => Ok(values.to_vec()),
            _ => {
                let found =
                    format!("{output:?} of shape {shape:?} for {} texts of {} tokens", batch.rows, batch.length);
                Err(SentenceError::Output { path: path.clone(), found })
            }
        }
    }
}

/// The mean of the tokens of each text, without padding.
fn averages(values: &[f32], batch: &Batch, width: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(batch.rows * width);
    let texts = values.chunks_exact(batch.length * width).zip(batch.mask.chunks_exact(batch.length));
    for (tokens, mask) in texts {
        let mut sum = vec![0.0; width];
        for (token, _) in tokens.chunks_exact(width).zip(mask).filter(|(_, mask)| **mask == 1) {
            sum.iter_mut().zip(token).for_each(|(sum, it)| *sum += it);
        }
        let count = mask.iter().sum::<i64>().max(1) as f32;
        all.extend(sum.iter().map(|it| it / count));
    }
    all
}

/// The type and rank of a tensor.
fn tensor(outlet: &Outlet) -> Option<(TensorElementType, usize)> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => Some((*ty, shape.len())),
        _ => None,
    }
}

/// Whether the model takes numbers of sentences, besides ids and mask.
fn check_inputs(path: &Path, inputs: &[Outlet]) -> Result<bool, SentenceError> {
    let has = |name: &str| inputs.iter().any(|it| it.name() == name);
    let is_known = |it: &Outlet| {
        [IDS, MASK, TYPES].contains(&it.name()) && tensor(it).is_some_and(|(ty, _)| ty == TensorElementType::Int64)
    };
    if has(IDS) && has(MASK) && inputs.iter().all(is_known) {
        return Ok(has(TYPES));
    }
    Err(SentenceError::Inputs { path: path.to_path_buf(), found: describe(inputs) })
}

/// The output with a vector per text if it is named so, else that with a vector per token, else the only one per text.
fn choose_output(path: &Path, outputs: &[Outlet]) -> Result<String, SentenceError> {
    let of_rank = |rank: usize| {
        let is = move |it: &&Outlet| tensor(it) == Some((TensorElementType::Float32, rank));
        outputs.iter().filter(is).collect::<Vec<_>>()
    };
    let (tokens, texts) = (of_rank(3), of_rank(2));
    let named = texts.iter().find(|it| it.name() == SENTENCE);
    let found = named.or(tokens.first()).or(if texts.len() == 1 { texts.first() } else { None });
    let found = found.map(|it| it.name().to_owned());
    found.ok_or_else(|| SentenceError::Output { path: path.to_path_buf(), found: describe(outputs) })
}
