//! Files are written whole or not at all; digests are those of the standard.

use std::fs;
use std::io;

use decalign_data::{AtomicFile, FileDigest, write_atomic};

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

#[test]
fn a_large_file_is_whole() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("large");
    // More than the file syncs at a time, and no multiple of it.
    const PIECE: usize = (16 << 20) + 7;
    let piece: Vec<u8> = (0..PIECE).map(|i| i as u8).collect();
    let mut file = AtomicFile::create(&path).unwrap();
    (0..3).for_each(|_| file.put(&piece).unwrap());
    assert!(!path.exists());
    file.commit().unwrap();
    assert_eq!(fs::read(&path)?, piece.repeat(3));
    // Given up half way, nothing remains.
    let mut file = AtomicFile::create(&folder.path().join("lost")).unwrap();
    file.put(&piece).unwrap();
    drop(file);
    assert_eq!(fs::read_dir(folder.path())?.count(), 1);
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

#[test]
fn digests_are_those_of_the_standard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    let digest = FileDigest::of(&path).unwrap();
    // FIPS 180-4, example of one block.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((digest.sha256.as_str(), digest.known), (expected, None));
    assert!(FileDigest::of(folder.path()).is_err());
}
