//! Sentence models: texts in, vectors of length one out, in which near means alike.
//!
//! Owns the folder of such a model (`model.onnx`, and `tokenizer.json` or `vocab.txt`), batches, and what is refused.
//! Guarantees: the model takes token ids and gives a vector per text or per token, which is checked by runs when it is
//! loaded; the vectors of tokens are averaged, without padding. The same texts in the same order give the same vectors.
//! Limits: the first 256 tokens of a text count. The vector of a text may depend in its last digits on the texts beside it,
//! because models with 8-bit weights scale a whole batch at once.

mod tokens;

pub(super) use tokens::Batch;

use super::{
    ModelError, Runtime,
    onnx::{Encoder, EncoderSpec},
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tokens::Tokens;

/// The texts of a run. More need more memory and are hardly faster on a CPU.
const BATCH: usize = 32;

/// Why a sentence model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SentenceError {
    /// ONNX Runtime refuses the model, or the file cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The folder has no model.
    #[error("read the sentence model {}: expected model.onnx or onnx/model.onnx in this folder, found neither", folder.display())]
    NoModel {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder has no tokenizer.
    #[error(
        "read the sentence model {}: expected tokenizer.json or a BERT vocab.txt in this folder, found neither; copy the one \
         that the model was trained with",
        folder.display()
    )]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// The tokenizer's file cannot be used.
    #[error("read the tokenizer {}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model's inputs are not those of a sentence model.
    #[error(
        "load the sentence model {}: expected the int64 inputs \"input_ids\" and \"attention_mask\", and at most \
         \"token_type_ids\" besides, found {found}; export it for feature extraction",
        path.display()
    )]
    Inputs {
        /// The file.
        path: PathBuf,
        /// The inputs.
        found: String,
    },
    /// No output has vectors.
    #[error(
        "load the sentence model {}: expected a float32 output of shape [texts, tokens, width] or [texts, width], found \
         {found}; export it for feature extraction, without a head for classes",
        path.display()
    )]
    Output {
        /// The file.
        path: PathBuf,
        /// The outputs, or the shape that a run gave.
        found: String,
    },
    /// The tokenizer knows tokens that the model does not.
    #[error(
        "load the sentence model {}: it fails on the token {token}, which its tokenizer knows: {reason}; put the tokenizer \
         beside it that it was trained with",
        path.display()
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// The token's number.
        token: u32,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// A run fails.
    #[error("embed {rows} texts with {}: {reason}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// How many texts.
        rows: usize,
        /// What went wrong.
        reason: String,
    },
}

/// A loaded sentence model.
#[derive(Debug)]
pub struct Sentences {
    name: String,
    sha256: String,
    tokens: Tokens,
    encoder: Encoder,
}

impl Sentences {
    /// Loads the model of a folder, with the first of these execution providers that works.
    ///
    /// # Errors
    /// A file is missing or cannot be read, or this is no sentence model.
    pub fn load(runtime: &Runtime, folder: &Path, providers: &[String]) -> Result<Self, SentenceError> {
        let places = ["model.onnx", "onnx/model.onnx"].map(|name| folder.join(name));
        let Some(path) = places.into_iter().find(|path| path.is_file()) else {
            return Err(SentenceError::NoModel { folder: folder.to_path_buf() });
        };
        let tokens = Tokens::read(folder)?;
        let encoder = Encoder::open(runtime, &EncoderSpec { path, providers, token_last: tokens.last() })?;
        let mut hash = Sha256::new();
        hash.update(encoder.sha256());
        hash.update(tokens.sha256());
        let sha256 = crate::hex::encode(&hash.finalize());
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        let name = canonical.file_name().map_or_else(|| "model".to_owned(), |it| it.to_string_lossy().into_owned());
        Ok(Self { name, sha256, tokens, encoder })
    }

    /// The name of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of the model and its tokenizer.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The length of a vector.
    pub fn width(&self) -> usize {
        self.encoder.width()
    }

    /// The vectors of texts, one after the other. A text without any token has only zeros.
    ///
    /// # Errors
    /// A run fails, or gives something else than finite numbers.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<f32>, SentenceError> {
        let width = self.width();
        let all = self.tokens.encode(texts)?;
        // Texts of a length are run together, so that little is padded.
        let mut order: Vec<usize> = (0..all.len()).filter(|&text| !all[text].is_empty()).collect();
        order.sort_by_key(|&text| (all[text].len(), text));
        let mut vectors = vec![0.0; width * texts.len()];
        for places in order.chunks(BATCH) {
            let batch = self.tokens.batch(places.iter().map(|&text| &all[text][..]));
            let rows = self.encoder.encode(&batch)?;
            for (&place, row) in places.iter().zip(rows.chunks_exact(width)) {
                let length = row.iter().map(|it| it * it).sum::<f32>().sqrt();
                if !length.is_finite() {
                    let path = self.encoder.path().to_path_buf();
                    let reason = "a vector is not a number; try a model with 32-bit weights".to_owned();
                    return Err(SentenceError::Run { path, rows: batch.rows, reason });
                }
                let scale = if length > 0.0 { length.recip() } else { 0.0 };
                let place = &mut vectors[place * width..(place + 1) * width];
                place.iter_mut().zip(row).for_each(|(to, from)| *to = from * scale);
            }
        }
        Ok(vectors)
    }
}
