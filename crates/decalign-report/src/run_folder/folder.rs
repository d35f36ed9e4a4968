//! Creating, opening and locking a run folder.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use decalign_data::{Error, Result};

use super::{CHECKPOINT, invalid, seed_folder};

/// Locked by the process that trains in the folder.
const LOCK: &str = ".lock";

/// The folder of one run, of several seeds, or of an experiment, locked until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The operating system releases the lock when the process ends, even by a crash.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder `path`, or by default `runs/<name>`, `runs/<name>-2`, ..., the first that does not exist.
    ///
    /// # Errors
    /// When it cannot be created or is not empty.
    pub fn create(path: Option<&Path>, name: &str) -> Result<Self> {
        let path = match path {
            Some(path) => {
                make(path)?;
                path.to_owned()
            }
            None => create_numbered(Path::new("runs"), name)?,
        };
        let folder = Self::lock(path)?;
        // Checked under the lock, so that no other process has begun a run meanwhile.
        let path = &folder.path;
        let entries = fs::read_dir(path).map_err(|error| Error::io(path, error))?;
        match entries.flatten().any(|entry| entry.file_name() != LOCK) {
            true => {
                let message =
                    "not empty; choose another --run-dir, remove it, or go on with --resume";
                Err(invalid(path, message))
            }
            false => Ok(folder),
        }
    }

    /// Opens an existing folder.
    ///
    /// # Errors
    /// When it does not exist or another process trains in it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(invalid(path, "no such folder"));
        }
        let folder = Self::lock(path.to_owned())?;
        folder.remove_temporary_files();
        Ok(folder)
    }

    /// Opens a folder, which is created where it does not exist.
    ///
    /// # Errors
    /// As [`RunFolder::open`], and when it cannot be created.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        make(path)?;
        Self::open(path)
    }

    /// Opens the folder of one seed inside this one.
    ///
    /// # Errors
    /// As [`RunFolder::open_or_create`].
    pub fn seed(&self, seed: u64) -> Result<Self> {
        Self::open_or_create(&seed_folder(&self.path, seed))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the best model.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let place = path.join(LOCK);
        let failed = |error| Error::io(&place, error);
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&place);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = match owner.trim() {
                    "" => "another process".to_owned(),
                    id => format!("process {id}"),
                };
                let message =
                    format!("{owner} is training here; wait for it, or choose another --run-dir");
                return Err(invalid(&path, message));
            }
            // The file system has no locks: continue without.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(failed)?;
        Ok(Self { path, _lock: file })
    }

    /// Removes temporary files of a process that was killed while it wrote: `.NAME.PROCESS`.
    fn remove_temporary_files(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name
                .strip_prefix('.')
                .and_then(|name| name.rsplit_once('.'));
            let is_temporary = process.is_some_and(|(file, id)| {
                file.contains('.') && !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
            });
            if is_temporary {
                // A leftover file is harmless.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io(path, error))
}

/// Creates the first of `<name>`, `<name>-2`, ... that does not exist.
fn create_numbered(parent: &Path, name: &str) -> Result<PathBuf> {
    make(parent)?;
    let name = safe_name(name, "", '_');
    for number in 1u64.. {
        let path = match number {
            1 => parent.join(&name),
            _ => parent.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Another run may have created it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(&path, error)),
        }
    }
    Err(invalid(parent, "no free name"))
}

/// A name that every file system accepts: letters, digits, `-_.` and `extra` stay, other characters become
/// `replacement`; at most 100 characters, no dots at the ends, never empty.
pub fn safe_name(name: &str, extra: &str, replacement: char) -> String {
    let accepted = |c: char| c.is_alphanumeric() || "-_.".contains(c) || extra.contains(c);
    let safe = |c| if accepted(c) { c } else { replacement };
    let name: String = name.chars().map(safe).collect();
    match name.trim_matches('.').chars().take(100).collect::<String>() {
        empty if empty.is_empty() => "run".to_owned(),
        name => name,
    }
}
