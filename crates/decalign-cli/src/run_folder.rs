//! The folder of a run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use decalign::train::EpochReport;
use decalign_data::{Error, write_atomic};

use crate::output::{Done, Failure};

/// Where one run, or one seed of several, leaves its files.
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
}

impl RunFolder {
    /// Makes the folder asked for, or `runs/<name>`, `runs/<name>-2`, ... whichever is free.
    pub(crate) fn create(asked: Option<&Path>, name: &str) -> Done<Self> {
        let path = match asked {
            Some(path) => {
                if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
                    let message = format!(
                        "{}: not empty; choose another --run-dir or remove it",
                        path.display()
                    );
                    return Err(Failure::bad_input(message));
                }
                path.to_owned()
            }
            None => free(Path::new("runs"), name),
        };
        Self::at(path)
    }

    /// The folder of one seed inside this one.
    pub(crate) fn seed(&self, seed: u64) -> Done<Self> {
        Self::at(self.path.join(format!("seed-{seed}")))
    }

    fn at(path: PathBuf) -> Done<Self> {
        fs::create_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Self { path })
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Done {
        Ok(write_atomic(&self.path.join(name), text.as_bytes())?)
    }

    pub(crate) fn epochs_file(&self) -> Done<EpochsFile> {
        let path = self.path.join("epochs.csv");
        let file = File::create(&path).map_err(|error| Error::io(&path, error))?;
        Ok(EpochsFile {
            path,
            writer: csv::Writer::from_writer(file),
            begun: false,
        })
    }
}

fn free(parent: &Path, name: &str) -> PathBuf {
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
    let numbered = (2..).map(|i| parent.join(format!("{name}-{i}")));
    let mut paths = std::iter::once(parent.join(&name)).chain(numbered);
    paths
        .find(|path| !path.exists())
        .unwrap_or_else(|| parent.join(&name))
}

/// The table of epochs, a row as soon as an epoch is done.
pub(crate) struct EpochsFile {
    path: PathBuf,
    writer: csv::Writer<File>,
    begun: bool,
}

impl EpochsFile {
    pub(crate) fn write(&mut self, report: &EpochReport) -> decalign::Result<()> {
        let header = (!self.begun).then(|| report.header());
        self.begun = true;
        let mut rows = header.into_iter().chain([report.row()]);
        let written = rows.try_for_each(|row| self.writer.write_record(row));
        let done = written
            .map_err(std::io::Error::from)
            .and_then(|()| self.writer.flush());
        Ok(done.map_err(|error| Error::io(&self.path, error))?)
    }
}
