//! The workload of the benches: the clickstream of a shop.

use aimpoint::engine::PipelineSpec;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::fmt::Write;

/// The number of rows in a batch.
pub(crate) const BATCH: usize = 512;
const TYPES: [(&str, u32); 4] = [("page_view", 80), ("click", 92), ("add_to_cart", 98), ("purchase", 100)];

/// Sixteen features over three window lengths, one segment, a flat decision.
pub(crate) fn spec() -> PipelineSpec {
    let mut text = String::from("time = { allowed_lateness = \"60s\", future_tolerance = \"1h\" }\n");
    text += "decision = { format = \"flat\", fields = { id = \"decision_id\", user = \"user_key\", score = \"score.raw\", segments = \"segments\" } }\n";
    let mut feature = |lines: &str| write!(text, "[[feature]]\n{lines}\n").expect("a string takes everything");
    for (kind, _) in TYPES {
        for (window, tile) in [("5m", "10s"), ("1h", "1m"), ("24h", "30m")] {
            feature(&format!(
                "name = \"{kind}_{window}\"\naggregate = \"count\"\nwhere = 'event_type == \"{kind}\"'\nwindow = \"{window}\"\ntile = \"{tile}\""
            ));
        }
    }
    feature("name = \"spent\"\naggregate = \"sum\"\nvalue = \"value\"\nwindow = \"24h\"\ntile = \"30m\"");
    feature("name = \"dwell\"\naggregate = \"mean\"\nvalue = \"dwell_ms\"\nwindow = \"1h\"\ntile = \"1m\"");
    feature("name = \"since_last\"\naggregate = \"recency\"");
    feature("name = \"hour\"\naggregate = \"hour\"");
    text += "[[segment]]\nid = \"keen\"\nwhere = \"page_view_5m >= 3.0\"\n";
    toml::from_str(&text).expect("the specification is well formed")
}

/// Event lines, with users by a flattened Zipf law.
pub(crate) fn events(count: usize, users: usize) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(42);
    let mut sum = 0.0;
    let ranks: Vec<f64> = (0..users)
        .map(|rank| {
            sum += (rank as f64 + 10.0).powf(-1.05);
            sum
        })
        .collect();
    (0..count)
        .map(|number| {
            let draw = random.random_range(0.0..sum);
            let user = ranks.partition_point(|rank| *rank <= draw);
            let share = random.random_range(0..100);
            let (kind, _) = TYPES.iter().find(|(_, below)| share < *below).expect("the shares end at 100");
            let at = 1_767_225_600_000_i64 + number as i64 * 200;
            format!(
                r#"{{"event_id":"4aae6dff-9d92-4c83-8001-{number:012}","user_id":"u{user:07}","event_type":"{kind}","items":[{{"id":"sku-{:06}"}}],"occurred_at":{at},"value":{},"dwell_ms":{}}}"#,
                random.random_range(0..5_000),
                f64::from(random.random_range(0..800)) / 4.0,
                random.random_range(200..60_000)
            )
            .into_bytes()
        })
        .collect()
}
