//! One run: which worker goes next and what happens to whom, drawn from a seed.

use super::{
    checks::Checks,
    world::{self, Owed},
};
use aimpoint::{
    engine::{Pipeline, PipelineSpec, Progress, Worker, WorkerSettings},
    profile::{Layout, OnChange},
    state::Mark,
    testkit::{
        FakeClock, FakeControl, Faults, InputRecord, MemoryBroker, MemorySink, MemorySnapshots, MemorySource, Mood,
    },
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::time::Duration;

/// After so many steps of silence the group puts a member out.
const SESSION: u64 = 25;

/// After so many steps the broker aborts an open transaction.
const TRANSACTION: u64 = 120;

/// Within so many steps after the last fault everything has to be committed.
const PATIENCE: u64 = 4_000;

type SimulatedWorker = Worker<MemorySource, MemorySink, FakeClock>;

/// What every run needs and is the same for all.
pub(crate) struct Core {
    /// That of the reference, then those with other features besides.
    specs: Vec<PipelineSpec>,
    layouts: Vec<Layout>,
    reference: (Pipeline, FakeControl),
}

impl Default for Core {
    fn default() -> Self {
        let specs = [vec![world::spec()], world::changed_specs().to_vec()].concat();
        let layouts = specs.iter().map(|spec| world::pipeline(spec).0.profile().layout().clone()).collect();
        Self { reference: world::pipeline(&specs[0]), specs, layouts }
    }
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Happened {
    steps: u64,
    commits: u64,
    rebuilt: u64,
    crashes: u64,
    hangs: u64,
    zombies: u64,
    leaves: u64,
    rebalances: u64,
    compactions: u64,
    trims: u64,
    retries: u64,
    failing_models: u64,
    snapshots: u64,
    changes: u64,
}

impl Happened {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.rebuilt += other.rebuilt;
        self.crashes += other.crashes;
        self.hangs += other.hangs;
        self.zombies += other.zombies;
        self.leaves += other.leaves;
        self.rebalances += other.rebalances;
        self.compactions += other.compactions;
        self.trims += other.trims;
        self.retries += other.retries;
        self.failing_models += other.failing_models;
        self.snapshots += other.snapshots;
        self.changes += other.changes;
    }

    /// A simulation in which nothing goes wrong shows nothing.
    pub(crate) fn has_everything(&self) {
        let Self { crashes, hangs, zombies, leaves, rebalances, .. } = self;
        let Self { compactions, trims, retries, failing_models, snapshots, changes, .. } = self;
        let workers = [crashes, hangs, zombies, leaves, rebalances];
        let others = [compactions, trims, retries, failing_models, snapshots];
        let all = [&workers[..], &others, &[changes]].concat();
        assert!(all.iter().all(|count| **count > 100), "too little has happened: {self:?}");
    }
}

/// A running worker.
struct Running {
    worker: SimulatedWorker,
    member: u64,
    control: FakeControl,
    progress: Progress,
    hangs: bool,
    /// The number of its features.
    variant: usize,
}

/// How often what is done to the workers, in thousandths of the steps.
#[derive(Clone, Copy, Debug)]
struct Rates {
    crash: u32,
    hang: u32,
    leave: u32,
    shuffle: u32,
    compact: u32,
    trim: u32,
    mood: u32,
}

struct Run<'a> {
    broker: &'a MemoryBroker,
    specs: &'a [PipelineSpec],
    on_change: OnChange,
    random: SmallRng,
    slots: Vec<Option<Running>>,
    /// One folder of snapshots for all, as on one machine.
    snapshots: Option<MemorySnapshots>,
    /// Whether a worker may find something not whole: a snapshot that is damaged, or older than a tombstone that compaction
    /// has removed since. It is passed by then.
    may_doubt: bool,
    /// Workers that hang while another one has taken their slot and its transactional ids.
    zombies: Vec<Running>,
    happened: Happened,
}

impl Run<'_> {
    fn start(&mut self, slot: usize) {
        let (source, sink) = self.broker.join(slot);
        let variant = self.random.random_range(0..self.specs.len());
        self.happened.changes += u64::from(variant > 0);
        let mut spec = self.specs[variant].clone();
        spec.profile.on_change = self.on_change;
        let (pipeline, control) = world::pipeline(&spec);
        let settings = WorkerSettings {
            number: slot,
            commit_interval: Duration::from_millis(10),
            pace: Duration::ZERO,
            batch_rows_max: 8,
            checkpoint_interval: Duration::from_millis(60),
            stall_after: Duration::from_hours(1),
        };
        let (member, progress) = (source.member(), Progress::default());
        // No two machines show the same time.
        let clock = FakeClock::showing(world::present(self.random.random_range(0..800)));
        let mut worker = Worker::new(settings, source, sink, clock, pipeline, progress.clone());
        if let Some(snapshots) = &self.snapshots {
            worker = worker.with_snapshots(Box::new(snapshots.clone()), Duration::from_millis(80));
        }
        let running = Running { worker, member, control, progress, hangs: false, variant };
        if let Some(before) = self.slots[slot].replace(running) {
            self.zombies.push(before);
        }
    }

    fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_range(0..1_000) < thousandths
    }

    fn disturb(&mut self, rates: Rates, partitions: usize) -> Result<(), String> {
        let slot = self.random.random_range(0..self.slots.len());
        if self.slots[slot].is_none() {
            if self.strikes(200) {
                self.start(slot);
            }
        } else if self.strikes(rates.crash) {
            self.happened.crashes += 1;
            let gone = self.slots[slot].take().ok_or("it is there")?;
            self.broker.cut_off(gone.member);
            self.happened.retries += gone.progress.retries();
        } else if self.strikes(rates.hang) {
            let running = self.slots[slot].as_mut().ok_or("it is there")?;
            running.hangs = true;
            self.broker.cut_off(running.member);
            self.happened.hangs += 1;
        } else if self.slots[slot].as_ref().is_some_and(|it| it.hangs) {
            if self.strikes(60) {
                self.wake(slot);
            } else if self.strikes(20) {
                self.happened.zombies += 1;
                self.start(slot);
            }
        } else if self.strikes(rates.leave) {
            self.leave(slot)?;
        }
        if !self.zombies.is_empty() && self.strikes(50) {
            let index = self.random.random_range(0..self.zombies.len());
            self.broker.reconnect(self.zombies[index].member);
            self.zombies[index].hangs = false;
        }
        if self.strikes(rates.shuffle) {
            self.happened.rebalances += 1;
            self.broker.shuffle();
        }
        let partition = self.random.random_range(0..partitions);
        if self.strikes(rates.compact) {
            self.happened.compactions += 1;
            self.broker.compact(partition as i32);
        }
        if self.strikes(rates.trim)
            && let Some((_, metadata)) = &self.broker.committed()[partition]
            && let Some(from) = replay_from(metadata)
        {
            self.happened.trims += 1;
            self.broker.trim(partition as i32, from);
        }
        if self.strikes(rates.mood) {
            self.happened.failing_models += 1;
            let mood = if self.random.random_bool(0.5) { Mood::Fail } else { Mood::Nan };
            if let Some(running) = &self.slots[slot] {
                running.control.set(mood);
            }
        } else if self.strikes(100)
            && let Some(running) = &self.slots[slot]
        {
            running.control.set(Mood::Score);
        }
        Ok(())
    }

    fn wake(&mut self, slot: usize) {
        if let Some(running) = &mut self.slots[slot] {
            running.hangs = false;
            self.broker.reconnect(running.member);
        }
    }

    /// A worker ends in order.
    fn leave(&mut self, slot: usize) -> Result<(), String> {
        let Some(mut gone) = self.slots[slot].take() else { return Ok(()) };
        gone.worker.leave().map_err(|error| format!("a worker ended: {error}"))?;
        self.happened.leaves += 1;
        self.happened.retries += gone.progress.retries();
        self.broker.leave(gone.member);
        Ok(())
    }

    /// One turn of one worker.
    fn turn(&mut self) -> Result<Option<&Running>, String> {
        self.happened.steps += 1;
        let awake: Vec<(bool, usize)> = (0..self.slots.len())
            .filter(|slot| self.slots[*slot].as_ref().is_some_and(|it| !it.hangs))
            .map(|slot| (true, slot))
            .chain((0..self.zombies.len()).filter(|index| !self.zombies[*index].hangs).map(|index| (false, index)))
            .collect();
        if awake.is_empty() {
            return Ok(None);
        }
        let (is_slot, index) = awake[self.random.random_range(0..awake.len())];
        let running = if is_slot { self.slots[index].as_mut() } else { self.zombies.get_mut(index) };
        let running = running.ok_or("it is awake")?;
        running.worker.turn().map_err(|error| format!("a worker ended: {error}"))?;
        if running.progress.health().doubted() > 0 && !self.may_doubt {
            return Err("I3: a worker finds the changelog not whole".to_owned());
        }
        Ok(Some(running))
    }
}

/// The first offset that a recovery would read.
fn replay_from(metadata: &str) -> Option<i64> {
    Mark::parse(metadata).map(|(mark, _)| mark.replay_from)
}

/// Runs a seed: what has happened, or which guarantee was broken.
pub(crate) fn simulate(seed: u64, core: &mut Core) -> Result<Happened, String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let partitions = random.random_range(1..4);
    let records = random.random_range(10..140);
    let input: Vec<Vec<InputRecord>> = world::input(&mut random, partitions, records);
    let owed = Owed::of(&input, &mut core.reference);
    let mut rate = |most: u32| if random.random_bool(0.5) { random.random_range(0..most) } else { 0 };
    let faults = Faults { abortable: rate(60), unknown: rate(250), stale: rate(100), fence: rate(200) };
    let rates = Rates {
        crash: rate(25),
        hang: rate(25),
        leave: rate(15),
        shuffle: rate(25),
        compact: rate(40),
        trim: rate(40),
        mood: rate(40),
    };
    let broker = MemoryBroker::new(input.clone(), random.random_bool(0.5), faults, seed);
    let workers = random.random_range(1..4);
    let has_changes = random.random_bool(0.5);
    // Where input was trimmed, a replay cannot bring back what was made of it.
    let on_change = if rates.trim == 0 && random.random_bool(0.5) { OnChange::Replay } else { OnChange::Keep };
    let mut checks = Checks::new(&broker, &owed, &input, has_changes);
    let slots = (0..workers).map(|_| None).collect();
    let damage = if random.random_bool(0.3) { random.random_range(1..500) } else { 0 };
    let snapshots = random.random_bool(0.5).then(|| MemorySnapshots::new(seed, damage));
    let may_doubt = snapshots.is_some();
    let mut run = Run {
        broker: &broker,
        specs: if has_changes { &core.specs } else { &core.specs[..1] },
        on_change,
        random,
        slots,
        snapshots,
        may_doubt,
        zombies: Vec::new(),
        happened: Happened::default(),
    };
    run.start(0);

    let disturbed = 60 + 3 * records as u64;
    for step in 0.. {
        if step == disturbed {
            calm(&mut run, &input);
        }
        if step > disturbed && broker.is_done() {
            break;
        }
        if step > disturbed + PATIENCE {
            return Err(format!("I11: still not done: {:?} of {:?}", broker.committed(), broker.produced()));
        }
        broker.tick(SESSION, TRANSACTION);
        if step < disturbed {
            run.disturb(rates, partitions)?;
            if run.random.random_bool(0.3) {
                let partition = run.random.random_range(0..partitions);
                broker.produce(partition, run.random.random_range(1..8));
            }
        }
        let looks = run.random.random_range(0..8) == 0;
        if let Some(running) = run.turn()?
            && looks
        {
            checks.memory(running.worker.partitions(), &core.reference.0, &core.layouts[running.variant])?;
        }
        checks.step()?;
        if run.random.random_range(0..40) == 0 {
            let partition = run.random.random_range(0..partitions);
            checks.rebuild(partition as i32, &mut core.reference)?;
        }
    }

    // An idle worker leaves no transaction open, and one that goes in order nothing to be read again.
    for _ in 0..2 * TRANSACTION {
        broker.tick(SESSION, TRANSACTION);
        run.turn()?;
        checks.step()?;
    }
    if broker.oldest_open() > TRANSACTION / 2 {
        return Err(format!("I6: a transaction has been open for {} steps", broker.oldest_open()));
    }
    for slot in 0..run.slots.len() {
        run.leave(slot)?;
        checks.step()?;
        // Its partitions go to those that stay.
        for _ in 0..40 {
            broker.tick(SESSION, TRANSACTION);
            run.turn()?;
            checks.step()?;
        }
    }
    for partition in 0..partitions {
        checks.rebuild(partition as i32, &mut core.reference)?;
        if let Some((committed, metadata)) = &broker.committed()[partition]
            && replay_from(metadata) != Some(*committed)
        {
            return Err(format!("I10: partition {partition} was left at {committed} with {metadata}"));
        }
    }
    checks.end()?;
    run.happened.snapshots = run.snapshots.as_ref().map_or(0, MemorySnapshots::opened);
    run.happened.commits = checks.effects;
    run.happened.rebuilt = checks.rebuilt;
    Ok(run.happened)
}

/// Ends all faults and lets everybody who is left get on.
fn calm(run: &mut Run<'_>, input: &[Vec<InputRecord>]) {
    run.broker.without_faults();
    for (partition, records) in input.iter().enumerate() {
        run.broker.produce(partition, records.len());
    }
    for slot in 0..run.slots.len() {
        match &run.slots[slot] {
            None => run.start(slot),
            Some(_) => run.wake(slot),
        }
        if let Some(running) = &run.slots[slot] {
            running.control.set(Mood::Score);
        }
    }
    for zombie in run.zombies.drain(..) {
        run.broker.cut_off(zombie.member);
    }
}
