//! Markup whose texts are escaped.
//!
//! Guarantees: what is no constant of the program only comes in through [`Html::text`] or as the value of an attribute,
//! and both escape it.

use std::fmt::{Display, Write as _};

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup of the program itself.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a text does not fail.
        write!(Escaped(&mut self.0), "{text}").unwrap_or_default();
        self
    }

    /// Adds another piece.
    pub(super) fn add(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// Adds a tag without content.
    pub(super) fn tag(&mut self, name: &'static str, attributes: &[(&'static str, &dyn Display)]) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push('>');
        self
    }

    /// Adds an element with a text.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &dyn Display)],
        text: impl Display,
    ) -> &mut Self {
        self.tag(name, attributes).text(text);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// The finished text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // HTML has no such letters; and a text must not turn the direction of the rest.
                '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => self.0.push('\u{fffd}'),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

/// The rows of a table: the first is its head, the first cell of a row its name.
pub(super) type Rows = Vec<Vec<String>>;

/// A table, whose numbers stand to the right.
pub(super) fn table(to: &mut Html, rows: &Rows) {
    let Some((head, body)) = rows.split_first() else { return };
    to.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\"><table><thead><tr>");
    for (at, cell) in head.iter().enumerate() {
        to.element("th", &[("scope", &"col"), ("class", &if at == 0 { "name" } else { "n" })], cell);
    }
    to.raw("</tr></thead><tbody>");
    for row in body {
        to.raw("<tr>");
        for (at, cell) in row.iter().enumerate() {
            if at == 0 {
                to.element("th", &[("scope", &"row"), ("class", &"name")], cell);
            } else {
                to.element("td", &[("class", &"n")], cell);
            }
        }
        to.raw("</tr>");
    }
    to.raw("</tbody></table></div>");
}

/// The table behind a picture.
pub(super) fn behind(to: &mut Html, rows: &Rows) {
    to.raw("<details><summary>Show the numbers</summary>");
    table(to, rows);
    to.raw("</details>");
}

/// A part of the page: its message, what is shown, and the content.
pub(super) fn card(class: &'static str, id: &str, title: &str, shown: &str, content: &Html) -> Html {
    let mut to = Html::default();
    let label = format!("{id}-title");
    to.tag("section", &[("class", &format!("card {class}")), ("id", &id), ("aria-labelledby", &label)]);
    to.element("h2", &[("id", &label)], title);
    if !shown.is_empty() {
        to.element("p", &[("class", &"shown")], shown);
    }
    to.add(content).raw("</section>\n");
    to
}

/// A sentence in a card that has nothing to show.
pub(super) fn note(to: &mut Html, text: impl Display) {
    to.element("p", &[("class", &"note")], text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_values_are_escaped() {
        let mut html = Html::default();
        html.element("b", &[("title", &"\" onclick='x'")], "<script>&\u{0}\u{202e}");
        let found = html.finish();
        assert_eq!(found, "<b title=\"&quot; onclick=&#39;x&#39;\">&lt;script&gt;&amp;\u{fffd}\u{fffd}</b>");
    }
}
