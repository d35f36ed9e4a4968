//! One door for all formats.

use std::path::Path;

use crate::bytes::Bytes;
use crate::{Dataset, Error, Result, container, mmsa, npy, text};

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
    /// A folder of CSV or TSV tables.
    Folder,
    /// One table.
    Table,
    /// JSON lines.
    Lines,
    /// A TOML file that maps names of other files.
    Mapping,
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
            _ => match extension {
                "safetensors" => Some(Self::Safetensors),
                "csv" | "tsv" => Some(Self::Table),
                "jsonl" => Some(Self::Lines),
                "toml" => Some(Self::Mapping),
                _ => None,
            },
        }
    }

    /// What the format is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pickle => "pickle",
            Self::Npz => "npz",
            Self::Npy => "npy",
            Self::Folder => "folder of tables",
            Self::Table => "table",
            Self::Lines => "JSON lines",
            Self::Mapping => "mapping",
        }
    }
}

impl Dataset {
    /// Reads a data set from a file or folder of any format of [`Format`], recognised by its
    /// content, or by its name where it is text.
    ///
    /// Files are mapped: features that are not asked for are not read.
    ///
    /// # Errors
    /// When the file is not there, is of no known format, or a field is not what it must be; the
    /// message names file, field and what was expected.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        if path.is_dir() {
            return text::folder(path);
        }
        let bytes = Bytes::open(path)?;
        match Format::of(path, &bytes[..bytes.len().min(16)]) {
            Some(Format::Pickle) => mmsa::read(bytes, &origin),
            Some(Format::Npz) => npy::archive(&bytes, &origin)?.dataset(),
            Some(Format::Npy) => npy::dataset(&bytes, path, &origin),
            Some(Format::Safetensors) => container::read(bytes, &origin),
            Some(Format::Folder) => text::folder(path),
            Some(Format::Table) => text::table(path),
            Some(Format::Lines) => text::lines(path),
            Some(Format::Mapping) => text::mapped(path),
            None => {
                let message = "of no format that is read here; expected safetensors, npz, npy, a \
                    pickle, a folder of tables, .csv, .tsv, .jsonl or .toml";
                Err(Error::format(&origin, message))
            }
        }
    }

    /// Reads a data set from the bytes of a pickle; `origin` stands in errors.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn read_pickle(bytes: Vec<u8>, origin: &str) -> Result<Self> {
        mmsa::read(bytes.into(), origin)
    }
}
