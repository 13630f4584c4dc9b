//! The demo, from its start to its end: about a minute. Its figures are compared with the data and with each other.

use super::{aimpoint, repository};
use std::io::{Read, Write};

/// A figure such as `12 345.60`, with spaces between thousands.
fn number(text: &str) -> f64 {
    text.replace(' ', "").parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// What stands between two texts, the first time.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from:?} is missing in:\n{text}"));
    rest.split_once(to).unwrap_or_else(|| panic!("{to:?} is missing after {from:?} in:\n{text}")).0.trim()
}

/// The lines of a part, up to the next empty line.
fn part<'a>(out: &'a str, title: &str) -> Vec<&'a str> {
    let (_, rest) = out.split_once(title).unwrap_or_else(|| panic!("{title:?} is missing in:\n{out}"));
    let (_, rest) = rest.split_once("\n\n").unwrap();
    rest.lines().take_while(|line| !line.is_empty()).collect()
}

/// The purchases of the data, one a line.
fn purchases() -> String {
    let file = std::fs::File::open(repository("deploy/demo/cdnow.jsonl.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// How many purchases the data have from a day on.
fn purchases_from(day: &str) -> u64 {
    purchases().lines().filter(|line| between(line, "\"occurred_at\":\"", "T") >= day).count() as u64
}

/// A campaign's part of the spend: its sum, its budget, and by week planned (if there is a plan), spent and passed.
fn spend(lines: &[&str], campaign: &str) -> (f64, f64, Vec<[f64; 3]>) {
    let at = lines.iter().position(|line| line.trim_start().starts_with(&format!("{campaign}:"))).unwrap();
    let spent = number(between(lines[at], ": ", " USD spent"));
    let budget = number(between(lines[at], "its budget is ", " in total"));
    let weeks = lines[at + 2..].iter().take_while(|line| line.starts_with("    1998-")).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let planned = if words[1] == "-" { 0.0 } else { number(words[1]) };
        // Without a plan there is no share of it.
        let passed = if words[1] == "-" { words[4] } else { words[5] };
        [planned, number(words[2]), number(passed)]
    });
    (spent, budget, weeks.collect())
}

#[test]
fn the_demo_s_campaigns_add_up() {
    let (code, out, error) = aimpoint(&["demo"], &[]);
    assert_eq!(code, 0, "{error}");
    for line in out.lines() {
        // The path of the library is that of this machine.
        assert!(line.chars().count() <= 100 || line.starts_with("ONNX Runtime"), "more than 100 columns: {line}");
    }
    println!("{out}");

    let outcomes = part(&out, "The flight of the campaigns, 1998-04-01 to 1998-06-30").join("\n");
    assert_eq!(number(between(&outcomes, "real", "purchases")) as u64, purchases_from("1998-04-01"));
    assert!(outcomes.contains("92 policies"), "{outcomes}");
    let sent = number(between(&outcomes, "outcomes", "sent")) as u64;
    assert!(sent > 10_000, "{outcomes}");
    let joined = number(between(&outcomes, "sent:", "joined")) as u64;
    assert_eq!(joined, sent, "each outcome belongs to its decision");
    assert!(outcomes.contains("0 duplicate, 0 late, 0 orphan, 0 rejected"), "{outcomes}");
    assert!(outcomes.contains("control's books are the market's"), "{outcomes}");

    let lines = part(&out, "Spend against plan");
    let (spent, budget, weeks) = spend(&lines, "come-back");
    let sum = |weeks: &[[f64; 3]], index: usize| weeks.iter().map(|week| week[index]).sum::<f64>();
    assert_eq!(weeks.len(), 13);
    assert!((sum(&weeks, 0) - budget).abs() < 0.07, "the plan is the budget: {weeks:?}");
    assert!((sum(&weeks, 1) - spent).abs() < 0.07, "the weeks are the sum: {weeks:?}");
    assert!(spent <= 1.01 * budget && spent > 0.93 * budget, "{spent} of {budget}");
    let mut so_far = (0.0, 0.0);
    for [planned, spent, passed] in &weeks[..] {
        so_far = (so_far.0 + planned, so_far.1 + spent);
        assert!((0.85..=1.2).contains(&(so_far.1 / so_far.0)), "too far from the plan: {weeks:?}");
        assert!((5.0..95.0).contains(passed), "the budget is neither too small nor too large: {weeks:?}");
    }
    let (early, budget, weeks) = spend(&lines, "collectors");
    assert!((sum(&weeks, 1) - early).abs() < 0.07 && early > 0.97 * budget, "{early}: {weeks:?}");
    // One day is in flight between two policies.
    if early > budget {
        let said = lines.iter().find(|line| line.contains("above the budget")).unwrap();
        assert!((number(between(said, "   ", " above")) - (early - budget)).abs() < 0.011, "{said}");
        assert!(early - budget <= number(between(said, "budget: ", " were spent")), "{said}");
    }
    let [first, last] = [weeks[0], weeks[12]];
    assert!(first[1] > last[1] && last[1] < 0.01 && last[2] < 1.0, "it is spent as soon as possible: {weeks:?}");

    let offers = part(&out, "Offers: decisions").join("\n");
    for reason in ["paced:", "holdout:", "floor:", "budget: its budget"] {
        assert!(offers.contains(reason), "{reason} is missing in\n{offers}");
    }
    for nothing in ["budget_unknown", "dates:"] {
        assert!(!offers.contains(nothing), "a policy is always there: {offers}");
    }

    let bids = part(&out, "Bids: what control learned");
    let mut paid_for_all = 0.0;
    for line in &bids {
        if line.contains("was shaded") {
            let (value, bid) = (number(between(line, "value of ", " USD")), number(between(line, "bid of ", ",")));
            assert!(bid < value && bid > 1.0, "{line}");
        }
        if line.contains("bought") {
            let paid = number(line.split_whitespace().next().unwrap());
            let worth = number(between(line, "worth ", ";"));
            let unshaded = number(line.rsplit(' ').next().unwrap());
            assert!(paid < unshaded && unshaded <= worth, "{line}");
            paid_for_all += paid;
        }
    }
    assert!((paid_for_all - spent - early).abs() < 0.02, "what was paid is what was spent: {paid_for_all}");

    let creatives = part(&out, "Creatives: clicks");
    let mut found = 0;
    for line in creatives.iter().filter(|line| line.contains(" to ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "to").unwrap();
        let [low, high, truth] = [at - 1, at + 1, at + 2].map(|index| number(words[index]));
        assert!(low < truth && truth < high, "{line}");
        found += 1;
    }
    assert_eq!(found, 4, "{creatives:?}");
    let text = creatives.join("\n");
    for best in ["come-back: come-back-discount", "collectors: collectors-box"] {
        assert!(text.contains(best), "{best} is better: {text}");
    }

    let words = part(&out, "One decision in words").join("\n");
    for said in ["best surplus at a bid of", "creative", "by thompson", "decided with policy", "its budget lets it"] {
        assert!(words.contains(said), "{said:?} is missing in\n{words}");
    }
    check_bid_request(&out);
}

/// The request that comes out is the one that goes in, with the customer's segments at the end of its user.
fn check_bid_request(out: &str) {
    let lines = part(out, "A bid request for a customer, before and after");
    let joined = |lines: &[&str]| lines.iter().map(|line| line[12..].trim_start()).collect::<String>();
    let at = lines.iter().position(|line| line.starts_with("  enriched  ")).unwrap_or_else(|| panic!("{lines:#?}"));
    let (before, after) = (joined(&lines[..at]), joined(&lines[at..]));
    let mut request: serde_json::Value = serde_json::from_str(&after).unwrap();
    let data = request["user"].as_object_mut().unwrap().remove("data").unwrap();
    assert_eq!(request, serde_json::from_str::<serde_json::Value>(&before).unwrap());
    let added = format!(",\"data\":{data}");
    assert_eq!(after.len(), before.len() + added.len(), "nothing else is new: {after}");
    assert_eq!(data[0]["name"], "music.example", "{data}");
    let ids: Vec<&str> = data
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|it| it["segment"].as_array().unwrap())
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert!(!ids.is_empty(), "{data}");
    for id in &ids {
        let known = ["likely-to-return", "high-spender", "one-time-buyer", "won-back"];
        assert!(known.contains(id), "{id}: {data}");
    }
    // The last purchase whose customer is in a segment decides who it is: the decision that the report has read.
    let user = request["user"]["buyeruid"].as_str().unwrap();
    assert!(purchases().contains(&format!("\"user_id\":\"{user}\"")), "{user} is a customer");
}

/// Other data may have no campaign that needs control: then there is no flight, and every event is decided.
#[test]
fn a_demo_without_budgets_has_no_flight() {
    let folder = tempfile::tempdir().unwrap();
    let demo = |name: &str| repository(&format!("deploy/demo/{name}"));
    let config = std::fs::read_to_string(demo("aimpoint.toml")).unwrap();
    let (features, _) = config.split_once("# Two campaigns that the shop").unwrap();
    std::fs::write(folder.path().join("aimpoint.toml"), features).unwrap();
    std::fs::copy(demo("model.onnx"), folder.path().join("model.onnx")).unwrap();
    let some: Vec<String> = purchases().lines().step_by(20).map(str::to_owned).collect();
    let file = std::fs::File::create(folder.path().join("cdnow.jsonl.gz")).unwrap();
    let mut to = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    to.write_all(some.join("\n").as_bytes()).unwrap();
    to.finish().unwrap();
    let (code, out, error) = aimpoint(&["demo", "--data", folder.path().to_str().unwrap()], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(!out.contains("flight") && !out.contains("Spend against plan"), "{out}");
    assert_eq!(between(&out, "  events", "\n"), "2 093", "{out}");
}
