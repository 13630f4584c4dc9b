//! Records of a changelog, snapshots and marks that no worker wrote, altered in every way this file knows. None of them
//! may crash a worker or take long. Invalid data is reported, and the user's profile is rebuilt from the input.

use super::{
    cases, replay,
    world::{Event, Feature, START, Spec, stream},
};
use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec, Recovered},
    event::{EventTime, Record},
    proto::v1,
    sink::Outbox,
    state::{Mark, SnapshotOf, SnapshotReader, SnapshotWriter, Unfit, is_layout_key, pack, unpack},
    status::Counts,
};
use prost::Message;
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};
use std::{
    collections::BTreeMap,
    io::Cursor,
    time::{Duration, Instant},
};

/// The only partition.
const HERE: i32 = 0;

fn pipeline(spec: &Spec) -> Pipeline {
    let spec: PipelineSpec = toml::from_str(&spec.toml()).expect("the specification is well formed");
    Pipeline::compile(&spec, "clicks").expect("the specification compiles")
}

/// Applies these events, the first at offset `from`, and returns the outputs.
fn apply(pipeline: &mut Pipeline, partitions: &mut Partitions, events: &[Event], from: i64) -> Outbox {
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (number, event) in events.iter().enumerate() {
        let payload = event.json();
        let record = Record {
            partition: HERE,
            offset: from + number as i64,
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        pipeline.take(&record, partitions, &mut outbox, &mut counts);
        pipeline.run(partitions, EventTime(0), &mut outbox, &mut counts);
    }
    outbox
}

/// The profiles that have not expired.
fn profiles(pipeline: &Pipeline, partitions: &Partitions) -> BTreeMap<Vec<u8>, Vec<u64>> {
    let store = partitions.get(HERE).expect("it was put in").store();
    let time = store.clock().time().unwrap_or(i64::MIN);
    let alive = store.iter().filter(|(_, words)| !pipeline.profile().is_gone(words[0], time));
    alive.map(|(key, words)| (key.to_vec(), words.into_owned())).collect()
}

/// A changelog in order, and the mark of the commit.
struct Changelog {
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    mark: Mark,
    /// When its records were written.
    written_ms: Option<i64>,
}

impl Changelog {
    fn of(pipeline: &Pipeline, partitions: &mut Partitions) -> Self {
        let mut outbox = Outbox::default();
        partitions.write_profiles(HERE, true, (usize::MAX, usize::MAX), pipeline.layout(), &mut outbox);
        let record = |key: Option<&[u8]>| key.expect("each has one").to_vec();
        let records = outbox.all().map(|it| (record(it.key), it.payload.map(<[u8]>::to_vec))).collect();
        let partition = partitions.get(HERE).expect("it was put in");
        Self { records, mark: partition.store().mark(partition.next()), written_ms: None }
    }

    /// Restores it as the new owner of a partition with this committed position.
    fn restore(&self, pipeline: &Pipeline, committed: i64) -> (Partitions, Recovered) {
        let mut partitions = Partitions::default();
        let partition = Partition::new(self.mark.replay_from, committed, None);
        partitions.insert(HERE, partition.restoring(self.mark, 0));
        for (offset, (key, payload)) in self.records.iter().enumerate() {
            let (key, payload) = (Some(key.as_slice()), payload.as_deref());
            let record = Record {
                partition: HERE,
                offset: offset as i64,
                key,
                payload,
                timestamp_ms: self.written_ms,
                ..Record::default()
            };
            partitions.restore(&record, pipeline.profile());
        }
        let recovered = partitions.restored(HERE, pipeline.profile()).expect("it is held");
        (partitions, recovered)
    }

    /// The index of a random user's record.
    fn user(&self, random: &mut SmallRng) -> usize {
        let users: Vec<usize> = (0..self.records.len()).filter(|it| !is_layout_key(&self.records[*it].0)).collect();
        *users.choose(random).expect("somebody is in it")
    }

    /// Alters a record; returns its key, and whether the change is detectable.
    fn damage(&mut self, random: &mut SmallRng) -> (Vec<u8>, bool) {
        let (index, other) = (self.user(random), self.user(random));
        let other = self.records[other].1.clone().expect("nobody has gone yet");
        let (key, payload) = &mut self.records[index];
        let payload = payload.as_mut().expect("nobody has gone yet");
        let whole = payload.clone();
        let is_told = change(random, payload, &other);
        (key.clone(), is_told && *payload != whole)
    }
}

/// Alters a record in some way; returns whether the change is detectable.
fn change(random: &mut SmallRng, payload: &mut Vec<u8>, other: &[u8]) -> bool {
    let mut record = v1::Profile::decode(payload.as_slice()).expect("a worker has written it");
    let mut words = unpack(&record.state).expect("a worker has written it");
    // Like records of earlier releases: without a checksum, only the content can reveal the change.
    record.checksum = 0;
    let mut is_told = true;
    match random.random_range(0..16) {
        // The checksum is kept, so every change is detected.
        0 => {
            let at = random.random_range(0..payload.len() - 9);
            payload[at] ^= 1 << random.random_range(0..8);
            return true;
        }
        1 => {
            // Without its last field it is a valid record of an earlier release.
            let end = random.random_range(0..payload.len());
            payload.truncate(end);
            return v1::Profile::decode(payload.as_slice()).is_err();
        }
        2 => {
            payload.clear();
            payload.extend_from_slice(other);
            return true;
        }
        3 => record.state.clear(),
        4 => record.state = vec![0xff; 900_000],
        5 => words[2] = 1 << 60,
        6 => {
            // The first run, if there is one; a cell can have this value.
            words[3..].iter_mut().take(1).for_each(|run| *run = (1 << 40) << 2);
            is_told = false;
        }
        7 => words[0] = *[u64::MAX, 1 << 62, i64::MAX as u64, i64::MIN as u64].choose(random).expect("not empty"),
        8 => words[1] = words[0] + 1,
        9 => words.push(0),
        10 => {
            words.pop();
        }
        11 => record.as_of = *[i64::MIN, -1, 0, 1 << 40, i64::MAX].choose(random).expect("not empty"),
        12 => "0123456789abcdef".clone_into(&mut record.layout),
        13 => record.schema_version += 1,
        14 => {
            // Anything in any word; some values are valid.
            let at = random.random_range(0..words.len());
            words[at] = random.random();
            is_told = false;
        }
        _ => {
            let length = random.random_range(0..300);
            record.state = (0..length).map(|_| random.random()).collect();
            *payload = record.encode_to_vec();
            return false;
        }
    }
    if !record.state.is_empty() && record.state.len() < 900_000 {
        record.state = pack(&words);
    }
    *payload = record.encode_to_vec();
    is_told
}

#[test]
fn a_record_that_does_not_fit_is_told_and_its_user_rebuilt_from_the_input_and_nobody_else() {
    let told = std::cell::Cell::new(0);
    cases(500, |seed, random| {
        let spec = Spec::random(random);
        let mut events = stream(random, &spec);
        for event in &mut events {
            event.partition = HERE;
        }
        let (before, after) = events.split_at(random.random_range(1..=events.len()));
        let committed = before.len() as i64;
        let mut pipeline = pipeline(&spec);
        let mut partitions = Partitions::default();
        partitions.insert(HERE, Partition::new(0, 0, None));
        apply(&mut pipeline, &mut partitions, before, 0);
        let mut changelog = Changelog::of(&pipeline, &mut partitions);
        let owed = profiles(&pipeline, &partitions);
        if changelog.records.is_empty() {
            return;
        }
        let (_, recovered) = changelog.restore(&pipeline, committed);
        assert!(recovered.is_whole(), "what a worker has written fits: {recovered:?}; {}", replay(seed));

        let (_, is_told) = changelog.damage(random);
        let start = Instant::now();
        let (mut partitions, recovered) = changelog.restore(&pipeline, committed);
        let context = || format!("{recovered:?}; {}\n{}", replay(seed), spec.toml());
        assert!(start.elapsed() < Duration::from_secs(2), "it takes {:?}; {}", start.elapsed(), context());
        if is_told {
            told.set(told.get() + 1);
            let found = (recovered.unfit, recovered.unfit_records, recovered.is_whole(), recovered.next);
            assert_eq!(found, (1, 1, false, 0), "{}", context());
            assert!(recovered.is_partly_whole(), "{}", context());
        }
        let from = recovered.next;
        let outbox = apply(&mut pipeline, &mut partitions, &before[from as usize..], from);
        assert!(outbox.is_empty(), "a replay writes; {}", context());
        if !recovered.is_whole() {
            assert!(profiles(&pipeline, &partitions) == owed, "others than they were; {}", context());
            // The next restore finds the tombstone, and the rebuilt profile after it.
            let again = Changelog::of(&pipeline, &mut partitions);
            changelog.records.extend(again.records);
            changelog.mark = again.mark;
            let (_, recovered) = changelog.restore(&pipeline, committed);
            assert!(recovered.is_whole(), "it is whole again: {recovered:?}; {}", context());
        }
        apply(&mut pipeline, &mut partitions, after, committed);
    });
    assert!(told.get() > 0, "no change was one that can be told");
}

#[test]
fn a_snapshot_with_a_record_that_does_not_fit_is_passed_by_as_a_whole() {
    cases(300, |seed, random| {
        let spec = Spec::random(random);
        let mut events = stream(random, &spec);
        for event in &mut events {
            event.partition = HERE;
        }
        let committed = events.len() as i64;
        let mut pipeline = pipeline(&spec);
        let mut partitions = Partitions::default();
        partitions.insert(HERE, Partition::new(0, 0, None));
        apply(&mut pipeline, &mut partitions, &events, 0);
        let mut changelog = Changelog::of(&pipeline, &mut partitions);
        if changelog.records.is_empty() {
            return;
        }
        let (_, is_told) = changelog.damage(random);
        // The checksums of its blocks are valid, because somebody made it on purpose.
        let layout = pipeline.layout().id().to_owned();
        let head = SnapshotOf { partition: HERE, layout: layout.clone(), committed, changelog: 9, profiles: 0 };
        let mut writer = SnapshotWriter::new(head);
        for (key, record) in changelog.records.iter().filter(|(key, _)| !is_layout_key(key)) {
            writer.push(key, record.as_deref().expect("nobody has gone yet"));
        }
        let bytes = Box::new(Cursor::new(writer.finish()));
        let mut reader = SnapshotReader::open(bytes, HERE, &layout, committed).expect("it is sound");
        let mut partitions = Partitions::default();
        let partition = Partition::new(changelog.mark.replay_from, committed, None);
        partitions.insert(HERE, partition.restoring(changelog.mark, 0));
        let mut take = |key: &[u8], record: &[u8]| {
            let record = Record { partition: HERE, key: Some(key), payload: Some(record), ..Record::default() };
            partitions.restore_applied(&record, pipeline.profile(), committed);
        };
        while reader.next(&mut take).expect("it is sound") {}
        partitions.cached(HERE);
        let recovered = partitions.restored(HERE, pipeline.profile()).expect("it is held");
        assert!(recovered.is_cached);
        if is_told {
            let found = (recovered.is_whole(), partitions.is_restoring());
            assert_eq!(found, (false, true), "the changelog is read instead; {}", replay(seed));
        }
    });
}

#[test]
fn snapshots_and_marks_of_any_bytes_are_refused_or_sound() {
    cases(3_000, |seed, random| {
        let head = SnapshotOf { partition: 3, layout: "f".to_owned(), committed: 70, changelog: 9, profiles: 0 };
        let mut writer = SnapshotWriter::new(head);
        (0..random.random_range(0..5)).for_each(|user| writer.push(&[user; 3], &[7; 40]));
        let mut bytes = writer.finish();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = random.random(),
                _ => bytes.insert(at, random.random()),
            }
        }
        if let Ok(mut reader) = SnapshotReader::open(Box::new(Cursor::new(bytes)), 3, "f", 70) {
            assert!(reader.of().changelog >= 0 && (0..=70).contains(&reader.of().committed), "{}", replay(seed));
            while reader.next(|_, _| {}).is_ok_and(|more| more) {}
        }

        let mut mark = Mark { replay_from: 5, lacking_from: 7, records: 3, generation: 1, ..Mark::default() };
        (0..6).for_each(|user| mark.clock.note(user, 1_700_000_000_000_000 + user as i64));
        (3..6).for_each(|offset| mark.ceilings.follow(offset, offset << 50));
        let mut parts: Vec<String> = mark.metadata("0123456789abcdef").split(';').map(str::to_owned).collect();
        let at = random.random_range(0..parts.len());
        parts[at] = match random.random_range(0..4) {
            0 => i64::MAX.to_string(),
            1 => "-1".to_owned(),
            2 => u64::MAX.to_string(),
            _ => (0..random.random_range(0..9)).map(|_| char::from(random.random_range(b' '..b'z'))).collect(),
        };
        if let Some((mark, _)) = Mark::parse(&parts.join(";")).filter(|(mark, _)| mark.is_sound(9)) {
            assert!(
                (0..=9).contains(&mark.replay_from) && mark.generation.checked_add(1).is_some(),
                "{}",
                replay(seed)
            );
            assert!(mark.clock.time().is_none_or(|it| it >= 0), "{}", replay(seed));
        }
    });
}

#[test]
fn why_a_record_is_of_no_use_is_told() {
    let mut random = <SmallRng as rand::SeedableRng>::seed_from_u64(1);
    let mut spec = Spec::forever(&mut random);
    spec.features = vec![Feature::plain("n".to_owned(), "sum", "value", "10s")];
    let mut pipeline = pipeline(&spec);
    let mut partitions = Partitions::default();
    partitions.insert(HERE, Partition::new(0, 0, None));
    apply(&mut pipeline, &mut partitions, &[Event::plain(0, 0, 1.0)], 0);
    let changelog = Changelog::of(&pipeline, &mut partitions);
    let (key, payload) = changelog.records[0].clone();
    let whole = v1::Profile::decode(payload.unwrap_or_default().as_slice()).expect("a worker has written it");
    let whole = v1::Profile { checksum: 0, ..whole };
    let told = |payload: Vec<u8>| {
        let records = [vec![(key.clone(), Some(payload))], changelog.records[1..].to_vec()].concat();
        let written_ms = Some(START / 1_000);
        Changelog { records, mark: changelog.mark, written_ms }.restore(&pipeline, 1).1.first_unfit
    };
    assert_eq!(told(whole.encode_to_vec()), None);
    // newest | first | ids | run | the tile and its sum
    let words = unpack(&whole.state).expect("a worker has written it");
    assert_eq!((words.len(), words[3]), (6, 1 << 2));
    for (at, word) in
        [(0, u64::MAX), (1, words[0] + 1), (2, 1 << 60), (3, 2 << 2), (3, (1 << 40) << 2), (3, 7), (4, words[4] + 1)]
    {
        let mut changed = words.clone();
        changed[at] = word;
        let record = v1::Profile { state: pack(&changed), ..whole.clone() };
        assert_eq!(told(record.encode_to_vec()), Some((0, Unfit::Words)), "word {at} is {word}");
    }
    // The number of its tile is its second.
    let second = 0xf486_5700;
    // A newest event in the year 2100, which is a valid time, in a record written today.
    let mut changed = words.clone();
    (changed[0], changed[4]) = (4_102_444_800_000_000, changed[4] & !0xffff_ffff | second);
    for (record, why) in [
        (v1::Profile { state: pack(&changed), ..whole.clone() }, Unfit::Future),
        (v1::Profile { state: Vec::new(), ..whole.clone() }, Unfit::Words),
        (v1::Profile { state: vec![0xff; 9], ..whole.clone() }, Unfit::Words),
        (v1::Profile { as_of: 2, ..whole.clone() }, Unfit::Ahead),
        (v1::Profile { history: 1, ..whole.clone() }, Unfit::Ahead),
        (v1::Profile { checksum: 7, ..whole.clone() }, Unfit::Damaged),
        (v1::Profile { schema_version: 1, ..whole.clone() }, Unfit::Version),
    ] {
        assert_eq!(told(record.encode_to_vec()), Some((0, why)), "{record:?}");
    }
    let unknown = v1::Profile { layout: "0123456789abcdef".to_owned(), ..whole };
    assert_eq!(told(unknown.encode_to_vec()), Some((-1, Unfit::Layout)));
}
