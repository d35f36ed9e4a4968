//! Sentence embeddings beside `transformers`.

use super::Comparison;
use super::programs::{encoding, transformers};
use super::table::{Asked, Row};

pub(super) fn comparison() -> Result<Comparison, String> {
    let programs = vec![encoding()?, transformers()?];
    Ok(Comparison {
        programs,
        rows: ROWS,
    })
}

/// Measured by `decalign encode` and peers/encode.py.
const ROWS: &[Row] = &[
    Row::seconds(
        "2199 texts, MiniLM, mean over tokens",
        "decalign encode",
        Some("transformers as they come"),
        Asked::Times(1.0),
    ),
    Row::seconds(
        "  batches by length",
        "decalign encode",
        Some("transformers by length"),
        Asked::Times(1.0),
    ),
];
