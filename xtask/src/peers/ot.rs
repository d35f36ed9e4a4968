//! Optimal transport beside POT and wass.

use super::Comparison;
use super::programs::{ours, python, scratch};
use super::table::{Asked, Row, Unit};

pub(super) fn comparison() -> Result<Comparison, String> {
    let manifest = include_str!("../../peers/wass/manifest.toml");
    let program = include_str!("../../peers/wass/main.rs");
    Ok(Comparison {
        programs: vec![
            ours("peers_ot")?,
            python("POT", "pot.py")?,
            scratch("wass", manifest, program)?,
        ],
        rows: ROWS,
    })
}

const DENSE: &str = "decalign dense 1000, 1 thread";
const COST: &str = "decalign line 50: cost error";
const MARGINALS: &str = "decalign line 50: marginal error";
const BATCH: &str = "decalign batch 1024 of 16";

/// Times an iteration, a sweep or a solve; the last rows are of the machine.
///
/// What is measured is in benches/peers/ot.rs, peers/pot.py and peers/wass/main.rs.
const ROWS: &[Row] = &[
    Row::seconds(
        "dense 1000, an iteration",
        DENSE,
        None,
        Asked::AtMost(3.5e-4),
    ),
    Row::seconds(
        "  POT sinkhorn_log",
        DENSE,
        Some("POT sinkhorn_log 1000"),
        Asked::Times(30.0),
    ),
    Row::seconds(
        "  wass sinkhorn_log",
        DENSE,
        Some("wass sinkhorn_log 1000"),
        Asked::Times(20.0),
    ),
    Row::seconds(
        "  POT sinkhorn (kernel)",
        DENSE,
        Some("POT sinkhorn 1000"),
        Asked::Nothing,
    ),
    Row::seconds(
        "dense 4096, 2 threads by 1",
        "decalign dense 4096, 2 threads",
        Some("decalign dense 4096, 1 thread"),
        Asked::Times(1.7),
    ),
    Row::seconds(
        "points 10000, width 16, 1 thread, by bound",
        "decalign points 10000, width 16, 1 thread",
        Some("decalign bound 10000, width 16, 1 thread"),
        Asked::Within(1.5),
    ),
    Row::seconds(
        "points 10000, width 64, 1 thread, by bound",
        "decalign points 10000, width 64, 1 thread",
        Some("decalign bound 10000, width 64, 1 thread"),
        Asked::Within(1.5),
    ),
    Row::seconds(
        "points 10000, width 16, 2 threads, by bound",
        "decalign points 10000, width 16, 2 threads",
        Some("decalign bound 10000, width 16, 2 threads"),
        Asked::Within(1.5),
    ),
    Row::seconds(
        "points 10000, width 64, 2 threads, by bound",
        "decalign points 10000, width 64, 2 threads",
        Some("decalign bound 10000, width 64, 2 threads"),
        Asked::Within(1.5),
    ),
    Row {
        case: "points 10000, width 64, memory, by the costs'",
        ours: "decalign points 10000: memory",
        peer: Some("decalign points 10000: costs"),
        unit: Unit::Bytes,
        asked: Asked::Nothing,
    },
    Row::plain(
        "50 points, epsilon 1e-4: cost, POT plain",
        COST,
        "POT sinkhorn: cost error",
    ),
    Row::plain(
        "  POT stabilised",
        COST,
        "POT sinkhorn_stabilized: cost error",
    ),
    Row::plain("  POT log", COST, "POT sinkhorn_log: cost error"),
    Row::plain(
        "  POT epsilon scaling",
        COST,
        "POT sinkhorn_epsilon_scaling: cost error",
    ),
    Row::plain(
        "50 points: marginals, POT plain",
        MARGINALS,
        "POT sinkhorn: marginal error",
    ),
    Row::plain(
        "  POT stabilised",
        MARGINALS,
        "POT sinkhorn_stabilized: marginal error",
    ),
    Row::plain("  POT log", MARGINALS, "POT sinkhorn_log: marginal error"),
    Row::plain(
        "  POT epsilon scaling",
        MARGINALS,
        "POT sinkhorn_epsilon_scaling: marginal error",
    ),
    Row::seconds(
        "1024 of 16 x 16, POT sinkhorn loop",
        BATCH,
        Some("POT sinkhorn, 1024 of 16"),
        Asked::Times(20.0),
    ),
    Row::seconds(
        "  POT sinkhorn_log loop",
        BATCH,
        Some("POT sinkhorn_log, 1024 of 16"),
        Asked::Times(20.0),
    ),
    Row::seconds(
        "  POT solve_batch",
        BATCH,
        Some("POT solve_batch, 1024 of 16"),
        Asked::Nothing,
    ),
    Row::seconds(
        "joint 7 x 7 x 7, 50 sweeps, with gradient",
        "decalign joint 7 x 7 x 7",
        None,
        Asked::AtMost(1e-4),
    ),
    Row::seconds(
        "exact 1000, POT emd",
        "decalign exact 1000",
        Some("POT emd 1000"),
        Asked::Nothing,
    ),
    Row::seconds(
        "exact 2000, POT emd",
        "decalign exact 2000",
        Some("POT emd 2000"),
        Asked::Nothing,
    ),
    Row::seconds("exact 5000", "decalign exact 5000", None, Asked::Nothing),
    Row::seconds(
        "low rank 10, 20,000 points, 200 steps",
        "decalign low rank 20000",
        None,
        Asked::Nothing,
    ),
    Row::seconds(
        "the machine: 1 Gflop of a product, 1 thread",
        "decalign machine: flops, 1 thread",
        None,
        Asked::Nothing,
    ),
    Row::seconds(
        "the machine: 1 G exponentials, 1 thread",
        "decalign machine: exponentials, 1 thread",
        None,
        Asked::Nothing,
    ),
];
