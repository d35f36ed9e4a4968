//! Files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// Writes a file so that whoever reads it, even after a crash, finds the old or the new content
/// and nothing between: write beside it, sync, rename.
///
/// What is there and is no file (a pipe, a device) is written to as it is; a link's target is
/// what is replaced.
///
/// # Errors
/// When the folder cannot be written; the old file is untouched then.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.put(content)?;
    file.commit()
}

/// A file that takes its place when it is whole, as [`write_atomic`] does, written piece by piece.
///
/// Dropped before [`AtomicFile::commit`], nothing of it remains.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    path: PathBuf,
    /// Where it is written meanwhile; none for pipes and devices.
    beside: Option<PathBuf>,
    /// Bytes since the disk was last asked to take them.
    waiting: usize,
    syncing: Option<Syncing>,
}

/// Bytes that wait before the disk is asked to take them: while it does, more are written.
const EARLY: usize = 16 << 20;

/// A thread that has a file synced while it is written.
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

    /// Waits; an error that the system tells once is not to be lost.
    fn end(self) -> io::Result<()> {
        drop(self.ask);
        let broken = |_| Err(io::Error::other("syncing ended early"));
        self.thread.join().unwrap_or_else(broken)
    }
}

impl AtomicFile {
    /// Begins a file.
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
    /// When the disk is full or gone.
    pub fn put(&mut self, content: &[u8]) -> Result<()> {
        let written = self.write_all(content);
        written.map_err(|error| Error::io(&self.path, error))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When that cannot be done; the old file is untouched then.
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
        // The rename itself lasts once the folder is synced; not every file system can.
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
            // Where it is busy it is asked again after as many bytes.
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
            // There is an error to tell already; a leftover is only untidy.
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        write_atomic(&path, b"old").unwrap();
        // A folder in the way of the rename.
        let blocked = folder.path().join("blocked");
        fs::create_dir_all(blocked.join("inside"))?;
        assert!(
            write_atomic(&blocked, b"new")
                .unwrap_err()
                .to_string()
                .contains("blocked")
        );
        assert_eq!(fs::read(&path)?, b"old");
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }

    #[test]
    fn a_large_file_is_whole() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("large");
        let piece: Vec<u8> = (0..EARLY + 7).map(|i| i as u8).collect();
        let mut file = AtomicFile::create(&path).unwrap();
        (0..3).for_each(|_| file.put(&piece).unwrap());
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path)?, piece.repeat(3));
        // Given up half way, nothing remains.
        let mut file = AtomicFile::create(&folder.path().join("lost")).unwrap();
        file.put(&piece).unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_devices_devices() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old")?;
        std::os::unix::fs::symlink(&target, &link)?;
        write_atomic(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(fs::read(&target)?, b"new");
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null)?;
        write_atomic(&null, b"gone").unwrap();
        assert!(!fs::metadata("/dev/null")?.is_file());
        Ok(())
    }
}
