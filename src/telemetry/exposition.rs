//! Prometheus' text format, read: for those who show or send on what `/metrics` serves, and must not say anything else.

/// One line: labels with their values, and the figure.
pub(super) type Sample = (Vec<(String, String)>, f64);

/// The samples of the series of this name, in their order. A line that is no sample is passed by.
pub(super) fn samples<'a>(exposition: &'a str, name: &'a str) -> impl Iterator<Item = Sample> + 'a {
    exposition.lines().filter_map(move |line| sample(line, name))
}

fn sample(line: &str, name: &str) -> Option<Sample> {
    let rest = line.strip_prefix(name)?;
    let (labels, figure) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest.strip_prefix(' ')?),
    };
    Some((labels, figure.trim().parse().ok()?))
}

/// Reads `name="value",…}` and gives what follows.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let (mut all, mut rest) = (Vec::new(), text);
    while !rest.starts_with('}') {
        let (name, behind) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = behind.char_indices();
        let end = loop {
            match letters.next()? {
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    letter => letter,
                }),
                (at, '"') => break at,
                (_, letter) => value.push(letter),
            }
        };
        all.push((name.trim_start_matches(',').to_owned(), value));
        rest = &behind[end + 1..];
    }
    Some((all, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_what_is_escaped_in_their_labels() {
        let text = "# HELP a_total a_total 9\na_total 17\na_total_more 18\na_total{x=\"1\",y=\"a\\\"b\\\\c\\nd,e=}\"} 3\n\
                    a_total{x=\"open\na_total{x=\"2\"} NaN\na_total{} +Inf\na_total nothing\n";
        let all: Vec<Sample> = samples(text, "a_total").collect();
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all[0], (vec![], 17.0));
        assert_eq!(all[1], (vec![label("x", "1"), label("y", "a\"b\\c\nd,e=}")], 3.0));
        assert!(all[2].0 == [label("x", "2")] && all[2].1.is_nan(), "{:?}", all[2]);
        assert_eq!(all[3..], [(vec![], f64::INFINITY)]);
    }
}
