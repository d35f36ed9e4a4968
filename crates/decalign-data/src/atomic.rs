//! Files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file so that whoever reads it, even after a crash, finds the old or the new content
/// and nothing between: write beside it, sync, rename.
///
/// What is there and is no file (a pipe, a device) is written to as it is; a link's target is
/// what is replaced.
///
/// # Errors
/// When the folder cannot be written; the old file is untouched then.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let there = fs::canonicalize(path);
    let path = there.as_deref().unwrap_or(path);
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let written = File::options()
            .write(true)
            .open(path)
            .and_then(|mut f| f.write_all(content));
        return written.map_err(|error| Error::io(path, error));
    }
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| {
        Error::io(
            path,
            io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"),
        )
    })?;
    let beside = folder.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = write_synced(&beside, content).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        // The first error is the one to tell; a leftover is only untidy.
        let _ = fs::remove_file(&beside);
        return Err(Error::io(path, error));
    }
    // The rename itself lasts once the folder is synced; not every file system can.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        write_atomic(&path, b"old").unwrap();
        // A folder in the way of the rename.
        let blocked = folder.path().join("blocked");
        fs::create_dir_all(blocked.join("inside"))?;
        assert!(
            write_atomic(&blocked, b"new")
                .unwrap_err()
                .to_string()
                .contains("blocked")
        );
        assert_eq!(fs::read(&path)?, b"old");
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_devices_devices() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old")?;
        std::os::unix::fs::symlink(&target, &link)?;
        write_atomic(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(fs::read(&target)?, b"new");
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null)?;
        write_atomic(&null, b"gone").unwrap();
        assert!(!fs::metadata("/dev/null")?.is_file());
        Ok(())
    }
}
