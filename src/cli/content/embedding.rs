//! Embeddings of comments by a sentence model, in batches that survive a stop.
//!
//! Guarantees: with a file, a second start goes on after the last whole batch and gives the same vectors; a file of other
//! comments or of another model is refused, and so is one whose batches do not have their checksums. Limits: a vector has a
//! byte for each dimension. A batch that was cut off by a stop is embedded again. The file tells what each comment is about,
//! though not its words: treat it like the comments.

use crate::{
    blocks,
    cli::{Exit, whole_within},
    content::themes::{EmbedError, Embedder, Quantised, Vectors},
    inference::{Runtime, SentenceError, Sentences},
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// What the file begins with, so that a later form is told apart.
const FORM: &str = "aimpoint-embeddings-1";

/// How texts are compared.
#[derive(Args, Clone, Debug)]
pub(super) struct EmbeddingArgs {
    /// Compare comments by the sentence model in this folder: model.onnx, and tokenizer.json or vocab.txt [default: bags of
    /// words]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Where the model runs, by preference: cpu, cuda, tensorrt
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "cpu", requires = "model")]
    provider: Vec<String>,
    /// Keep the embeddings in this file; a second start goes on where the first one stopped
    #[arg(long, value_name = "FILE", requires = "model")]
    embeddings: Option<PathBuf>,
    /// The comments that are embedded between two writes to that file
    #[arg(long, value_name = "COUNT", default_value_t = 1_024, value_parser = whole_within(1..=4_096), requires = "model")]
    batch: usize,
}

impl EmbeddingArgs {
    /// The file of embeddings, which must not be an input.
    pub(super) fn file(&self) -> Option<&Path> {
        self.embeddings.as_deref()
    }

    /// The sentence model, if one is named.
    pub(super) fn open(&self) -> anyhow::Result<Option<Embeddings>> {
        let Some(folder) = &self.model else { return Ok(None) };
        let runtime = Runtime::load(None)?;
        let model = Sentences::load(&runtime, folder, &self.provider).map_err(of_model)?;
        Ok(Some(Embeddings { model, file: self.embeddings.clone(), batch: self.batch, failure: None, reused: 0 }))
    }
}

fn of_model(error: SentenceError) -> anyhow::Error {
    match error {
        // Its exit code depends on whether the file can be read at all.
        SentenceError::Model(error) => error.into(),
        error @ SentenceError::NoModel { .. } => Exit::NoInput.because(error.to_string()),
        error => Exit::Model.because(error.to_string()),
    }
}

/// What a file of embeddings is of.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Header {
    form: String,
    /// The hash of the model and its tokenizer.
    model: String,
    width: usize,
    /// The texts in a batch. Batches of other sizes may give other last digits.
    batch: usize,
    texts: usize,
    /// The hash of all texts.
    texts_sha256: String,
}

/// A sentence model that keeps what it has done.
#[derive(Debug)]
pub(super) struct Embeddings {
    model: Sentences,
    file: Option<PathBuf>,
    batch: usize,
    /// Why it failed, with the exit code.
    failure: Option<anyhow::Error>,
    /// The texts whose embeddings were in the file.
    reused: usize,
}

impl Embeddings {
    /// The failure behind an error of [`Embedder::embed`].
    pub(super) fn failure(&mut self) -> Option<anyhow::Error> {
        self.failure.take()
    }

    /// The texts whose embeddings an earlier start had left in the file.
    pub(super) fn reused(&self) -> usize {
        self.reused
    }

    fn header(&self, texts: &[&str]) -> Header {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        Header {
            form: FORM.to_owned(),
            model: self.model.sha256().to_owned(),
            width: self.model.width(),
            batch: self.batch,
            texts: texts.len(),
            texts_sha256: crate::hex::encode(&hash.finalize()),
        }
    }

    fn run(&mut self, texts: &[&str]) -> anyhow::Result<Vectors> {
        let width = self.model.width();
        let mut rows = Quantised::new(width);
        let header = self.header(texts);
        let mut store = self.file.as_deref().map(|path| Store::open(path, &header, &mut rows)).transpose()?;
        let style = "embedding {human_pos} of {human_len} comments, {per_sec}, {eta} left {wide_bar}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        let bar = ProgressBar::new(texts.len() as u64).with_style(style);
        self.reused = rows.count();
        bar.set_position(self.reused as u64);
        bar.reset_eta();
        for batch in texts[self.reused..].chunks(self.batch) {
            let vectors = self.model.embed(batch).map_err(of_model)?;
            let bytes: Vec<i8> = vectors.chunks_exact(width).flat_map(Quantised::rounded).collect();
            rows.push(&bytes);
            if let Some(store) = &mut store {
                store.append(&bytes)?;
            }
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(Vectors::Quantised(rows))
    }
}

impl Embedder for Embeddings {
    fn name(&self) -> String {
        self.model.name().to_owned()
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError> {
        self.run(texts).map_err(|error| {
            let reason = format!("{error:#}");
            self.failure = Some(error);
            EmbedError { name: self.model.name().to_owned(), reason }
        })
    }
}

/// The file.
struct Store {
    file: File,
    path: PathBuf,
}

impl Store {
    /// Opens or creates it, and reads the whole batches that it has.
    fn open(path: &Path, header: &Header, rows: &mut Quantised) -> anyhow::Result<Self> {
        let doing = || format!("open the embeddings {}", path.display());
        if path.exists() && !path.is_file() {
            return Err(Exit::Usage.because(format!("{}: expected a file, found something else", doing())));
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).with_context(doing)?;
        // Two processes would write into each other's batches.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let message = format!("{}: another process is writing it; wait for it, or name another file", doing());
            return Err(Exit::System.because(message));
        }
        let mut store = Self { file, path: path.to_path_buf() };
        let whole = store.read(header, rows)?;
        store.file.set_len(whole).with_context(doing)?;
        store.file.seek(SeekFrom::End(0)).with_context(doing)?;
        if whole == 0 {
            store.write(serde_json::to_vec(header)?)?;
        }
        Ok(store)
    }

    /// Reads the batches, and returns where the last whole one ends.
    fn read(&mut self, header: &Header, rows: &mut Quantised) -> anyhow::Result<u64> {
        let path = self.path.display();
        let wrong = |what: &str| {
            Exit::Data.because(format!(
                "read the embeddings {path}: {what}; name another file with --embeddings, or remove it"
            ))
        };
        let mut from = BufReader::new(&self.file);
        let mut block = Vec::new();
        match blocks::read(&mut from, &mut block) {
            Ok(false) => return Ok(0),
            Err(blocks::BlockError::Read(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(error).with_context(|| format!("read the embeddings {path}"));
            }
            // A stop before the first batch. Nothing else is written over.
            Err(_) if is_cut_off(&self.path, header)? => return Ok(0),
            Err(_) => return Err(wrong("it is not a file of embeddings")),
            Ok(true) => {}
        }
        let found: Header =
            serde_json::from_slice(&block).map_err(|_| wrong("it is not a file of embeddings of this version"))?;
        let differs = [
            (found.form != header.form, "it has another form"),
            (found.model != header.model, "it was made with another model or tokenizer"),
            (found.batch != header.batch, "it was made with another --batch"),
            (found != *header, "it is of other comments"),
        ];
        if let Some((_, what)) = differs.into_iter().find(|(differs, _)| *differs) {
            return Err(wrong(what));
        }
        let mut end = from.stream_position()?;
        // A batch that is cut off or damaged, and all after it, are embedded again.
        while rows.count() < header.texts && matches!(blocks::read(&mut from, &mut block), Ok(true)) {
            let expected = (header.texts - rows.count()).min(header.batch) * header.width;
            if block.len() != expected {
                break;
            }
            rows.push(&block.iter().map(|&byte| byte.cast_signed()).collect::<Vec<_>>());
            end = from.stream_position()?;
        }
        Ok(end)
    }

    fn append(&mut self, rows: &[i8]) -> anyhow::Result<()> {
        self.write(rows.iter().map(|it| it.cast_unsigned()).collect())
    }

    fn write(&mut self, block: Vec<u8>) -> anyhow::Result<()> {
        self.file.write_all(&framed(block)?).with_context(|| format!("write the embeddings {}", self.path.display()))
    }
}

/// A block with its length and checksum.
fn framed(mut block: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut framed = Vec::with_capacity(block.len() + 12);
    blocks::write(&mut framed, &mut block)?;
    Ok(framed)
}

/// Whether a file has nothing but the start of this header, so that it may be written over.
fn is_cut_off(path: &Path, header: &Header) -> anyhow::Result<bool> {
    let doing = || format!("read the embeddings {}", path.display());
    let whole = framed(serde_json::to_vec(header)?)?;
    if std::fs::metadata(path).with_context(doing)?.len() >= whole.len() as u64 {
        return Ok(false);
    }
    Ok(whole.starts_with(&std::fs::read(path).with_context(doing)?))
}
