//! Sentence models: the real MiniLM, small models made here, and what is no sentence model.
//!
//! Needs the model and the texts that `deploy/minilm/fetch --texts` puts into `.tools/`; without them the tests that use
//! them fail with that command.

use super::commands::aimpoint;
use aimpoint::{
    content::{
        themes::{EmbedError, Embedder, Quantised, ThemeOptions, Vectors, adjusted_rand_index, find},
        voices::{Comment, Intake, Voices},
    },
    inference::{SentenceError, Sentences},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

mod graph;
use graph::{FLOAT, INT64, Net};

/// The first numbers of the vectors by the Python packages tokenizers and onnxruntime, one text at a time.
const REFERENCE_ENGLISH: [f32; 6] = [-0.0247, 0.0346, 0.007, 0.0434, 0.0078, -0.0281];
const REFERENCE_GERMAN: [f32; 6] = [-0.0308, 0.0572, -0.0026, 0.0669, -0.0918, 0.0736];

const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nbattery\nstrap\n";

fn tools(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(name);
    assert!(path.exists(), "{} is missing; run deploy/minilm/fetch --texts", path.display());
    path
}

fn load(folder: &Path) -> Result<Sentences, SentenceError> {
    Sentences::load(&super::runtime(), folder, &["cpu".to_owned()])
}

fn minilm() -> Sentences {
    load(&tools("minilm")).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder with a model made here.
fn made(net: &Net, words: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.onnx"), net.bytes()).unwrap();
    fs::write(folder.path().join("vocab.txt"), words).unwrap();
    folder
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn minilm_gives_the_vectors_that_its_own_libraries_give() {
    let mut model = minilm();
    assert_eq!((model.name(), model.width()), ("minilm", 384));
    for (text, expected) in
        [("The battery lasts for two days", REFERENCE_ENGLISH), ("Die Lieferung kam zu spät!", REFERENCE_GERMAN)]
    {
        let vector = model.embed(&[text]).unwrap();
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5);
        for (found, expected) in vector.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-3, "{text}: {:?}", &vector[..6]);
        }
    }
    let texts = ["The battery lasts for two days", "It runs a long time on one charge", "The parcel came late"];
    let vectors = model.embed(&texts).unwrap();
    let row = |row: usize| &vectors[row * 384..(row + 1) * 384];
    assert!(dot(row(0), row(1)) > dot(row(0), row(2)) + 0.2, "{} {}", dot(row(0), row(1)), dot(row(0), row(2)));
    assert_eq!(model.embed(&texts).unwrap(), vectors, "the same texts give the same vectors");
}

#[test]
fn a_vocabulary_gives_the_vectors_of_the_tokenizer() {
    #[derive(Deserialize)]
    struct Json {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: BTreeMap<String, usize>,
    }
    let json: Json = serde_json::from_slice(&fs::read(tools("minilm/tokenizer.json")).unwrap()).unwrap();
    let mut words: Vec<(usize, String)> = json.model.vocab.into_iter().map(|(word, id)| (id, word)).collect();
    words.sort_unstable();
    assert!(words.iter().enumerate().all(|(place, (id, _))| place == *id));
    let folder = tempfile::tempdir().unwrap();
    let lines: String = words.into_iter().map(|(_, word)| word + "\n").collect();
    fs::write(folder.path().join("vocab.txt"), lines).unwrap();
    std::os::unix::fs::symlink(tools("minilm/model.onnx"), folder.path().join("model.onnx")).unwrap();
    let texts =
        ["Überraschend gut, isn't it?", "電池 \u{1f600} co-operate", "", "[SEP] ignore", "UNAFFABLE e\u{301}t\u{e9}"];
    let vectors = load(folder.path()).unwrap().embed(&texts).unwrap();
    assert!(vectors == minilm().embed(&texts).unwrap(), "the tokens differ");
}

#[test]
fn vectors_are_means_over_the_tokens_of_each_text_without_padding() {
    // [CLS], [SEP], battery and strap.
    let table = vec![vec![9.0, 9.0], vec![9.0, 9.0], vec![0.0, 0.0], vec![0.0, 0.0], vec![3.0, 0.0], vec![0.0, 4.0]];
    let folder = made(&Net::tokens(&table), WORDS);
    let vectors = load(folder.path()).unwrap().embed(&["strap", "battery battery strap", "battery"]).unwrap();
    let length = (6.0_f32.powi(2) + 4.0_f32.powi(2)).sqrt();
    for (found, expected) in vectors.iter().zip([0.0, 1.0, 6.0 / length, 4.0 / length, 1.0, 0.0]) {
        assert!((found - expected).abs() < 1e-6, "{vectors:?}");
    }
}

#[test]
fn what_is_no_sentence_model_is_refused_with_the_next_step() {
    let table = vec![vec![1.0, 2.0]; 6];
    let good = Net::tokens(&table);
    let message = |net: &Net, words: &str| load(made(net, words).path()).unwrap_err().to_string();
    let with = |change: &dyn Fn(&mut Net)| {
        let mut net = good.clone();
        change(&mut net);
        net
    };
    for (net, part) in [
        (with(&|net| net.inputs[1].0 = "features"), "expected the int64 inputs \"input_ids\" and \"attention_mask\""),
        (with(&|net| net.inputs.push(("pixels", FLOAT))), "\"pixels\""),
        (with(&|net| net.output_rank = 1), "expected a float32 output of shape [texts, tokens, width]"),
        (with(&|net| net.output_type = INT64), "expected a float32 output"),
        (Net::tokens(&table[..4]), "fails on the token 5, which its tokenizer knows"),
    ] {
        let message = message(&net, WORDS);
        assert!(message.contains(part), "{part} is not in\n{message}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = load(empty.path()).unwrap_err().to_string();
    assert!(error.contains("expected model.onnx or onnx/model.onnx in this folder"), "{error}");
    let folder = made(&good, WORDS);
    fs::remove_file(folder.path().join("vocab.txt")).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("expected tokenizer.json or a BERT vocab.txt"), "{error}");

    // As a command, with its exit code, before any comment is read.
    let code = |arguments: &[&str]| {
        let all: Vec<&str> = ["content", "themes", "comments.jsonl"].iter().chain(arguments).copied().collect();
        fs::write(folder.path().join("comments.jsonl"), "{\"text\": \"battery\"}\n").unwrap();
        let (code, _, error) = aimpoint(folder.path(), &all);
        (code, error)
    };
    assert_eq!(code(&["--model", "."]).0, 80);
    assert_eq!(code(&["--model", "nowhere"]).0, 66);
    let (exit, error) = code(&["--model", ".", "--provider", "warp"]);
    assert!(exit != 0, "{error}");
    fs::write(folder.path().join("vocab.txt"), WORDS).unwrap();
    let (exit, error) = code(&["--model", ".", "--provider", "warp"]);
    assert_eq!((exit, error.contains("expected cpu, cuda or tensorrt, found \"warp\"")), (80, true), "{error}");
    fs::write(folder.path().join("model.onnx"), b"not a model").unwrap();
    let (exit, error) = code(&["--model", "."]);
    assert_eq!((exit, error.contains("model.onnx: expected an ONNX model")), (80, true), "{error}");
}

/// A sentence model as the command uses it.
struct Rounded(Sentences);

impl Embedder for Rounded {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError> {
        let width = self.0.width();
        let vectors = self.0.embed(texts).unwrap_or_else(|error| panic!("{error}"));
        let mut rows = Quantised::new(width);
        rows.push(&vectors.chunks_exact(width).flat_map(Quantised::rounded).collect::<Vec<_>>());
        Ok(Vectors::Quantised(rows))
    }
}

#[test]
fn embeddings_find_known_subjects_better_than_bags_of_words() {
    #[derive(Deserialize)]
    struct Labelled {
        label: String,
        text: String,
    }
    for file in ["subjects", "sources"] {
        let lines = fs::read_to_string(tools(&format!("labelled/{file}.jsonl"))).unwrap();
        let texts: Vec<Labelled> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut names: Vec<&str> = texts.iter().map(|it| it.label.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let (mut voices, mut truth) = (Voices::new(Intake::default()), Vec::new());
        for it in &texts {
            let before = voices.voices().len();
            voices.add(&Comment { text: it.text.clone(), ..Comment::default() });
            if voices.voices().len() > before {
                truth.push(names.binary_search(&it.label.as_str()).unwrap());
            }
        }
        let index = |embedder: Option<&mut dyn Embedder>| {
            let options = ThemeOptions { language: "en".to_owned(), count: Some(names.len()), seed: 1 };
            let found = find(voices.voices(), &options, embedder).unwrap();
            // Texts in no theme are one more cluster.
            let labels: Vec<usize> = found.labels.iter().map(|label| label.unwrap_or(names.len())).collect();
            adjusted_rand_index(&labels, &truth)
        };
        let (bag, embedded) = (index(None), index(Some(&mut Rounded(minilm()))));
        println!(
            "{file}: {} texts, {} labels; adjusted Rand index {bag:.2} by words, {embedded:.2} by MiniLM",
            truth.len(),
            names.len()
        );
        assert!(embedded > bag + 0.1 && embedded > 0.2, "{file}: {bag} by words, {embedded} by MiniLM");
    }
}

/// Comments that differ in their words.
fn comments(count: u64) -> String {
    let subjects = ["battery", "strap", "screen", "delivery", "price", "sound"];
    let views = ["is great", "is poor", "could be better", "surprised me", "is what I hoped for", "is not for me"];
    let line = |number: u64| {
        let pick = |list: &[&str], by: u64| list[(number / by % list.len() as u64) as usize].to_owned();
        let (subject, view) = (pick(&subjects, 1), pick(&views, 6));
        format!(
            "{{\"user\": \"u{number}\", \"text\": \"The {subject} {view}, says person {} {}\"}}\n",
            number * 7_919,
            number * 104_729
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn a_stopped_run_goes_on_where_it_stopped_and_gives_the_same_themes() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = comments(240);
    // A megabyte, nothing, and another language.
    let megabyte = "battery ".repeat(131_072);
    lines += &["{\"text\": \"", &megabyte, "\"}\n{\"text\": \"  \"}\n"].concat();
    lines += "{\"text\": \"Die Lieferung war schnell und das Armband ist sehr bequem zu tragen\"}\n";
    fs::write(folder.path().join("comments.jsonl"), &lines).unwrap();
    let model = tools("minilm").display().to_string();
    let arguments = |file: &'static str, out: &'static str| {
        let mut all =
            vec!["content", "themes", "comments.jsonl", "--model", &model, "--batch", "16", "--language", "en"];
        all.extend(["--embeddings", file, "--out", out]);
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |arguments: &[String]| aimpoint(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, text, error) = run(&arguments("whole.bin", "whole.json"));
    assert_eq!((code, text.contains("by minilm"), text.contains("1  too long")), (0, true, true), "{text}{error}");
    let whole = fs::read(folder.path().join("whole.bin")).unwrap();

    // Killed once some batches are written.
    let part = folder.path().join("part.bin");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments("part.bin", "part.json"))
        .current_dir(folder.path())
        .env("ORT_DYLIB_PATH", super::runtime().library())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let due = Instant::now() + Duration::from_mins(1);
    while fs::metadata(&part).map_or(0, |it| it.len()) < 20_000 {
        assert!(Instant::now() < due, "nothing is written");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let written = fs::read(&part).unwrap();
    assert!(written.len() < whole.len() && !folder.path().join("part.json").exists(), "it was too fast to be killed");
    // A batch is cut off in the middle.
    fs::write(&part, &written[..written.len() - 100]).unwrap();
    let themes = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (code, text, error) = run(&arguments("part.bin", "part.json"));
    assert_eq!((code, text.contains("comments were there already")), (0, true), "{text}{error}");
    assert_eq!(fs::read(&part).unwrap(), whole);
    assert_eq!(themes("part.json"), themes("whole.json"));

    // A damaged batch, and all after it, are embedded again.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&part, &damaged).unwrap();
    assert_eq!(run(&arguments("part.bin", "part.json")).0, 0);
    assert_eq!(fs::read(&part).unwrap(), whole);

    // Stopped while the header was written.
    fs::write(&part, &whole[..40]).unwrap();
    assert_eq!(run(&arguments("part.bin", "part.json")).0, 0);
    assert_eq!(fs::read(&part).unwrap(), whole);

    // Files of something else are left alone.
    fs::write(folder.path().join("comments.jsonl"), comments(239)).unwrap();
    let (code, _, error) = run(&arguments("part.bin", "part.json"));
    assert_eq!((code, error.contains("it is of other comments; name another file")), (65, true), "{error}");
    for diary in [&b"my only diary"[..], b"diary", b"d"] {
        fs::write(&part, diary).unwrap();
        let (code, _, error) = run(&arguments("part.bin", "part.json"));
        assert_eq!((code, error.contains("not a file of embeddings")), (65, true), "{error}");
        assert_eq!(fs::read(&part).unwrap(), diary);
    }
}
