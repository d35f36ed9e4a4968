//! Gaussian mixtures beside scikit-learn.

use super::Comparison;
use super::programs::{ours, python};
use super::table::{Asked, Row, Unit};

pub(super) fn comparison() -> Result<Comparison, String> {
    Ok(Comparison {
        programs: vec![ours("peers_gmm")?, python("sklearn", "gmm.py")?],
        rows: ROWS,
    })
}

const DIAGONAL: &str = "decalign diagonal, 2 threads";
const FULL: &str = "decalign full, 2 threads";

/// What is measured is in benches/peers/gmm.rs and peers/gmm.py.
const ROWS: &[Row] = &[
    Row::seconds(
        "n = 1e5, d = K = 30, f32: diagonal, an iteration",
        DIAGONAL,
        None,
        Asked::AtMost(8e-3),
    ),
    Row::seconds(
        "  scikit-learn",
        DIAGONAL,
        Some("sklearn diag"),
        Asked::Times(7.0),
    ),
    Row::seconds("  full, an iteration", FULL, None, Asked::AtMost(70e-3)),
    Row::seconds(
        "  scikit-learn",
        FULL,
        Some("sklearn full"),
        Asked::Times(10.0),
    ),
    Row::seconds(
        "  tied",
        "decalign tied, 2 threads",
        Some("sklearn tied"),
        Asked::Nothing,
    ),
    Row::seconds(
        "  spherical",
        "decalign spherical, 2 threads",
        Some("sklearn spherical"),
        Asked::Nothing,
    ),
    Row::seconds(
        "  diagonal, 2 threads by 1",
        DIAGONAL,
        Some("decalign diagonal, 1 thread"),
        Asked::Nothing,
    ),
    Row::seconds(
        "  full, 2 threads by 1",
        FULL,
        Some("decalign full, 1 thread"),
        Asked::Nothing,
    ),
    Row {
        case: "  full: memory of data and fit, by the data's",
        ours: "decalign full: memory",
        peer: Some("decalign full: data"),
        unit: Unit::Bytes,
        asked: Asked::Within(1.5),
    },
    Row::seconds(
        "3 of 32 x 64, K = 7, 5 steps, forward and backward",
        "decalign model: release",
        None,
        Asked::AtMost(3e-4),
    ),
    Row::seconds(
        "  in one call",
        "decalign model: batch",
        None,
        Asked::Nothing,
    ),
    Row::seconds(
        "1000 of 200 x 8, K = 4: full, scikit-learn loop",
        "decalign 1000 of 200 x 8, full",
        Some("sklearn 1000 of 200 x 8, full"),
        Asked::Times(50.0),
    ),
    Row::seconds(
        "  diagonal",
        "decalign 1000 of 200 x 8, diagonal",
        Some("sklearn 1000 of 200 x 8, diag"),
        Asked::Times(50.0),
    ),
];
