//! Lists of GPP section ids as bits of a number, so that they fit a column.
//!
//! Bit n stands for section n, and bit 62 for all above 61, none of which is defined. Negative ids, which some producers
//! send for "not known", are left out.

/// What a list of section ids should be.
pub(super) const EXPECTED: &str = "a list of section ids, such as [7, 8] or \"7,8\"";

/// The highest bit.
const LAST: i32 = 62;

/// A section of each framework: the European one, the Canadian one, and the national one of the United States.
pub(super) const ALL_LAWS: i64 = 1 << 2 | 1 << 5 | 1 << 7;

/// The bits of these ids.
pub(super) fn of_ids(ids: impl IntoIterator<Item = i32>) -> i64 {
    ids.into_iter().filter(|id| *id >= 0).fold(0, |bits, id| bits | 1 << id.min(LAST))
}

/// The bits of the ids in a text: separated by commas, underscores or blanks, in brackets or not. `None` if there is
/// something else in it.
pub(super) fn of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ids = inner.split([',', '_', ' ', '\t', '\n', '\r']).map(|id| id.trim_matches('"')).filter(|id| !id.is_empty());
    let ids: Option<Vec<i64>> = ids.map(|id| id.parse().ok()).collect();
    let ids = ids?.into_iter().map(|id| i32::try_from(id).unwrap_or(if id < 0 { -1 } else { LAST }));
    Some(of_ids(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_however_they_are_written() {
        let bits = 1 << 2 | 1 << 7;
        for text in ["[2,7]", "[ 2 , 7 ]", "2,7", "2_7", "[\"2\",\"7\"]", "[7,2,-1]"] {
            assert_eq!(of_text(text), Some(bits), "{text}");
        }
        assert_eq!(of_text("[]"), Some(0));
        assert_eq!(of_text("0"), Some(1), "no section applies");
        assert_eq!(of_text("62,63,9999999999"), Some(1 << 62));
        for text in ["seven", "[2,{}]", "2.5", "[2"] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
