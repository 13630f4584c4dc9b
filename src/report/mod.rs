//! What decisions achieved, as one page for people; and how a model was trained, as another.
//!
//! ```text
//! EffectReport ─► sections (a message, a picture, a table behind it) ─► one file of HTML
//! ```
//!
//! Owns the page: which message a picture has, in which words, and how it looks. The figures are those of
//! [`crate::effect`], whose JSON has them all.
//!
//! Guarantees: one file that loads nothing and runs nothing: no script, no address, and a content security policy that
//! forbids both. Every text that comes from outside is escaped (`markup::Html` takes no other). The same report gives
//! the same bytes. Each picture has a title, a description and a table. A segment with fewer than [`USERS_MIN`] users is
//! shown without its number.
//!
//! Limits: `ROWS_MAX` rows of a table, and the most used of what is beyond.

mod markup;
mod model;
mod plot;
mod sections;
#[cfg(test)]
mod tests;
mod words;

pub use model::{FeatureShare, ModelReport, model_html};

use crate::effect::EffectReport;
use markup::Html;
use sha2::{Digest, Sha256};

/// The fewest users of a segment whose size is shown.
pub const USERS_MIN: u64 = 50;
/// The most rows of a table.
const ROWS_MAX: usize = 60;

const STYLE: &str = include_str!("report.css");

/// What the page says of where the figures come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The name of the application.
    pub app: String,
    /// Lines that could not be used: what is wrong with them, how many, and the first of them.
    pub faults: Vec<(String, u64, Vec<String>)>,
}

/// The page.
pub fn html(report: &EffectReport, origin: &Origin) -> String {
    let mut page = Html::default();
    head(&mut page, format!("What the decisions of {} achieved", origin.app));
    sections::masthead(&mut page, report, origin);
    page.raw("<main>\n");
    for section in sections::all(report, origin) {
        page.add(&section);
    }
    page.raw("</main>\n");
    sections::footer(&mut page, report);
    page.raw("</body>\n</html>\n");
    page.finish()
}

/// The hash by which the policy allows the style, and nothing else.
fn style_hash() -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(Sha256::digest(STYLE))
}

fn head(page: &mut Html, title: impl std::fmt::Display) {
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    page.text(style_hash());
    page.raw("'; img-src data:; base-uri 'none'; form-action 'none'\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
    page.text(title);
    page.raw(concat!(
        "</title>\n<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E",
        "%3Ccircle cx='8' cy='8' r='6.2' fill='none' stroke='%232f6fdb' stroke-width='1.8'/%3E",
        "%3Ccircle cx='8' cy='8' r='2.2' fill='%232f6fdb'/%3E%3C/svg%3E\">\n<style>",
    ));
    page.raw(STYLE);
    page.raw("</style>\n</head>\n<body>\n");
}
