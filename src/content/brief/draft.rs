//! The first draft of a brief, from themes.

use crate::content::themes::{Theme, ThemeReport};
use std::fmt::Write;

/// The themes of a draft.
const THEMES: usize = 3;

/// A brief with the themes that a segment speaks about most, or with the largest ones. What only people know is left
/// for them to fill in, and reading the draft as it is names those places.
pub fn draft(report: &ThemeReport, segment: Option<&str>) -> String {
    let mut themes: Vec<&Theme> = report.themes.iter().collect();
    if let Some(segment) = segment {
        let lead = |theme: &Theme| {
            let share = theme.segments.iter().find(|share| share.segment == segment);
            share.map_or(f64::NEG_INFINITY, |share| share.interval[0])
        };
        themes.sort_by(|a, b| lead(b).total_cmp(&lead(a)));
    }
    let text = |text: &str| toml::Value::from(text).to_string();
    let texts = |texts: &[String]| toml::Value::from(texts.to_vec()).to_string();
    let audience = segment.map_or_else(|| "everybody".to_owned(), |segment| format!("people in the segment {segment}"));
    let mut draft = format!(
        "# A brief for creatives. Fill in what is empty, and edit the rest as you like.\n\
         id = \"\"\n\
         campaign = \"\"                # the id of the campaign\n\
         language = {}\n\
         tone = \"plain\"               # plain, warm or bold\n\
         platform = \"google_responsive_display\"\n\
         landing_page = \"\"            # such as https://shop.example/summer\n\
         audience = {}\n\
         avoid = []                   # words that must not appear\n\
         proof = []                   # more words that only a fact may bring\n\
         domains = []                 # domains that texts may name\n",
        text(&report.language),
        text(&audience),
    );
    let mut add = |line: String| writeln!(draft, "{line}").unwrap_or_default();
    if let Some(segment) = segment {
        add(format!("\n[segments]\nany = [{}]", text(segment)));
    }
    add("\n# What is true of the product. Texts say nothing else.\n[[fact]]\nid = \"\"\ntext = \"\"                    # a sentence without a full stop\n# short = \"\"                 # the same in at most 30 characters, for headlines".to_owned());
    for theme in themes.into_iter().take(THEMES) {
        add(format!(
            "\n# {} comments by {} people, {:.1} likes on average, sentiment {:+.2}\n[[theme]]\nid = {}\nwords = {}\npoints = {}",
            theme.size,
            theme.users,
            theme.likes_mean,
            theme.sentiment,
            text(&theme.id),
            texts(&theme.words),
            texts(&theme.points),
        ));
    }
    draft
}
