//! Pictures as inline SVG.
//!
//! Owns the frame with its labels and the marks in it. Labels are HTML beside the SVG, so that they keep their size when
//! a picture is stretched to the width of a phone. Coordinates are shares of the frame, from 0 to 1; what is outside
//! is drawn at the edge.

use super::markup::Html;

/// The size of a wide frame, and the side of a square one.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 200.0;
const SIDE: f64 = 400.0;

/// A mark's place: across and up.
pub(super) type Place = (f64, f64);

/// What a picture is of.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// A name that no other picture has.
    pub(super) id: String,
    /// Whether it is square.
    pub(super) is_square: bool,
    /// What it shows, for those who cannot see it.
    pub(super) title: String,
    /// What can be seen in it.
    pub(super) description: String,
    /// The labels at the left, from the top to the bottom, at equal distances.
    pub(super) ticks: Vec<String>,
    /// The labels below, from left to right, at equal distances.
    pub(super) axis: Vec<String>,
    /// What is across, if the labels do not say it.
    pub(super) across: &'static str,
    /// What is up, if the labels do not say it.
    pub(super) up: &'static str,
}

/// A picture.
#[derive(Debug)]
pub(super) struct Plot {
    frame: Frame,
    width: f64,
    height: f64,
    marks: Html,
}

impl Plot {
    pub(super) fn new(frame: Frame) -> Self {
        let (width, height) = if frame.is_square { (SIDE, SIDE) } else { (WIDTH, HEIGHT) };
        let mut plot = Self { frame, width, height, marks: Html::default() };
        let lines = plot.frame.ticks.len().saturating_sub(1);
        for at in 0..=lines {
            let up = 1.0 - at as f64 / lines.max(1) as f64;
            plot.segment("grid", (0.0, up), (1.0, up));
        }
        plot
    }

    fn x(&self, across: f64) -> String {
        format!("{:.1}", across.clamp(0.0, 1.0) * self.width)
    }

    fn y(&self, up: f64) -> String {
        format!("{:.1}", (1.0 - up.clamp(0.0, 1.0)) * self.height)
    }

    /// A straight line.
    pub(super) fn segment(&mut self, class: &'static str, from: Place, to: Place) {
        let [x1, y1, x2, y2] = [self.x(from.0), self.y(from.1), self.x(to.0), self.y(to.1)];
        self.marks.tag("line", &[("class", &class), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)]);
        self.marks.raw("</line>");
    }

    /// A line through places.
    pub(super) fn line(&mut self, class: &'static str, places: &[Place]) {
        if places.len() > 1 {
            let points = self.points(places);
            self.marks.tag("polyline", &[("class", &class), ("points", &points)]).raw("</polyline>");
        }
    }

    /// The area between a lower and an upper line.
    pub(super) fn band(&mut self, class: &'static str, lower: &[Place], upper: &[Place]) {
        let around: Vec<Place> = lower.iter().copied().chain(upper.iter().rev().copied()).collect();
        if around.len() > 3 {
            let points = self.points(&around);
            self.marks.tag("polygon", &[("class", &class), ("points", &points)]).raw("</polygon>");
        }
    }

    /// A rectangle between two corners.
    pub(super) fn area(&mut self, class: &'static str, low: Place, high: Place) {
        let [x, y] = [self.x(low.0), self.y(high.1)];
        let width = format!("{:.1}", (high.0.clamp(0.0, 1.0) - low.0.clamp(0.0, 1.0)).max(0.0) * self.width);
        let height = format!("{:.1}", (high.1.clamp(0.0, 1.0) - low.1.clamp(0.0, 1.0)).max(0.0) * self.height);
        let of: [(&'static str, &dyn std::fmt::Display); 5] =
            [("class", &class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)];
        self.marks.tag("rect", &of).raw("</rect>");
    }

    /// A dot: a line without length and with round ends, because a circle would be stretched.
    pub(super) fn dot(&mut self, class: &'static str, at: Place) {
        let path = format!("M{} {}h0", self.x(at.0), self.y(at.1));
        self.marks.tag("path", &[("class", &format!("dot {class}")), ("d", &path)]).raw("</path>");
    }

    fn points(&self, places: &[Place]) -> String {
        let points: Vec<String> = places.iter().map(|(x, y)| format!("{},{}", self.x(*x), self.y(*y))).collect();
        points.join(" ")
    }

    /// Adds the picture to a page.
    pub(super) fn finish(self, to: &mut Html) {
        let Frame { id, is_square, title, description, ticks, axis, across, up } = &self.frame;
        let class = if *is_square { "plot square" } else { "plot" };
        to.tag("div", &[("class", &class)]);
        if !up.is_empty() {
            to.element("p", &[("class", &"up"), ("aria-hidden", &"true")], up);
        }
        to.raw("<div class=\"ticks\" aria-hidden=\"true\">");
        for tick in ticks {
            to.element("span", &[], tick);
        }
        to.raw("</div>");
        let (title_id, about_id) = (format!("{id}-name"), format!("{id}-about"));
        let names = format!("{title_id} {about_id}");
        to.tag(
            "svg",
            &[
                ("class", &"chart"),
                ("viewBox", &format!("0 0 {} {}", self.width, self.height)),
                ("preserveAspectRatio", &"none"),
                ("role", &"img"),
                ("aria-labelledby", &names),
            ],
        );
        to.element("title", &[("id", &title_id)], title);
        to.element("desc", &[("id", &about_id)], description);
        to.add(&self.marks).raw("</svg><div class=\"axis\" aria-hidden=\"true\">");
        for label in axis {
            to.element("span", &[], label);
        }
        to.raw("</div>");
        if !across.is_empty() {
            to.element("p", &[("class", &"across"), ("aria-hidden", &"true")], across);
        }
        to.raw("</div>");
    }
}

/// A round number at or above a value: 1, 2, 2.5, 4 or 5 times a power of ten.
pub(super) fn round_above(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 4.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * (1.0 - 1e-12)).unwrap_or(10.0 * power)
}

/// A bar: its length is a share of the width.
pub(super) fn bar(to: &mut Html, class: &'static str, share: f64) {
    let width = format!("{:.2}", share.clamp(0.0, 1.0) * 100.0);
    to.tag("div", &[("class", &format!("track {class}")), ("aria-hidden", &"true")]);
    to.raw("<svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\">");
    to.tag("rect", &[("width", &width), ("height", &"1")]).raw("</rect></svg></div>");
}

/// An interval with its value on a scale from `from` to `until`; a mark stands at `mark`.
pub(super) fn spread(to: &mut Html, value: f64, (low, high): (f64, f64), (from, until): (f64, f64), mark: Option<f64>) {
    let place = |number: f64| ((number - from) / (until - from).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * 100.0;
    let [start, width] = [place(low), (place(high) - place(low)).max(0.4)].map(|it| format!("{it:.2}"));
    to.raw("<div class=\"spread\" aria-hidden=\"true\"><svg viewBox=\"0 0 100 16\" preserveAspectRatio=\"none\">");
    if let Some(mark) = mark {
        let x = format!("{:.2}", place(mark));
        to.tag("line", &[("class", &"mark"), ("x1", &x), ("x2", &x), ("y1", &"0"), ("y2", &"16")]).raw("</line>");
    }
    to.tag("rect", &[("class", &"range"), ("x", &start), ("y", &"4"), ("width", &width), ("height", &"8")]);
    let x = format!("{:.2}", place(value));
    to.raw("</rect>").tag("line", &[("class", &"mean"), ("x1", &x), ("x2", &x), ("y1", &"2"), ("y2", &"14")]);
    to.raw("</line></svg></div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers_that_nothing_exceeds() {
        for (value, expected) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, 1.0),
            (1.01, 2.0),
            (0.023, 0.025),
            (38.5, 40.0),
            (0.3, 0.4),
            (7e9, 1e10),
        ] {
            let found = round_above(value);
            assert!((found - expected).abs() < 1e-9 * expected, "{value}: {found}");
        }
    }

    #[test]
    fn marks_stay_within_the_frame() {
        let mut plot = Plot::new(Frame {
            id: "x".to_owned(),
            is_square: true,
            title: "<t>".to_owned(),
            description: "d".to_owned(),
            ticks: vec!["1".to_owned(), "0".to_owned()],
            axis: Vec::new(),
            across: "",
            up: "",
        });
        plot.dot("", (2.0, -1.0));
        plot.area("a", (0.5, 0.0), (0.25, 1.0));
        plot.line("l", &[(0.0, 0.0)]);
        let mut html = Html::default();
        plot.finish(&mut html);
        let found = html.finish();
        assert!(found.contains("M400.0 400.0h0") && found.contains("width=\"0.0\" height=\"400.0\""), "{found}");
        assert!(found.contains("&lt;t&gt;") && !found.contains("polyline"), "{found}");
    }
}
