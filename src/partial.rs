//! A file that is being written: it gets its name when it is whole, and nothing is left of it otherwise.
//!
//! Guarantees: until [`PartialFile::finish`] the bytes are in a file beside, with `.partial` behind its name; that file is
//! removed when the value is dropped, and by [`remove_all`] before a process ends on a signal. Limits: a process that is
//! killed outright leaves it; the next one that writes the same file replaces it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The files that this process is writing.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn open() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process has not finished writing. From here on it finishes no file: call it to end the process.
pub(crate) fn remove_all() {
    let open = open();
    for path in open.iter() {
        // Nothing is left to be done where it cannot be removed.
        fs::remove_file(path).or_else(|_| fs::remove_dir_all(path)).unwrap_or_default();
    }
    // Whoever would finish or begin a file now waits for the end of the process.
    std::mem::forget(open);
}

/// The name of a file while it is being written.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// A file that is not whole yet.
#[derive(Debug)]
pub(crate) struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl PartialFile {
    /// Begins the file of this name.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // A device, a pipe or a folder would be replaced by the file.
        if path.exists() && !path.is_file() {
            let message = "expected the name of a file, found something else";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
        }
        let partial = beside(path);
        let mut open = open();
        if open.contains(&partial) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is being written already; name each file once",
            ));
        }
        // What a killed process has left is replaced. Where it is a link, what it leads to stays as it is.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("remove {}: {error}", partial.display())));
            }
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        open.insert(partial.clone());
        Ok(Self { path: path.to_owned(), partial, file })
    }

    /// Writes the whole file.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut it = Self::create(path)?;
        it.write_all(bytes)?;
        it.finish()
    }

    /// What was written so far, from its beginning.
    pub(crate) fn read_again(&self) -> io::Result<File> {
        File::open(&self.partial)
    }

    /// Gives the file its name. If that fails, nothing is left of it.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        let mut open = open();
        fs::rename(&self.partial, &self.path)?;
        open.remove(&self.partial);
        Ok(())
    }
}

/// A folder of this process alone, in the system's folder for temporary files. It is removed with everything in it, also by
/// [`remove_all`].
#[derive(Debug)]
pub(crate) struct TemporaryFolder(tempfile::TempDir);

impl TemporaryFolder {
    /// Makes one whose name begins so, and that nobody else may look into.
    pub(crate) fn create(prefix: &str) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("make a folder in {}: {error}", std::env::temp_dir().display()))
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
    fn a_file_has_its_name_when_it_is_whole_and_leaves_nothing_otherwise() {
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
        // What another process left behind is replaced; a folder is not.
        fs::write(folder.path().join("rows.csv.partial"), "much more than before").unwrap();
        PartialFile::write(&path, b"again").unwrap();
        assert_eq!((names(folder.path()).len(), fs::read(&path).unwrap()), (1, b"again".to_vec()));
        assert!(PartialFile::write(folder.path(), b"").is_err());
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn what_is_finished_is_not_removed_when_another_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        PartialFile::write(&path, b"one").unwrap();
        drop(PartialFile::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
