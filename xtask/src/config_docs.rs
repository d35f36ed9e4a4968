//! `docs/configuration.md` from the keys that the code declares.

use crate::process::cargo;

/// Writes the table of keys, or fails when the page is stale. The test that compares the page also writes it.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let test = [
        "test",
        "--package",
        "decalign",
        "--test",
        "configuration_page",
    ];
    match check {
        true => cargo(&test, &[]),
        false => cargo(&test, &[("DECALIGN_CONFIG_DOCS", "write")]),
    }
}
