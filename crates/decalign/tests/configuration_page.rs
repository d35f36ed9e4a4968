//! `docs/configuration.md` lists every key as the code declares it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use decalign::config::keys;
use serde_json::Value;

const BEGIN: &str = "<!-- keys: written by `cargo xtask config-docs` -->";
const END: &str = "<!-- end of keys -->";

/// The table of keys in Markdown.
fn table() -> String {
    let mut text = "| key | values | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys() {
        let default = match &key.default {
            Value::Null => "absent".to_owned(),
            default => format!("`{default}`"),
        };
        text += &format!(
            "| `{}` | {} | {default} | {} |\n",
            key.name, key.values, key.meaning
        );
    }
    text
}

/// With `DECALIGN_CONFIG_DOCS=write` the page is written instead of compared.
#[test]
fn the_page_lists_the_keys_of_today() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    // A packaged crate comes without the workspace's documentation.
    let Ok(page) = std::fs::read_to_string(&path) else {
        return;
    };
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let current = format!("{before}{BEGIN}\n\n{}\n{END}{after}", table());
    match std::env::var("DECALIGN_CONFIG_DOCS").as_deref() {
        Ok("write") => std::fs::write(&path, current).unwrap(),
        _ => assert!(
            page == current,
            "docs/configuration.md is stale: run `cargo xtask config-docs`"
        ),
    }
}
