//! One run: which worker takes the next turn, and which faults occur, drawn from a seed.

use super::{
    checks::Checks,
    consent, erasure,
    policies::{self, Published},
    world::{self, Owed},
};
use aimpoint::{
    engine::{Pipeline, PipelineSpec, Worker, WorkerSettings},
    event::EventTime,
    profile::{Layout, OnChange},
    state::Mark,
    status::Progress,
    testkit::{
        FakeClock, FakeControl, Faults, Fuse, InputRecord, MemoryBroker, MemorySink, MemorySnapshots, MemorySource,
        Mood,
    },
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// The group removes a member after this many steps of silence.
const SESSION: u64 = 25;

/// The broker aborts a transaction that has been open for this many steps.
const TRANSACTION: u64 = 120;

/// Everything must be committed within this many steps after the last fault.
const PATIENCE: u64 = 4_000;

type SimulatedWorker = Worker<MemorySource, MemorySink, FakeClock>;

/// What all runs share.
pub(crate) struct Core {
    /// Without and with lasting segments; with these where only changes are written, with policies, and with
    /// consent.
    kits: [Kit; 5],
}

/// Configurations with the same outputs.
struct Kit {
    /// The first specification, followed by those with other features.
    specs: Vec<PipelineSpec>,
    layouts: Vec<Layout>,
    /// The first one; with policies, it has none, and there is another for each.
    references: Vec<(Pipeline, FakeControl)>,
}

impl Default for Core {
    fn default() -> Self {
        let specs = [vec![world::spec()], world::changed_specs().to_vec()].concat();
        let all = |change: fn(PipelineSpec) -> PipelineSpec| specs.iter().cloned().map(change).collect::<Vec<_>>();
        let kit = |specs: Vec<PipelineSpec>| Kit::new(vec![world::pipeline(&specs[0])], specs);
        let budgeted = all(world::budgeted);
        let references = policies::references(|| world::pipeline(&budgeted[0]));
        let timed = vec![world::pipeline(&world::timed(world::spec()))];
        let silent = Kit::new(timed, all(world::on_change));
        let budgeted = Kit::new(references, budgeted);
        let consenting = kit(all(world::consenting));
        Self { kits: [kit(specs.clone()), kit(all(world::lasting)), silent, budgeted, consenting] }
    }
}

impl Kit {
    fn new(references: Vec<(Pipeline, FakeControl)>, specs: Vec<PipelineSpec>) -> Self {
        let layouts = specs.iter().map(|spec| world::pipeline(spec).0.profile().layout().clone()).collect();
        Self { specs, layouts, references }
    }
}

/// How often each thing happened.
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
    kills_in_calls: u64,
    pauses_in_calls: u64,
    shown_at_once: u64,
    repeated: u64,
    lost: u64,
    expired: u64,
    ticks: u64,
    silent: u64,
    needless: u64,
    policies: u64,
    with_policy: u64,
    erasures: u64,
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
        self.kills_in_calls += other.kills_in_calls;
        self.pauses_in_calls += other.pauses_in_calls;
        self.shown_at_once += other.shown_at_once;
        self.repeated += other.repeated;
        self.lost += other.lost;
        self.expired += other.expired;
        self.ticks += other.ticks;
        self.silent += other.silent;
        self.needless += other.needless;
        self.policies += other.policies;
        self.with_policy += other.with_policy;
        self.erasures += other.erasures;
    }

    /// A simulation without faults would prove nothing.
    pub(crate) fn has_everything(&self) {
        let Self { crashes, hangs, zombies, leaves, rebalances, .. } = self;
        let Self { compactions, trims, retries, failing_models, snapshots, changes, .. } = self;
        let workers = [crashes, hangs, zombies, leaves, rebalances];
        let Self { kills_in_calls, pauses_in_calls, shown_at_once, repeated, lost, expired, ticks, .. } = self;
        let Self { silent, needless, policies, with_policy, erasures, .. } = self;
        let others = [compactions, trims, retries, failing_models, snapshots];
        let more =
            [changes, kills_in_calls, pauses_in_calls, shown_at_once, repeated, lost, expired, ticks, silent, needless];
        let followed = [policies, with_policy, erasures];
        let all = [&workers[..], &others, &more, &followed].concat();
        assert!(all.iter().all(|count| **count > 100), "too little has happened: {self:?}");
    }
}

/// A running worker.
struct Running {
    worker: SimulatedWorker,
    member: u64,
    fuse: Fuse,
    control: FakeControl,
    progress: Progress,
    hangs: bool,
    /// Sets its clock's time of day, and how far that clock is ahead of the others.
    hands: (Arc<AtomicI64>, i64),
    /// The index of its specification.
    variant: usize,
    /// The version of the last policy seen in it.
    policy: Option<u64>,
}

/// How often each fault is inflicted, in thousandths of the steps.
#[derive(Clone, Copy, Debug)]
struct Rates {
    crash: u32,
    /// A crash, or a pause longer than the session, in the middle of a turn.
    kill: u32,
    pause: u32,
    hang: u32,
    leave: u32,
    shuffle: u32,
    compact: u32,
    trim: u32,
    mood: u32,
    /// A changelog is lost.
    lose: u32,
}

/// The delivery guarantee of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    ExactlyOnce,
    AtLeastOnce,
    /// Chosen at random at each start.
    Changing,
}

struct Run<'a> {
    broker: &'a MemoryBroker,
    specs: &'a [PipelineSpec],
    on_change: OnChange,
    mode: Mode,
    checkpoint_interval: Duration,
    /// Whether clocks end memberships.
    ticks: bool,
    /// The time of day in microseconds, if clocks end memberships.
    day: i64,
    random: SmallRng,
    slots: Vec<Option<Running>>,
    /// One snapshot folder for all workers, as on one machine.
    snapshots: Option<MemorySnapshots>,
    /// Whether a worker may find unusable data: a snapshot that is damaged, or older than a tombstone that compaction
    /// has since removed. It then ignores the data.
    may_doubt: bool,
    /// What control has published, if workers follow it.
    published: Option<Published>,
    /// Whether any worker has retried a transaction.
    has_retried: Rc<Cell<bool>>,
    /// Workers that hang while another one has taken their slot and its transactional ids.
    zombies: Vec<Running>,
    happened: Happened,
}

impl Running {
    /// Whether it has taken another policy since the last turn.
    fn follow(&mut self) -> Result<bool, String> {
        let version = self.progress.view().status().policy.map(|(version, _)| version);
        let before = std::mem::replace(&mut self.policy, version);
        match (before, version) {
            (Some(before), Some(now)) if !policies::may_follow(before, now) => {
                Err(format!("a worker goes from policy {before} back to {now}"))
            }
            _ => Ok(before != version),
        }
    }
}

impl Run<'_> {
    fn start(&mut self, slot: usize) {
        let (source, mut sink) = self.broker.join(slot);
        let shows_at_once = match self.mode {
            Mode::ExactlyOnce => false,
            Mode::AtLeastOnce => true,
            Mode::Changing => self.random.random_bool(0.5),
        };
        if shows_at_once {
            sink = sink.showing_at_once();
            self.happened.shown_at_once += 1;
        }
        let variant = self.random.random_range(0..self.specs.len());
        self.happened.changes += u64::from(variant > 0);
        let mut spec = self.specs[variant].clone();
        spec.profile.on_change = self.on_change;
        let settings = WorkerSettings {
            number: slot,
            commit_interval: Duration::from_millis(10),
            pace: Duration::ZERO,
            batch_rows_max: 8,
            checkpoint_interval: self.checkpoint_interval,
            stall_after: Duration::from_hours(1),
        };
        let (member, fuse, progress) = (source.member(), source.fuse(), Progress::default());
        // No two machines show the same time.
        let days = self.random.random_range(0..800);
        spec.time.tick = self.ticks;
        let (mut pipeline, control) = world::pipeline(&spec);
        if let Some(published) = &self.published {
            pipeline = published.followed_by(pipeline);
        }
        let ahead = days * 2_500 - 1_000_000;
        let clock = if self.ticks {
            FakeClock::showing(EventTime(self.day + ahead))
        } else {
            FakeClock::showing(world::present(days))
        };
        let hands = (clock.hands(), ahead);
        let mut worker = Worker::new(settings, source, sink, clock, pipeline, progress.clone());
        if let Some(snapshots) = &self.snapshots {
            worker = worker.with_snapshots(Box::new(snapshots.clone()), Duration::from_millis(80));
        }
        let running = Running { worker, member, fuse, control, progress, hangs: false, hands, variant, policy: None };
        if let Some(before) = self.slots[slot].replace(running) {
            self.zombies.push(before);
        }
    }

    /// Advances the time of day, mostly by little. It is never earlier than the events so far.
    fn pass_time(&mut self, newest: i64, moments: &mut SmallRng) {
        self.day = newest.max(self.day + moments.random_range(0..5_000_000));
        if moments.random_range(0..30) == 0 {
            self.day += moments.random_range(0..36_000_000_000);
        }
        for Running { hands: (hands, ahead), .. } in self.slots.iter().flatten().chain(&self.zombies) {
            hands.store(self.day + ahead, Ordering::Relaxed);
        }
    }

    /// Control publishes a policy now and then.
    fn publish(&mut self, moments: &mut SmallRng) {
        let Some(published) = &self.published else { return };
        match moments.random_range(0..60) {
            0 => published.next(),
            1 => published.again(moments.random_range(0..10)),
            _ => {}
        }
    }

    fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_range(0..1_000) < thousandths
    }

    fn disturb(&mut self, rates: Rates, checks: &mut Checks<'_>, partitions: usize) -> Result<(), String> {
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
        } else if self.strikes(rates.kill) {
            let calls = self.random.random_range(0..40);
            self.happened.kills_in_calls += 1;
            self.slots[slot].as_ref().ok_or("it is there")?.fuse.kill_after(calls);
        } else if self.strikes(rates.pause) {
            let calls = self.random.random_range(0..40);
            self.happened.pauses_in_calls += 1;
            self.slots[slot].as_ref().ok_or("it is there")?.fuse.pause_after(calls);
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
        if self.strikes(rates.lose) {
            self.happened.lost += 1;
            checks.lose_changelog(partition as i32);
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

    /// A worker leaves cleanly.
    fn leave(&mut self, slot: usize) -> Result<(), String> {
        let Some(mut gone) = self.slots[slot].take() else { return Ok(()) };
        let left = gone.worker.leave();
        self.has_retried.set(self.has_retried.get() || gone.progress.retries() > 0);
        match left {
            Err(_) if gone.fuse.is_dead() => {
                self.broker.cut_off(gone.member);
                return Ok(());
            }
            left => left.map_err(|error| format!("a worker ended: {error}"))?,
        }
        self.happened.leaves += 1;
        self.happened.retries += gone.progress.retries();
        self.broker.leave(gone.member);
        Ok(())
    }

    /// Whether any partition is being restored or replayed.
    fn is_recovering(&self) -> bool {
        self.slots.iter().flatten().any(|running| {
            let partitions = running.worker.partitions();
            partitions.held().iter().any(|number| partitions.is_recovering(*number))
        })
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
        let turned = running.worker.turn();
        self.has_retried.set(self.has_retried.get() || running.progress.retries() > 0);
        match turned {
            Err(_) if running.fuse.is_dead() => {
                self.broker.cut_off(running.member);
                if is_slot {
                    self.slots[index] = None;
                } else {
                    self.zombies.remove(index);
                }
                return Ok(None);
            }
            turned => turned.map_err(|error| format!("a worker ended: {error}"))?,
        }
        let running = if is_slot { self.slots[index].as_mut() } else { self.zombies.get_mut(index) };
        let running = running.ok_or("it is awake")?;
        self.happened.policies += u64::from(running.follow()?);
        if running.progress.health().doubted() > 0 && !self.may_doubt {
            return Err("I3: a worker finds the changelog not whole".to_owned());
        }
        Ok(Some(running))
    }
}

/// The first offset that a recovery would replay.
fn replay_from(metadata: &str) -> Option<i64> {
    Mark::parse(metadata).map(|(mark, _)| mark.replay_from)
}

/// Runs a seed; returns what happened, or which guarantee was violated.
pub(crate) fn simulate(seed: u64, core: &mut Core) -> Result<Happened, String> {
    // A separate generator, so that each seed otherwise runs as it did before there were memberships.
    let mut moments = SmallRng::seed_from_u64(seed ^ 0x6d65_6d62_6572);
    let is_lasting = moments.random_bool(0.4);
    let ticks = is_lasting && moments.random_bool(0.6);
    // For the same reason.
    let is_silent = is_lasting && SmallRng::seed_from_u64(seed ^ 0x7369_6c65_6e74).random_bool(0.4);
    let has_policies = is_lasting && !is_silent && SmallRng::seed_from_u64(seed ^ 0x706f_6c69_6379).random_bool(0.25);
    let mut flags = SmallRng::seed_from_u64(seed ^ 0x0063_6f6e_7365_6e74);
    let has_consent = is_lasting && !is_silent && !has_policies && flags.random_bool(0.3);
    let core = match (is_lasting, is_silent, has_policies) {
        _ if has_consent => &mut core.kits[4],
        (false, ..) => &mut core.kits[0],
        (_, true, _) => &mut core.kits[2],
        (.., true) => &mut core.kits[3],
        (.., false) => &mut core.kits[1],
    };
    let mut random = SmallRng::seed_from_u64(seed);
    let partitions = random.random_range(1..4);
    let records = random.random_range(10..140);
    let mut input: Vec<Vec<InputRecord>> = world::input(&mut random, partitions, records, !ticks);
    if has_consent {
        consent::add_flags(&mut input, &mut flags);
    }
    // For the same reason.
    let mut asks = SmallRng::seed_from_u64(seed ^ 0x6572_6173_6564);
    let erasures = if asks.random_bool(0.3) && !is_silent && !has_policies && !has_consent {
        erasure::add_requests(&mut input, &mut asks, !ticks)
    } else {
        0
    };
    let owed = Owed::of(&input, &mut core.references);
    let mut rate = |most: u32| if random.random_bool(0.5) { random.random_range(0..most) } else { 0 };
    let faults = Faults {
        abortable: rate(60),
        unknown: rate(250),
        stale: rate(100),
        fence: rate(200),
        refuse: rate(80),
        stale_fetch: rate(1_000),
    };
    let trim = rate(40);
    let rates = Rates {
        crash: rate(25),
        kill: rate(25),
        pause: rate(15),
        hang: rate(25),
        leave: rate(15),
        shuffle: rate(25),
        compact: rate(40),
        trim,
        mood: rate(40),
        // Profiles cannot be rebuilt from trimmed input. Nor can they be rebuilt if ticks committed before the mark are
        // forgotten.
        lose: if trim == 0 && !ticks { rate(10) } else { 0 },
    };
    let broker = MemoryBroker::new(input.clone(), random.random_bool(0.5), faults, seed);
    let workers = random.random_range(1..4);
    let has_changes = random.random_bool(0.5);
    // With trimmed input, a replay cannot recover profiles built from it.
    let on_change =
        if rates.trim == 0 && random.random_bool(0.5) && !ticks { OnChange::Replay } else { OnChange::Keep };
    let mode = match random.random_range(0..8) {
        0..4 => Mode::ExactlyOnce,
        4..7 => Mode::AtLeastOnce,
        _ => Mode::Changing,
    };
    // Which decisions are shown at once, and again after a crash, depends on what was known about readers.
    let mode = if is_silent { Mode::ExactlyOnce } else { mode };
    let checkpoint_interval = Duration::from_millis(if random.random_bool(0.5) { 60 } else { 400 });
    let mut checks =
        Checks::new(&broker, owed, &input, (has_changes, mode != Mode::ExactlyOnce, rates.mood > 0 || has_policies));
    checks.has_policies = has_policies;
    if is_silent {
        checks.allow_silence();
    }
    if is_lasting && !ticks {
        checks.foresee(&mut core.references)?;
    }
    checks.is_loose = ticks && mode != Mode::ExactlyOnce;
    let newest = world::newest(&input);
    let slots = (0..workers).map(|_| None).collect();
    let damage = if random.random_bool(0.3) { random.random_range(1..500) } else { 0 };
    let snapshots = random.random_bool(0.5).then(|| MemorySnapshots::new(seed, damage));
    let may_doubt = snapshots.is_some() || rates.lose > 0;
    let mut run = Run {
        broker: &broker,
        specs: if has_changes { &core.specs } else { &core.specs[..1] },
        on_change,
        mode,
        checkpoint_interval,
        ticks,
        day: newest[0][0],
        random,
        slots,
        snapshots,
        may_doubt,
        has_retried: Rc::clone(&checks.has_retried),
        published: has_policies.then(Published::default),
        zombies: Vec::new(),
        happened: Happened::default(),
    };
    run.start(0);

    // In some runs, transactions of dead workers stay open for long, with other records after them.
    let transaction = if run.random.random_bool(0.3) { 4 * TRANSACTION } else { TRANSACTION };
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
        broker.tick(SESSION, if step < disturbed { transaction } else { TRANSACTION });
        if step < disturbed {
            run.disturb(rates, &mut checks, partitions)?;
            if run.random.random_bool(0.3) {
                let partition = run.random.random_range(0..partitions);
                broker.produce(partition, run.random.random_range(1..8));
            }
        }
        if ticks {
            let produced = broker.produced().into_iter().zip(&newest).map(|(count, newest)| newest[count as usize]);
            run.pass_time(produced.max().unwrap_or_default(), &mut moments);
        }
        run.publish(&mut moments);
        // Comparing memberships takes a pass over the whole input.
        let looks = run.random.random_range(0..8) == 0 && (!is_lasting || moments.random_range(0..4) == 0);
        if let Some(running) = run.turn()?
            && looks
        {
            checks.memory(running.worker.partitions(), &mut core.references[0].0, &core.layouts[running.variant])?;
        }
        checks.step(&mut core.references)?;
        if run.random.random_range(0..40) == 0 {
            let partition = run.random.random_range(0..partitions);
            checks.rebuild(partition as i32, &mut core.references[0])?;
        }
    }

    // An idle worker leaves no transaction open, and one that leaves cleanly leaves nothing to replay.
    for _ in 0..2 * TRANSACTION {
        broker.tick(SESSION, TRANSACTION);
        run.turn()?;
        checks.step(&mut core.references)?;
    }
    if broker.oldest_open() > TRANSACTION / 2 {
        return Err(format!("I6: a transaction has been open for {} steps", broker.oldest_open()));
    }
    for slot in 0..run.slots.len() {
        run.leave(slot)?;
        checks.step(&mut core.references)?;
        // Its partitions go to the remaining workers.
        for turn in 0..PATIENCE {
            if turn >= 40 && !run.is_recovering() {
                break;
            }
            broker.tick(SESSION, TRANSACTION);
            run.turn()?;
            checks.step(&mut core.references)?;
        }
    }
    for partition in 0..partitions {
        checks.rebuild(partition as i32, &mut core.references[0])?;
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
    run.happened.with_policy = checks.with_policy;
    run.happened.erasures = erasures;
    run.happened.repeated = checks.repeated;
    (run.happened.expired, run.happened.ticks) = checks.expired();
    (run.happened.silent, run.happened.needless) = checks.silence();
    Ok(run.happened)
}

/// Ends all faults, and lets the remaining workers finish.
fn calm(run: &mut Run<'_>, input: &[Vec<InputRecord>]) {
    run.broker.without_faults();
    for (partition, records) in input.iter().enumerate() {
        run.broker.produce(partition, records.len());
    }
    for slot in 0..run.slots.len() {
        // A worker may have died in a call whose failure it ignores, and would notice only in its next turn.
        if let Some(dead) = run.slots[slot].take_if(|running| running.fuse.is_dead()) {
            run.broker.cut_off(dead.member);
        }
        match &run.slots[slot] {
            None => run.start(slot),
            Some(_) => run.wake(slot),
        }
        if let Some(running) = &run.slots[slot] {
            running.control.set(Mood::Score);
            running.fuse.put_out();
        }
    }
    for zombie in run.zombies.drain(..) {
        run.broker.cut_off(zombie.member);
    }
}
