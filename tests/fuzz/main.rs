//! Every decoder of data that others write, with inputs that nobody wrote: mutations of known ones, kept if they reach new code.
//!
//! Guarantees: no input makes a decoder panic, run longer than [`DEADLINE`], or hold more memory than [`held_max`].
//! `make fuzz` instruments the library with LLVM's coverage counters (tests/fuzz/instrument; the stable compiler has them) and
//! keeps what reaches new code. Without the counters, as in `make test`, a run mutates the kept corpus for a few seconds, always
//! with the same seed, so that it says of a change what it said before. Limits: the counters are in this crate, not in its dependencies; ONNX Runtime and librdkafka are
//! not covered.
//!
//! `FUZZ_SECONDS` for each target, `FUZZ_SEED`, `FUZZ_KEEP=1` to add what reaches new code to tests/fuzz/corpus, and
//! `FUZZ_ONLY` to choose targets. An input that fails is written to tests/fuzz/found; put it into the corpus once it is mended.

#![allow(clippy::unwrap_used, reason = "a test ends where its own files cannot be used")]
#![allow(clippy::print_stdout, reason = "what was run is the result")]
#![allow(unsafe_code, reason = "an allocator that counts, and LLVM's counters, are written in no other way")]

mod coverage;
mod memory;
mod mutate;
mod seeds;
mod targets;

use mutate::Mutator;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::abort,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use targets::{TARGETS, Target};

/// No input may take longer. A loaded machine is slow, and debug code as well: real inputs take well below a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest input, in bytes.
const INPUT_MAX: usize = 64 << 10;

/// The most inputs of a corpus in memory.
const CORPUS_MAX: usize = 4_000;

/// How long each target runs in `make test`.
const SHORT: Duration = Duration::from_millis(1_500);

/// The most memory that an input of this many bytes may hold at a time. Tables that belong to the target are made before.
const fn held_max(input_bytes: usize) -> i64 {
    (64 << 20) + 256 * input_bytes as i64
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// The memory is counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The input that is running: since when, of which target.
static RUNNING: Mutex<Option<(Instant, &'static str, Vec<u8>)>> = Mutex::new(None);

/// Ends the process if an input takes too long: a thread that hangs cannot be stopped.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, target, input)) = running.as_ref()
                && since.elapsed() > DEADLINE
            {
                fail(target, input, &format!("takes longer than {DEADLINE:?}"));
                abort();
            }
        }
    });
}

/// Writes an input that failed, and says what it did.
fn fail(target: &str, input: &[u8], what: &str) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = here("found").join(format!("{target}-{:016x}", hasher.finish()));
    fs::create_dir_all(here("found")).unwrap();
    fs::write(&path, input).unwrap();
    let message = format!("{target}: {what}; the input of {} bytes is in {}", input.len(), path.display());
    println!("{message}");
    message
}

/// Runs one input; returns what is wrong.
fn run(target: &'static Target, decoder: &mut targets::Decoder, input: &[u8]) -> Option<String> {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), target.name, input.to_vec()));
    memory::begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| decoder(input)));
    let held = memory::peak();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    if let Err(panic) = outcome {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default();
        return Some(fail(target.name, input, &format!("panics: {words}")));
    }
    (held > held_max(input.len())).then(|| fail(target.name, input, &format!("holds {held} bytes at a time")))
}

/// What a run of a target did.
#[derive(Default)]
struct Summary {
    runs: u64,
    corpus: usize,
    kept: usize,
    reached: usize,
}

fn fuzz(target: &'static Target, seed: u64, time: Duration, keeps: bool) -> Result<Summary, String> {
    let folder = here("corpus").join(target.name);
    let mut corpus: Vec<Vec<u8>> = (target.seeds)();
    let mut names: Vec<PathBuf> = fs::read_dir(&folder).into_iter().flatten().map(|it| it.unwrap().path()).collect();
    names.sort();
    corpus.extend(names.iter().map(|path| fs::read(path).unwrap()));
    assert!(!corpus.is_empty(), "{} has no inputs to begin with", target.name);
    let mut decoder = (target.decoder)();
    let mut reached = coverage::Reached::default();
    let mut summary = Summary::default();
    for input in &corpus {
        coverage::clear();
        if let Some(fault) = run(target, &mut decoder, input) {
            return Err(fault);
        }
        reached.add();
    }
    let mut mutator = Mutator::new(SmallRng::seed_from_u64(seed), target.words);
    let start = Instant::now();
    while start.elapsed() < time {
        let at = mutator.random.random_range(0..corpus.len());
        // What was found last has the most left to find.
        let at = if mutator.random.random_bool(0.3) { corpus.len() - 1 - at / 8 } else { at };
        let other = mutator.random.random_range(0..corpus.len());
        let mut input = mutator.change(&corpus[at], &corpus[other]);
        input.truncate(INPUT_MAX);
        coverage::clear();
        if let Some(fault) = run(target, &mut decoder, &input) {
            return Err(fault);
        }
        summary.runs += 1;
        if reached.add() && corpus.len() < CORPUS_MAX {
            if keeps {
                let mut hasher = DefaultHasher::new();
                input.hash(&mut hasher);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("{:016x}", hasher.finish())), &input).unwrap();
                summary.kept += 1;
            }
            corpus.push(input);
        }
        // State that a decoder collects must not decide what a later input does.
        if summary.runs.is_multiple_of(2_000) {
            decoder = (target.decoder)();
        }
    }
    summary.corpus = corpus.len();
    summary.reached = reached.count();
    Ok(summary)
}

#[test]
fn no_input_makes_a_decoder_panic_hang_or_hold_much_memory() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos() as u64);
    let seed = number("FUZZ_SEED").unwrap_or_else(|| if coverage::is_on() { clock() } else { 7 });
    let time = number("FUZZ_SECONDS").map_or(SHORT, Duration::from_secs);
    let only = std::env::var("FUZZ_ONLY").unwrap_or_default();
    let keeps = number("FUZZ_KEEP").is_some();
    println!("FUZZ_SEED={seed}, {}", if coverage::is_on() { "guided by coverage" } else { "without coverage" });
    watch();
    // A panic is reported with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = TARGETS.iter().filter(|target| only.is_empty() || only.split(',').any(|it| it == target.name));
    let mut faults = Vec::new();
    for target in chosen {
        match fuzz(target, seed, time, keeps) {
            Ok(Summary { runs, corpus, kept, reached }) => {
                println!("{:<16}{runs} runs, {corpus} inputs, {kept} kept, {reached} edges", target.name);
            }
            Err(fault) => faults.push(fault),
        }
    }
    drop(std::panic::take_hook());
    assert!(faults.is_empty(), "with FUZZ_SEED={seed}:\n{}", faults.join("\n"));
}

/// The checks themselves notice what they are for.
#[test]
fn a_panic_and_held_memory_are_noticed() {
    static TARGET: Target = Target { name: "self-test", decoder: || Box::new(|_| {}), seeds: Vec::new, words: &[] };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut panics: targets::Decoder = Box::new(|input| assert!(input.is_empty(), "on purpose"));
    let told = run(&TARGET, &mut panics, b"x").unwrap();
    assert!(told.contains("panics: on purpose"), "{told}");
    let mut holds: targets::Decoder = Box::new(|_| drop(std::hint::black_box(vec![0_u8; 100 << 20])));
    let told = run(&TARGET, &mut holds, b"x").unwrap();
    assert!(told.contains("bytes at a time"), "{told}");
    assert_eq!(run(&TARGET, &mut panics, b""), None);
    for entry in fs::read_dir(here("found")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("self-test") {
            fs::remove_file(path).unwrap();
        }
    }
}
