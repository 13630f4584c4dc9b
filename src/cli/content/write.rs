//! `aimpoint content write`: texts for a brief, through the gates.

use super::{
    brief::load,
    client::Client,
    comments::{self, ColumnArgs},
    themes::save,
};
use crate::{
    cli::{Exit, files::check_out, number_within, whole_within},
    content::{
        brief::Part,
        gates::Gates,
        quotes::Quotes,
        themes::self_bleu,
        voices::mask,
        writing::{ChatSettings, ChatWriter, Outcome, TemplateWriter, Usage, write},
    },
};
use clap::Args;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// The dropped texts that are shown.
const SHOWN: usize = 5;

/// Write texts for a brief, from templates or with a language model
#[derive(Args, Clone, Debug)]
pub(super) struct WriteArgs {
    /// The brief
    #[arg(value_name = "BRIEF")]
    brief: PathBuf,
    /// Where the texts go, as JSON lines
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Comments that no text may repeat; may be given several times
    #[arg(long, value_name = "FILE")]
    comments: Vec<PathBuf>,
    /// The texts for each part and theme, 1 to 5
    #[arg(long, default_value_t = 3, value_parser = whole_within(1..=5))]
    count: usize,
    /// The seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Ask the OpenAI-compatible server at this address, such as http://127.0.0.1:8000/v1 [default: templates]
    #[arg(long, value_name = "URL", requires = "model")]
    url: Option<String>,
    /// The model's name at the server
    #[arg(long, value_name = "NAME", requires = "url")]
    model: Option<String>,
    /// A file with the server's key [default: the environment variable AIMPOINT_CONTENT_KEY]
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,
    /// A file with the authorities of the server's certificate, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// How freely the model writes, 0 to 2
    #[arg(long, default_value_t = 0.7, value_parser = number_within(0.0..=2.0))]
    temperature: f64,
    /// The most time for one answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The most time for waits between requests, all together
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    wait_max: Duration,
    /// The most tokens of requests and answers, all together
    #[arg(long, value_name = "COUNT", default_value_t = 200_000)]
    tokens_max: u64,
    /// The price of a million tokens sent, for the report
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = number_within(0.0..=1e6))]
    price_in: f64,
    /// The price of a million tokens received, for the report
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = number_within(0.0..=1e6))]
    price_out: f64,
    #[command(flatten)]
    columns: ColumnArgs,
}

pub(super) fn run(args: &WriteArgs) -> anyhow::Result<()> {
    let (brief, _) = load(&args.brief)?;
    check_out(&args.out, &[std::slice::from_ref(&args.brief), &args.comments].concat())?;
    let quotes = if args.comments.is_empty() { None } else { Some(quotes(&args.comments, &args.columns)?) };
    let mut gates = Gates::new(&brief, quotes.as_ref());
    let (outcome, usage) = if let (Some(url), Some(model)) = (&args.url, &args.model) {
        let client = Client::new(url, Client::key(args.key_file.as_deref())?, args.timeout, args.ca.as_deref())?;
        let settings = ChatSettings {
            model: model.clone(),
            temperature: args.temperature,
            tokens_max: args.tokens_max,
            wait_max: args.wait_max,
        };
        let mut writer = ChatWriter::new(client, settings);
        let outcome = write(&brief, &mut writer, &mut gates, args.count, args.seed);
        (outcome, Some(writer.usage()))
    } else {
        (write(&brief, &mut TemplateWriter::default(), &mut gates, args.count, args.seed), None)
    };
    // A run that wrote nothing must not take the texts of an earlier one.
    if !outcome.candidates.is_empty() || outcome.failures.is_empty() {
        keep(&args.out, &outcome)?;
    }
    let mut out = crate::cli::printed::stdout();
    print(&mut out, &outcome)?;
    if let Some(usage) = usage {
        spent(&mut out, usage, args)?;
    }
    match &quotes {
        None => writeln!(out, "  copies of comments were not looked for; name the comments with --comments")?,
        Some(quotes) if quotes.is_full() => writeln!(out, "  not all comments were compared: there are more than fit")?,
        Some(_) => {}
    }
    let path = args.out.display();
    writeln!(out, "\nThe texts are in {path}. Next: aimpoint content review {path} --brief {}", args.brief.display())?;
    match outcome.failures.first() {
        Some((theme, why)) => {
            Err(Exit::Broker.because(format!("write texts for theme {theme}: {why}; what was written before is kept")))
        }
        None => Ok(()),
    }
}

/// What people said.
fn quotes(files: &[PathBuf], columns: &ColumnArgs) -> anyhow::Result<Quotes> {
    let mut quotes = Quotes::default();
    comments::each(files, columns, |comment| quotes.add(&mask(&comment.text, |_| {})))?;
    Ok(quotes)
}

/// Writes the texts that passed.
pub(super) fn keep(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for candidate in &outcome.candidates {
        serde_json::to_writer(&mut lines, candidate)?;
        lines.push(b'\n');
    }
    save(path, &lines)
}

/// What became of the texts.
pub(super) fn print(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let counts = &outcome.counts;
    writeln!(out, "Texts")?;
    writeln!(out, "  {:>5}  written", counts.written)?;
    writeln!(out, "  {:>5}  passed the gates at once", counts.passed)?;
    writeln!(out, "  {:>5}  passed after a repair", counts.repaired)?;
    for (gate, count) in &counts.dropped {
        writeln!(out, "  {count:>5}  dropped: {}", gate.as_str())?;
    }
    if counts.surplus > 0 {
        writeln!(out, "  {:>5}  more than asked for", counts.surplus)?;
    }
    let of_part = |part: Part| {
        let texts = outcome.candidates.iter().filter(|it| it.draft.part == part).map(|it| it.draft.text.clone());
        let texts: Vec<String> = texts.collect();
        self_bleu(&texts) * texts.len() as f64
    };
    let same = Part::ALL.map(of_part).iter().sum::<f64>() / outcome.candidates.len().max(1) as f64;
    writeln!(out, "  self-BLEU within parts {same:.2} (0 is diverse, 1 is always the same)")?;
    for (draft, objections) in outcome.dropped.iter().take(SHOWN) {
        let reason = objections.first().map_or("", |it| it.reason.as_str());
        writeln!(out, "  dropped {:?}: {reason}", draft.text)?;
    }
    Ok(())
}

fn spent(out: &mut impl Write, usage: Usage, args: &WriteArgs) -> io::Result<()> {
    let Usage { requests, repeated, tokens_in, tokens_out } = usage;
    let cost = (tokens_in as f64 * args.price_in + tokens_out as f64 * args.price_out) / 1e6;
    write!(out, "  {requests} requests, {repeated} of them repeated; {tokens_in} tokens sent, {tokens_out} received")?;
    if cost > 0.0 { writeln!(out, ", cost {cost:.4}") } else { writeln!(out) }
}
