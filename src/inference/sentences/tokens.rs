//! Tokens of texts, by `tokenizer.json` or by the `vocab.txt` of a BERT model.
//!
//! Guarantees: both files of a model give the same tokens. Whether a `vocab.txt` keeps capital letters is read from
//! `tokenizer_config.json` if that is there, else from the vocabulary. Limits: 256 tokens a text, 64 MiB a file.

use super::SentenceError;
use crate::inference::files::read_file;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokenizers::{
    AddedToken, Tokenizer, TruncationParams, models::wordpiece::WordPiece, normalizers::BertNormalizer,
    pre_tokenizers::bert::BertPreTokenizer, processors::bert::BertProcessing,
};

/// The most tokens of a text: what small sentence models were trained with. A comment has about 30.
const TOKENS_MAX: usize = 256;
/// The largest vocabularies, of models for a hundred languages, have 17 MB.
const BYTES_MAX: u64 = 64 << 20;
/// The special tokens of BERT.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Texts as token ids, in rows of the same length.
#[derive(Debug)]
pub(in crate::inference) struct Batch {
    /// The ids, padded at the end.
    pub(in crate::inference) ids: Vec<i64>,
    /// 1 for a token, 0 for padding.
    pub(in crate::inference) mask: Vec<i64>,
    /// The texts.
    pub(in crate::inference) rows: usize,
    /// The tokens of each, with padding.
    pub(in crate::inference) length: usize,
}

impl Batch {
    /// Rows of ids, each filled up with `pad`.
    pub(in crate::inference) fn of<'a>(texts: impl Iterator<Item = &'a [u32]> + Clone, pad: u32) -> Self {
        let length = texts.clone().map(<[u32]>::len).max().unwrap_or_default();
        let (mut ids, mut mask, mut rows) = (Vec::new(), Vec::new(), 0);
        for text in texts {
            rows += 1;
            ids.extend(text.iter().map(|&id| i64::from(id)));
            mask.extend(text.iter().map(|_| 1));
            ids.resize(rows * length, i64::from(pad));
            mask.resize(rows * length, 0);
        }
        Self { ids, mask, rows, length }
    }
}

/// A tokenizer.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    sha256: [u8; 32],
    tokenizer: Tokenizer,
    pad: u32,
    last: u32,
}

impl Tokens {
    /// Reads the tokenizer of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, SentenceError> {
        let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        let path = if json.is_file() { json } else { vocabulary };
        let wrong = |reason: String| SentenceError::Tokenizer { path: path.clone(), reason };
        let bytes = match read_file(&path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SentenceError::NoTokenizer { folder: folder.to_path_buf() });
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut tokenizer = if path.extension().is_some_and(|it| it == "json") {
            Tokenizer::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?
        } else {
            word_piece(&bytes, lower_case(folder)).map_err(wrong)?
        };
        // Padding is ours, because it depends on the batch.
        let own = tokenizer.get_padding().map(|it| it.pad_id);
        let named = || ["[PAD]", "<pad>"].iter().find_map(|it| tokenizer.token_to_id(it));
        let pad = own.or_else(named).unwrap_or_default();
        tokenizer.with_padding(None);
        let limit = TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(limit)).map_err(|error| wrong(error.to_string()))?;
        let Some(last) = tokenizer.get_vocab(true).into_values().max() else {
            return Err(wrong("it has no words".to_owned()));
        };
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Self { path, sha256, tokenizer, pad, last })
    }

    pub(super) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The largest id.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// The ids of each text.
    pub(super) fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, SentenceError> {
        let all = self.tokenizer.encode_batch_fast(texts.to_vec(), true);
        let wrong = |reason: String| SentenceError::Tokenizer { path: self.path.clone(), reason };
        let all = all.map_err(|error| wrong(error.to_string()))?;
        Ok(all.iter().map(|text| text.get_ids().to_vec()).collect())
    }

    pub(super) fn batch<'a>(&self, texts: impl Iterator<Item = &'a [u32]> + Clone) -> Batch {
        Batch::of(texts, self.pad)
    }
}

/// Whether `tokenizer_config.json` says that letters are lowered.
fn lower_case(folder: &Path) -> Option<bool> {
    #[derive(Deserialize)]
    struct Settings {
        do_lower_case: Option<bool>,
    }
    let bytes = read_file(&folder.join("tokenizer_config.json"), BYTES_MAX).ok()?;
    serde_json::from_slice::<Settings>(&bytes).ok()?.do_lower_case
}

/// The tokenizer of BERT with this vocabulary, one word a line.
fn word_piece(bytes: &[u8], lower_case: Option<bool>) -> Result<Tokenizer, String> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8 text; expected a word on each line".to_owned())?;
    // A vocabulary with capitals belongs to a model that tells them apart.
    let has_capitals =
        || text.lines().any(|word| !word.starts_with('[') && word.contains(|it: char| it.is_ascii_uppercase()));
    let lower_case = lower_case.unwrap_or_else(|| !has_capitals());
    let words = WordPiece::read_bytes(bytes).map_err(|error| error.to_string())?;
    let id = |word: &str| {
        words.get(word).copied().ok_or_else(|| format!("the line {word} is missing; is this of a BERT model?"))
    };
    let (start, end, _) = (id("[CLS]")?, id("[SEP]")?, id("[UNK]")?);
    let model = WordPiece::builder().vocab(words.clone()).build().map_err(|error| error.to_string())?;
    let special = SPECIAL.into_iter().filter(|word| words.contains_key(*word));
    let special: Vec<AddedToken> = special.map(|word| AddedToken::from(word, true)).collect();
    let mut tokenizer = Tokenizer::new(model);
    let text = |error: tokenizers::Error| error.to_string();
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lower_case))).map_err(text)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(("[SEP]".to_owned(), end), ("[CLS]".to_owned(), start))));
    tokenizer.add_special_tokens(special).map_err(text)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nbattery\nlast\n##s\ncafe\n!\n";

    fn tokens(files: &[(&str, &str)]) -> Result<Tokens, SentenceError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Tokens::read(folder.path())
    }

    #[test]
    fn a_vocabulary_splits_words_as_bert_does() {
        let tokens = tokens(&[("vocab.txt", WORDS)]).unwrap();
        let all = tokens.encode(&["Battery lasts!", "CAFÉ strap", "", "[SEP]"]).unwrap();
        assert_eq!(all, [vec![2, 4, 5, 6, 8, 3], vec![2, 7, 1, 3], vec![2, 3], vec![2, 3, 3]]);
        assert_eq!(tokens.last(), 8);
        let batch = tokens.batch(all[..2].iter().map(|it| &it[..]));
        assert_eq!((batch.rows, batch.length), (2, 6));
        assert_eq!(batch.ids, [2, 4, 5, 6, 8, 3, 2, 7, 1, 3, 0, 0]);
        assert_eq!(batch.mask, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        let long = "battery ".repeat(5_000);
        let ids = &tokens.encode(&[&long]).unwrap()[0];
        assert_eq!((ids.len(), ids[255]), (256, 3), "cut off, with its end");
    }

    #[test]
    fn capitals_are_kept_where_the_vocabulary_or_its_settings_say_so() {
        let ids = |files: &[(&str, &str)]| tokens(files).unwrap().encode(&["Berlin"]).unwrap().remove(0);
        let cased = format!("{WORDS}Berlin\nberlin\n");
        assert_eq!(ids(&[("vocab.txt", &cased)]), [2, 9, 3]);
        let lower = "{\"do_lower_case\": true}";
        assert_eq!(ids(&[("vocab.txt", &cased), ("tokenizer_config.json", lower)]), [2, 10, 3]);
    }

    #[test]
    fn a_missing_or_wrong_tokenizer_is_named() {
        let message = |files: &[(&str, &str)]| tokens(files).unwrap_err().to_string();
        assert!(message(&[]).contains("tokenizer.json or a BERT vocab.txt"), "{}", message(&[]));
        let wrong = message(&[("vocab.txt", "hello\nworld\n")]);
        assert!(wrong.contains("vocab.txt: the line [CLS] is missing"), "{wrong}");
        assert!(message(&[("tokenizer.json", "{}")]).contains("tokenizer.json: "));
    }
}
