use super::*;
use crate::{app::Setup, config::Config};

/// A configuration that declares everything of which something is kept.
const EVERYTHING: &str = r#"
[app]
name = "shop"
[identity]
pseudonymise = true
key = "a key of thirty-two bytes or more"
normalise = "email"
[topics]
shadow_scores = "shadows"
decisions_by_user = true
[checkpoint]
snapshots = "snapshots"
[profile]
ttl = "30d"
[erasure]
keep = "60d"
where = 'event_type == "forget_me"'
[consent]
enabled = true
vendor_id = 1234
without_law = ["write", "measure"]
[consent.tcf.needs.measure]
purposes = [7]
legal_basis = "legitimate_interest"
[targeting]
minimum_audience = 50
allowed_sensitive = ["4:381"]
[control]
[serve]
token = "sixteen-letters-and-more"
[otlp]
endpoint = "http://collector:4318"
[kafka.client]
"security.protocol" = "plaintext"
[[field]]
name = "ip"
type = "string"
path = "properties.ip"
[[feature]]
name = "home_views"
aggregate = "count"
where = 'page.path == "/" || ip == "203.0.113.0"'
window = "7d"
[[segment]]
id = "keen"
where = "home_views > 3.0"
exit = "false"
duration = "14d"
[model]
path = "m.onnx"
[[shadow]]
name = "next"
path = "n.onnx"
"#;

fn record(text: &str, states: &[Option<TopicState>]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aimpoint.toml");
    std::fs::write(&path, text).unwrap();
    let (config, document) = Config::load(Some(&path), std::iter::empty(), &[]).map_err(|it| it.to_string()).unwrap();
    let setup = Setup { config, document };
    let pipeline = setup.pipeline(true).map_err(|it| it.to_string()).unwrap();
    let mut out = Vec::new();
    write(&mut out, &setup.config, &pipeline, states).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn everything_that_is_declared_is_in_the_record() {
    let state = |ms: &str| {
        Some(TopicState {
            partitions: 1,
            settings: vec![("retention.ms".to_owned(), ms.to_owned())].into_iter().collect(),
        })
    };
    let states = [state("604800000"), state("172800000"), state("-1"), None, None];
    let record = record(EVERYTHING, &states);
    for part in [
        "# Record of processing: shop\n",
        "- Controller and contact: *to be completed*\n",
        "`ip`",
        "`page.path`",
        "| `home_views` | count where page.path == \"/\" \\|\\| ip == \"203.0.113.0\" over 7d in tiles of",
        "| `keen` | `home_views > 3.0` | 14days |",
        "Sensitive categories that are permitted: 4:381",
        "| `clickstream` | events as they came, and requests to erase | as they came | 7days |",
        "| `shop-profiles`, memory, snapshots on disk | features,",
        "| the pseudonym | 30days after the last event, or until erasure |",
        "| two hashes |",
        "| `decisions` | scores, segments, campaigns | the pseudonym | the last of each user until erasure; others 2days | bidders",
        "without their content | the pseudonym | without end | operators |",
        "| `shadows` | scores of shadows | the pseudonym | 2days (planned: the topic was not looked up) |",
        "| `shop-control` | ids of outcomes and decisions | hashes | ids of outcomes 2days,",
        "| memory of `aimpoint serve` |",
        "| the OpenTelemetry collector |",
        "| keeping a profile (`write`) | 1, 3 | consent | permitted |",
        "| scoring (`score`) | 4 | consent | not done |",
        "| measuring (`measure`) | 7 | legitimate interest | permitted |",
        "- Vendor id in the TCF: 1234\n",
        "pseudonyms (HMAC-SHA-256, of normalised e-mail addresses)",
        "- IP addresses in fields are truncated to their network\n",
        "reports show: 50\n",
        "- Connections to the brokers: plaintext\n",
        "- Bidders ask by plain text, with a token\n",
        "- Erasure by the person's own event: `event_type == \"forget_me\"`\n",
        "- An opt-out is forgotten 60days after the choice: `erasure.keep`.\n",
    ] {
        assert!(record.contains(part), "{part}\n{record}");
    }
    for secret in ["thirty-two", "sixteen-letters"] {
        assert!(!record.contains(secret), "{record}");
    }
}

#[test]
fn what_is_missing_is_said() {
    let record = record("[[segment]]\nid = \"any\"\nwhere = \"true\"\n[input]\naddresses = \"whole\"\n", &[]);
    for part in [
        "ids as they come",
        "No consent is checked",
        "Who has checked it, and on which basis: *to be completed*",
        "`dead-letter` has records as they came",
        "7days (planned: the topic was not looked up)",
        "Segments of a handful of people",
        "Addresses are kept whole",
        "| `any` | `true` | for one event |",
    ] {
        assert!(record.contains(part), "{part}\n{record}");
    }
    assert!(!record.contains("aimpoint serve`;") && !record.contains("pseudonyms ("), "{record}");
}
