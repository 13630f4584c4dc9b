//! The input, and the expected outputs: computed by the core record by record, without a broker or faults.

mod input;
mod specs;

use super::{
    consent::{self, NaiveConsent, Permits},
    erasure::{NaiveErasures, Standing},
    naive::{Event, Naive, Told},
};
use aimpoint::{
    decision::emission::{EmissionSpec, EmitOn},
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    profile::Layout,
    sink::{Outbox, Target},
    state::hash_key,
    status::Counts,
    testkit::{FakeControl, FakeModel, Fate, InputRecord, Mood, Visible},
};
use rand::{Rng, rngs::SmallRng};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use input::logged_at;
pub(crate) use input::{START_MICROS, USERS, event, input, newest, present, record};
pub(crate) use specs::{
    BID_SHARE, EVERY, budgeted, changed_specs, consenting, lasting, on_change, pipeline, spec, timed,
};

/// A user's words by offset.
type History = Vec<(i64, Vec<u64>)>;

/// The reason why an output is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) partition: i32,
    /// The record that it is about; `None` for a membership that ends without an event.
    pub(crate) record: Option<i64>,
    /// Every committed position at or after this one includes it.
    pub(crate) due: i64,
    /// Its place among the outputs of its partition.
    pub(crate) order: i64,
}

/// A partition processed by the core alone, record by record.
pub(crate) struct Course {
    number: i32,
    pub(crate) partitions: Partitions,
    /// Everything before this offset has been processed.
    at: i64,
    /// The number of outputs so far.
    outputs: i64,
}

impl Course {
    pub(crate) fn new(number: i32, core: &mut Pipeline) -> Self {
        core.set_present(present(0));
        let mut partitions = Partitions::default();
        partitions.insert(number, Partition::new(0, 0, None));
        Self { number, partitions, at: 0, outputs: 0 }
    }

    /// Continues to `next` with these ticks, and passes each output to `each`.
    pub(crate) fn go(
        &mut self,
        records: &[InputRecord],
        next: i64,
        ticks: &[(i64, i64)],
        core: &mut Pipeline,
        mut each: impl FnMut(Debt, Visible),
    ) {
        let (number, none) = (self.number, EventTime(0));
        for offset in self.at..=next {
            let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
            for (_, time) in ticks.iter().filter(|(at, _)| *at == offset) {
                let time = EventTime(*time);
                let is_taken = core.tick(number, time, &mut self.partitions, none, &mut outbox, &mut counts);
                assert!(is_taken, "there is room for every tick");
            }
            for index in 0..outbox.len() {
                self.outputs += 1;
                let debt = Debt { partition: number, record: None, due: offset, order: self.outputs };
                each(debt, visible(&outbox, index));
            }
            if offset < next && records[offset as usize].counts() {
                outbox.clear();
                let it = record(number, offset, &records[offset as usize]);
                core.take(&it, &mut self.partitions, &mut outbox, &mut counts);
                core.run(&mut self.partitions, none, &mut outbox, &mut counts);
                for index in 0..outbox.len() {
                    let output = outbox.get(index);
                    self.outputs += 1;
                    let record = (!output.is_expiry).then_some(offset);
                    let debt = Debt { partition: number, record, due: offset + 1, order: self.outputs };
                    each(debt, visible(&outbox, index));
                }
            }
            if offset % 8 != 0 {
                continue;
            }
            // Settles as if every profile had been written, to make room for further ticks.
            let reached = self.partitions.get(number).expect("it was put in").next();
            let most = (usize::MAX, usize::MAX);
            self.partitions.write_profiles(number, true, most, core.layout(), &mut Outbox::default());
            self.partitions.settle(vec![(number, reached, String::new())]);
        }
        self.at = next;
    }
}

/// What is owed if memberships can end by ticks, which are unknown until they are committed.
struct Lasting {
    /// By partition: its courses with each reference, if the model scores, and if it fails.
    courses: Vec<Vec<[Course; 2]>>,
    /// By partition: the committed ticks.
    ticks: Vec<Vec<(i64, i64)>>,
    naive: Vec<Naive>,
    erasures: Vec<NaiveErasures>,
    /// If consent is checked.
    consent: Option<Vec<NaiveConsent>>,
}

/// The expected outputs and profiles.
pub(crate) struct Owed {
    /// By output: why it is owed. A record has one output with a score, and another for a failing model.
    outputs: HashMap<Visible, Debt>,
    lasting: Option<Lasting>,
    /// By partition: the decisions about memberships that ended without an event, each with the position from which it
    /// is due.
    pub(crate) expiries: Vec<Vec<(i64, Visible)>>,
    /// By partition and offset: whether there is an output.
    pub(crate) has_output: Vec<Vec<bool>>,
    /// By partition and offset: the partition time before it, computed by its definition. No event moves it further
    /// than its record's timestamp.
    newest: Vec<Vec<i64>>,
    /// By partition and user.
    states: Vec<BTreeMap<Vec<u8>, History>>,
}

/// The ticks that follow the known ones.
pub(crate) fn new_ticks(known: &[(i64, i64)], ticks: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let last = known.last().map_or(i64::MIN, |(offset, _)| *offset);
    ticks.iter().copied().filter(|tick| tick.0 >= last && !known.contains(tick)).collect()
}

/// An output as stored in a log.
fn visible(outbox: &Outbox, index: usize) -> Visible {
    let output = outbox.get(index);
    Visible {
        target: output.target,
        key: output.key.map(<[u8]>::to_vec),
        payload: output.payload.map(<[u8]>::to_vec),
        headers: output.headers().map(|(name, value)| (name, value.to_vec())).collect(),
    }
}

impl Owed {
    /// Computes the expected outputs for this input.
    pub(crate) fn of(input: &[Vec<InputRecord>], cores: &mut [(Pipeline, FakeControl)]) -> Self {
        let (has_output, newest, states) = (Vec::new(), Vec::new(), Vec::new());
        let mut owed =
            Self { outputs: HashMap::new(), lasting: None, expiries: Vec::new(), has_output, newest, states };
        for (number, records) in input.iter().enumerate() {
            owed.expiries.push(Vec::new());
            owed.partition(number as i32, records, &mut cores[0]);
        }
        if cores[0].0.keeps_memberships() {
            let mut both = |number| {
                let of = |(core, _): &mut (Pipeline, _)| [0, 1].map(|_| Course::new(number as i32, core));
                cores.iter_mut().map(of).collect()
            };
            let courses = (0..input.len()).map(&mut both).collect();
            owed.outputs.clear();
            let ticks = vec![Vec::new(); input.len()];
            let naive = vec![Naive::default(); input.len()];
            let erasures = vec![NaiveErasures::default(); input.len()];
            let consent = cores[0].0.profile().checks_consent().then(|| vec![NaiveConsent::default(); input.len()]);
            owed.lasting = Some(Lasting { courses, ticks, naive, erasures, consent });
        }
        owed
    }

    /// The committed ticks of a partition.
    pub(crate) fn ticks(&self, number: i32) -> &[(i64, i64)] {
        self.lasting.as_ref().map_or(&[], |lasting| &lasting.ticks[number as usize])
    }

    /// Continues to a position that was committed with these ticks, so that everything owed up to it is known. Compares
    /// the resulting memberships with their definition.
    pub(crate) fn advance(
        &mut self,
        number: i32,
        next: i64,
        ticks: &[(i64, i64)],
        records: &[InputRecord],
        cores: &mut [(Pipeline, FakeControl)],
    ) -> Result<(), String> {
        let Some(Lasting { courses, ticks: known, naive, erasures, consent }) = &mut self.lasting else {
            return Ok(());
        };
        let (index, newest) = (number as usize, &self.newest[number as usize]);
        let from = courses[index][0][0].at;
        if next < from {
            return Ok(());
        }
        let (_, before) = known[index].last().copied().unwrap_or((i64::MIN, i64::MIN));
        let new = new_ticks(&known[index], ticks);
        if let Some((at, _)) = new.iter().find(|(at, _)| *at < from) {
            return Err(format!("I4: partition {number} has a tick at {at} that was not told with {from}"));
        }
        known[index].extend(&new);
        let mut told = Vec::new();
        for (place, ((core, control), courses)) in cores.iter_mut().zip(&mut courses[index]).enumerate() {
            for (mood, course) in [Mood::Score, Mood::Fail].into_iter().zip(courses) {
                control.set(mood);
                course.go(records, next, &new, core, |debt, output| {
                    if mood == Mood::Score && place == 0 {
                        if debt.record.is_none() {
                            self.expiries[index].push((debt.due, output.clone()));
                        }
                        told.push((debt, output.clone()));
                    }
                    self.outputs.insert(output, debt);
                });
            }
            control.set(Mood::Score);
        }
        // The same by definition.
        let mut told = told.into_iter().filter(|(_, output)| output.target == Target::Decisions).peekable();
        let mut ticked = before;
        let consent = consent.as_mut().map(|all| &mut all[index]);
        let mut lawful = Lawful { naive: &mut naive[index], consent };
        for offset in from..=next {
            let mut ended = Vec::new();
            for (_, time) in new.iter().filter(|(at, _)| *at == offset) {
                ticked = *time;
                ended.extend(lawful.pass(ticked));
            }
            compare_ended(number, offset, ended, &mut told)?;
            if offset == next {
                break;
            }
            let passed = newest[offset as usize + 1].max(ticked.min(logged_at(&records[offset as usize])));
            let record = &records[offset as usize];
            let standing = erasures[index].judge(record, newest[offset as usize]);
            if let Standing::Request(user) = &standing {
                lawful.naive.forget(user);
                let null = told.next_if(|(debt, _)| debt.record == Some(offset)).ok_or("an erasure gives a null")?;
                NaiveErasures::check(user, &null.1)?;
                compare_ended(number, offset, lawful.pass(passed), &mut told)?;
                continue;
            }
            let sound = event(record).filter(|_| record.counts());
            let permits = sound.as_ref().map_or(Permits::All, |event| lawful.judge(event, record));
            if let Some((debt, output)) = told.next_if(|(debt, _)| debt.record == Some(offset)) {
                if standing == Standing::Past {
                    return Err(format!(
                        "I2: partition {number} at {offset}: from before its user's erasure, and decided"
                    ));
                }
                let event = sound.as_ref().ok_or("an event that is decided is sound")?;
                let payload = output.payload.as_deref().unwrap_or_default();
                let owed = lawful.event(event, passed, permits);
                let found = Told::of(payload);
                let decision: serde_json::Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
                if (decision["status"] == "STATUS_SUPPRESSED") != (permits < Permits::All) {
                    return Err(format!("I2: partition {number} at {offset}: {permits:?} is permitted: {decision}"));
                }
                if owed != found {
                    return Err(format!(
                        "I2: partition {} at {offset}: memberships are {found:?}, and should be {owed:?}",
                        debt.partition
                    ));
                }
            }
            // Only events let time pass.
            let ended = if sound.is_some() { lawful.pass(passed) } else { Vec::new() };
            compare_ended(number, offset, ended, &mut told)?;
        }
        match told.next() {
            Some((debt, _)) => Err(format!("I2: partition {number}: {debt:?} is not owed")),
            None => Ok(()),
        }
    }

    /// The core after everything before `next` and these ticks.
    pub(crate) fn course(
        number: i32,
        next: i64,
        ticks: &[(i64, i64)],
        records: &[InputRecord],
        core: &mut Pipeline,
    ) -> Course {
        let mut course = Course::new(number, core);
        course.go(records, next, ticks, core, |_, _| {});
        course
    }

    fn partition(&mut self, number: i32, records: &[InputRecord], (core, control): &mut (Pipeline, FakeControl)) {
        let mut states = BTreeMap::<Vec<u8>, History>::new();
        let mut has_output = vec![false; records.len()];
        let mut newest = Vec::with_capacity(records.len() + 1);
        for mood in [Mood::Score, Mood::Fail] {
            control.set(mood);
            newest.clear();
            newest.push(i64::MIN);
            let mut partitions = Partitions::default();
            partitions.insert(number, Partition::new(0, 0, None));
            core.set_present(present(0));
            let mut users = BTreeMap::new();
            let mut consent = core.profile().checks_consent().then(NaiveConsent::default);
            let mut erasures = NaiveErasures::default();
            for (offset, it) in records.iter().enumerate() {
                if !it.counts() {
                    newest.extend(newest.last().copied());
                    continue;
                }
                let standing = erasures.judge(it, newest.last().copied().unwrap_or(i64::MIN));
                let mut outbox = Outbox::default();
                let mut counts = Counts::default();
                core.take(&record(number, offset as i64, it), &mut partitions, &mut outbox, &mut counts);
                core.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
                // The other outputs are about memberships that ended.
                let count = outbox.all().filter(|output| !output.is_expiry).count();
                assert!(count <= 1, "a record has one output at most");
                if count > 0 {
                    has_output[offset] = true;
                    let (record, due, order) = (Some(offset as i64), offset as i64 + 1, offset as i64);
                    self.outputs.insert(visible(&outbox, 0), Debt { partition: number, record, due, order });
                }
                let store = partitions.get(number).expect("it was put in").store();
                if let Some(event) = event(it) {
                    let permits = consent.as_mut().map_or(Permits::All, |consent| consent.judge(&event, it));
                    // An event that is not written lets no time pass.
                    if permits > Permits::Nothing || consent::is_remembered(it) {
                        let time = event.time.min(logged_at(it));
                        let of_user = users.entry(event.user).or_insert(time);
                        *of_user = time.max(*of_user);
                    }
                }
                let mut all: Vec<i64> = users.values().copied().collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                newest.push(all.get(4).copied().unwrap_or(i64::MIN));
                let key = it.key.clone().expect("each record has one");
                let words = store.get(hash_key(&key), &key).map(Cow::into_owned).unwrap_or_default();
                let shown: Vec<Visible> = (0..outbox.len()).map(|index| visible(&outbox, index)).collect();
                erasures.check_profile(&standing, it, &words, &shown);
                let history = states.entry(key).or_default();
                if mood == Mood::Score && history.last().is_none_or(|(_, last)| *last != words) {
                    history.push((offset as i64 + 1, words));
                }
            }
        }
        control.set(Mood::Score);
        self.has_output.push(has_output);
        self.newest.push(newest);
        self.states.push(states);
    }

    /// Marks the records at these offsets whose output was shown, with or without a score.
    pub(crate) fn mark_shown(
        &self,
        number: i32,
        offsets: std::ops::Range<i64>,
        shown: &HashSet<Visible>,
        seen: &mut [bool],
    ) {
        for (output, debt) in self.outputs.iter().filter(|(_, debt)| debt.partition == number) {
            if let Some(record) = debt.record.filter(|record| offsets.contains(record))
                && shown.contains(output)
            {
                seen[record as usize] = true;
            }
        }
    }

    /// What is owed in a partition by this position, from this place in its order on.
    pub(crate) fn due(&self, number: i32, next: i64, from: i64) -> BTreeMap<i64, (Debt, Vec<&Visible>)> {
        let mut due = BTreeMap::<i64, (Debt, Vec<&Visible>)>::new();
        let of_partition = self.outputs.iter().filter(|(_, debt)| debt.partition == number);
        for (output, debt) in of_partition.filter(|(_, debt)| debt.due <= next && debt.order >= from) {
            due.entry(debt.order).or_insert_with(|| (*debt, Vec::new())).1.push(output);
        }
        due
    }

    /// Why this output is owed.
    pub(crate) fn debt(&self, output: &Visible) -> Option<Debt> {
        self.outputs.get(output).copied()
    }

    /// Compares the profiles of a partition that includes everything before `next` with the reference: byte for byte,
    /// or if they have another layout, the features in common. `ticks` are the ticks it includes, if there are lasting
    /// segments.
    pub(crate) fn compare(
        &self,
        core: &mut Pipeline,
        (number, ticks): (i32, &[(i64, i64)]),
        partition: &Partition,
        records: &[InputRecord],
        layout: Option<&Layout>,
    ) -> Result<(), String> {
        let course = self.lasting.as_ref().map(|_| Self::course(number, partition.next(), ticks, records, core));
        let course = course.as_ref().and_then(|course| course.partitions.get(number));
        let profile = core.profile();
        let carry = |from: Option<&Layout>| from.map(|from| profile.carry(from));
        let carries = [carry(layout), carry(layout.map(|_| profile.layout()))];
        let common = |side: usize, words: &[u64]| match &carries[side] {
            Some(carry) => carry.apply(words).unwrap_or_default(),
            None => words.to_vec(),
        };
        let next = partition.next();
        let newest = self.newest[number as usize][next as usize];
        let found = partition.store().clock().time();
        if found.unwrap_or(i64::MIN) != newest {
            return Err(format!("partition {number} at {next}: the partition's time is {found:?}, not {newest}"));
        }
        let alive = |words: &[u64]| !words.is_empty() && !core.profile().is_gone(words[0], newest);
        let mut found: BTreeMap<&[u8], Cow<'_, [u64]>> =
            partition.store().iter().filter(|(_, words)| alive(words)).collect();
        for (key, history) in &self.states[number as usize] {
            let owed = history.iter().rev().find(|(from, _)| *from <= next).map_or(&[][..], |(_, words)| words);
            let of_course = course.map(|course| course.store().get(hash_key(key), key).unwrap_or_default());
            let owed = of_course.as_deref().unwrap_or(owed);
            let user = String::from_utf8_lossy(key);
            match (found.remove(key.as_slice()), alive(owed)) {
                (None, false) => {}
                (Some(words), true) if common(0, &words) == common(1, owed) => {}
                (Some(words), _) => {
                    return Err(format!("partition {number} at {next}: {user} is {words:?}, and should be {owed:?}"));
                }
                (None, true) => return Err(format!("partition {number} at {next}: {user} is missing")),
            }
        }
        if found.is_empty() { Ok(()) } else { Err(format!("partition {number} at {next}: users that never were")) }
    }
}

/// Memberships by definition, of users who may have refused.
struct Lawful<'a> {
    naive: &'a mut Naive,
    consent: Option<&'a mut NaiveConsent>,
}

impl Lawful<'_> {
    /// What a sound event permits. A withdrawal ends everything.
    fn judge(&mut self, event: &Event, record: &InputRecord) -> Permits {
        let Some(consent) = &mut self.consent else { return Permits::All };
        let permits = consent.judge(event, record);
        if permits == Permits::Nothing && consent::is_remembered(record) {
            self.naive.forget(&event.user);
            consent.note(event, permits);
        }
        permits
    }

    /// What a decision about an event tells.
    fn event(&mut self, event: &Event, passed: i64, permits: Permits) -> Told {
        if permits == Permits::Nothing {
            return Told::nothing();
        }
        if let Some(consent) = &mut self.consent {
            consent.note(event, permits);
        }
        let told = self.naive.event(event, passed);
        if permits == Permits::All { told } else { Told::nothing() }
    }

    /// Ends what expires by this time, and what is told of it.
    fn pass(&mut self, time: i64) -> Vec<(i64, String, Told)> {
        let mut ended = self.naive.pass(time);
        for (_, user, told) in &mut ended {
            if self.consent.as_ref().is_some_and(|consent| consent.last(user) < Permits::All) {
                *told = Told::nothing();
            }
        }
        ended
    }
}

/// Compares the outputs about ended memberships with what is owed.
fn compare_ended(
    number: i32,
    offset: i64,
    ended: Vec<(i64, String, Told)>,
    told: &mut std::iter::Peekable<impl Iterator<Item = (Debt, Visible)>>,
) -> Result<(), String> {
    let mut owed: Vec<(i64, String, Told)> = ended;
    let mut found = Vec::new();
    for _ in 0..owed.len() {
        let Some((_, output)) = told.next_if(|(debt, _)| debt.record.is_none()) else { break };
        let payload = output.payload.unwrap_or_default();
        let decision: serde_json::Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
        let id = decision["id"].as_str().unwrap_or_default();
        let deadline = id.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        let user = decision["user"].as_str().unwrap_or_default().to_owned();
        if decision["status"] == "STATUS_FALLBACK" || !id.contains("-expired-") {
            return Err(format!("I2: no decision about memberships that have ended: {decision}"));
        }
        found.push((deadline, user, Told::of(&payload)));
    }
    // Users with the same deadline come in the order of their hashes.
    if !found.is_sorted_by_key(|(deadline, ..)| *deadline) {
        return Err(format!("I2: partition {number} at {offset}: out of order: {found:?}"));
    }
    let key = |it: &(i64, String, Told)| (it.0, it.1.clone());
    owed.sort_by_key(key);
    found.sort_by_key(key);
    if owed == found {
        return Ok(());
    }
    Err(format!("I2: partition {number} at {offset}: what ends is {found:?}, and should be {owed:?}"))
}

/// Whether an output is for readers.
pub(crate) fn is_output(output: &Visible) -> bool {
    !matches!(output.target, Target::Profiles(_))
}
