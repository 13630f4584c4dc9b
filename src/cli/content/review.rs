//! `aimpoint content review`: people decide about texts, in the terminal.
//!
//! Guarantees: each decision is in the audit log, on disk, before the next text is shown, so that a review can be
//! stopped and continued. An edited text passes the gates. Only approved texts are written as creatives.

use super::{brief::load, themes::save};
use crate::{
    cli::{
        Exit,
        files::{Line, Lines, check, check_out},
        number_within,
    },
    content::{
        brief::Brief,
        gates::Gates,
        review::{Decision, Verdict, creatives, newest, to_toml},
        writing::{Candidate, Draft},
    },
    hex,
    targeting::creative::TrialSpec,
};
use anyhow::Context;
use clap::Args;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
};

const LINE_BYTES_MAX: usize = 1 << 20;

/// Approve, edit or refuse texts, and write the approved ones as creatives
#[derive(Args, Clone, Debug)]
pub(super) struct ReviewArgs {
    /// The file that `aimpoint content write --out` wrote
    #[arg(value_name = "TEXTS")]
    texts: PathBuf,
    /// The brief
    #[arg(long, value_name = "BRIEF")]
    brief: PathBuf,
    /// The audit log, as JSON lines; it is continued
    #[arg(long, value_name = "FILE", default_value = "content-audit.jsonl")]
    audit: PathBuf,
    /// Where the approved creatives go, in the form of the configuration
    #[arg(long, value_name = "FILE", default_value = "creatives.toml")]
    out: PathBuf,
    /// Who decides [default: the environment variable USER]
    #[arg(long, value_name = "NAME")]
    reviewer: Option<String>,
    /// The largest share of its campaign's choices that a new creative gets, up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = number_within(0.001..=1.0))]
    share_max: f64,
    /// Thompson sampling: the impressions that --actions counts for [default: the campaign's prior]
    #[arg(long, value_name = "COUNT", requires = "actions", value_parser = number_within(0.2..=1e9))]
    shows: Option<f64>,
    /// Thompson sampling: the rewards to expect of --shows
    #[arg(long, value_name = "COUNT", requires = "shows", value_parser = number_within(0.1..=1e9))]
    actions: Option<f64>,
}

pub(super) fn run(args: &ReviewArgs) -> anyhow::Result<()> {
    let (brief, text) = load(&args.brief)?;
    let reviewer = args.reviewer.clone().or_else(|| std::env::var("USER").ok()).filter(|name| !name.trim().is_empty());
    let Some(reviewer) = reviewer else {
        return Err(Exit::Usage.because("who decides? give your name with --reviewer"));
    };
    let inputs = [args.texts.clone(), args.brief.clone(), args.audit.clone()];
    check_out(&args.out, &inputs)?;
    check_out(&args.audit, &inputs[..2])?;
    let candidates: Vec<Candidate> = read(&args.texts)?;
    let mut decisions: Vec<Decision> = if args.audit.exists() { read(&args.audit)? } else { Vec::new() };
    let waiting: Vec<Candidate> = {
        let known = newest(&decisions, &brief.id);
        candidates.into_iter().filter(|it| it.brief == brief.id && !known.contains_key(it.id.as_str())).collect()
    };
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.audit)
        .with_context(|| format!("open {}", args.audit.display()))?;
    let mut review =
        Review { reviewer, brief: &brief, sha256: hex::encode(&Sha256::digest(&text)), input: io::stdin().lock() };
    let (total, mut left) = (waiting.len(), 0);
    for (index, candidate) in waiting.into_iter().enumerate() {
        match review.decide(index + 1, total, candidate)? {
            Step::Decided(decision) => {
                record(&mut log, &decision).with_context(|| format!("write {}", args.audit.display()))?;
                decisions.push(*decision);
            }
            Step::Later => left += 1,
            Step::Stop => {
                left += total - index;
                break;
            }
        }
    }
    let mut made = creatives(&brief, &decisions);
    for creative in &mut made {
        creative.trial = Some(TrialSpec { share_max: args.share_max, shows: args.shows, actions: args.actions });
    }
    let mut out = crate::cli::printed::stdout();
    writeln!(out, "\n{left} texts are left to decide on; {} creatives are approved", made.len())?;
    if !made.is_empty() {
        let text = to_toml(&made).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Exit::Config.because(format!("the creatives are not valid\n{}", lines.join("\n")))
        })?;
        save(&args.out, text.as_bytes())?;
        let (path, campaign) = (args.out.display(), &brief.campaign);
        writeln!(
            out,
            "They are in {path}, for campaign {campaign:?}: add them to the configuration, then aimpoint check"
        )?;
    }
    Ok(())
}

/// Reads a file of JSON lines.
fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    check(path)?;
    let mut lines = Lines::open(path, LINE_BYTES_MAX)?;
    let mut found = Vec::new();
    while let Some(line) = lines.next()? {
        let (number, read) = match line {
            Line::Whole(number, json) => (number, serde_json::from_slice(json).map_err(|error| error.to_string())),
            Line::TooLong { number, bytes } => (number, Err(format!("{bytes} bytes"))),
        };
        found.push(read.map_err(|why| Exit::Data.because(format!("read {}:{number}: {why}", path.display())))?);
    }
    Ok(found)
}

/// Appends a decision, and returns once it is on disk.
fn record(log: &mut File, decision: &Decision) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(decision)?;
    line.push(b'\n');
    log.write_all(&line)?;
    Ok(log.sync_data()?)
}

enum Step {
    Decided(Box<Decision>),
    Later,
    Stop,
}

struct Review<'a, R> {
    reviewer: String,
    brief: &'a Brief,
    sha256: String,
    input: R,
}

impl<R: BufRead> Review<'_, R> {
    /// Shows a text and asks until there is a decision.
    fn decide(&mut self, number: usize, total: usize, candidate: Candidate) -> anyhow::Result<Step> {
        let Draft { part, text, theme, facts } = &candidate.draft;
        let mut out = crate::cli::printed::stdout();
        writeln!(out, "\n{number} of {total}: {} for theme {theme}, by {}", part.as_str(), candidate.writer)?;
        writeln!(out, "  {text}")?;
        for fact in self.brief.facts.iter().filter(|fact| facts.contains(&fact.id)) {
            writeln!(out, "  fact {}: {}", fact.id, fact.text)?;
        }
        loop {
            let Some(answer) = self.ask("approve (a), edit (e), refuse (r), later (l), quit (q): ")? else {
                return Ok(Step::Stop);
            };
            let verdict = match answer.as_str() {
                "a" => Some(Verdict::Approved),
                "e" => self.edit(&candidate)?,
                "r" => self.ask("reason: ")?.filter(|it| !it.is_empty()).map(|reason| Verdict::Refused { reason }),
                "l" => return Ok(Step::Later),
                "q" => return Ok(Step::Stop),
                _ => None,
            };
            if let Some(verdict) = verdict {
                let (at, reviewer) = (jiff::Timestamp::now().to_string(), self.reviewer.clone());
                let brief_sha256 = self.sha256.clone();
                return Ok(Step::Decided(Box::new(Decision { at, reviewer, verdict, candidate, brief_sha256 })));
            }
        }
    }

    /// Asks for another text, and says what the gates object to.
    fn edit(&mut self, candidate: &Candidate) -> anyhow::Result<Option<Verdict>> {
        let Some(new_text) = self.ask("new text: ")? else { return Ok(None) };
        let draft = Draft { text: new_text.clone(), ..candidate.draft.clone() };
        let objections = Gates::new(self.brief, None).check(&draft);
        let mut out = crate::cli::printed::stdout();
        for objection in &objections {
            writeln!(out, "  {}: {}", objection.gate.as_str(), objection.reason)?;
        }
        Ok(objections.is_empty().then_some(Verdict::Edited { new_text }))
    }

    /// A line of input; `None` at its end.
    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        let mut out = crate::cli::printed::stdout();
        write!(out, "{question}")?;
        out.flush()?;
        let mut line = String::new();
        let read = self.input.read_line(&mut line).context("read the answer")?;
        Ok((read > 0).then(|| line.trim().to_owned()))
    }
}
