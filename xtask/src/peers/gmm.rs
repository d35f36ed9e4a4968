//! Gaussian mixtures beside scikit-learn.

use super::Comparison;
use super::programs::{ours, python};
use super::table::{Asked, Row, Unit};

pub(super) fn comparison() -> Result<Comparison, String> {
    Ok(Comparison {
        programs: vec![ours("peers_gmm")?, python("sklearn", "sklearn.py")?],
        rows: ROWS,
    })
}

const fn seconds(
    case: &'static str,
    ours: &'static str,
    peer: Option<&'static str>,
    asked: Asked,
) -> Row {
    let unit = Unit::Seconds;
    Row {
        case,
        ours,
        peer,
        unit,
        asked,
    }
}

const DIAGONAL: &str = "decalign diagonal, 2 threads";
const FULL: &str = "decalign full, 2 threads";

/// What is measured is in benches/peers/gmm.rs and peers/sklearn.py.
const ROWS: &[Row] = &[
    seconds(
        "n = 1e5, d = K = 30, f32: diagonal, an iteration",
        DIAGONAL,
        None,
        Asked::AtMost(8e-3),
    ),
    seconds(
        "  scikit-learn",
        DIAGONAL,
        Some("sklearn diag"),
        Asked::Times(7.0),
    ),
    seconds("  full, an iteration", FULL, None, Asked::AtMost(70e-3)),
    seconds(
        "  scikit-learn",
        FULL,
        Some("sklearn full"),
        Asked::Times(10.0),
    ),
    seconds(
        "  tied",
        "decalign tied, 2 threads",
        Some("sklearn tied"),
        Asked::Nothing,
    ),
    seconds(
        "  spherical",
        "decalign spherical, 2 threads",
        Some("sklearn spherical"),
        Asked::Nothing,
    ),
    seconds(
        "  diagonal, 2 threads by 1",
        DIAGONAL,
        Some("decalign diagonal, 1 thread"),
        Asked::Nothing,
    ),
    seconds(
        "  full, 2 threads by 1",
        FULL,
        Some("decalign full, 1 thread"),
        Asked::Nothing,
    ),
    Row {
        case: "  full: memory of a fit, by the data's",
        ours: "decalign full: memory",
        peer: Some("decalign full: data"),
        unit: Unit::Bytes,
        asked: Asked::Within(1.5),
    },
    seconds(
        "3 of 32 x 64, K = 7, 5 steps, forward and backward",
        "decalign model: release",
        None,
        Asked::AtMost(3e-4),
    ),
    seconds(
        "  in one call",
        "decalign model: batch",
        None,
        Asked::Nothing,
    ),
    seconds(
        "1000 of 200 x 8, K = 4: full, scikit-learn loop",
        "decalign 1000 of 200 x 8, full",
        Some("sklearn 1000 of 200 x 8, full"),
        Asked::Times(50.0),
    ),
    seconds(
        "  diagonal",
        "decalign 1000 of 200 x 8, diagonal",
        Some("sklearn 1000 of 200 x 8, diag"),
        Asked::Times(50.0),
    ),
];
