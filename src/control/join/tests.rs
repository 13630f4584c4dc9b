//! Tests of the look-up.

use super::*;
use OutcomeType::{Click, Conversion, Impression, Loss, Viewable, Win};

const MINUTE: i64 = 60_000_000;
const START: i64 = 1_767_225_600_000_000;
const WINDOWS: Windows = Windows { engagement: 10 * MINUTE, view: 20 * MINUTE, click: 100 * MINUTE };

fn touch(campaign: &str, creative: &str, at: i64, aliases: &[Key]) -> Touch {
    Touch {
        campaign: campaign.to_owned(),
        creative: Some(creative.to_owned()),
        audience: String::new(),
        features: Vec::new(),
        bid_micros: 1,
        decided_at: at,
        offered_until: at + 5 * MINUTE,
        shown_at: None,
        viewed: false,
        clicked_at: None,
        converted_at: None,
        predicted: None,
        learn_at: None,
        keep_until: at + 5 * MINUTE,
        aliases: aliases.iter().copied().map(Alias).collect(),
    }
}

fn outcome(kind: OutcomeType, at: i64) -> Outcome {
    Outcome {
        id: "o".to_owned(),
        kind,
        occurred_at: at,
        user_key: None,
        decision_id: None,
        auction_id: None,
        imp_id: None,
        campaign_id: None,
        creative_id: None,
        placement: None,
        value: None,
        currency: None,
        price: None,
        min_to_win: None,
        loss_reason: 0,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an optional member is given")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Two decisions of a user, a minute apart; the first offers two campaigns.
fn offers() -> Touches {
    let mut touches = Touches::default();
    for (decision, campaign, at) in [("d1", "a", START), ("d1", "b", START), ("d2", "a", START + MINUTE)] {
        let aliases = [decision_alias(decision), user_alias("u", campaign)];
        touches.insert(offer_key(decision, campaign), touch(campaign, &format!("{campaign}-1"), at, &aliases));
    }
    touches
}

#[test]
fn a_win_is_joined_by_decision_else_by_auction_else_by_user_and_campaign() {
    let mut touches = offers();
    let win = outcome(OutcomeType::Win, START + 2 * MINUTE);
    let found = |touches: &Touches, outcome: &Outcome| find(touches, outcome, &WINDOWS);
    let by_decision = Outcome { decision_id: some("d1"), campaign_id: some("a"), ..win.clone() };
    assert_eq!(found(&touches, &by_decision), Lookup::Found(offer_key("d1", "a")));
    // The latest decision of the user counts.
    let by_user = Outcome { user_key: some("u"), campaign_id: some("a"), ..win.clone() };
    assert_eq!(found(&touches, &by_user), Lookup::Found(offer_key("d2", "a")));
    let early = Outcome { occurred_at: START - SKEW + 1, ..by_user.clone() };
    assert_eq!(found(&touches, &early), Lookup::Found(offer_key("d1", "a")));
    // The auction is not known yet, so user and campaign count; then it is.
    let by_auction = Outcome { auction_id: some("x"), imp_id: some("1"), ..by_user.clone() };
    assert_eq!(found(&touches, &by_auction), Lookup::Found(offer_key("d2", "a")));
    assert!(touches.name(offer_key("d1", "a"), &auction_aliases(&by_auction)));
    assert!(!touches.name(offer_key("d1", "a"), &auction_aliases(&by_auction)), "nothing new");
    assert_eq!(found(&touches, &by_auction), Lookup::Found(offer_key("d1", "a")));
    let other_imp = Outcome { imp_id: some("2"), ..by_auction.clone() };
    assert_eq!(found(&touches, &other_imp), Lookup::Found(offer_key("d1", "a")), "by the auction");
    let lone_imp = Outcome { imp_id: some("1"), ..win.clone() };
    assert_eq!(found(&touches, &lone_imp), Lookup::Unknown, "unique only within its auction");
    // An unknown decision is waited for.
    let unknown = Outcome { decision_id: some("d3"), ..by_user };
    assert_eq!(found(&touches, &unknown), Lookup::Unknown);
}

#[test]
fn of_several_campaigns_the_outcome_must_name_one_or_its_creative() {
    let touches = offers();
    let win = Outcome { decision_id: some("d1"), ..outcome(OutcomeType::Win, START) };
    assert_eq!(find(&touches, &win, &WINDOWS), Lookup::Unknown);
    let by_creative = Outcome { creative_id: some("b-1"), ..win.clone() };
    assert_eq!(find(&touches, &by_creative, &WINDOWS), Lookup::Found(offer_key("d1", "b")));
    let other = Outcome { campaign_id: some("c"), ..win.clone() };
    assert_eq!(find(&touches, &other, &WINDOWS), Lookup::Unknown);
    let alone = Outcome { decision_id: some("d2"), ..win };
    assert_eq!(find(&touches, &alone, &WINDOWS), Lookup::Found(offer_key("d2", "a")));
}

#[test]
fn each_kind_has_its_window() {
    let mut touches = offers();
    let shown = Key(1);
    let seen = Touch { shown_at: Some(START), ..touch("a", "a-1", START, &[decision_alias("d1")]) };
    touches.insert(shown, seen);
    let mut found = |kind, after: i64, clicked: Option<i64>| {
        touches.change(shown, |touch| touch.clicked_at = clicked.map(|after| START + after));
        let outcome = Outcome { decision_id: some("d1"), campaign_id: some("a"), ..outcome(kind, START + after) };
        match find(&touches, &outcome, &WINDOWS) {
            Lookup::Found(key) if key == shown => "impression",
            Lookup::Found(_) => "offer",
            Lookup::Outside(_) => "outside",
            Lookup::Unknown => "unknown",
        }
    };
    for (kind, after, clicked, expected) in [
        (Win, 5 * MINUTE, None, "offer"),
        (Loss, 5 * MINUTE + 1, None, "outside"),
        (Impression, -SKEW, None, "offer"),
        (Impression, -SKEW - 1, None, "outside"),
        (Click, 10 * MINUTE, None, "impression"),
        (Viewable, 10 * MINUTE + 1, None, "outside"),
        (Conversion, 20 * MINUTE, None, "impression"),
        (Conversion, 20 * MINUTE + 1, None, "outside"),
        (Conversion, 109 * MINUTE, Some(9 * MINUTE), "impression"),
        (Conversion, 109 * MINUTE + 1, Some(9 * MINUTE), "outside"),
    ] {
        assert_eq!(found(kind, after, clicked), expected, "{kind:?} {after}");
    }
}

#[test]
fn a_conversion_belongs_to_the_last_click_else_to_the_last_view() {
    let mut touches = Touches::default();
    let aliases = [user_alias("u", "a")];
    for (number, shown, clicked) in [(1, 0, Some(1)), (2, 5, None), (3, 9, None)] {
        let at = START + shown * MINUTE;
        let clicked_at = clicked.map(|clicked| START + clicked * MINUTE);
        let touch = Touch { shown_at: Some(at), clicked_at, ..touch("a", "a-1", at, &aliases) };
        touches.insert(Key(number), touch);
    }
    let conversion = |after: i64| Outcome {
        user_key: some("u"),
        campaign_id: some("a"),
        ..outcome(OutcomeType::Conversion, START + after * MINUTE)
    };
    assert_eq!(find(&touches, &conversion(10), &WINDOWS), Lookup::Found(Key(1)));
    touches.change(Key(1), |touch| touch.clicked_at = None);
    assert_eq!(find(&touches, &conversion(10), &WINDOWS), Lookup::Found(Key(3)));
    assert_eq!(find(&touches, &conversion(7), &WINDOWS), Lookup::Found(Key(2)));
    assert_eq!(find(&touches, &conversion(40), &WINDOWS), Lookup::Outside(Key(3)));
}

#[test]
fn touches_leave_no_trace_when_they_go() {
    let mut touches = offers();
    let many: Vec<Key> = (0..100).map(Key).collect();
    assert!(touches.name(offer_key("d1", "a"), &many));
    assert_eq!(touches.get(offer_key("d1", "a")).map(|touch| touch.aliases.len()), Some(touch::ALIASES_MAX));
    assert_eq!(touches.next_due(START + 5 * MINUTE, 99), None);
    while let Some(key) = touches.next_due(i64::MAX, 0) {
        assert!(touches.remove(key).is_some());
    }
    assert_eq!((touches.len(), touches.named(user_alias("u", "a")).count()), (0, 0));
    assert_eq!(format!("{touches:?}"), format!("{:?}", Touches::default()));
}

#[test]
fn impressions_of_creatives_are_counted_by_whole_hours() {
    let hour = 60 * MINUTE;
    let mut touches = Touches::default();
    touches.insert(Key(0), touch("a", "a-1", START, &[]));
    for (number, creative, minutes) in [(1, "a-1", 0), (2, "a-1", 59), (3, "a-1", 60), (4, "a-2", 61), (5, "a-2", 180)]
    {
        let at = START + minutes * MINUTE;
        touches.insert(Key(number), Touch { shown_at: Some(at), ..touch("a", creative, at, &[]) });
    }
    touches.change(Key(3), |touch| touch.clicked_at = Some(START + hour));
    touches.change(Key(4), |touch| touch.converted_at = Some(START + hour));
    // Replaced, not added.
    touches.insert(Key(5), Touch { shown_at: Some(START), ..touch("a", "a-3", START, &[]) });
    let of = |touches: &Touches, since: i64| -> Vec<(String, [u64; 3])> {
        let all = touches.gallery().of("a", since);
        all.into_iter().map(|(id, it)| (id.to_owned(), [it.impressions, it.clicks, it.conversions])).collect()
    };
    let row = |id: &str, counts| (id.to_owned(), counts);
    let all = [row("a-1", [3, 1, 0]), row("a-2", [1, 0, 1]), row("a-3", [1, 0, 0])];
    assert_eq!((of(&touches, i64::MIN), of(&touches, START)), (all.to_vec(), all.to_vec()));
    assert_eq!(of(&touches, START + 1), [row("a-1", [1, 1, 0]), row("a-2", [1, 0, 1])], "the first hour is not whole");
    assert_eq!(of(&touches, START + hour), of(&touches, START + 1));
    assert_eq!(of(&touches, START + hour + 1), []);
    assert!(touches.gallery().of("b", i64::MIN).is_empty());
    (0..6).for_each(|number| drop(touches.remove(Key(number))));
    assert_eq!(format!("{:?}", touches.gallery()), format!("{:?}", Touches::default().gallery()));
}

#[test]
fn what_was_forgotten_early_is_late() {
    let mut seen = Seen::default();
    let horizon = 100;
    for number in 0..5 {
        seen.insert(Key(number), 1_000 + number as i64 + horizon);
    }
    assert_eq!(seen.pop(1_050, 3, horizon), Some(Key(0)));
    assert_eq!(seen.pop(1_050, 3, horizon), Some(Key(1)));
    assert_eq!(seen.pop(1_050, 3, horizon), None);
    assert_eq!((seen.len(), seen.floor), (3, 1_001));
    assert!(seen.is_late(1_001, 1_050, horizon) && !seen.is_late(1_002, 1_050, horizon));
    assert!(seen.is_late(1_049, 1_150, horizon) && !seen.is_late(1_050, 1_150, horizon));
    // One that is seen again is remembered for longer.
    seen.insert(Key(2), 5_000);
    assert_eq!(seen.pop(1_104, 99, horizon), Some(Key(3)));
    assert_eq!((seen.floor, seen.contains(Key(2)), seen.until(Key(2))), (1_001, true, Some(5_000)));
}
