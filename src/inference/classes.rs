//! Identifies the positive class of a classifier by its labels.
//!
//! Guarantees: the positive one of two classes is chosen only if the labels are unambiguous: 0 and 1, false and true, no and yes, a
//! word and its negation. In all other cases `model.class` is required: labels such as `bad` and `good` do not say which one the
//! model predicts.

/// Pairs of labels, the negative one first. Case-insensitive.
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

/// Prefixes that negate a label.
const NEGATIONS: [&str; 3] = ["no", "not", "non"];

/// Normalizes a label: lower case, whole numbers without decimals.
fn plain(label: &str) -> String {
    let label = label.trim().to_lowercase();
    match label.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}").replace("-0", "0"),
        _ => label,
    }
}

/// Whether `negative` is `positive` with a negation prefix, such as `no_click` and `click`.
fn negates(negative: &str, positive: &str) -> bool {
    let is_divider = |letter: char| matches!(letter, '_' | '-' | ' ' | '.');
    NEGATIONS.iter().any(|negation| {
        let Some(rest) = negative.strip_prefix(negation) else { return false };
        !positive.is_empty() && rest.trim_start_matches(is_divider) == positive
    })
}

/// The index of the positive one of two classes; `None` if the labels are ambiguous.
pub(super) fn positive_of(labels: &[String]) -> Option<usize> {
    let [first, second] = labels else { return None };
    let pair = [plain(first), plain(second)];
    let is_pair = |negative: &str, positive: &str| {
        PAIRS.iter().any(|[low, high]| *low == negative && *high == positive) || negates(negative, positive)
    };
    match (is_pair(&pair[0], &pair[1]), is_pair(&pair[1], &pair[0])) {
        (true, false) => Some(1),
        (false, true) => Some(0),
        _ => None,
    }
}

/// The index of the class with this label.
pub(super) fn class_of(labels: &[String], wanted: &str) -> Option<usize> {
    let exact = labels.iter().position(|label| label == wanted);
    exact.or_else(|| labels.iter().position(|label| plain(label) == plain(wanted)))
}

/// Whether a label on its own denotes a negative class.
pub(super) fn is_negative_label(label: &str) -> bool {
    PAIRS.iter().any(|[low, _]| *low == plain(label))
}

/// Words that accompany the number of a class in an output's name.
const CLASS_WORDS: [&str; 10] =
    ["p", "prob", "probs", "proba", "probability", "probabilities", "class", "cls", "label", "i"];

/// Words that mark an output as that of the negative class.
const NEGATIVE_WORDS: [&str; 6] = ["negative", "neg", "no", "not", "non", "false"];

/// The words of a name, in lower case: `probNo`, `prob_no` and `p0` have two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let is_new = !letter.is_alphanumeric()
            || (letter.is_uppercase() && before.is_lowercase())
            || letter.is_numeric() != before.is_numeric();
        if is_new {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_class_word(word: Option<&String>) -> bool {
    word.is_some_and(|word| CLASS_WORDS.contains(&word.as_str()))
}

/// Whether an output's name says that it is the probability of the negative class.
pub(super) fn is_negative_name(name: &str) -> bool {
    let words = words(name);
    words.iter().any(|word| NEGATIVE_WORDS.contains(&word.as_str()))
        || matches!(&words[..], [.., class, number] if number == "0" && is_class_word(Some(class)))
        || matches!(&words[..], [number, class, ..] if number == "0" && is_class_word(Some(class)))
}

/// The length in bytes of the names' common prefix: only whole words and numbers, plus the `s` of skl2onnx.
fn common_start(names: &[&str]) -> usize {
    let first = names[0];
    let same = |end: usize| names.iter().all(|name| name.get(..end) == first.get(..end));
    let ends_word = |end: usize| {
        let before = first[..end].chars().next_back();
        names.iter().all(|name| {
            let next = name[end..].chars().next();
            match (before, next) {
                (Some(before), Some(next)) => {
                    !before.is_alphanumeric()
                        || next.is_uppercase()
                        || (next.is_numeric() && !before.is_numeric())
                        || &first[..end] == "s"
                }
                (None, Some(_)) => true,
                (_, None) => false,
            }
        })
    };
    let ends = (0..=first.len()).rev().filter(|end| first.is_char_boundary(*end) && same(*end));
    ends.into_iter().find(|end| ends_word(*end)).unwrap_or(0)
}

/// The class of each output, if the names differ only by a class, such as `prob_no` and `prob_yes`, or `p0` and `p1`.
pub(super) fn classes_in(names: &[&str]) -> Option<Vec<String>> {
    let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    if names.len() < 2 {
        return None;
    }
    if positive_of(&owned(names)).is_some() && names.iter().all(|it| it.parse::<f64>().is_err()) {
        return Some(owned(names));
    }
    let start = common_start(names);
    let rests: Vec<&str> = names.iter().map(|name| &name[start..]).collect();
    // A common suffix after a divider.
    let tail = rests[0].find(['_', '-', ' ']).map_or("", |at| &rests[0][at..]);
    let tail = if rests.iter().all(|rest| rest.ends_with(tail)) { tail } else { "" };
    let classes: Vec<&str> = rests.iter().map(|rest| &rest[..rest.len() - tail.len()]).collect();
    if classes.iter().all(|it| it.parse::<f64>().is_ok_and(|number| number >= 0.0)) {
        let (before, behind) = (words(&names[0][..start]), words(tail));
        let is_class = is_class_word(before.last()) || is_class_word(behind.first()) || &names[0][..start] == "s";
        return is_class.then(|| classes.iter().map(|it| plain(it)).collect());
    }
    let classes = owned(&classes);
    positive_of(&classes).map(|_| classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unambiguous_pairs_have_a_positive_class() {
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

    #[test]
    fn outputs_that_differ_by_a_class_have_it_for_a_label() {
        for (names, expected) in [
            (["no", "yes"], Some(["no", "yes"])),
            (["prob_yes", "prob_no"], Some(["yes", "no"])),
            (["probYes", "probNo"], Some(["Yes", "No"])),
            (["yes_prob", "no_prob"], Some(["yes", "no"])),
            (["positive", "negative"], Some(["positive", "negative"])),
            (["p1", "p0"], Some(["1", "0"])),
            (["class_1", "class_0"], Some(["1", "0"])),
            (["0_prob", "1_prob"], Some(["0", "1"])),
            (["i0", "i1"], Some(["0", "1"])),
            (["s0.0", "s1.0"], Some(["0", "1"])),
            (["sno", "syes"], Some(["no", "yes"])),
            (["click", "no_click"], Some(["click", "no_click"])),
            // Heads and members are numbered as well.
            (["output_0", "output_1"], None),
            (["score_0", "score_1"], None),
            (["0", "1"], None),
            (["score", "confidence"], None),
            (["p10", "p11"], Some(["10", "11"])),
            (["prob_good", "prob_bad"], None),
        ] {
            let expected = expected.map(|it| it.map(str::to_owned).to_vec());
            assert_eq!(classes_in(&names), expected, "{names:?}");
        }
        assert_eq!(classes_in(&["i0", "i1", "i2"]).unwrap(), ["0", "1", "2"]);
    }

    #[test]
    fn a_name_may_say_that_an_output_is_of_the_negative_class() {
        for name in ["no", "prob_0", "class_0", "p0", "0_prob", "p_negative", "probability_no", "not_churn", "probNo"] {
            assert!(is_negative_name(name), "{name}");
        }
        for name in ["yes", "score", "prob_1", "p10", "output_0", "0", "12", "nose", "dense_0", "probability", "noise"]
        {
            assert!(!is_negative_name(name), "{name}");
        }
    }
}
