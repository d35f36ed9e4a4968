//! Identification of public files by their SHA-256.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::bytes::Bytes;
use crate::{Error, Result};

/// Digests of 64 hexadecimal digits of the feature files of MMSA, as its README publishes them
/// (<https://github.com/thuiar/MMSA>).
const KNOWN: [(&str, &str); 5] = [
    (
        "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
        "CMU-MOSI of MMSA, unaligned_50.pkl",
    ),
    (
        "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
        "CMU-MOSI of MMSA, aligned_50.pkl",
    ),
    (
        "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
        "CMU-MOSEI of MMSA, unaligned_50.pkl",
    ),
    (
        "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
        "CMU-MOSEI of MMSA, aligned_50.pkl",
    ),
    (
        "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f",
        "CH-SIMS of MMSA, unaligned_39.pkl",
    ),
];

/// The digest of a file, and the public file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileDigest {
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// The public file of this content, if it is a known one.
    pub known: Option<&'static str>,
}

impl FileDigest {
    /// The digest of a file's content.
    ///
    /// # Errors
    /// When it cannot be read, or is a folder.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Err(Error::format(&path.display().to_string(), "is a folder"));
        }
        let bytes = Bytes::open(path)?;
        let digest = Sha256::digest(&*bytes);
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = KNOWN.iter().find(|(known, _)| *known == sha256);
        Ok(Self {
            known: known.map(|(_, name)| *name),
            sha256,
        })
    }
}
