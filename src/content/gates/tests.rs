use super::*;
use crate::content::brief::{read, tests::BRIEF};

fn draft(part: Part, text: &str) -> Draft {
    Draft { part, text: text.to_owned(), theme: "t1".to_owned(), facts: Vec::new() }
}

/// A text with the gate that objects to it; `None` if it passes.
const CASES: [(Part, &str, Option<Gate>); 45] = [
    (Part::Headline, "30 hours with GPS", None),
    (Part::Headline, "Soft strap, no tools", None),
    (Part::Description, "A soft strap that you change without tools, and 30 hours with GPS.", None),
    (Part::LongHeadline, "Run further: the battery lasts 30 hours with GPS", None),
    (Part::Headline, "", Some(Gate::Length)),
    (Part::Headline, "  ", Some(Gate::Length)),
    (Part::Headline, "A strap that feels soft on skin!", Some(Gate::Length)),
    (Part::Headline, "Run\u{202e}further", Some(Gate::Length)),
    (Part::Headline, "Run\nfurther", Some(Gate::Length)),
    (Part::Headline, "Run with {product}", Some(Gate::Placeholder)),
    (Part::Headline, "Run with [Name]", Some(Gate::Placeholder)),
    (Part::Headline, "Run with <b>GPS", Some(Gate::Placeholder)),
    (Part::Headline, "Lorem ipsum dolor", Some(Gate::Placeholder)),
    (Part::Headline, "Mail ‹email›", Some(Gate::Placeholder)),
    (Part::Headline, "Get it at shop.example", None),
    (Part::Headline, "Get it at www.shop.example", None),
    (Part::Headline, "Get it at evil.com", Some(Gate::Link)),
    (Part::Headline, "See notshop.example", Some(Gate::Link)),
    (Part::Headline, "See https://1.2.3.4/x", Some(Gate::Link)),
    (Part::Description, "Ask anna@mail.local about the strap", Some(Gate::PersonalData)),
    (Part::Description, "Call 030 303030", Some(Gate::PersonalData)),
    (Part::Headline, "Ask @anna", Some(Gate::PersonalData)),
    (Part::Headline, "Mail anna@shop.example", Some(Gate::PersonalData)),
    (Part::Headline, "A damn good strap", Some(Gate::Blocked)),
    (Part::Headline, "Cheap and good", Some(Gate::Blocked)),
    (Part::Headline, "Cheaper than you think", None),
    (Part::Headline, "For diabetic runners", Some(Gate::Sensitive)),
    (Part::Headline, "In debt? Run anyway", Some(Gate::Sensitive)),
    (Part::Headline, "A strap for Muslims", Some(Gate::Sensitive)),
    (Part::Headline, "Guaranteed soft", Some(Gate::Claim)),
    (Part::Headline, "The lightest strap", Some(Gate::Claim)),
    (Part::Headline, "40 hours with GPS", Some(Gate::Claim)),
    (Part::Headline, "Number #1", Some(Gate::Claim)),
    (Part::Description, "Das Armband ist weich und der Akku hält den ganzen Tag", Some(Gate::Language)),
    (Part::Headline, "Мягкий ремешок", Some(Gate::Language)),
    (Part::Description, "It lasts through the whole weekend in the hills", Some(Gate::CommentCopy)),
    (Part::Headline, "Softest watch around", Some(Gate::CommentCopy)),
    (Part::Headline, "Time for the long way", Some(Gate::CreativeCopy)),
    (Part::Headline, "TIME for the LONG way.", Some(Gate::CreativeCopy)),
    (Part::Description, "Time for the long way", None),
    (Part::Headline, "More time for the long way", Some(Gate::CreativeCopy)),
    (Part::Headline, "Run now!! Go!", Some(Gate::Readability)),
    (Part::Headline, "SOFTER STRAPS for you", Some(Gate::Readability)),
    (Part::Description, "Donaudampfschifffahrtsgesellschaft strap", Some(Gate::Readability)),
    (
        Part::Description,
        "Comfortable silicone attachment needing no complicated instruments outdoors",
        Some(Gate::Readability),
    ),
];

#[test]
fn each_gate_finds_its_own_and_says_what_to_do() {
    let brief = read(&BRIEF.replace("description = 80", "description = 85")).unwrap();
    let mut quotes = Quotes::default();
    quotes.add("Honestly it lasts through the whole weekend, no charger needed");
    quotes.add("softest watch around!");
    let mut gates = Gates::new(&brief, Some(&quotes));
    gates.pass(&draft(Part::Headline, "Time for the long way"));
    let mut seen = HashSet::new();
    for (part, text, gate) in CASES {
        // The digits of a phone number are also numbers that no fact has.
        let found = gates.check(&draft(part, text));
        assert_eq!(
            found
                .iter()
                .map(|it| it.gate)
                .filter(|it| !(gate == Some(Gate::PersonalData) && *it == Gate::Claim))
                .collect::<Vec<_>>(),
            gate.into_iter().collect::<Vec<_>>(),
            "{text:?}: {found:?}"
        );
        assert!(found.iter().all(|it| it.reason.contains(';')), "the reason has no next step: {found:?}");
        seen.extend(gate);
    }
    assert_eq!(seen.len(), Gate::ALL.len(), "a gate has no case");
}

#[test]
fn wide_characters_count_twice() {
    let brief = read(&BRIEF.replace("language = \"en\"", "language = \"ja\"")).unwrap();
    let gates = Gates::new(&brief, None);
    assert!(gates.check(&draft(Part::Headline, &"走".repeat(15))).iter().all(|it| it.gate != Gate::Length));
    assert_eq!(gates.check(&draft(Part::Headline, &"走".repeat(16)))[0].gate, Gate::Length);
}

#[test]
fn without_comments_only_the_copy_of_a_comment_is_missed() {
    let brief = read(BRIEF).unwrap();
    let gates = Gates::new(&brief, None);
    assert_eq!(gates.check(&draft(Part::Headline, "Softest watch around")), []);
}
