//! Which of a classifier's classes is the positive one.
//!
//! Guarantees: of two classes the positive one is taken by its label alone, and only where the pair leaves no doubt: 0 and 1,
//! false and true, no and yes, a word and its negation. Everything else is for `model.class` to say: whether `bad` or `good` is
//! what a model looks for, no label tells.

/// Pairs of labels, the negative one first. Compared without case.
const PAIRS: [[&str; 2]; 10] = [
    ["0", "1"],
    ["-1", "1"],
    ["false", "true"],
    ["f", "t"],
    ["no", "yes"],
    ["n", "y"],
    ["off", "on"],
    ["neg", "pos"],
    ["negative", "positive"],
    ["-", "+"],
];

/// What a label that denies another one begins with.
const NEGATIONS: [&str; 3] = ["no", "not", "non"];

/// A label in the form that is compared: in lower case, a whole number without its decimals.
fn plain(label: &str) -> String {
    let label = label.trim().to_lowercase();
    match label.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}").replace("-0", "0"),
        _ => label,
    }
}

/// Whether `negative` is `positive` with a negation before it, such as `no_click` of `click`.
fn denies(negative: &str, positive: &str) -> bool {
    let is_divider = |letter: char| matches!(letter, '_' | '-' | ' ' | '.');
    NEGATIONS.iter().any(|negation| {
        let Some(rest) = negative.strip_prefix(negation) else { return false };
        !positive.is_empty() && rest.trim_start_matches(is_divider) == positive
    })
}

/// The number of the positive class among two labels; none where the labels do not say it.
pub(super) fn positive_of(labels: &[String]) -> Option<usize> {
    let [first, second] = labels else { return None };
    let pair = [plain(first), plain(second)];
    let is_pair = |negative: &str, positive: &str| {
        PAIRS.iter().any(|[low, high]| *low == negative && *high == positive) || denies(negative, positive)
    };
    match (is_pair(&pair[0], &pair[1]), is_pair(&pair[1], &pair[0])) {
        (true, false) => Some(1),
        (false, true) => Some(0),
        _ => None,
    }
}

/// The number of the class with this label.
pub(super) fn class_of(labels: &[String], wanted: &str) -> Option<usize> {
    let exact = labels.iter().position(|label| label == wanted);
    exact.or_else(|| labels.iter().position(|label| plain(label) == plain(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pairs_that_leave_no_doubt_have_a_positive_class() {
        for (first, second, expected) in [
            ("0", "1", Some(1)),
            ("1", "0", Some(0)),
            ("0.0", "1.0", Some(1)),
            ("-1", "1", Some(1)),
            ("False", "True", Some(1)),
            ("no", "yes", Some(1)),
            ("Y", "N", Some(0)),
            ("click", "no_click", Some(0)),
            ("non-buyer", "buyer", Some(1)),
            ("unsubscribed", "subscribed", None),
            ("bad", "good", None),
            ("1", "2", None),
            ("churn", "stay", None),
            ("bought", "none", None),
            ("0", "0", None),
            ("no", "no", None),
            ("", "no", None),
        ] {
            assert_eq!(positive_of(&[first.to_owned(), second.to_owned()]), expected, "{first} {second}");
        }
        assert_eq!(positive_of(&["0".to_owned(), "1".to_owned(), "2".to_owned()]), None);
        assert_eq!(positive_of(&["1".to_owned()]), None);
    }

    #[test]
    fn a_class_is_found_by_its_label() {
        let labels = ["0", "1", "01", "Yes"].map(str::to_owned);
        let found = ["01", "1", "1.0", "yes", "2"].map(|wanted| class_of(&labels, wanted));
        assert_eq!(found, [Some(2), Some(1), Some(1), Some(3), None]);
    }
}
