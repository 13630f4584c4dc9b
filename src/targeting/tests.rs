use super::*;
use crate::{
    columns::{Column, Truth},
    event::EventTime,
};

fn specs(text: &str) -> (Vec<SegmentSpec>, TargetingSpec) {
    #[derive(serde::Deserialize)]
    struct Spec {
        #[serde(default)]
        segment: Vec<SegmentSpec>,
        #[serde(default)]
        targeting: TargetingSpec,
    }
    let spec: Spec = toml::from_str(text).unwrap();
    (spec.segment, spec.targeting)
}

fn compile(text: &str) -> (Segments, Scope, Vec<ConfigError>) {
    let (mut scope, mut errors) = (Scope::default(), Vec::new());
    for name in ["a", "b", "c"] {
        scope.declare(name, Type::Bool).unwrap();
    }
    let (segments, targeting) = specs(text);
    let segments = Segments::compile(&segments, &targeting, &mut scope, &mut errors);
    (segments, scope, errors)
}

/// One user of these segments.
struct User {
    segments: Segments,
    columns: Columns,
    slots: Vec<Slot>,
    words: Vec<u64>,
    found: Found,
    /// The time of the partition.
    passed: Option<i64>,
}

impl User {
    fn new(text: &str) -> Self {
        let (segments, scope, errors) = compile(text);
        assert_eq!(errors, []);
        let slots = ["a", "b", "c"].map(|name| scope.get(name).unwrap().0).to_vec();
        let words = vec![0; Segments::memberships(&specs(text).0).len() * Membership::WORDS];
        Self { segments, columns: scope.columns(), slots, words, found: Found::default(), passed: None }
    }

    /// An event at this time with these fields, as letters; `-` for a missing `a`.
    fn event(&mut self, time: i64, holds: &str) -> (String, String) {
        self.columns.clear();
        for (slot, letter) in self.slots.iter().zip(['a', 'b', 'c']) {
            let missing = letter == 'a' && holds.contains('-');
            let truth = if missing { Truth::Missing } else { holds.contains(letter).into() };
            let Column::Bool(column) = self.columns.get_mut(*slot) else { panic!("it is declared as one") };
            column.clear();
            column.push(truth);
        }
        self.segments.run(&mut self.columns, 1);
        self.segments.decide(
            &self.columns,
            0,
            (EventTime(time), self.passed.map(EventTime)),
            &mut self.words,
            &mut self.found,
        );
        self.told()
    }

    fn expire(&mut self, time: i64) -> (String, String) {
        self.segments.expire(EventTime(time), &mut self.words, &mut self.found);
        self.told()
    }

    fn told(&self) -> (String, String) {
        let id = |number: usize| &self.segments.all()[number].id;
        let now = self.found.now.iter().map(|it| match it.stay {
            None => id(it.number).clone(),
            Some((stay, is_new)) => {
                let sign = if is_new { "+" } else { "" };
                format!("{sign}{} {}-{}", id(it.number), stay.entered_at.0, stay.expires_at.0)
            }
        });
        let left = self.found.left.iter().map(|it| format!("{} {:?}", id(it.number), it.reason));
        (now.collect::<Vec<_>>().join(", "), left.collect::<Vec<_>>().join(", "))
    }
}

fn told(now: &str, left: &str) -> (String, String) {
    (now.to_owned(), left.to_owned())
}

const SECOND: i64 = 1_000_000;

#[test]
fn a_membership_lasts_as_long_as_declared_and_no_late_event_shortens_it() {
    let mut user = User::new("[[segment]]\nid = \"x\"\nwhere = \"a\"\nexit = \"b\"\nduration = \"10s\"");
    assert_eq!(user.event(5 * SECOND, ""), told("", ""));
    assert_eq!(user.event(5 * SECOND, "a"), told("+x 5000000-15000000", ""));
    assert_eq!(user.event(6 * SECOND, ""), told("x 5000000-15000000", ""), "the rule need not hold again");
    assert_eq!(user.event(7 * SECOND, "a"), told("x 5000000-17000000", ""));
    assert_eq!(user.event(SECOND, "a"), told("x 5000000-17000000", ""), "it is late");
    assert_eq!(user.event(16_999_999, ""), told("x 5000000-17000000", ""));
    assert_eq!(user.event(17 * SECOND, "a"), told("+x 17000000-27000000", "x Expired"), "and a new one begins");
    assert_eq!(
        user.event(2 * SECOND, "ab"),
        told("", "x ExitRule"),
        "an exit counts when it comes, and lets nobody in"
    );
    assert_eq!(user.event(18 * SECOND, "a"), told("+x 18000000-28000000", ""));
    assert_eq!(user.expire(28 * SECOND - 1), told("x 18000000-28000000", ""));
    assert_eq!(user.expire(28 * SECOND), told("", "x Expired"));
    assert_eq!(user.expire(90 * SECOND), told("", ""));
    assert_eq!(user.words, [0, 0]);
    user.passed = Some(28 * SECOND);
    assert_eq!(user.event(18 * SECOND, "a"), told("", ""), "it would be over already");
    assert_eq!(user.event(18 * SECOND + 1, "a"), told("+x 18000001-28000001", ""));
}

#[test]
fn without_an_exit_rule_a_user_leaves_when_the_entry_rule_fails_or_rests_on_nothing() {
    let mut user = User::new("[[segment]]\nid = \"x\"\nwhere = \"a\"\nduration = \"10s\"");
    user.event(SECOND, "a");
    assert_eq!(user.event(2 * SECOND, "b"), told("", "x ExitRule"));
    user.event(3 * SECOND, "a");
    assert_eq!(user.event(4 * SECOND, "-"), told("", "x ExitRule"));
    let mut user = User::new("[[segment]]\nid = \"x\"\nwhere = \"a\"\nexit = \"b\"");
    let day = 86_400 * SECOND;
    assert_eq!(user.event(day, "a"), told(&format!("+x {day}-{}", 541 * day), ""), "540 days where none is said");
}

#[test]
fn an_excluded_user_leaves_at_the_same_event_and_does_not_enter() {
    // Declared before the segment that excludes it.
    let text = r#"
[[segment]]
id = "x"
where = "a"
exit = "false"
duration = "10s"
unless = ["y", "z"]
[[segment]]
id = "y"
where = "b"
exit = "false"
duration = "5s"
[[segment]]
id = "z"
where = "c"
"#;
    let mut user = User::new(text);
    assert_eq!(user.event(SECOND, "a"), told("+x 1000000-11000000", ""));
    assert_eq!(user.event(2 * SECOND, "ac"), told("z", "x Excluded"));
    assert_eq!(user.event(3 * SECOND, "a"), told("+x 3000000-13000000", ""));
    assert_eq!(user.event(4 * SECOND, "ab"), told("+y 4000000-9000000", "x Excluded"));
    assert_eq!(user.event(5 * SECOND, "a"), told("y 4000000-9000000", ""));
    assert_eq!(user.expire(9 * SECOND), told("", "y Expired"), "what it excluded waits for an event");
    assert_eq!(user.event(10 * SECOND, "a"), told("+x 10000000-20000000", ""));
}

#[test]
fn segments_come_by_priority_and_no_more_than_asked_for() {
    let segments = |max: &str| {
        let one =
            |id: &str, rule: &str, more: &str| format!("[[segment]]\nid = \"{id}\"\nwhere = \"{rule}\"\n{more}\n");
        let all =
            [one("x", "a", ""), one("y", "b", "priority = 7"), one("z", "c", ""), one("w", "true", "priority = -1")];
        all.concat() + "[targeting]\n" + max
    };
    let mut user = User::new(&segments(""));
    assert_eq!(user.event(0, "abc"), told("y, x, z, w", ""));
    assert_eq!(user.event(0, "ac"), told("x, z, w", ""));
    let mut user = User::new(&segments("segments_max = 2"));
    assert_eq!(user.event(0, "abc"), told("y, x", ""));
    assert_eq!(user.event(0, ""), told("w", ""));
}

#[test]
fn what_is_wrong_with_segments_is_told_all_at_once() {
    let text = r#"
[targeting]
segments_max = 0
[[segment]]
id = "x"
where = "a"
duration = "541d"
unless = ["yy"]
[[segment]]
id = "p"
where = "a"
duration = "10ms"
unless = ["q"]
[[segment]]
id = "q"
where = "a"
exit = "nothing"
unless = ["r"]
[[segment]]
id = "r"
where = "a"
unless = ["p"]
[[segment]]
id = "s"
where = "a"
unless = ["s"]
"#;
    let (_, _, errors) = compile(text);
    let told: Vec<(&str, &str)> = errors.iter().map(|it| (it.key.as_str(), it.message.as_str())).collect();
    assert_eq!(
        told,
        [
            ("segment[0].duration", "a membership lasts 1s to 540d, not 541days"),
            ("segment[0].unless[0]", "there is no segment \"yy\""),
            ("segment[1].duration", "a membership lasts 1s to 540d, not 10ms"),
            ("segment[2].exit", "nothing here is named \"nothing\""),
            ("segment[1].unless", "segments exclude each other in a circle: p unless q unless r unless p"),
            ("targeting.segments_max", "0 leaves every decision without a segment"),
        ]
    );
}
