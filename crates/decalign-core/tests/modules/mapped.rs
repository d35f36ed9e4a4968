//! Files as memory.

use std::io;

use decalign_core::mapped::MappedFile;

#[test]
fn empty_files_are_empty_and_folders_an_error() -> io::Result<()> {
    assert!(MappedFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).is_err());
    assert!(MappedFile::open("no/such/file").is_err());
    let empty = std::env::temp_dir().join(format!("decalign-empty-{}", std::process::id()));
    std::fs::write(&empty, "")?;
    assert!(MappedFile::open(&empty)?.is_empty());
    std::fs::remove_file(&empty)
}
