//! `aimpoint content demo`: every step on shipped comments, without a model.

use super::{
    comments::Unread,
    corpus,
    themes::{self, save},
    write,
};
use crate::{
    cli::Exit,
    content::{
        brief::{Brief, draft, read},
        gates::Gates,
        quotes::Quotes,
        themes::adjusted_rand_index,
        voices::{Intake, Voices},
        writing::{TemplateWriter, write as write_texts},
    },
};
use anyhow::Context;
use clap::Args;
use std::{io::Write, path::PathBuf};

/// The segment that the brief speaks to.
const SEGMENT: &str = "runners";
/// What people would fill in: in the order of the draft's empty places.
const FILLED: [(&str, &str); 4] = [
    ("id = \"\"", "id = \"demo\""),
    ("campaign = \"\"", "campaign = \"spring\""),
    ("landing_page = \"\"", "landing_page = \"https://shop.example/watch\""),
    ("id = \"\"\ntext = \"\"", FACTS),
];
const FACTS: &str = r#"id = "battery"
text = "The battery lasts 4 days with GPS on"
short = "4 days with GPS on"

[[fact]]
id = "maps"
text = "Maps work without a phone, and every route can be exported"
short = "Maps without a phone"

[[fact]]
id = "strap"
text = "The strap is soft silicone and changes without tools"
short = "A strap that is soft""#;

/// Show every step on shipped comments, without a model, in a few seconds
#[derive(Args, Clone, Debug)]
pub(super) struct DemoArgs {
    /// Write the files of each step to this folder, to go on from there
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The seed
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let comments = corpus::comments(args.seed);
    let mut voices = Voices::new(Intake { seed: args.seed, ..Intake::default() });
    let mut quotes = Quotes::default();
    // The planted subject of each comment that is kept.
    let mut subjects = Vec::new();
    for (subject, comment) in &comments {
        let before = voices.voices().len();
        voices.add(comment);
        quotes.add(&crate::content::voices::mask(&comment.text, |_| {}));
        if voices.voices().len() > before {
            subjects.push(*subject);
        }
    }
    let found = themes::of(&voices, Some("en"), None, args.seed, None)?;
    let mut out = crate::cli::printed::stdout();
    writeln!(out, "{} invented comments on a running watch; the texts are ours, Apache-2.0\n", comments.len())?;
    themes::counts(&mut out, voices.counts(), &Unread::default())?;
    themes::print(&mut out, &found)?;
    let pairs = found.labels.iter().zip(&subjects).filter_map(|(label, subject)| Some(((*label)?, (*subject)?)));
    let (labels, truth): (Vec<_>, Vec<_>) = pairs.unzip();
    writeln!(out, "  adjusted Rand index against the 6 planted subjects: {:.2}", adjusted_rand_index(&labels, &truth))?;

    let brief_text = filled(&draft(&found.report, Some(SEGMENT)));
    let brief = checked(&brief_text)?;
    writeln!(out, "\nBrief for {SEGMENT}: {} themes, {} facts\n", brief.themes.len(), brief.facts.len())?;
    let mut gates = Gates::new(&brief, Some(&quotes));
    let outcome = write_texts(&brief, &mut TemplateWriter::default(), &mut gates, 2, args.seed);
    write::print(&mut out, &outcome)?;
    writeln!(out)?;
    for candidate in &outcome.candidates {
        writeln!(out, "  {:<14} {:<4} {}", candidate.draft.part.as_str(), candidate.draft.theme, candidate.draft.text)?;
    }
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut lines = Vec::new();
        for (_, comment) in &comments {
            serde_json::to_writer(&mut lines, comment)?;
            lines.push(b'\n');
        }
        save(&folder.join("comments.jsonl"), &lines)?;
        save(&folder.join("themes.json"), &serde_json::to_vec_pretty(&found.report)?)?;
        save(&folder.join("brief.toml"), brief_text.as_bytes())?;
        write::keep(&folder.join("texts.jsonl"), &outcome)?;
    }
    let folder = args.out.as_ref().map_or_else(|| "FOLDER".to_owned(), |folder| folder.display().to_string());
    let option = if args.out.is_some() {
        ""
    } else {
        "\n  aimpoint content demo --out FOLDER      writes the files of each step"
    };
    writeln!(
        out,
        "\nNothing is approved yet. Next:{option}\n  \
         aimpoint content review {folder}/texts.jsonl --brief {folder}/brief.toml\n  \
         aimpoint content write {folder}/brief.toml --comments {folder}/comments.jsonl --out {folder}/more.jsonl \\\n    \
         --url http://127.0.0.1:8000/v1 --model NAME      asks a language model (vLLM, llama.cpp, Ollama, TGI)"
    )?;
    Ok(())
}

/// The draft with what people would fill in.
fn filled(draft: &str) -> String {
    let [id, campaign, page, facts] = FILLED;
    // The facts have an empty id as well, so they come first.
    let text = draft.replacen(&format!("{}                    # a sentence without a full stop", facts.0), facts.1, 1);
    [id, campaign, page].iter().fold(text, |text, (empty, filled)| text.replacen(empty, filled, 1))
}

fn checked(text: &str) -> anyhow::Result<Brief> {
    read(text).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Exit::Internal.because(format!("the demo's brief has faults\n{}", lines.join("\n")))
    })
}
