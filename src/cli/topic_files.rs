//! Topics in place of files: `topic:decisions` stands for what the topic `decisions` holds.
//!
//! Owns the copy. Each partition becomes a compressed file in a temporary folder, so commands that read files several times, or
//! merge them by time, need to know nothing of Kafka. Guarantees: committed records only, up to the ends that all topics had at the
//! beginning, in their order, however much is written meanwhile. Decisions about a user who was erased later are left out. Limits: the folder for temporary files needs
//! room for the compressed topic.

use super::{Exit, signals::clean_up_on_signals};
use crate::{
    app::{
        Setup,
        topics::{self, block_on},
    },
    partial::TemporaryFolder,
    source::Reader,
};
use anyhow::Context;
use prost::encode_length_delimiter;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// How an argument that names a topic begins.
const PREFIX: &str = "topic:";
/// The header of the null that takes back what was decided about an erased user.
const ERASURE: &str = "erasure";
/// The longest length before a message.
const LENGTH_BYTES_MAX: usize = 10;
/// Fast, and about a tenth of the size.
const LEVEL: i32 = 1;

/// Files, some of which are copies of topics that exist as long as this does.
#[derive(Debug)]
pub(super) struct TopicFiles {
    paths: Vec<PathBuf>,
    _folder: Option<TemporaryFolder>,
}

impl TopicFiles {
    /// Copies the topics among the arguments. Other arguments stay as they are.
    ///
    /// # Errors
    /// A topic is missing or cannot be read to its end, or the copy cannot be written.
    pub(super) fn fetch(setup: &Setup, named: &[PathBuf]) -> anyhow::Result<Self> {
        let topic = |path: &PathBuf| path.to_str()?.strip_prefix(PREFIX).map(str::to_owned);
        if named.iter().all(|path| topic(path).is_none()) {
            return Ok(Self { paths: named.to_vec(), _folder: None });
        }
        clean_up_on_signals()?;
        let folder = TemporaryFolder::create("aimpoint-topics-")?;
        // All at the same time: an outcome that is read has a decision that is read.
        let mut ends = BTreeMap::new();
        for topic in named.iter().filter_map(topic) {
            let found = ends_of(setup, &topic).with_context(|| format!("copy the topic {topic}"))?;
            ends.insert(topic, found);
        }
        let mut paths = Vec::new();
        for (number, path) in named.iter().enumerate() {
            match topic(path) {
                None => paths.push(path.clone()),
                Some(topic) => {
                    let to = folder.path().join(number.to_string());
                    let ends = ends.get(&topic).cloned().unwrap_or_default();
                    paths.extend(copy(setup, (&topic, &ends), &to).with_context(|| format!("copy the topic {topic}"))?);
                }
            }
        }
        Ok(Self { paths, _folder: Some(folder) })
    }

    /// The files.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// The last erasure of each user, by partition and key.
type Erased = HashMap<(i32, Vec<u8>), i64>;

/// By partition, the offset up to which a topic is copied.
fn ends_of(setup: &Setup, topic: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
    let config = &setup.config;
    let client = topics::client(config)?;
    if block_on(client.state(topic))??.is_none() {
        return Err(Exit::Topics.because(format!(
            "the topic {topic:?} does not exist; name one of the topics that `aimpoint topics` lists"
        )));
    }
    Ok(Reader::ends(&config.kafka.brokers, &config.kafka.consumer_settings(), topic)?)
}

fn copy(setup: &Setup, (topic, ends): (&str, &BTreeMap<i32, i64>), folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let config = &setup.config;
    std::fs::create_dir(folder)?;
    let mut erased = Erased::new();
    loop {
        let mut copy = Copy { folder, topic, files: BTreeMap::new(), erased: &erased, found: Erased::new() };
        let mut failed = None;
        let client = config.kafka.consumer_settings();
        Reader::read_to(&config.kafka.brokers, &client, topic, ends, |_, record, headers| match record.payload {
            Some(payload) if failed.is_none() => {
                failed = copy.add(record.partition, record.offset, record.key, payload).err();
            }
            Some(_) => {}
            None => copy.note_null(record.partition, record.offset, record.key, headers),
        })?;
        if let Some(error) = failed {
            return Err(error).with_context(|| format!("write to {}", folder.display()));
        }
        let found = std::mem::take(&mut copy.found);
        // An erasure stands behind what it takes back, so that is only known after the first time.
        let is_final = found.iter().all(|(user, offset)| copy.erased.get(user) >= Some(offset));
        let paths = copy.finish().with_context(|| format!("write to {}", folder.display()))?;
        if is_final {
            return Ok(paths);
        }
        for path in paths {
            std::fs::remove_file(path)?;
        }
        erased = found;
    }
}

type Compressed = zstd::Encoder<'static, BufWriter<File>>;

/// A copy that is being written.
struct Copy<'a> {
    folder: &'a Path,
    topic: &'a str,
    /// By partition, and whether its records are Protobuf.
    files: BTreeMap<(i32, bool), (PathBuf, Compressed)>,
    /// What is known already.
    erased: &'a Erased,
    /// What was found this time.
    found: Erased,
}

impl Copy<'_> {
    fn add(&mut self, partition: i32, offset: i64, key: Option<&[u8]>, payload: &[u8]) -> io::Result<()> {
        // Most topics have no erasures, and then no key is copied.
        if !self.erased.is_empty()
            && let Some(key) = key
            && self.erased.get(&(partition, key.to_vec())).is_some_and(|erased| offset < *erased)
        {
            return Ok(());
        }
        let is_protobuf = payload.trim_ascii_start().first() != Some(&b'{');
        let file = self.file(partition, is_protobuf)?;
        if is_protobuf {
            let mut length = Vec::with_capacity(LENGTH_BYTES_MAX);
            encode_length_delimiter(payload.len(), &mut length).map_err(io::Error::other)?;
            file.write_all(&length)?;
            return file.write_all(payload);
        }
        // Some producers write JSON over several lines; in its texts, line ends are escaped.
        for line in payload.split(|byte| matches!(byte, b'\n' | b'\r')) {
            file.write_all(line)?;
        }
        file.write_all(b"\n")
    }

    fn note_null(&mut self, partition: i32, offset: i64, key: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        if let Some(key) = key
            && headers.iter().any(|(name, _)| *name == ERASURE)
        {
            self.found.insert((partition, key.to_vec()), offset);
        }
    }

    fn file(&mut self, partition: i32, is_protobuf: bool) -> io::Result<&mut Compressed> {
        use std::collections::btree_map::Entry;
        match self.files.entry((partition, is_protobuf)) {
            Entry::Occupied(known) => Ok(&mut known.into_mut().1),
            Entry::Vacant(new) => {
                let end = if is_protobuf { "pb" } else { "jsonl" };
                let path = self.folder.join(format!("{}-{partition}.{end}.zst", self.topic));
                let file = zstd::Encoder::new(BufWriter::new(File::create(&path)?), LEVEL)?;
                Ok(&mut new.insert((path, file)).1)
            }
        }
    }

    fn finish(self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::with_capacity(self.files.len());
        for (path, file) in self.files.into_values() {
            file.finish()?.flush()?;
            paths.push(path);
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::evaluate::Records;

    #[test]
    fn a_copy_has_the_records_of_each_partition_in_order_without_those_of_erased_users() {
        let folder = tempfile::tempdir().unwrap();
        let json = |id: &str| {
            format!("{{\"outcome_id\":\"{id}\",\n\"type\":\"click\",\"occurred_at\":5,\"decision_id\":\"d\"}}")
        };
        let read = |erased: &Erased| {
            let mut copy =
                Copy { folder: folder.path(), topic: "outcomes", files: BTreeMap::new(), erased, found: Erased::new() };
            for (offset, user) in ["a", "b", "a"].into_iter().enumerate() {
                let line = json(&format!("{user}{offset}"));
                copy.add(0, offset as i64, Some(user.as_bytes()), line.as_bytes()).unwrap();
            }
            copy.add(1, 0, None, json("c").as_bytes()).unwrap();
            copy.note_null(0, 1, Some(b"a"), &[("renamed", b"")]);
            copy.note_null(0, 2, Some(b"a"), &[(ERASURE, b"clicks/0/7")]);
            let found = std::mem::take(&mut copy.found);
            let mut ids = Vec::new();
            for path in copy.finish().unwrap() {
                let mut records = Records::open(&path).unwrap();
                while let Some((number, record)) = records.next(false).unwrap() {
                    let crate::app::FileRecord::Outcome(outcome) = record.unwrap().0 else { panic!("an outcome") };
                    ids.push(format!("{number} {}", outcome.id));
                }
            }
            (found, ids)
        };
        let (found, ids) = read(&Erased::new());
        assert_eq!(ids, ["1 a0", "2 b1", "3 a2", "1 c"]);
        assert_eq!(found, Erased::from([((0, b"a".to_vec()), 2)]));
        // The user has come back since.
        let (again, ids) = read(&found);
        assert_eq!((again, ids), (found, ["1 b1", "2 a2", "1 c"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn protobuf_is_copied_with_lengths_and_files_that_are_no_topics_stay() {
        use prost::Message;
        let folder = tempfile::tempdir().unwrap();
        let erased = Erased::new();
        let mut copy = Copy {
            folder: folder.path(),
            topic: "decisions",
            files: BTreeMap::new(),
            erased: &erased,
            found: Erased::new(),
        };
        let decision = crate::proto::v1::Decision {
            decision_id: "shop:c-0-1".to_owned(),
            user_key: "u".repeat(300),
            decided_at: 7,
            ..Default::default()
        };
        for offset in 0..2 {
            copy.add(3, offset, None, &decision.encode_to_vec()).unwrap();
        }
        let paths = copy.finish().unwrap();
        assert!(paths[0].ends_with("decisions-3.pb.zst"), "{paths:?}");
        let mut records = Records::open(&paths[0]).unwrap();
        for number in 1..=2 {
            let (found, record) = records.next(false).unwrap().unwrap();
            let crate::app::FileRecord::Decision(read) = record.unwrap().0 else { panic!("a decision") };
            assert_eq!((found, read.decision_id.as_str(), read.decided_at()), (number, "shop:c-0-1", 7));
        }
        assert!(records.next(false).unwrap().is_none());
    }
}
