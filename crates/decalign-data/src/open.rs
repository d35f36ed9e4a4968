//! One door for all formats.

use std::path::Path;

use crate::bytes::Bytes;
use crate::{Dataset, Error, Result, container, mmsa, npy};

/// A format that data sets are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// safetensors: the project's container, or any file of named arrays.
    Safetensors,
    /// A Python pickle in the layout of MMSA.
    Pickle,
    /// numpy's archive.
    Npz,
    /// One array of numpy.
    Npy,
}

impl Format {
    /// The format of a file by how it begins, and by its name where that is not enough.
    pub fn of(path: &Path, start: &[u8]) -> Option<Self> {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let is_pickle = ["pkl", "pickle", "p"].contains(&extension);
        match start {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Npz),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some(Self::Npy),
            [0x80, 0..=5, ..] if !matches!(start.get(8), Some(b'{')) => Some(Self::Pickle),
            [_, _, _, _, _, _, _, _, b'{', ..] if !is_pickle => Some(Self::Safetensors),
            _ if is_pickle => Some(Self::Pickle),
            [b'(' | b']' | b'}', b'd' | b'l' | b'p' | b'q', ..] => Some(Self::Pickle),
            _ if extension == "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }

    /// What the format is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pickle => "pickle",
            Self::Npz => "npz",
            Self::Npy => "npy",
        }
    }
}

impl Dataset {
    /// Reads a data set from a file of any format of [`Format`], recognised by its content.
    ///
    /// Files are mapped: features that are not asked for are not read.
    ///
    /// # Errors
    /// When the file is not there, is of no known format, or a field is not what it must be; the
    /// message names file, field and what was expected.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let bytes = Bytes::open(path)?;
        match Format::of(path, &bytes[..bytes.len().min(16)]) {
            Some(Format::Pickle) => mmsa::read(bytes, &origin),
            Some(Format::Npz) => npy::archive(&bytes, &origin)?.dataset(),
            Some(Format::Npy) => npy::dataset(&bytes, path, &origin),
            Some(Format::Safetensors) => container::read(bytes, &origin),
            None => {
                let message =
                    "of no format that is read here; expected safetensors, npz, npy or a pickle";
                Err(Error::format(&origin, message))
            }
        }
    }
}
