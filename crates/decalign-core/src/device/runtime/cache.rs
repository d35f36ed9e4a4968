//! Compiled kernels on disk, by the hash of all they were compiled from.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// The folder: `DECALIGN_CACHE`, else the user's cache, else the system's folder for temporary files.
pub(in crate::device::runtime) fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty());
    if let Some(folder) = set("DECALIGN_CACHE") {
        return folder.into();
    }
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    base.join("decalign")
}

/// A name that no other content has.
pub(in crate::device::runtime) fn key(parts: &[&str]) -> String {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_hex()[..32].to_owned()
}

/// Has `make` write a file beside `path`, and puts it there whole.
pub(in crate::device::runtime) fn make(
    path: &Path,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension(format!(
        "{}-{:?}",
        process::id(),
        std::thread::current().id()
    ));
    let done = make(&beside).and_then(|()| fs::rename(&beside, path));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}
