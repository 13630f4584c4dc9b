//! The checks, by the names of the guarantees.
//!
//! With outputs shown at once, I1 and I4 are weaker: outputs may be repeated and may appear before their position. But
//! repeats are the same bytes, first occurrences are in order, and no position is ahead of the visible outputs.
//!
//! - **I1** Each committed record has exactly one decision or dead letter, unless the configuration gives it none, in
//!   the order of its user. Nothing else is ever visible.
//! - **I2** Each decision is byte for byte what the core computes from the input before it. The profiles in a worker's
//!   memory are, at any time, those that follow from the input before its position.
//! - **I3** What the changelog and the mark rebuild is byte for byte the same. If workers have different features, I2
//!   and I3 apply to the features that all of them have.
//! - **I4** The committed position is neither ahead of nor behind the visible outputs, and never goes back.
//! - **I5** Nobody commits for a partition owned by another member.
//! - **I6** No transaction stays open.
//! - **I7** No store holds more profiles than there are users, and the changelog no more records than that.
//! - **I9** Each decision names the one model that scored it, or says that none did.
//! - **I10** A worker that leaves cleanly has committed everything, and leaves nothing to replay.
//! - **I11** Once the faults are over, everything is committed within a bounded time.
//!
//! A membership that ends without an event gives a decision, which is owed exactly like one about a record. The ticks
//! that are committed with positions determine which of these decisions are owed.
//!
//! In runs where outputs are visible at once, nobody owes those based on a tick that was never committed. There, all
//! owed outputs must be among those shown.
//!
//! In runs that write only what changes, a decision may be missing if the rule allows it: see [`super::silence`].
//!
//! In runs where workers follow control's policies, each decision is what the core computes with the policy that it
//! names, and all decisions of a transaction name the same: see [`super::policies`].
//!
//! I8 concerns only the core. The input here has late, future and missing times, and I2 covers them.

use super::{
    policies,
    silence::Readers,
    world::{Debt, Owed, USERS, is_output, new_ticks, record},
};
use aimpoint::{
    engine::{Partition, Partitions, Pipeline},
    event::{EventTime, Record},
    profile::Layout,
    sink::{Outbox, Target},
    state::{Mark, Ticks, is_reserved_key},
    status::Counts,
    testkit::{Effect, FakeControl, InputRecord, MemoryBroker, Place, Visible},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashSet},
    rc::Rc,
};

/// The state of the checks.
#[expect(clippy::struct_excessive_bools, reason = "each says what this run is like")]
pub(crate) struct Checks<'a> {
    pub(crate) broker: &'a MemoryBroker,
    pub(crate) owed: Owed,
    input: &'a [Vec<InputRecord>],
    /// Whether workers have different features; then only the common ones are compared.
    has_changes: bool,
    /// Whether workers show outputs at once.
    is_at_least_once: bool,
    /// Whether outputs become visible before the ticks behind them are committed. Outputs of lost ticks are not owed.
    pub(crate) is_loose: bool,
    /// Whether workers follow control's policies.
    pub(crate) has_policies: bool,
    /// Whether any worker has retried a transaction.
    pub(crate) has_retried: Rc<Cell<bool>>,
    /// How many decisions were made with a policy.
    pub(crate) with_policy: u64,
    /// What was shown in a loose run.
    shown: HashSet<Visible>,
    /// By partition, if only changes are written: what readers were told.
    readers: Option<Vec<Readers>>,
    /// By partition and place in its order, if only changes are written: what became visible.
    written: BTreeMap<(i32, i64), Visible>,
    /// Whether the model fails now and then, so that a repeated output may lack its score.
    has_moods: bool,
    /// By partition: the generation of the profiles when its changelog was lost.
    lost: BTreeMap<i32, u64>,
    /// By partition and offset: whether its output has been committed.
    seen: Vec<Vec<bool>>,
    /// By partition: the committed positions, with their metadata and the number of ticks committed by then.
    history: Vec<Vec<(i64, String, usize)>>,
    /// The visible decisions about memberships that ended without an event.
    expired: HashSet<Visible>,
    /// By partition and offset: the first output.
    first: BTreeMap<(i32, i64), Visible>,
    /// How many outputs were repeated.
    pub(crate) repeated: u64,
    /// By partition: the committed position.
    committed: Vec<i64>,
    /// How many transactions took effect.
    pub(crate) effects: u64,
    /// How many recoveries were simulated and compared.
    pub(crate) rebuilt: u64,
}

impl<'a> Checks<'a> {
    pub(crate) fn new(
        broker: &'a MemoryBroker,
        owed: Owed,
        input: &'a [Vec<InputRecord>],
        (has_changes, is_at_least_once, has_moods): (bool, bool, bool),
    ) -> Self {
        Self {
            broker,
            owed,
            input,
            has_changes,
            is_at_least_once,
            is_loose: false,
            has_policies: false,
            has_retried: Rc::default(),
            with_policy: 0,
            shown: HashSet::new(),
            readers: None,
            written: BTreeMap::new(),
            has_moods,
            lost: BTreeMap::new(),
            history: vec![Vec::new(); input.len()],
            expired: HashSet::new(),
            first: BTreeMap::new(),
            repeated: 0,
            seen: input.iter().map(|records| vec![false; records.len()]).collect(),
            committed: vec![0; input.len()],
            effects: 0,
            rebuilt: 0,
        }
    }

    /// Allows that only changes are written.
    pub(crate) fn allow_silence(&mut self) {
        self.readers = Some(vec![Readers::default(); self.input.len()]);
        // Profiles then have another layout than those of the reference.
        self.has_changes = true;
    }

    /// How many decisions were not written, and how many need not have been.
    pub(crate) fn silence(&self) -> (u64, u64) {
        let all = || self.readers.iter().flatten();
        (all().map(|it| it.silent).sum(), all().map(|it| it.needless).sum())
    }

    /// Tells readers what became visible up to a position. A decision that readers can do without counts as seen.
    fn excuse(&mut self, number: i32, next: i64) -> Result<(), String> {
        let Some(readers) = &mut self.readers else { return Ok(()) };
        let readers = &mut readers[number as usize];
        for (order, (debt, outputs)) in self.owed.due(number, next, readers.next) {
            readers.next = order + 1;
            if let Some(output) = self.written.remove(&(number, order)) {
                readers.read(&output);
            } else if let Some(at) = debt.record.filter(|_| outputs[0].target == Target::Decisions) {
                if !readers.can_do_without(&outputs) {
                    return Err(format!("I1: partition {number} offset {at}: a change was kept silent"));
                }
                self.seen[number as usize][at as usize] = true;
            }
        }
        Ok(())
    }

    /// Loses a changelog. Until a worker notices and rebuilds the profiles, they cannot be recovered.
    pub(crate) fn lose_changelog(&mut self, number: i32) {
        if !self.broker.lose_changelog(number) {
            return;
        }
        let committed = self.broker.committed()[number as usize].clone();
        let generation = committed.and_then(|(_, metadata)| Some(Mark::parse(&metadata)?.0.generation));
        self.lost.insert(number, generation.unwrap_or_default());
    }

    /// Checks what has taken effect since the last step.
    pub(crate) fn step(&mut self, cores: &mut [(Pipeline, FakeControl)]) -> Result<(), String> {
        for effect in self.broker.effects() {
            for (number, next, metadata) in &effect.positions {
                let mark = Mark::parse(metadata).map(|(mark, _)| mark).unwrap_or_default();
                let records = &self.input[*number as usize];
                self.owed.advance(*number, *next, mark.ticks.all(), records, cores)?;
                let ticks = self.owed.ticks(*number).len();
                self.history[*number as usize].push((*next, metadata.clone(), ticks));
            }
            self.effect(&effect)?;
        }
        Ok(())
    }

    /// What is owed for the whole input, if no tick can change that.
    pub(crate) fn foresee(&mut self, cores: &mut [(Pipeline, FakeControl)]) -> Result<(), String> {
        for (number, records) in self.input.iter().enumerate() {
            self.owed.advance(number as i32, records.len() as i64, &[], records, cores)?;
        }
        Ok(())
    }

    /// The number of decisions about memberships that ended without an event, and the number of ticks.
    pub(crate) fn expired(&self) -> (u64, u64) {
        let ticks = (0..self.input.len()).map(|number| self.owed.ticks(number as i32).len() as u64);
        (self.expired.len() as u64, ticks.sum())
    }

    /// The ticks that a worker has applied, given its committed position and its own ticks since.
    fn ticks(&self, number: i32, committed: Option<(i64, &str)>, own: &Ticks) -> Vec<(i64, i64)> {
        let history = &self.history[number as usize];
        let is_it = |it: &&(i64, String, usize)| committed == Some((it.0, it.1.as_str()));
        let known = history.iter().rev().find(is_it).map_or(0, |(.., ticks)| *ticks);
        let mut ticks = self.owed.ticks(number)[..known].to_vec();
        let new = new_ticks(&ticks, own.all());
        ticks.extend(new);
        ticks
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), String> {
        self.effects += u64::from(!effect.is_beside);
        self.policy(effect)?;
        if effect.is_beside && !self.is_at_least_once {
            return Err("I4: an output beside the transactions".to_owned());
        }
        if !effect.is_owned {
            return Err("I5: positions of a partition that belongs to somebody else".to_owned());
        }
        let mut touched = BTreeSet::new();
        for (place, offset) in &effect.outputs {
            let Some(output) = self.broker.record(*place, *offset) else { continue };
            if !is_output(&output) {
                if let Place::Profiles(partition) = place {
                    touched.insert(*partition);
                }
                continue;
            }
            if self.is_loose {
                self.repeated += u64::from(!self.shown.insert(output));
                continue;
            }
            let Some(Debt { partition, record, order, .. }) = self.owed.debt(&output) else {
                let text = String::from_utf8_lossy(output.payload.as_deref().unwrap_or_default()).into_owned();
                return Err(format!("I2, I9: an output that nothing owes: {text}"));
            };
            if !self.is_at_least_once {
                touched.insert(partition);
            }
            if self.readers.is_some() {
                self.written.insert((partition, order), output.clone());
            }
            let Some(at) = record else {
                if !self.expired.insert(output) {
                    if !self.is_at_least_once {
                        return Err(format!("I1: partition {partition}: a membership's end came twice"));
                    }
                    self.repeated += 1;
                }
                continue;
            };
            if std::mem::replace(&mut self.seen[partition as usize][at as usize], true) {
                if !self.is_at_least_once {
                    return Err(format!("I1: partition {partition} offset {at} came twice"));
                }
                self.repeated += 1;
                if !self.has_moods && self.first.get(&(partition, at)) != Some(&output) {
                    return Err(format!("I1: partition {partition} offset {at} came again with other content"));
                }
            } else if self.is_at_least_once {
                self.first.insert((partition, at), output);
            }
        }
        for (partition, next, _) in &effect.positions {
            touched.remove(partition);
            let (number, from) = (*partition as usize, self.committed[*partition as usize]);
            if *next < from {
                return Err(format!("I4: partition {partition} went back from {from} to {next}"));
            }
            if self.is_loose {
                self.owed.mark_shown(*partition, from..*next, &self.shown, &mut self.seen[number]);
                let told = self.owed.expiries[number].iter().filter(|(due, it)| due <= next && self.shown.contains(it));
                self.expired.extend(told.map(|(_, output)| output.clone()));
            }
            self.excuse(*partition, *next)?;
            let is_short =
                (from..*next).find(|at| self.owed.has_output[number][*at as usize] != self.seen[number][*at as usize]);
            if let Some(at) = is_short {
                return Err(format!("I4: partition {partition} is committed up to {next}, and {at} has no output"));
            }
            let ahead = self.seen[number][*next as usize..].iter().position(|seen| *seen);
            if let Some(ahead) = ahead.filter(|_| !self.is_at_least_once) {
                let at = *next as usize + ahead;
                return Err(format!("I4: partition {partition} is committed up to {next}, and {at} is visible"));
            }
            for (due, output) in &self.owed.expiries[number] {
                let is_seen = self.expired.contains(output);
                if *due <= *next && !is_seen {
                    return Err(format!(
                        "I4: partition {partition} is committed up to {next}, and the end of a membership is not told"
                    ));
                }
                if *due > *next && is_seen && !self.is_at_least_once {
                    return Err(format!(
                        "I4: partition {partition} is committed up to {next}, and the end of a membership is ahead"
                    ));
                }
            }
            self.committed[number] = *next;
        }
        if touched.is_empty() { Ok(()) } else { Err(format!("I4: outputs without positions: {touched:?}")) }
    }

    /// Checks that each decision is true to the policy that it names, and that a transaction names one. A retry joins the
    /// transaction that failed and the one after it.
    fn policy(&mut self, effect: &Effect) -> Result<(), String> {
        if !self.has_policies {
            return Ok(());
        }
        let mut last = None;
        for (place, offset) in &effect.outputs {
            let Some(output) = self.broker.record(*place, *offset).filter(is_output) else { continue };
            let Some(version) = policies::check(&output)? else { continue };
            self.with_policy += u64::from(version > 0);
            let before = last.replace(version).unwrap_or(version);
            if before != version && !(self.has_retried.get() && policies::may_follow(before, version)) {
                return Err(format!("policy {version} after {before} in one transaction"));
            }
        }
        Ok(())
    }

    /// Recovers a partition from what is committed, as a new owner would, and compares it with the reference (I3).
    pub(crate) fn rebuild(&mut self, number: i32, (core, _): &mut (Pipeline, FakeControl)) -> Result<(), String> {
        let Some((committed, metadata)) = self.broker.committed()[number as usize].clone() else { return Ok(()) };
        let (mark, _) = Mark::parse(&metadata).ok_or("I3: the metadata is no mark")?;
        if self.lost.get(&number).is_some_and(|generation| mark.generation <= *generation) {
            return Ok(());
        }
        self.rebuilt += 1;
        let mut partitions = Partitions::default();
        let partition = Partition::new(mark.replay_from, committed, Some((committed, metadata)));
        partitions.insert(number, partition.restoring(mark, 0));
        let records = self.broker.all_committed(Place::Profiles(number));
        let mut keys = BTreeSet::new();
        for it in &records {
            let record = Record {
                partition: number,
                key: it.key.as_deref(),
                payload: it.payload.as_deref(),
                ..Record::default()
            };
            partitions.restore(&record, core.profile());
            if it.key.as_deref().is_some_and(is_reserved_key) {
                continue;
            }
            if it.payload.is_some() {
                keys.insert(it.key.clone())
            } else {
                keys.remove(&it.key)
            };
        }
        if keys.len() > USERS {
            return Err(format!("I7: the changelog holds {} profiles", keys.len()));
        }
        if let Some(recovered) = partitions.restored(number, core.profile()).filter(|it| !it.is_whole()) {
            return Err(format!(
                "I3: the changelog of partition {number} holds {} profiles, not {}",
                recovered.found, recovered.owed
            ));
        }
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        core.catch_up(&mut partitions);
        for offset in mark.replay_from..committed {
            let it = &self.input[number as usize][offset as usize];
            if !it.counts() {
                continue;
            }
            core.take(&record(number, offset, it), &mut partitions, &mut outbox, &mut counts);
            core.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        }
        if !outbox.is_empty() {
            return Err(format!("I1: a replay of partition {number} writes"));
        }
        partitions.end_replay(number);
        core.catch_up(&mut partitions);
        let partition = partitions.get(number).ok_or("it was put in")?;
        let layout = self.has_changes.then(|| core.profile().layout().clone());
        let ticks = self.ticks(number, partitions.committed(number), &Ticks::default());
        let records = &self.input[number as usize];
        self.owed
            .compare(core, (number, &ticks), partition, records, layout.as_ref())
            .map_err(|why| format!("I3: rebuilt, {why}"))
    }

    /// Compares a worker's memory with the reference (I2, I7).
    pub(crate) fn memory(&self, partitions: &Partitions, core: &mut Pipeline, layout: &Layout) -> Result<(), String> {
        for number in partitions.held() {
            let Some(partition) = partitions.get(number) else { continue };
            if partition.store().len() > USERS {
                return Err(format!("I7: partition {number} holds {} profiles", partition.store().len()));
            }
            if !partitions.is_recovering(number) {
                self.members(partitions, number, core)?;
                let layout = self.has_changes.then_some(layout);
                let ticks = self.ticks(number, partitions.committed(number), partition.store().ticks());
                let records = &self.input[number as usize];
                self.owed
                    .compare(core, (number, &ticks), partition, records, layout)
                    .map_err(|why| format!("I2: in memory, {why}"))?;
            }
        }
        Ok(())
    }

    /// Compares the shown sizes of segments with a recount.
    fn members(&self, partitions: &Partitions, number: i32, core: &Pipeline) -> Result<(), String> {
        let Some(partition) = partitions.get(number).filter(|_| !self.has_changes && core.keeps_memberships()) else {
            return Ok(());
        };
        let mut recount = Vec::new();
        for (_, words) in partition.store().iter() {
            for cell in core.profile().held_memberships(&words) {
                recount.resize(recount.len().max(cell + 1), 0);
                recount[cell] += 1;
            }
        }
        let view = partitions.views().into_iter().find(|view| view.number == number).ok_or("it is held")?;
        let mut shown = view.members;
        let size = shown.len().max(recount.len());
        shown.resize(size, 0);
        recount.resize(size, 0);
        if shown == recount {
            return Ok(());
        }
        Err(format!(
            "partition {number} at {}: segments of {recount:?} members are shown as {shown:?}",
            partition.next()
        ))
    }

    /// Checks whole logs after everything has been committed (I1).
    pub(crate) fn end(&self) -> Result<(), String> {
        for (partition, (seen, owed)) in self.seen.iter().zip(&self.owed.has_output).enumerate() {
            if let Some(at) = seen.iter().zip(owed).position(|(seen, owed)| seen != owed) {
                return Err(format!("I1: partition {partition} offset {at} was lost"));
            }
        }
        for place in self.broker.places() {
            if !self.broker.is_stable(place) {
                return Err(format!("I6: a transaction is open in {place:?}"));
            }
            if !matches!(place, Place::Decisions(_)) || self.is_loose {
                continue;
            }
            let (mut last, mut known) = (BTreeMap::new(), BTreeSet::new());
            for output in self.broker.all_committed(place) {
                let Some(Debt { partition, order, .. }) = self.owed.debt(&output) else { continue };
                if !known.insert((partition, order)) {
                    continue;
                }
                let user = (partition, output.key.clone());
                if last.insert(user, order).is_some_and(|before| before >= order) {
                    return Err(format!("I1: partition {partition} output {order} is out of its user's order"));
                }
            }
        }
        Ok(())
    }
}
