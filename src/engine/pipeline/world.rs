//! A pipeline with one partition, for the tests of users who are erased, renamed or named by pseudonyms.

use super::{Pipeline, PipelineSpec};
use crate::{
    engine::{Partition, Partitions, partitions::Recovered},
    event::{ERASE_VERSION, EventTime, Record},
    sink::{Outbox, Target},
    state::{Mark, hash_key},
    status::Counts,
};
use serde_json::Value;

/// The time of minute 0, in milliseconds.
pub(super) const START: i64 = 1_772_409_600_000;

/// Records of the changelog: key and value.
pub(super) type Log = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub(super) struct World {
    pub(super) pipeline: Pipeline,
    pub(super) partitions: Partitions,
    pub(super) counts: Counts,
    pub(super) outbox: Outbox,
    /// The offset of the next record.
    pub(super) offset: i64,
}

impl World {
    pub(super) fn new(spec: &PipelineSpec) -> Self {
        let pipeline = Pipeline::compile(spec, ("shop", "clicks")).unwrap();
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        Self { pipeline, partitions, counts: Counts::default(), outbox: Outbox::default(), offset: 0 }
    }

    pub(super) fn record(
        &mut self,
        key: Option<&[u8]>,
        minute: Option<i64>,
        erase: Option<&str>,
        payload: Option<&str>,
    ) {
        let record = Record {
            offset: self.offset,
            timestamp_ms: minute.map(|minute| START + minute * 60_000),
            key,
            payload: payload.map(str::as_bytes),
            erase: erase.map(str::as_bytes),
            ..Record::default()
        };
        self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut self.counts);
        self.offset += 1;
    }

    /// An event of a user, with more members of its object.
    pub(super) fn event(&mut self, user: &str, minute: i64, kind: &str, more: &str) {
        let at = START + minute * 60_000;
        let payload = format!(r#"{{"user_id":"{user}","occurred_at":{at},"event_type":"{kind}"{more}}}"#);
        self.record(Some(user.as_bytes()), Some(minute), None, Some(&payload));
    }

    /// A request to erase a user.
    pub(super) fn erase(&mut self, user: &str, minute: i64) {
        self.record(Some(user.as_bytes()), Some(minute), Some(ERASE_VERSION), None);
    }

    /// Runs the batch. The outputs stay in the outbox.
    pub(super) fn process(&mut self) {
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut self.outbox, &mut self.counts);
    }

    /// Runs the batch and returns the outputs about users: key, and the decision or null.
    pub(super) fn run(&mut self) -> Vec<(String, Option<Value>)> {
        self.process();
        let decisions = self.outbox.all().filter(|output| output.target == Target::Decisions);
        let all = decisions.map(|output| {
            let decision = output.payload.map(|payload| serde_json::from_slice(payload).unwrap());
            (String::from_utf8_lossy(output.key.unwrap()).into_owned(), decision)
        });
        let all = all.collect();
        self.outbox.clear();
        all
    }

    /// The first feature of a user, if there is a profile.
    pub(super) fn views(&mut self, user: &str) -> Option<f64> {
        let store = self.partitions.get(0).unwrap().store();
        let words = store.get(hash_key(user.as_bytes()), user.as_bytes())?.into_owned();
        Some(self.pipeline.read(&words)[0])
    }

    /// How many memberships there are.
    pub(super) fn members(&self) -> u64 {
        self.partitions.views()[0].members.iter().sum()
    }

    /// Writes what each commit has to contain.
    pub(super) fn write_erasures(&mut self) -> Log {
        let mut outbox = Outbox::default();
        self.partitions.write_erasures(self.pipeline.layout(), &mut outbox);
        records(&outbox)
    }

    /// Writes everything that the changelog lacks.
    pub(super) fn write(&mut self) -> Log {
        let mut all = self.write_erasures();
        let mut outbox = Outbox::default();
        self.partitions.write_profiles(0, true, (usize::MAX, usize::MAX), self.pipeline.layout(), &mut outbox);
        all.extend(records(&outbox));
        all
    }

    /// The process that follows with these sections, restores what this one committed from these records of the changelog, and
    /// reads on at the mark's offset. How that ended is returned, too.
    pub(super) fn followed(&self, spec: &PipelineSpec, log: &Log) -> (Self, Recovered) {
        let mut next = Self::new(spec);
        let partition = self.partitions.get(0).unwrap();
        let metadata = partition.store().mark(partition.next()).metadata(self.pipeline.layout().id());
        let (mark, _) = Mark::parse(&metadata).unwrap();
        let restored = Partition::new(mark.replay_from, self.offset, Some((self.offset, metadata)));
        let mut restored = restored.restoring(mark, 0);
        let _is_ours = next.pipeline.name_users_of(&mut restored);
        next.partitions.insert(0, restored);
        for (key, payload) in log {
            let record = Record { key: Some(key), payload: payload.as_deref(), ..Record::default() };
            next.partitions.restore(&record, next.pipeline.profile());
        }
        let recovered = next.partitions.restored(0, next.pipeline.profile()).unwrap();
        next.offset = mark.replay_from;
        (next, recovered)
    }
}

fn records(outbox: &Outbox) -> Log {
    outbox.all().map(|it| (it.key.unwrap().to_vec(), it.payload.map(<[u8]>::to_vec))).collect()
}
