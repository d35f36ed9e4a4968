//! Bytes that several arrays share.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use decalign_core::mapped::MappedFile;

use crate::{Error, Result};

/// A range of a mapped file or buffer; clones share it.
#[derive(Clone)]
pub(crate) struct Bytes {
    content: Arc<Content>,
    range: Range<usize>,
}

enum Content {
    Mapped(MappedFile),
    Held(Vec<u8>),
}

impl Bytes {
    /// Maps a file; a pipe is read into memory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let plain = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        if plain.is_file() || plain.is_dir() {
            let file = MappedFile::open(path).map_err(|error| Error::io(path, error))?;
            return Ok(Self::whole(Content::Mapped(file)));
        }
        let held = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        Ok(Self::from(held))
    }

    fn whole(content: Content) -> Self {
        let length = match &content {
            Content::Mapped(file) => file.len(),
            Content::Held(held) => held.len(),
        };
        Self {
            content: Arc::new(content),
            range: 0..length,
        }
    }

    /// A range of these bytes, if it is within them.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        Some(Self {
            content: Arc::clone(&self.content),
            range: start + range.start..start + range.end,
        })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(held: Vec<u8>) -> Self {
        Self::whole(Content::Held(held))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.content {
            Content::Mapped(file) => file,
            Content::Held(held) => held,
        };
        &all[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
