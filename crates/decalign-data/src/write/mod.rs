//! Writing data sets: the container, npz, and a pickle that Python programs load.

mod container;
mod features;
mod fields;
mod npz;
mod pickle;

use std::path::Path;

use crate::{AtomicFile, Dataset, Error, Result};

/// The number type of features in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits, as in memory.
    #[default]
    F32,
    /// 16 bits: half the size, three decimal digits, at most 65504.
    F16,
}

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// The container, a safetensors file.
    Container,
    /// An archive of numpy arrays.
    Npz,
    /// A pickle in the layout of MMSA: parts, then fields.
    Pickle,
}

impl OutputFormat {
    /// The format of a file name's extension: `.safetensors`, `.npz`, `.pkl`, `.pickle`.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Self::Container),
            "npz" => Some(Self::Npz),
            "pkl" | "pickle" => Some(Self::Pickle),
            _ => None,
        }
    }
}

impl Dataset {
    /// Writes the data set as a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(
            path.as_ref(),
            OutputFormat::Container,
            Precision::F32,
            &mut |_, _| {},
        )
    }

    /// Writes the data set, whole or not at all. Features in files are copied from file to file, chunk by chunk;
    /// `progress` is called with the bytes written so far and the total.
    ///
    /// # Errors
    /// When the file cannot be written, a number is too large for 16 bits, or the format cannot hold the data.
    pub fn write(
        &self,
        path: &Path,
        format: OutputFormat,
        precision: Precision,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let mut out = Output {
            file: AtomicFile::create(path)?,
            precision,
            written: 0,
            total: self.feature_bytes(precision),
            progress,
        };
        match format {
            OutputFormat::Container => container::write(self, &mut out)?,
            OutputFormat::Npz => npz::write(self, &mut out)?,
            OutputFormat::Pickle => pickle::write(self, &mut out)?,
        }
        out.file.commit()
    }

    fn feature_bytes(&self, precision: Precision) -> u64 {
        let count = |m: &crate::Modality| (m.steps() * m.width() * self.len()) as u64;
        let size = precision.size() as u64;
        self.modalities().iter().map(count).sum::<u64>() * size
    }
}

impl Precision {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// numpy's name of the element.
    fn numpy(self) -> &'static str {
        match self {
            Self::F32 => "f4",
            Self::F16 => "f2",
        }
    }
}

/// A file being written, and the callback for its progress.
struct Output<'a> {
    file: AtomicFile,
    precision: Precision,
    written: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.put(bytes)
    }

    fn advance(&mut self, bytes: usize) {
        self.written += bytes as u64;
        (self.progress)(self.written, self.total);
    }

    /// Writes samples of a modality.
    fn features(&mut self, modality: &crate::Modality, rows: &[usize], origin: &str) -> Result<()> {
        let precision = self.precision;
        features::write_chunks(modality, rows, precision, origin, &mut |bytes| {
            self.file.put(bytes)?;
            self.advance(bytes.len());
            Ok(())
        })
    }
}

fn unwritable(origin: &str, error: impl std::fmt::Display) -> Error {
    Error::format(origin, error)
}
