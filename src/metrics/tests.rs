use super::*;
use std::collections::BTreeSet;

#[test]
fn names_tell_kind_and_unit_and_are_declared_once() {
    let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        let &Family { name, kind, unit, labels, values, help, buckets } = family;
        assert!(name.starts_with("aimpoint_") && !help.is_empty() && !help.contains('\n'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        let bare = name.trim_end_matches("_total");
        assert_eq!(bare.ends_with("_seconds"), unit == Unit::Seconds, "{name}");
        assert_eq!(bare.ends_with("_bytes"), unit == Unit::Bytes, "{name}");
        assert_eq!(buckets.is_empty(), kind != Kind::Histogram, "{name}");
        assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
        assert!(values.is_empty() || labels.len() == 1, "{name}");
    }
}

fn files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder of deploy can be listed").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn dashboards_and_alerts_name_no_metric_that_is_not_declared() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut paths = Vec::new();
    files(&deploy, &mut paths);
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let name = regex::Regex::new(r"\baimpoint_[a-z0-9_]+").expect("a sound pattern");
    for path in
        paths.iter().filter(|path| path.extension().is_some_and(|it| ["json", "yml", "yaml"].iter().any(|e| it == *e)))
    {
        let text = std::fs::read_to_string(path).expect("a file of deploy can be read");
        for found in name.find_iter(&text) {
            let found = found.as_str();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|part| found.strip_suffix(part)).unwrap_or(found);
            assert!(known.contains(found) || known.contains(bare), "{}: {found} is no metric", path.display());
        }
    }
}
