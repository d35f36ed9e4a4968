//! The folder of a run.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use decalign::train::EpochReport;
use decalign_data::{Error, write_atomic};
use serde::Serialize;

use crate::output::{Done, Failure, to_json};

/// Holds the folder against a second run.
const LOCK: &str = ".lock";

/// Where one run, or one seed of several, leaves its files. Locked as long as it lives.
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    /// The operating system gives the lock back when the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder asked for, or `runs/<name>`, `runs/<name>-2`, ... whichever is free.
    pub(crate) fn create(asked: Option<&Path>, name: &str) -> Done<Self> {
        let path = match asked {
            Some(path) => {
                made(path, fs::create_dir_all(path))?;
                path.to_owned()
            }
            None => {
                let parent = Path::new("runs");
                made(parent, fs::create_dir_all(parent))?;
                free(parent, name)?
            }
        };
        let folder = Self::lock(path)?;
        // Looked at with the lock held: nobody else has begun meanwhile.
        let entries = fs::read_dir(&folder.path).map_err(|error| Error::io(&folder.path, error))?;
        match entries.flatten().any(|entry| entry.file_name() != LOCK) {
            true => Err(Failure::bad_input(format!(
                "{}: not empty; choose another --run-dir, remove it, or go on with --resume",
                folder.path.display()
            ))),
            false => Ok(folder),
        }
    }

    /// Opens the folder of a run that was begun.
    pub(crate) fn open(path: &Path) -> Done<Self> {
        if !path.is_dir() {
            let message = format!("{}: no such folder", path.display());
            return Err(Failure::bad_input(message));
        }
        let folder = Self::lock(path.to_owned())?;
        folder.sweep();
        Ok(folder)
    }

    /// The folder of one seed inside this one.
    pub(crate) fn seed(&self, seed: u64) -> Done<Self> {
        let path = self.path.join(format!("seed-{seed}"));
        made(&path, fs::create_dir_all(&path))?;
        Self::open(&path)
    }

    fn lock(path: PathBuf) -> Done<Self> {
        let place = path.join(LOCK);
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&place);
        let mut file = opened.map_err(|error| Error::io(&place, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = match owner.trim() {
                    "" => "another process".to_owned(),
                    id => format!("process {id}"),
                };
                let message = format!(
                    "{}: {owner} is training here; wait for it, or choose another --run-dir",
                    path.display()
                );
                return Err(Failure::bad_input(message));
            }
            // A file system without locks: go on without.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::io(&place, error).into()),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(|error| Error::io(&place, error))?;
        Ok(Self { path, _lock: file })
    }

    /// Removes what a process that was killed while it wrote has left beside its files.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name
                .strip_prefix('.')
                .and_then(|name| name.rsplit_once('.'));
            let is_left = process.is_some_and(|(file, id)| {
                file.contains('.') && !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
            });
            if is_left {
                // A leftover is only untidy.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Done {
        Ok(write_atomic(&self.path.join(name), text.as_bytes())?)
    }

    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> Done {
        self.write(name, &(to_json(value)? + "\n"))
    }
}

fn made(path: &Path, done: std::io::Result<()>) -> Done {
    Ok(done.map_err(|error| Error::io(path, error))?)
}

/// Makes the first folder that is not there yet.
fn free(parent: &Path, name: &str) -> Done<PathBuf> {
    // A data set's name may hold what a path must not.
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    // Nor may it be empty, a folder above, or longer than a file system takes.
    let name: String = name.trim_matches('.').chars().take(100).collect();
    let name = if name.is_empty() {
        "run".to_owned()
    } else {
        name
    };
    let mut number = 1;
    loop {
        let path = match number {
            1 => parent.join(&name),
            _ => parent.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Another run may have just taken it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io(&path, error).into()),
        }
    }
}

/// Writes the table of epochs, as CSV and as JSON.
pub(crate) fn write_epochs(folder: &Path, epochs: &[EpochReport]) -> decalign::Result<()> {
    let path = folder.join("epochs.csv");
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = epochs.first().map(EpochReport::header);
    let rows = header
        .into_iter()
        .chain(epochs.iter().map(EpochReport::row));
    let text = rows
        .into_iter()
        .try_for_each(|row| writer.write_record(row))
        .map_err(std::io::Error::from)
        .and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
    write_atomic(&path, &text.map_err(|error| Error::io(&path, error))?)?;

    #[derive(Serialize)]
    struct History<'a> {
        epochs: &'a [EpochReport],
    }
    let path = folder.join("history.json");
    let text = serde_json::to_string_pretty(&History { epochs });
    let text = text.map_err(|error| Error::io(&path, error.into()))? + "\n";
    Ok(write_atomic(&path, text.as_bytes())?)
}
