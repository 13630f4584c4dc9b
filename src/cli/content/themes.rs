//! `aimpoint content themes`: what comments are about.

use super::{
    comments::{self, ColumnArgs, Unread},
    embedding::{EmbeddingArgs, Embeddings},
};
use crate::{
    cli::{Exit, files::check_out, whole_within},
    content::{
        is_language,
        themes::{Embedder, Found, Theme, ThemeOptions, find},
        voices::{Intake, VoiceCounts, Voices},
    },
    partial::PartialFile,
};
use anyhow::Context;
use clap::Args;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Find what comments are about
#[derive(Args, Clone, Debug)]
pub(super) struct ThemesArgs {
    /// Comments as JSON lines, CSV or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the themes to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The language of the comments, as a code of two letters [default: that of most of them]
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// The number of themes, 2 to 50 [default: by silhouette, 2 to 12]
    #[arg(long, value_name = "COUNT", value_parser = whole_within(2..=50))]
    count: Option<usize>,
    /// The most comments that are kept; of more, a sample
    #[arg(long, value_name = "COUNT", default_value_t = 200_000, value_parser = whole_within(100..=2_000_000))]
    comments_max: usize,
    /// The seed of sample and clusters
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    #[command(flatten)]
    columns: ColumnArgs,
}

pub(super) fn run(args: &ThemesArgs) -> anyhow::Result<()> {
    if let Some(language) = args.language.as_ref().filter(|it| !is_language(it)) {
        return Err(Exit::Usage.because(format!("--language {language:?} is not known; write a code such as en or de")));
    }
    for out in args.out.as_deref().into_iter().chain(args.embedding.file()) {
        check_out(out, &args.files)?;
    }
    // A wrong model is told before a million comments are read.
    let mut embeddings = args.embedding.open()?;
    let mut voices = Voices::new(Intake { comments_max: args.comments_max, seed: args.seed, ..Intake::default() });
    let unread = comments::each(&args.files, &args.columns, |comment| voices.add(comment))?;
    let mut out = crate::cli::printed::stdout();
    counts(&mut out, voices.counts(), &unread)?;
    if voices.counts().kept == 0 {
        return Err(Exit::Data.because("find themes: no comment is left; the counts say why"));
    }
    let found = of(&voices, args.language.as_deref(), args.count, args.seed, embeddings.as_mut())?;
    print(&mut out, &found)?;
    if let Some(reused) = embeddings.map(|it| it.reused()).filter(|it| *it > 0) {
        writeln!(out, "  the embeddings of {reused} comments were there already")?;
    }
    if let Some(path) = &args.out {
        save(path, &serde_json::to_vec_pretty(&found.report)?)?;
        writeln!(out, "\nThe themes are in {}. Next: aimpoint content brief {}", path.display(), path.display())?;
    }
    Ok(())
}

/// The themes of comments, in their main language unless another one is given.
pub(super) fn of(
    voices: &Voices,
    language: Option<&str>,
    count: Option<usize>,
    seed: u64,
    mut embeddings: Option<&mut Embeddings>,
) -> anyhow::Result<Found> {
    let Some(language) = language.or(voices.main_language()) else {
        return Err(
            Exit::Data.because("find themes: the language of the comments could not be told; give it with --language")
        );
    };
    let options = ThemeOptions { language: language.to_owned(), count, seed };
    let embedder = embeddings.as_deref_mut().map(|it| it as &mut dyn Embedder);
    find(voices.voices(), &options, embedder)
        .map_err(|error| embeddings.and_then(Embeddings::failure).unwrap_or_else(|| error.into()))
}

/// Writes a file that appears once it is complete.
pub(super) fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    PartialFile::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// What became of the comments.
pub(super) fn counts(out: &mut impl Write, counts: &VoiceCounts, unread: &Unread) -> io::Result<()> {
    writeln!(out, "Comments")?;
    let mut line = |name: &str, count: u64| if count > 0 { writeln!(out, "  {count:>9}  {name}") } else { Ok(()) };
    line("read", counts.read)?;
    line("lines that are not comments", unread.count)?;
    line("without consent", counts.no_consent)?;
    line("without any word", counts.empty)?;
    line("too long", counts.too_long)?;
    line("nearly the same as an earlier one", counts.duplicate)?;
    line("left out of the sample", counts.not_sampled)?;
    line("kept", counts.kept)?;
    line("likes that are not numbers, counted as none", counts.odd_likes)?;
    let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let masked = counts.masked.iter().map(|(kind, count)| format!("{} {count}", kind.word())).collect();
    writeln!(out, "  masked: {}", list(masked))?;
    let languages = counts.languages.iter().map(|(language, count)| format!("{language} {count}")).collect();
    writeln!(out, "  languages: {}", list(languages))?;
    unread.first.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// The themes as tables.
pub(super) fn print(out: &mut impl Write, found: &Found) -> io::Result<()> {
    let report = &found.report;
    let (language, embedding) = (&report.language, &report.embedding);
    writeln!(
        out,
        "\nThemes in {language}, by {embedding}: {} comments, {} in no theme",
        report.comments, report.without_theme
    )?;
    if report.themes.is_empty() {
        return writeln!(out, "  too few comments for a theme: it takes 16 and more");
    }
    writeln!(out, "  {:<4}{:>8}{:>8}{:>8}{:>11}  words", "id", "size", "users", "likes", "sentiment")?;
    for Theme { id, size, users, likes_mean, sentiment, words, .. } in &report.themes {
        writeln!(out, "  {id:<4}{size:>8}{users:>8}{likes_mean:>8.1}{sentiment:>+11.2}  {}", words.join(", "))?;
    }
    for theme in &report.themes {
        for share in theme.segments.iter().filter(|share| share.is_over_represented()) {
            let [low, high] = share.interval.map(f64::exp);
            let times = share.log_odds.exp();
            let (segment, id) = (&share.segment, &theme.id);
            writeln!(
                out,
                "  {segment} speaks about {id} more than others: odds ratio {times:.1} ({low:.1} to {high:.1})"
            )?;
        }
    }
    Ok(())
}
