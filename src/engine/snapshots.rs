//! Where snapshots are stored: a folder that may be deleted at any time.
//!
//! Guarantees: a file is written under a temporary name, synced, and renamed. A separate thread writes, so that a full,
//! slow or missing disk costs only the snapshot. Limits: one snapshot can wait to be written; further ones are skipped
//! meanwhile.

use crate::partial::{create_private_folder, private};
use crossbeam_channel::{Sender, TrySendError};
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

/// Stores one snapshot per partition.
pub trait SnapshotStore: Send {
    /// The snapshot of a partition, if there is one.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    fn open(&self, partition: i32) -> std::io::Result<Option<Box<dyn Read + Send>>>;

    /// Writes a snapshot, now or later. It may be skipped.
    fn put(&mut self, partition: i32, bytes: Vec<u8>);

    /// Waits until everything has been written or skipped.
    fn finish(&mut self);
}

/// A folder on disk.
pub struct SnapshotFolder {
    folder: PathBuf,
    writer: Option<Writer>,
}

/// The writing thread, and the channel of paths and bytes to it.
struct Writer {
    work: Sender<(PathBuf, Vec<u8>)>,
    thread: JoinHandle<()>,
}

impl SnapshotFolder {
    /// The snapshots in this folder, which is created if it does not exist.
    ///
    /// # Errors
    /// If it cannot be created, or no thread can be started.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        create_private_folder(folder)?;
        let (work, taken) = crossbeam_channel::bounded::<(PathBuf, Vec<u8>)>(1);
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || {
            for (path, bytes) in taken {
                if let Err(error) = replace(&path, &bytes) {
                    tracing::warn!(%error, path = %path.display(), "the snapshot could not be written");
                }
            }
        })?;
        Ok(Self { folder: folder.to_owned(), writer: Some(Writer { work, thread }) })
    }

    fn path(&self, partition: i32) -> PathBuf {
        self.folder.join(format!("{partition}.snapshot"))
    }
}

/// Takes the rights of others from a file that was there already: it has users' ids and profiles.
fn keep_private(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}

/// Replaces the content of a file atomically.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let written = private().create(true).truncate(true).open(&beside).and_then(|mut file| {
        keep_private(&file)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&beside, path));
    if done.is_err() {
        // On a full disk, a partial file would take up space.
        std::fs::remove_file(&beside).unwrap_or_default();
    }
    done
}

impl SnapshotStore for SnapshotFolder {
    fn open(&self, partition: i32) -> std::io::Result<Option<Box<dyn Read + Send>>> {
        match File::open(self.path(partition)) {
            Ok(file) => Ok(Some(Box::new(BufReader::with_capacity(256 << 10, file)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, partition: i32, bytes: Vec<u8>) {
        let path = self.path(partition);
        if let Some(Writer { work, .. }) = &self.writer
            && let Err(TrySendError::Full(_)) = work.try_send((path, bytes))
        {
            tracing::debug!(partition, "the snapshot is skipped: the one before is still being written");
        }
    }

    fn finish(&mut self) {
        if let Some(Writer { work, thread }) = self.writer.take() {
            drop(work);
            if thread.join().is_err() {
                tracing::warn!("the thread that writes snapshots panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(store: &SnapshotFolder, partition: i32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        store.open(partition).unwrap()?.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("a/b");
        for bytes in [b"one".to_vec(), b"two".to_vec()] {
            let mut store = SnapshotFolder::new(&within).unwrap();
            store.put(5, bytes.clone());
            store.finish();
            assert_eq!((read(&store, 5), read(&store, 6)), (Some(bytes), None));
        }
        assert_eq!(std::fs::read_dir(&within).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        for (path, rights) in [(within.join("5.snapshot"), 0o600), (within, 0o700)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, rights, "{}", path.display());
        }
    }

    #[test]
    fn a_full_disk_costs_the_snapshot_and_leaves_the_last_one() {
        // Every write to this device fails because no space is left.
        if let Ok(mut full) = File::create("/dev/full") {
            let error = full.write_all(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.snapshot");
        std::fs::write(&path, b"last").unwrap();
        #[cfg(target_os = "linux")]
        {
            std::os::unix::fs::symlink("/dev/full", path.with_extension("new")).unwrap();
            assert_eq!(replace(&path, b"next").unwrap_err().kind(), ErrorKind::StorageFull);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"last");
        assert!(!path.with_extension("new").exists(), "what was written of it is gone");
    }
}
