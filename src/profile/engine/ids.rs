//! The ids that a profile remembers, to detect duplicates.

use crate::profile::layout::{ID_WORDS, IDS};

/// Adds an id to the remembered ones. Removes ids from before `oldest` and, beyond `ids_max`, the earliest ones. The
/// words behind the ids move only if the number of ids changes.
pub(super) fn remember(words: &mut Vec<u64>, ids_at: usize, id: Option<u64>, time: i64, oldest: i64, ids_max: usize) {
    let count = words[IDS] as usize;
    let mut kept = 0;
    for index in 0..count {
        let at = ids_at + index * ID_WORDS;
        if words[at] as i64 >= oldest {
            if kept < index {
                words.copy_within(at..at + ID_WORDS, ids_at + kept * ID_WORDS);
            }
            kept += 1;
        }
    }
    if let Some(id) = id
        && time >= oldest
    {
        // More than one id is surplus if `ids_max` used to be larger.
        let surplus = (kept + 1).saturating_sub(ids_max);
        words.copy_within(ids_at + surplus * ID_WORDS..ids_at + kept * ID_WORDS, ids_at);
        kept -= surplus;
        let at = ids_at + kept * ID_WORDS;
        kept += 1;
        if kept > count {
            words.splice(at..at, [time as u64, id]);
        } else {
            words[at..at + ID_WORDS].copy_from_slice(&[time as u64, id]);
        }
    }
    if kept < count {
        words.drain(ids_at + kept * ID_WORDS..ids_at + count * ID_WORDS);
    }
    words[IDS] = kept as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_ids_are_remembered_as_are_allowed_also_after_more_were() {
        // newest, first, ids | ids of times 1 to 4 | a word behind them.
        let mut words = vec![9, 1, 4, 1, 11, 2, 12, 3, 13, 4, 14, 77];
        remember(&mut words, 3, Some(15), 5, 0, 4);
        assert_eq!(words, [9, 1, 4, 2, 12, 3, 13, 4, 14, 5, 15, 77], "the earliest gives way");
        remember(&mut words, 3, Some(16), 6, 4, 4);
        assert_eq!(words, [9, 1, 3, 4, 14, 5, 15, 6, 16, 77], "what is before the horizon goes");
        remember(&mut words, 3, Some(17), 7, 0, 2);
        assert_eq!(words, [9, 1, 2, 6, 16, 7, 17, 77], "the bound was lowered");
        remember(&mut words, 3, None, 8, 0, 2);
        remember(&mut words, 3, Some(18), 8, 0, 3);
        assert_eq!(words, [9, 1, 3, 6, 16, 7, 17, 8, 18, 77], "and raised again");
    }
}
