//! Kernel MMD beside NumPy recipes and hyppo.

use super::Comparison;
use super::programs::{ours, python};
use super::table::{Asked, Row, Unit};

pub(super) fn comparison() -> Result<Comparison, String> {
    Ok(Comparison {
        programs: vec![ours("peers_mmd")?, python("NumPy", "mmd.py")?],
        rows: ROWS,
    })
}

const PERMUTATIONS: &str = "decalign permutations, 1 thread";

/// What is measured is in benches/peers/mmd.rs and peers/mmd.py; one thread unless said.
const ROWS: &[Row] = &[
    Row::seconds(
        "4096 and 4096, width 16, by bound",
        "decalign forward 16",
        Some("decalign bound 16"),
        Asked::Within(1.3),
    ),
    Row::seconds(
        "4096 and 4096, width 32, by bound",
        "decalign forward 32",
        Some("decalign bound 32"),
        Asked::Within(1.3),
    ),
    Row::seconds(
        "4096 and 4096, width 64, by bound",
        "decalign forward 64",
        Some("decalign bound 64"),
        Asked::Within(1.3),
    ),
    Row::seconds(
        "4096 and 4096, width 128, by bound",
        "decalign forward 128",
        Some("decalign bound 128"),
        Asked::Within(1.3),
    ),
    Row::seconds(
        "forward and backward, width 16, by forward",
        "decalign both 16",
        Some("decalign forward 16"),
        Asked::Within(3.0),
    ),
    Row::seconds(
        "forward and backward, width 32, by forward",
        "decalign both 32",
        Some("decalign forward 32"),
        Asked::Within(3.0),
    ),
    Row::seconds(
        "forward and backward, width 64, by forward",
        "decalign both 64",
        Some("decalign forward 64"),
        Asked::Within(3.0),
    ),
    Row::seconds(
        "forward and backward, width 128, by forward",
        "decalign both 128",
        Some("decalign forward 128"),
        Asked::Within(3.0),
    ),
    Row::seconds(
        "ten kernels, width 16, by one",
        "decalign ten kernels 16",
        Some("decalign forward 16"),
        Asked::Within(4.0),
    ),
    Row::seconds(
        "ten kernels, width 32, by one",
        "decalign ten kernels 32",
        Some("decalign forward 32"),
        Asked::Within(4.0),
    ),
    Row::seconds(
        "ten kernels, width 64, by one",
        "decalign ten kernels 64",
        Some("decalign forward 64"),
        Asked::Within(4.0),
    ),
    Row::seconds(
        "ten kernels, width 128, by one",
        "decalign ten kernels 128",
        Some("decalign forward 128"),
        Asked::Within(4.0),
    ),
    Row::seconds(
        "4096 and 4096, width 64, NumPy",
        "decalign forward 64",
        Some("NumPy forward 64"),
        Asked::Nothing,
    ),
    Row::seconds(
        "100,000 and 100,000, width 16, both, 2 threads",
        "decalign large",
        None,
        Asked::Nothing,
    ),
    Row {
        case: "  memory added, by the data's",
        ours: "decalign large: memory",
        peer: Some("decalign large: data"),
        unit: Unit::Bytes,
        asked: Asked::Nothing,
    },
    Row::seconds(
        "2000 permutations of 1000 and 1000, hyppo",
        PERMUTATIONS,
        Some("NumPy hyppo"),
        Asked::Times(10.0),
    ),
    Row::seconds(
        "  alibi-detect's recipe",
        PERMUTATIONS,
        Some("NumPy alibi-detect"),
        Asked::Times(10.0),
    ),
    Row::seconds(
        "  as one product of the matrix",
        PERMUTATIONS,
        Some("NumPy product"),
        Asked::Nothing,
    ),
    Row::seconds(
        "  2 threads by 1",
        "decalign permutations, 2 threads",
        Some(PERMUTATIONS),
        Asked::Nothing,
    ),
    Row::seconds(
        "3 of 32 x 64, moments and MMD, both",
        "decalign model",
        None,
        Asked::AtMost(2e-4),
    ),
    Row::seconds(
        "the machine: 1 Gflop of a product",
        "decalign machine: flops",
        None,
        Asked::Nothing,
    ),
    Row::seconds(
        "the machine: 1 G exponentials",
        "decalign machine: exponentials",
        None,
        Asked::Nothing,
    ),
];
