//! The snapshot on disk: a cache that shortens a restart, and may be deleted at any time.
//!
//! Guarantees: it is used only if it leads to the same users as reading the topic from its start. It is ignored, and removed, if it is
//! damaged, of another cluster, topic or application, of a topic that was made anew, if records behind its positions have been
//! deleted, or if it is so old that compaction may have removed the null of an erased user behind them. If the brokers do not say so in
//! time, it is ignored, and stays until the next one replaces it. Nobody but the user of this process can read it. A file that does
//! not begin as a snapshot is somebody else's: it is neither replaced nor removed, and keeps the process from starting.
//! Limits: a topic that was made anew within [`CLOCK_SKEW`] of the snapshot's newest record, and has more records
//! since than the old one had, cannot be told from the old one.

use super::{
    follow::now,
    look::{Positions, Read},
    settings::Settings,
};
use crate::{
    app::topics::block_on,
    config_error::ConfigError,
    metrics,
    partial::PartialFile,
    serve::{
        Position, SNAPSHOT_START, SnapshotFault, SnapshotHead, SnapshotReader, Store, is_snapshot, write_snapshot,
    },
    sink::{TopicState, Topics},
    source::Ends,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read as _},
    path::Path,
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the brokers may take to say what the topic is.
const DEADLINE: Duration = Duration::from_secs(10);
/// How far the clocks of producers and brokers may be apart. Records of one topic are not older than the ones before by more.
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// The part of `delete.retention.ms` for which a snapshot may be used. The other part is for reading on from its positions.
const RETENTION_PART: i64 = 2;
/// How long a pause between two looks at whether to stop is.
const STEP: Duration = Duration::from_millis(100);

/// Why a snapshot is ignored.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error(transparent)]
    Fault(#[from] SnapshotFault),
    #[error("it is of another {0}")]
    Other(&'static str),
    #[error("it is {age} old, and the topic keeps nulls for {} only (delete.retention.ms)", shown(*kept_ms))]
    Old { age: String, kept_ms: i64 },
    #[error("its time is in the future")]
    Future,
    #[error("the topic has deleted records behind its positions")]
    Cut,
    #[error("the topic was made anew")]
    Anew,
    #[error("the brokers do not say {0}")]
    Unknown(&'static str),
}

fn shown(ms: i64) -> String {
    crate::duration::display(Duration::from_millis(ms.unsigned_abs())).to_string()
}

/// Checks that the file may be replaced.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let Some((path, _)) = &settings.snapshot else { return Ok(()) };
    foreign(path).map_or(Ok(()), |why| {
        let message = format!("{}: {why}", path.display());
        Err(ConfigError::new("serve.snapshot", message).hint("name a file that nothing else uses, or remove this one"))
    })
}

/// Why a file is not to be touched; `None` for a snapshot of any version, the beginning of one, or no file.
fn foreign(path: &Path) -> Option<String> {
    let first = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        let mut first = Vec::new();
        File::open(path)?.take(SNAPSHOT_START as u64).read_to_end(&mut first)?;
        Ok(first)
    };
    match first() {
        Ok(first) if is_snapshot(&first) => None,
        Ok(_) => Some("there is a file that is not a snapshot".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(format!("read it: {error}")),
    }
}

/// Loads the snapshot into the store, which is empty. Returns where to read on; nothing without one that can be used.
pub(super) fn load(settings: &Settings, ends: &Ends, store: &Store) -> BTreeMap<i32, Position> {
    let Some((path, _)) = &settings.snapshot else { return BTreeMap::new() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::info!(path = %path.display(), "there is no snapshot yet");
            return BTreeMap::new();
        }
        Err(error) => {
            ignore(path, &SnapshotFault::Read(error).into());
            return BTreeMap::new();
        }
    };
    let begun = Instant::now();
    match read(settings, ends, file, store) {
        Ok(positions) => {
            metrics::serve_snapshot("loaded");
            let (users, took_ms) = (store.sizes().users, begun.elapsed().as_millis() as u64);
            tracing::info!(path = %path.display(), users, took_ms, "the snapshot is loaded");
            positions
        }
        Err(why) => {
            store.clear();
            ignore(path, &why);
            BTreeMap::new()
        }
    }
}

/// It may have users who are erased, so it does not stay, unless the brokers have only not said what it is to be compared with: then
/// the next one replaces it once everything has been read, and a start before that may still use it.
fn ignore(path: &Path, why: &Ignored) {
    metrics::serve_snapshot("ignored");
    tracing::warn!(path = %path.display(), error = %why, "the snapshot is not used: reading the decisions from their start");
    if matches!(why, Ignored::Unknown(_)) {
        return;
    }
    remove(path);
}

fn remove(path: &Path) {
    if foreign(path).is_some() {
        return;
    }
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "remove the snapshot yourself: it may have users who are erased");
    }
}

fn read(settings: &Settings, ends: &Ends, file: File, store: &Store) -> Result<BTreeMap<i32, Position>, Ignored> {
    let reader = SnapshotReader::open(BufReader::with_capacity(256 << 10, file))?;
    let head = reader.head().clone();
    check_head(settings, &head)?;
    let cluster = ends.cluster_id(DEADLINE).ok_or(Ignored::Unknown("the id of the cluster"))?;
    if cluster != head.cluster {
        return Err(Ignored::Other("cluster"));
    }
    let topic =
        state(settings).ok_or(Ignored::Unknown("how long the topic keeps nulls: grant DescribeConfigs on it"))?;
    check_age(&topic, head.read_at, now())?;
    let unreachable = |_| Ignored::Unknown("where the partitions begin and end");
    for (partition, position) in &head.positions {
        let ends = ends.watermarks(*partition, DEADLINE).map_err(unreachable)?;
        check_bounds(*position, ends.low, ends.high)?;
    }
    let skew = CLOCK_SKEW.as_millis() as i64;
    let newer: Vec<_> =
        head.positions.iter().map(|(partition, it)| (*partition, it.newest_ms.saturating_add(skew))).collect();
    for (partition, first) in ends.first_since(&newer, DEADLINE).map_err(unreachable)? {
        if head.positions.get(&partition).is_some_and(|position| first < position.next) {
            return Err(Ignored::Anew);
        }
    }
    reader.read_into(store)?;
    Ok(head.positions)
}

fn state(settings: &Settings) -> Option<TopicState> {
    let tail = &settings.tail;
    let topics = Topics::new(&tail.brokers, &tail.client, DEADLINE).ok()?;
    let state = block_on(topics.state(&tail.topic)).ok()?.ok()??;
    (!state.settings.is_empty()).then_some(state)
}

fn check_head(settings: &Settings, head: &SnapshotHead) -> Result<(), Ignored> {
    if head.topic != settings.tail.topic {
        return Err(Ignored::Other("topic"));
    }
    if head.app != settings.app {
        return Err(Ignored::Other("application"));
    }
    Ok(())
}

/// Compaction may remove a null that is `delete.retention.ms` old. Without compaction, nulls go with everything before them.
fn check_age(topic: &TopicState, read_at: i64, now: i64) -> Result<(), Ignored> {
    let age_ms = now.saturating_sub(read_at) / 1_000;
    if age_ms < -(CLOCK_SKEW.as_millis() as i64) {
        return Err(Ignored::Future);
    }
    let policy = topic.setting("cleanup.policy").ok_or(Ignored::Unknown("whether the topic is compacted"))?;
    if !policy.contains("compact") {
        return Ok(());
    }
    let kept = topic.setting("delete.retention.ms").and_then(|it| it.parse::<i64>().ok());
    let kept_ms = kept.ok_or(Ignored::Unknown("how long the topic keeps nulls"))?;
    if age_ms > kept_ms / RETENTION_PART {
        return Err(Ignored::Old { age: shown(age_ms), kept_ms });
    }
    Ok(())
}

fn check_bounds(position: Position, low: i64, high: i64) -> Result<(), Ignored> {
    if position.next < low {
        return Err(Ignored::Cut);
    }
    if position.next > high {
        return Err(Ignored::Anew);
    }
    Ok(())
}

/// Writes the snapshot from time to time, and at the end.
pub(super) fn run(settings: &Settings, ends: &Ends, store: &Store, positions: &Positions, stop: &AtomicBool) {
    let Some((path, interval)) = &settings.snapshot else { return };
    let mut cluster = None;
    let mut begun = Instant::now();
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        if is_last || begun.elapsed() >= *interval {
            begun = Instant::now();
            cluster = cluster.or_else(|| ends.cluster_id(DEADLINE));
            if let Some(cluster) = &cluster {
                put(settings, cluster, path, store, positions);
            }
        }
        if is_last {
            return;
        }
        std::thread::sleep(STEP);
    }
}

/// Writes the snapshot, unless not everything has been read yet.
fn put(settings: &Settings, cluster: &str, path: &Path, store: &Store, positions: &Positions) {
    let lock = || positions.lock().unwrap_or_else(PoisonError::into_inner);
    let read = lock();
    let Read { is_complete, generation, fresh_at, .. } = *read;
    let Some(fresh_at) = fresh_at.filter(|_| is_complete) else { return };
    let head = SnapshotHead {
        cluster: cluster.to_owned(),
        topic: settings.tail.topic.clone(),
        app: settings.app.clone(),
        // Without brokers, that may be long ago.
        read_at: now().saturating_sub(fresh_at.elapsed().as_micros() as i64),
        positions: read.positions.clone(),
    };
    drop(read);
    let begun = Instant::now();
    let written = write(&head, path, store, || lock().generation == generation);
    let took_ms = begun.elapsed().as_millis() as u64;
    match written {
        Ok(true) => {
            metrics::serve_snapshot("written");
            tracing::debug!(path = %path.display(), took_ms, "the snapshot is written");
        }
        Ok(false) => {}
        Err(error) => {
            metrics::serve_snapshot("failed");
            tracing::error!(
                path = %path.display(),
                %error,
                "write the snapshot of serve.snapshot: the next start reads the decisions from their start"
            );
            // It may have users who have been erased since.
            remove(path);
        }
    }
}

/// Returns whether it was written. `still_holds`: nothing was forgotten meanwhile that the positions cover.
fn write(head: &SnapshotHead, path: &Path, store: &Store, still_holds: impl Fn() -> bool) -> std::io::Result<bool> {
    if let Some(why) = foreign(path) {
        return Err(std::io::Error::other(why));
    }
    if let Some(folder) = path.parent() {
        crate::partial::create_private_folder(folder)?;
    }
    let mut to = BufWriter::with_capacity(256 << 10, PartialFile::create_private(path)?);
    write_snapshot(store, head, &mut to)?;
    let file = to.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    if !still_holds() {
        return Ok(false);
    }
    file.finish()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(policy: &str, kept_ms: &str) -> TopicState {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = vec![setting("cleanup.policy", policy), setting("delete.retention.ms", kept_ms)];
        TopicState { partitions: 1, settings }
    }

    #[test]
    fn a_snapshot_is_too_old_when_the_null_of_an_erased_user_may_be_gone() {
        const MINUTE: i64 = 60_000_000;
        let day = "86400000";
        for (policy, kept, age, is_fine) in [
            ("compact", day, 0, true),
            ("compact", day, 12 * 60 * MINUTE, true),
            ("compact", day, 12 * 60 * MINUTE + 1_000, false),
            ("compact,delete", "1000", MINUTE, false),
            // There, a null goes with everything before it.
            ("delete", "1000", 30 * 24 * 60 * MINUTE, true),
            ("compact", day, -MINUTE, true),
            ("compact", day, -6 * MINUTE, false),
            ("compact", "", 0, false),
        ] {
            let now = 1_700_000_000_000_000;
            let checked = check_age(&topic(policy, kept), now - age, now);
            assert_eq!(checked.is_ok(), is_fine, "{policy} {kept} {age}: {checked:?}");
        }
        let message = check_age(&topic("compact", "60000"), 0, MINUTE).unwrap_err().to_string();
        assert_eq!(message, "it is 1m old, and the topic keeps nulls for 1m only (delete.retention.ms)");
        let unknown = TopicState { partitions: 1, settings: Vec::new() };
        assert!(check_age(&unknown, 0, 0).is_err());
    }

    #[test]
    fn a_snapshot_stays_if_the_brokers_only_do_not_say_what_it_is_compared_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.snapshot");
        std::fs::write(&path, "AIMSERV1x").unwrap();
        ignore(&path, &Ignored::Unknown("the id of the cluster"));
        assert!(path.exists());
        ignore(&path, &Ignored::Anew);
        assert!(!path.exists());
    }

    fn head() -> SnapshotHead {
        SnapshotHead {
            cluster: "c".to_owned(),
            topic: "t".to_owned(),
            app: "a".to_owned(),
            read_at: 1,
            positions: BTreeMap::new(),
        }
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_leaves_no_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.snapshot");
        std::fs::write(&path, "AIMSERV2").unwrap();
        remove(&path);
        assert!(!path.exists());
        // There may be none.
        remove(&path);
    }

    #[test]
    fn a_file_of_somebody_else_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aimpoint.toml");
        let head = head();
        for text in ["[app]\n", "AIMSERX", "x", "\0"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(foreign(&path).as_deref(), Some("there is a file that is not a snapshot"), "{text:?}");
            ignore(&path, &Ignored::Anew);
            assert!(write(&head, &path, &Store::default(), || true).is_err(), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(foreign(folder.path()).is_some_and(|why| why.contains("not a file")));
        // Those of other versions, and one that was cut off, are ours.
        for text in ["", "AIM", "AIMSERV1", "AIMSERV2...", "AIMSERV9"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(foreign(&path), None, "{text:?}");
        }
        assert_eq!(foreign(&folder.path().join("none")), None);
    }

    #[test]
    fn positions_that_the_topic_does_not_have_are_of_another_one() {
        let at = |next| check_bounds(Position { next, newest_ms: 0 }, 5, 9);
        assert!(at(5).is_ok() && at(9).is_ok());
        assert!(matches!(at(4), Err(Ignored::Cut)));
        assert!(matches!(at(10), Err(Ignored::Anew)));
    }

    #[test]
    fn a_snapshot_is_private_and_not_written_if_something_was_forgotten_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/decisions.snapshot");
        let head = head();
        assert!(!write(&head, &path, &Store::default(), || false).unwrap());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
        assert!(write(&head, &path, &Store::default(), || true).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let reader = SnapshotReader::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(*reader.head(), head);
        assert!(reader.read_into(&Store::default()).is_ok());
    }
}
