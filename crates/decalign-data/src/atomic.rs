//! Atomic writes: readers see the old file or the whole new one.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// Writes a file so that readers, even after a crash, find the whole old or the whole new content: a temporary file in the
/// same folder is written, synced and renamed.
///
/// Pipes and devices are written to directly. The target of a symbolic link is replaced, not the link.
///
/// # Errors
/// When the folder cannot be written; the old file is then unchanged.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.put(content)?;
    file.commit()
}

/// A file that is written piece by piece and put in its place by [`AtomicFile::commit`], as [`write_atomic`] does.
///
/// Dropped before the commit, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    path: PathBuf,
    /// The temporary file; `None` for pipes and devices.
    beside: Option<PathBuf>,
    /// Bytes written since the last request to sync.
    waiting: usize,
    syncing: Option<Syncing>,
}

/// Bytes between two requests to sync. Syncing during the write overlaps the disk with the producer.
const EARLY: usize = 16 << 20;

/// A thread that syncs a file while it is written.
#[derive(Debug)]
struct Syncing {
    ask: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Syncing {
    fn begin(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (ask, asked) = sync_channel(1);
        let work = move || asked.iter().try_for_each(|()| file.sync_data());
        let thread = std::thread::Builder::new().spawn(work)?;
        Ok(Self { ask, thread })
    }

    /// Waits for the thread. The system reports a failed sync only once, so its error is kept.
    fn end(self) -> io::Result<()> {
        drop(self.ask);
        let broken = |_| Err(io::Error::other("syncing ended early"));
        self.thread.join().unwrap_or_else(broken)
    }
}

impl AtomicFile {
    /// Creates the temporary file.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let there = fs::canonicalize(path);
        let path = there.as_deref().unwrap_or(path).to_owned();
        let fail = |error| Error::io(&path, error);
        if fs::metadata(&path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let file = File::options().write(true).open(&path).map_err(fail)?;
            return Ok(Self::begin(file, path, None));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let Some(name) = path.file_name() else {
            let kind = io::ErrorKind::InvalidInput;
            return Err(fail(io::Error::new(kind, "not the name of a file")));
        };
        let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
        let beside = folder.unwrap_or(Path::new(".")).join(name);
        let file = File::create(&beside).map_err(fail)?;
        Ok(Self::begin(file, path, Some(beside)))
    }

    fn begin(file: File, path: PathBuf, beside: Option<PathBuf>) -> Self {
        Self {
            file,
            path,
            beside,
            waiting: 0,
            syncing: None,
        }
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// When the disk is full or not available.
    pub fn put(&mut self, content: &[u8]) -> Result<()> {
        let written = self.write_all(content);
        written.map_err(|error| Error::io(&self.path, error))
    }

    /// Syncs the file and renames it to its place.
    ///
    /// # Errors
    /// When syncing or renaming fails; the old file is then unchanged.
    pub fn commit(mut self) -> Result<()> {
        let early = self.syncing.take().map_or(Ok(()), Syncing::end);
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        let placed = early
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(beside, &self.path));
        placed.map_err(|error| Error::io(&self.path, error))?;
        self.beside = None;
        // Syncing the folder makes the rename durable; not every file system supports it.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.file.write(content)?;
        self.waiting += written;
        if self.waiting >= EARLY && self.beside.is_some() {
            self.waiting = 0;
            if self.syncing.is_none() {
                self.syncing = Some(Syncing::begin(&self.file)?);
            }
            // A busy thread gets the next request.
            if let Some(syncing) = &self.syncing {
                let _ = syncing.ask.try_send(());
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // The first error is being reported; a leftover temporary file is harmless.
            let _ = fs::remove_file(beside);
        }
    }
}
