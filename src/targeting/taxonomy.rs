//! Checks the ids of segments against the IAB Tech Lab's Audience Taxonomy 1.1.
//!
//! The table and the list of its sensitive tiers are data (`taxonomy/*.tsv`), with their licence beside them. An id
//! with `segtax = 4` must be in the table. An id in a sensitive tier must also be allowed by name, so that nobody
//! targets by health or faith because of a mistyped number. Own ids (no `segtax`, or 500 and above) are not checked. Other
//! registered taxonomies are refused, because a sensitive id of theirs would go unnoticed.

use super::{SegmentSpec, TargetingSpec};
use crate::config_error::ConfigError;
use std::{collections::HashMap, ops::RangeInclusive};

/// The number of the Audience Taxonomy 1.1 in AdCOM's list.
const AUDIENCE: u32 = 4;

/// One line per id: the id and its tiers.
const TABLE: &str = include_str!("taxonomy/audience-1.1.tsv");

/// One line per sensitive tier: its topic, and its path from the top tier.
const SENSITIVE: &str = include_str!("taxonomy/sensitive.tsv");

/// The tiers of each id.
fn table() -> HashMap<&'static str, &'static str> {
    TABLE.lines().filter_map(|line| line.split_once('\t')).collect()
}

/// The sensitive topic of these tiers, if they have one.
fn sensitive(tiers: &str) -> Option<&'static str> {
    let is_within =
        |above: &str| tiers.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(" | "));
    let lines = SENSITIVE.lines().filter_map(|line| line.split_once('\t'));
    lines.into_iter().find(|(_, above)| is_within(above)).map(|(what, _)| what)
}

/// The numbers of registered taxonomies. From 500 on they are a vendor's own.
const REGISTERED: RangeInclusive<u32> = 1..=499;

/// Reports ids that are not in the table, sensitive ids that are not allowed, and other taxonomies.
pub(super) fn check(specs: &[SegmentSpec], targeting: &TargetingSpec, errors: &mut Vec<ConfigError>) {
    for (index, spec) in specs.iter().enumerate() {
        if REGISTERED.contains(&spec.segtax) && spec.segtax != AUDIENCE {
            let message = format!("{} is not a taxonomy whose ids can be checked", spec.segtax);
            errors.push(
                ConfigError::new(format!("segment[{index}].segtax"), message).hint(
                    "4 is the IAB Audience Taxonomy 1.1; leave it out, or write 500 or more, for ids of your own",
                ),
            );
        }
    }
    let is_needed = specs.iter().any(|spec| spec.segtax == AUDIENCE) || !targeting.allowed_sensitive.is_empty();
    if !is_needed {
        return;
    }
    let table = table();
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.segtax == AUDIENCE) {
        let key = format!("segment[{index}].id");
        let id = spec.id.as_str();
        let Some(tiers) = table.get(id) else {
            let message = format!("{id:?} is not an id of the IAB Audience Taxonomy 1.1 (segtax = 4)");
            errors.push(
                ConfigError::new(key, message)
                    .hint("use an id of the table, or leave segtax out for an id of your own"),
            );
            continue;
        };
        let name = format!("{AUDIENCE}:{id}");
        if let Some(what) = sensitive(tiers)
            && !targeting.allowed_sensitive.contains(&name)
        {
            let message = format!("{id:?} ({tiers}) is sensitive: it is about {what}");
            let hint = format!("if you may target by it, add {name:?} to targeting.allowed_sensitive");
            errors.push(ConfigError::new(key, message).hint(hint));
        }
    }
    for (index, name) in targeting.allowed_sensitive.iter().enumerate() {
        let tiers = name.strip_prefix("4:").and_then(|id| table.get(id));
        let message = match tiers.map(|tiers| sensitive(tiers)) {
            Some(Some(_)) => continue,
            Some(None) => format!("{name:?} is not sensitive"),
            None => format!("{name:?} is not an id of the IAB Audience Taxonomy 1.1"),
        };
        let error = ConfigError::new(format!("targeting.allowed_sensitive[{index}]"), message);
        errors.push(error.hint("write the taxonomy and the id, such as \"4:381\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_every_sensitive_tier_is_in_it() {
        let table = table();
        assert_eq!((table.len(), TABLE.lines().count()), (1_558, 1_558));
        assert_eq!(table.get("381"), Some(&"Interest | Health and Medical Services"));
        for (what, above) in SENSITIVE.lines().filter_map(|line| line.split_once('\t')) {
            assert!(["health", "religion", "politics", "orientation", "children"].contains(&what), "{what}");
            assert!(
                table.values().any(|tiers| *tiers == above || tiers.starts_with(&format!("{above} | "))),
                "{above}"
            );
        }
        for (id, what) in
            [("404", Some("health")), ("531", Some("politics")), ("1344", Some("religion")), ("355", Some("children"))]
        {
            assert_eq!(sensitive(table[id]), what, "{id}");
        }
        assert_eq!((sensitive(table["525"]), sensitive(table["377"])), (None, None));
    }

    #[test]
    fn unknown_and_sensitive_ids_are_told_all_at_once_unless_they_are_allowed() {
        let spec = |id: &str, segtax| SegmentSpec { id: id.to_owned(), segtax, ..SegmentSpec::default() };
        let specs = [
            spec("687", 4),
            spec("9999", 4),
            spec("381", 4),
            spec("530", 4),
            spec("x", 0),
            spec("y", 501),
            spec("1", 7),
        ];
        let allowed_sensitive = ["4:530", "4:687", "381"].map(str::to_owned).to_vec();
        let mut errors = Vec::new();
        check(&specs, &TargetingSpec { allowed_sensitive, ..TargetingSpec::default() }, &mut errors);
        let told: Vec<(&str, &str)> = errors.iter().map(|it| (it.key.as_str(), it.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("segment[6].segtax", "7 is not a taxonomy whose ids can be checked"),
                ("segment[1].id", "\"9999\" is not an id of the IAB Audience Taxonomy 1.1 (segtax = 4)"),
                ("segment[2].id", "\"381\" (Interest | Health and Medical Services) is sensitive: it is about health"),
                ("targeting.allowed_sensitive[1]", "\"4:687\" is not sensitive"),
                ("targeting.allowed_sensitive[2]", "\"381\" is not an id of the IAB Audience Taxonomy 1.1"),
            ]
        );
        assert!(errors[2].hint.as_deref().is_some_and(|hint| hint.contains("\"4:381\"")));
    }
}
