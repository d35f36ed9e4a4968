//! Files as memory.

// `unsafe` is the mapping itself: see `MappedFile::open`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file's content, mapped read-only: what is not looked at is not read.
///
/// A file that another program cuts short while it is mapped ends the process (the system's signal
/// for a bus error); one that is replaced by renaming, as this workspace writes files, does not.
///
/// ```
/// use decalign_core::mapped::MappedFile;
/// let file = MappedFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))?;
/// assert!(file.starts_with(b"[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or is no plain file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let there = file.metadata()?;
        if there.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
        }
        if !there.is_file() {
            let message = "is no plain file and cannot be mapped";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if there.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the mapping is read-only and private to this value, whose slices do not outlive
        // it. That the file is not written to meanwhile is the caller's to see to, as documented.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for MappedFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
