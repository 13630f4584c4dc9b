//! What do 100 segments and 50 campaigns cost per event on one core, in batches of 512?
//!
//! A good answer is at most 3 µs for everything they add: counting for caps in the profile engine, the rules of
//! segments and campaigns, and the choice with its reasons. Each campaign has two caps. Half of them have a recency, a
//! rule, a holdout and arms, a third compute their value, and a fifth have dayparts. One event in twelve is an
//! impression. Decoding is not timed. Times are CPU times of the thread. `cargo test` runs a small version to keep the
//! bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

mod workload;

use aimpoint::{
    columns::{Slot, Type},
    event::{Decoder, EventBatch, Fields, InputSpec, Record},
    expression::Scope,
    profile::{Applied, HiddenFeature, KeptForTargeting, ProfileEngine},
    state::{Store, Stores},
    targeting::{
        Found, SegmentSpec, Segments, TargetingSpec,
        campaign::{CampaignSpec, Campaigns, Choice, Held, RowContext},
    },
};
use std::{fmt::Write, time::Duration};
use workload::{BATCH, events, spec};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SEGMENTS: usize = 100;
const CAMPAIGNS: usize = 50;

#[derive(serde::Deserialize)]
struct Targeting {
    segment: Vec<SegmentSpec>,
    campaign: Vec<CampaignSpec>,
}

fn targeting() -> Targeting {
    let mut text = String::new();
    for number in 0..SEGMENTS {
        let features = ["page_view_5m", "click_1h", "spent", "page_view_24h", "dwell"];
        let (feature, least) = (features[number % 5], number % 9);
        writeln!(
            text,
            "[[segment]]\nid = \"s{number}\"\nwhere = '{feature} > {least}.0 && score > 0.{}'",
            4 + number % 6
        )
        .expect("a string takes everything");
    }
    for number in 0..CAMPAIGNS {
        let (one, two) = (number * 2 % SEGMENTS, (number * 7 + 1) % SEGMENTS);
        let value = match number % 3 {
            0 => "value = \"spent * 0.01\"\naction = \"click\"\nprobability = \"score\"\n".to_owned(),
            1 => format!("value = 0.{number:02}1\naction = \"click\"\nprobability = \"score\"\n"),
            _ => format!("value = {number}.5\n"),
        };
        let half =
            "recency = \"10m\"\nwhere = 'page_view_5m < 40.0'\nholdout = 0.1\narms = [{ name = \"a\", share = 0.5 }]\n";
        let dayparts = "dayparts = [\"mon-fri 06:00-23:00\"]\nzone = \"Europe/Berlin\"\n";
        writeln!(
            text,
            "[[campaign]]\nid = \"campaign-{number}\"\ncurrency = \"EUR\"\nfloor = 0.2\nceiling = 20\nsegments = {{ any = [\"s{one}\", \"s{two}\"], none = [\"s98\"] }}\ncaps = [{{ max = 3, per = \"hour\" }}, {{ max = 9, per = \"week\" }}]\n{value}{}{}",
            if number % 2 == 0 { half } else { "" },
            if number % 5 == 0 { dayparts } else { "" },
        )
        .expect("a string takes everything");
    }
    toml::from_str(&text).expect("the specification is well formed")
}

/// The CPU time of this thread, which other processes do not inflate.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct One(Store);

impl Stores for One {
    fn store(&mut self, _: i32) -> &mut Store {
        &mut self.0
    }
}

/// The stages before the decision, and the time they took.
struct World {
    decoder: Decoder,
    profile: ProfileEngine,
    segments: Segments,
    campaigns: Campaigns,
    batch: EventBatch,
    store: One,
    score: Slot,
    found: Found,
    took: [Duration; 3],
}

impl World {
    fn new(targeting: &Targeting) -> Self {
        let spec = spec();
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        let fields = Fields::declare(&spec.input, &spec.fields, &mut scope, &mut errors);
        let limits = TargetingSpec::default();
        let hidden: Vec<HiddenFeature> = Campaigns::hidden_features(&targeting.campaign, &limits, &[]);
        let profile = ProfileEngine::compile_with(
            &spec.profile,
            &spec.time,
            &spec.duplicates,
            &spec.features,
            KeptForTargeting { hidden: &hidden, ..KeptForTargeting::default() },
            &mut scope,
            &mut errors,
        );
        let score = scope.declare("score", Type::Double).expect("nothing else has this name");
        let segments = Segments::compile(&targeting.segment, &TargetingSpec::default(), &mut scope, &mut errors);
        let ids: Vec<&str> = targeting.segment.iter().map(|segment| segment.id.as_str()).collect();
        let campaigns = Campaigns::compile(&targeting.campaign, &limits, &ids, &[], &[], &mut scope, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        let used: Vec<Slot> = profile.reads().chain(segments.reads()).chain(campaigns.reads()).collect();
        Self {
            decoder: Decoder::new(fields, &used, &InputSpec::default(), &spec.time),
            profile,
            segments,
            campaigns,
            batch: EventBatch::new(scope.columns()),
            store: One(Store::default()),
            score,
            found: Found::default(),
            took: [Duration::ZERO; 3],
        }
    }

    /// Runs a batch and returns the numbers of bids and refusals.
    fn run(&mut self, first: usize, events: &[Vec<u8>], held: &mut Held, choice: &mut Choice) -> [usize; 2] {
        for (index, payload) in events.iter().enumerate() {
            let record = Record { offset: (first + index) as i64, payload: Some(payload), ..Record::default() };
            self.decoder.decode(&record, &mut self.batch).expect("the events are well formed");
        }
        let rows = self.batch.len();
        let start = computed();
        self.profile.process(&mut self.batch, &mut self.store);
        let counted = computed();
        let scores = self.batch.columns.get_mut(self.score).doubles_mut();
        scores.clear();
        scores.extend(self.batch.user_hashes.iter().map(|hash| (hash % 1_000) as f64 / 1_000.0));
        let scored = computed();
        let columns = &mut self.batch.columns;
        self.segments.run(columns, rows);
        let segmented = computed();
        self.campaigns.run(columns, rows);
        let mut found = [0, 0];
        for row in 0..rows {
            held.clear();
            self.segments.decide(columns, row, (self.batch.times[row], None), &mut [], &mut self.found);
            self.found.now.iter().for_each(|segment| held.insert(segment.number));
            let context = RowContext {
                time: self.batch.times[row],
                user_hash: self.batch.user_hashes[row],
                segments: held,
                suppressed: None,
                decision: row as u64,
                now: 0,
            };
            self.campaigns.decide(columns, row, &context, choice);
            found[0] += choice.bids.len();
            found[1] += choice.refused.len();
        }
        let parts =
            [counted.saturating_sub(start), segmented.saturating_sub(scored), computed().saturating_sub(segmented)];
        self.took.iter_mut().zip(parts).for_each(|(took, part)| *took += part);
        assert!(self.profile.applied().iter().all(|applied| *applied == Applied::Counted));
        self.batch.clear();
        found
    }
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, users) = if is_bench { (600_000, 50_000) } else { (6_000, 600) };
    let mut events = events(count, users);
    for (number, event) in events.iter_mut().enumerate() {
        let text = String::from_utf8_lossy(event);
        let shown =
            format!("\"event_type\":\"impression\",\"ad\":{{\"campaign_id\":\"campaign-{}\"}}", number * 7 % CAMPAIGNS);
        let changed = text.replace("\"event_type\":\"click\"", &shown).into_bytes();
        *event = changed;
    }
    let full = targeting();
    let bare = Targeting { segment: Vec::new(), campaign: Vec::new() };
    let (mut with, mut without) = (World::new(&full), World::new(&bare));
    let (mut held, mut choice) = (Held::new(SEGMENTS), Choice::default());
    let mut found = [0, 0];
    for (number, batch) in events.chunks(BATCH).enumerate() {
        if number == count / BATCH / 3 {
            // By now, buffers have grown and most users are known.
            (with.took, without.took) = ([Duration::ZERO; 3], [Duration::ZERO; 3]);
        }
        let outcome = with.run(number * BATCH, batch, &mut held, &mut choice);
        found.iter_mut().zip(outcome).for_each(|(sum, part)| *sum += part);
        without.run(number * BATCH, batch, &mut held, &mut choice);
    }
    let timed = (count - count / BATCH / 3 * BATCH) as f64;
    let each = |took: Duration| took.as_nanos() as f64 / timed;
    let counts = each(with.took[0]) - each(without.took[0]);
    let [segments, campaigns] = [1, 2].map(|part| each(with.took[part]) - each(without.took[part]));
    println!(
        "targeting: {:.0} ns an event for {SEGMENTS} segments and {CAMPAIGNS} campaigns: {counts:.0} to count for caps, {segments:.0} for segments, {campaigns:.0} to choose; the profile without: {:.0}",
        counts + segments + campaigns,
        each(without.took[0]),
    );
    let bytes = |world: &World| world.store.0.bytes() / world.store.0.len();
    let profile = with.profile.profile_bytes();
    println!(
        "targeting: {} bytes a user with its key, {} without campaigns; full {} bytes",
        bytes(&with),
        bytes(&without),
        profile.full
    );
    println!(
        "targeting: {:.2} bids and {:.2} refusals an event",
        found[0] as f64 / count as f64,
        found[1] as f64 / count as f64
    );
    assert!(found[0] > 0 && found[1] > 0, "campaigns are chosen and refused");
}
