//! Writes a file atomically: it appears under its name once it is complete; otherwise nothing is left of it.
//!
//! Guarantees: until [`PartialFile::finish`] the bytes are in a file with the suffix `.partial`, which is removed when the value is
//! dropped, and by [`remove_all`] before a process ends on a signal. Limits: a process that is killed leaves that file; the next one
//! that writes the same file replaces it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The incomplete files of this process.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn open() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the incomplete files of this process. No file can be completed afterwards, so call it only to end the process.
pub(crate) fn remove_all() {
    let open = open();
    for path in open.iter() {
        // If it cannot be removed, nothing more can be done.
        fs::remove_file(path).or_else(|_| fs::remove_dir_all(path)).unwrap_or_default();
    }
    // Keep the lock, so that other threads block until the process ends.
    std::mem::forget(open);
}

/// The name of a file while it is incomplete.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// An incomplete file.
#[derive(Debug)]
pub(crate) struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

/// Options to write a file that nobody but the user of this process can read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a folder, if it does not exist, that nobody but the user of this process can read.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

impl PartialFile {
    /// Creates the file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::create_with(path, OpenOptions::new().write(true).create_new(true))
    }

    /// Creates a file that nobody but the user of this process can read.
    pub(crate) fn create_private(path: &Path) -> io::Result<Self> {
        Self::create_with(path, private().create_new(true))
    }

    fn create_with(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        // Renaming would replace a device, pipe or folder.
        if path.exists() && !path.is_file() {
            let message = "expected the name of a file, found something else";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
        }
        let partial = beside(path);
        let mut open = open();
        if open.contains(&partial) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is already being written; name each file once",
            ));
        }
        // Replace the leftover of a killed process. If it is a link, its target is not changed.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("remove {}: {error}", partial.display())));
            }
            _ => {}
        }
        let file = options.open(&partial)?;
        open.insert(partial.clone());
        Ok(Self { path: path.to_owned(), partial, file })
    }

    /// Writes a complete file.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut it = Self::create(path)?;
        it.write_all(bytes)?;
        it.finish()
    }

    /// Opens what was written so far for reading.
    pub(crate) fn read_again(&self) -> io::Result<File> {
        File::open(&self.partial)
    }

    /// Renames the file to its name. If that fails, it is removed.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        let mut open = open();
        fs::rename(&self.partial, &self.path)?;
        open.remove(&self.partial);
        Ok(())
    }
}

/// A folder only for this process, in the system's folder for temporary files. It is removed with its contents, also by
/// [`remove_all`].
#[derive(Debug)]
pub(crate) struct TemporaryFolder(tempfile::TempDir);

impl TemporaryFolder {
    /// Creates a folder with this prefix that no other user can read.
    pub(crate) fn create(prefix: &str) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("create a folder in {}: {error}", std::env::temp_dir().display()))
        };
        let mut open = open();
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().map_err(named)?;
        open.insert(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        open().remove(self.0.path());
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if open().remove(&self.partial) {
            fs::remove_file(&self.partial).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_complete_and_leaves_nothing_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let mut file = PartialFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()), ["rows.csv.partial"]);
        let twice = PartialFile::create(&path).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::InvalidInput);
        drop(file);
        assert!(names(folder.path()).is_empty());
        PartialFile::write(&path, b"whole").unwrap();
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["rows.csv".to_owned()], b"whole".to_vec()));
        // The leftover of another process is replaced; a folder is not.
        fs::write(folder.path().join("rows.csv.partial"), "much more than before").unwrap();
        PartialFile::write(&path, b"again").unwrap();
        assert_eq!((names(folder.path()).len(), fs::read(&path).unwrap()), (1, b"again".to_vec()));
        assert!(PartialFile::write(folder.path(), b"").is_err());
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_complete_file_is_not_removed_when_another_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        PartialFile::write(&path, b"one").unwrap();
        drop(PartialFile::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
