//! Opening a file or folder of any format.

use std::path::Path;

use crate::bytes::Bytes;
use crate::{Dataset, Error, Result, container, mmsa, npy, text};

/// A format that data sets are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The container, or any safetensors file of named arrays.
    Safetensors,
    /// A Python pickle in the layout of MMSA.
    Pickle,
    /// An archive of numpy arrays.
    Npz,
    /// One numpy array.
    Npy,
    /// A folder of CSV or TSV tables.
    Folder,
    /// One table.
    Table,
    /// JSON lines.
    Lines,
    /// A TOML file that maps arrays of other files.
    Mapping,
}

impl Format {
    /// The format of a file, detected from its first bytes, or from its extension where it is text.
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

    /// The name of the format.
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
    /// Opens a data set in a file or folder of any [`Format`], detected from the content, or from the extension where it is
    /// text.
    ///
    /// Files are mapped; features are read on demand.
    ///
    /// # Errors
    /// When the file does not exist, has no known format, or a field is invalid; the message names the file, the field and
    /// the expected value.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        if path.is_dir() {
            return text::read_folder(path);
        }
        let bytes = Bytes::open(path)?;
        match Format::of(path, &bytes[..bytes.len().min(16)]) {
            Some(Format::Pickle) => mmsa::read(bytes, &origin),
            Some(Format::Npz) => npy::archive(&bytes, &origin)?.dataset(),
            Some(Format::Npy) => npy::dataset(&bytes, path, &origin),
            Some(Format::Safetensors) => container::read(bytes, &origin),
            Some(Format::Folder) => text::read_folder(path),
            Some(Format::Table) => text::read_table(path),
            Some(Format::Lines) => text::read_lines(path),
            Some(Format::Mapping) => text::read_mapping(path),
            None => {
                let message = "unknown format; expected safetensors, npz, npy, a \
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
