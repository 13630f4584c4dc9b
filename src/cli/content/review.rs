//! `aimpoint content review`: people decide about texts, in the terminal or on a page.
//!
//! Guarantees: each decision is in the audit log, on disk, before the next text is shown, so that a review can be
//! stopped and continued. An edited text passes the gates. Only approved texts are written as creatives.

use super::{brief::load, page, themes::save};
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
    net::SocketAddr,
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
    /// Decide on a page in a browser instead of here; it listens on this address of this machine
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    page: Option<SocketAddr>,
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
    check_out(&args.audit, &[args.texts.clone(), args.brief.clone(), args.out.clone()])?;
    let candidates: Vec<Candidate> = read(&args.texts)?;
    let sha256 = hex::encode(&Sha256::digest(&text));
    let mut decisions: Vec<Decision> = if args.audit.exists() {
        read(&args.audit).map_err(|error| {
            let hint = "a last line that was cut off, as by a full disk, is no decision: remove it, and decide on that text again";
            error.context(format!("read the audit log ({hint})"))
        })?
    } else {
        Vec::new()
    };
    let count = decisions.len();
    // A text was approved for the facts, the words to avoid and the campaign of its brief.
    decisions.retain(|it| it.candidate.brief != brief.id || it.brief_sha256 == sha256);
    if decisions.len() < count {
        writeln!(
            crate::cli::printed::stdout(),
            "{} decisions were about the brief before it was changed. They do not count; the texts wait again.",
            count - decisions.len()
        )?;
    }
    let waiting: Vec<Candidate> = {
        let known = newest(&decisions, &brief.id);
        candidates.into_iter().filter(|it| it.brief == brief.id && !known.contains_key(it.id.as_str())).collect()
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.audit)
        .with_context(|| format!("open {}", args.audit.display()))?;
    let review = Review { reviewer, brief: brief.clone(), sha256, waiting, decisions, log: (log, args.audit.clone()) };
    let review = match args.page {
        Some(address) => page::serve(review, address)?,
        None => Terminal { review, input: io::stdin().lock() }.run()?,
    };
    let (left, decisions) = (review.waiting.len(), review.decisions);
    let mut made = creatives(&brief, &decisions);
    for creative in &mut made {
        creative.trial = Some(TrialSpec { share_max: args.share_max, shows: args.shows, actions: args.actions });
    }
    let mut out = crate::cli::printed::stdout();
    writeln!(out, "\n{left} texts are left to decide on; {} creatives are approved", made.len())?;
    if made.is_empty() && args.out.exists() {
        writeln!(out, "{} is left as it was", args.out.display())?;
    }
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

/// Texts that wait for a decision, and the decisions.
pub(super) struct Review {
    reviewer: String,
    brief: Brief,
    sha256: String,
    pub(super) waiting: Vec<Candidate>,
    decisions: Vec<Decision>,
    /// The audit log and its name.
    log: (File, PathBuf),
}

impl Review {
    /// What speaks against a verdict: the gates against a text that is approved or edited, and a refusal without a reason.
    pub(super) fn objections(&self, candidate: &Candidate, verdict: &Verdict) -> Vec<String> {
        match verdict {
            Verdict::Refused { reason } if reason.trim().is_empty() => vec!["say why".to_owned()],
            Verdict::Refused { .. } => Vec::new(),
            // The file of texts may have been edited since they passed.
            Verdict::Approved | Verdict::Edited { .. } => {
                let mut draft = candidate.draft.clone();
                if let Verdict::Edited { new_text } = verdict {
                    draft.text.clone_from(new_text);
                }
                let objections = Gates::new(&self.brief, None).check(&draft);
                objections.iter().map(|it| format!("{}: {}", it.gate.as_str(), it.reason)).collect()
            }
        }
    }

    /// Decides on a waiting text, and returns once that is on disk.
    pub(super) fn decide(&mut self, at: usize, verdict: Verdict) -> anyhow::Result<()> {
        let decision = Decision {
            at: jiff::Timestamp::now().to_string(),
            reviewer: self.reviewer.clone(),
            verdict,
            candidate: self.waiting[at].clone(),
            brief_sha256: self.sha256.clone(),
        };
        let mut line = serde_json::to_vec(&decision)?;
        line.push(b'\n');
        let (log, path) = &mut self.log;
        let written = log.write_all(&line).and_then(|()| log.sync_data());
        written.with_context(|| format!("write {}", path.display()))?;
        self.decisions.push(decision);
        self.waiting.remove(at);
        Ok(())
    }

    /// The facts that a text states.
    fn facts<'a>(&'a self, draft: &'a Draft) -> impl Iterator<Item = (&'a str, &'a str)> {
        let stated = self.brief.facts.iter().filter(|fact| draft.facts.contains(&fact.id));
        stated.map(|fact| (fact.id.as_str(), fact.text.as_str()))
    }

    /// What the page shows.
    pub(super) fn shown(&self) -> serde_json::Value {
        let text = |it: &Candidate| {
            let Draft { part, text, theme, .. } = &it.draft;
            let facts: Vec<String> = self.facts(&it.draft).map(|(id, text)| format!("{id}: {text}")).collect();
            serde_json::json!({
                "id": it.id, "part": part.as_str().replace('_', " "), "theme": theme, "writer": it.writer, "text": text, "facts": facts,
            })
        };
        let about = format!("Brief {}, campaign {}. Reviewer: {}.", self.brief.id, self.brief.campaign, self.reviewer);
        serde_json::json!({ "about": about, "texts": self.waiting.iter().map(text).collect::<Vec<_>>() })
    }
}

enum Step {
    Decided(Verdict),
    Later,
    Stop,
}

/// A review in the terminal.
struct Terminal<R> {
    review: Review,
    input: R,
}

impl<R: BufRead> Terminal<R> {
    fn run(mut self) -> anyhow::Result<Review> {
        let (total, mut at) = (self.review.waiting.len(), 0);
        for number in 1..=total {
            match self.decide(number, total, at)? {
                Step::Decided(verdict) => self.review.decide(at, verdict)?,
                Step::Later => at += 1,
                Step::Stop => break,
            }
        }
        Ok(self.review)
    }

    /// Shows a text and asks until there is a decision.
    fn decide(&mut self, number: usize, total: usize, at: usize) -> anyhow::Result<Step> {
        let candidate = &self.review.waiting[at];
        let Draft { part, text, theme, .. } = &candidate.draft;
        let mut out = crate::cli::printed::stdout();
        writeln!(out, "\n{number} of {total}: {} for theme {theme}, by {}", part.as_str(), candidate.writer)?;
        writeln!(out, "  {text}")?;
        for (id, text) in self.review.facts(&candidate.draft) {
            writeln!(out, "  fact {id}: {text}")?;
        }
        loop {
            let Some(answer) = self.ask("approve (a), edit (e), refuse (r), later (l), quit (q): ")? else {
                return Ok(Step::Stop);
            };
            let verdict = match answer.as_str() {
                "a" => self.unless_objected(at, Verdict::Approved)?,
                "e" => self.edit(at)?,
                "r" => self.ask("reason: ")?.filter(|it| !it.is_empty()).map(|reason| Verdict::Refused { reason }),
                "l" => return Ok(Step::Later),
                "q" => return Ok(Step::Stop),
                _ => None,
            };
            if let Some(verdict) = verdict {
                return Ok(Step::Decided(verdict));
            }
        }
    }

    /// Asks for another text, and says what the gates object to.
    fn edit(&mut self, at: usize) -> anyhow::Result<Option<Verdict>> {
        let Some(new_text) = self.ask("new text: ")? else { return Ok(None) };
        self.unless_objected(at, Verdict::Edited { new_text })
    }

    /// Says what the gates object to. `None` if they object.
    fn unless_objected(&self, at: usize, verdict: Verdict) -> anyhow::Result<Option<Verdict>> {
        let objections = self.review.objections(&self.review.waiting[at], &verdict);
        let mut out = crate::cli::printed::stdout();
        for objection in &objections {
            writeln!(out, "  {objection}")?;
        }
        Ok(objections.is_empty().then_some(verdict))
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
