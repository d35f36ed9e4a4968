//! A training step and attention alone beside the same layers in torch.nn.

use super::Comparison;
use super::programs::{bench, ours, torch};
use super::table::{Asked, Row, Unit};

pub(super) fn comparison() -> Result<Comparison, String> {
    let mut programs = vec![ours("peers_attention")?, torch("attention")?];
    // Each in a process of its own, for the peak of its memory.
    for preset in ["mosi", "mosei", "sims", "iemocap"] {
        programs.extend([bench(preset)?, torch(preset)?]);
    }
    Ok(Comparison {
        programs,
        rows: ROWS,
    })
}

/// Measured by `decalign bench`, benches/peers/attention.rs and peers/layers.py.
macro_rules! preset {
    ($name:literal, $step:expr, $times:expr, $threads:expr, $evaluation:expr, $less:expr) => {
        [
            Row::seconds(
                concat!($name, ", a step"),
                concat!("decalign ", $name, " step"),
                None,
                Asked::AtMost($step),
            ),
            Row::seconds(
                "  torch.nn",
                concat!("decalign ", $name, " step"),
                Some(concat!("torch ", $name, " step")),
                Asked::Times($times),
            ),
            Row::seconds(
                "  one thread by two",
                concat!("decalign ", $name, " step"),
                Some(concat!("decalign ", $name, " step, 1 thread")),
                $threads,
            ),
            Row::seconds(
                "  evaluation",
                concat!("decalign ", $name, " evaluation"),
                None,
                Asked::AtMost($evaluation),
            ),
            Row::seconds(
                "  torch.nn",
                concat!("decalign ", $name, " evaluation"),
                Some(concat!("torch ", $name, " evaluation")),
                Asked::Times($less),
            ),
            Row {
                case: "  memory of a step at its peak",
                ours: concat!("decalign ", $name, " memory"),
                peer: Some(concat!("torch ", $name, " memory")),
                unit: Unit::Bytes,
                asked: Asked::Times(2.0),
            },
        ]
    };
}

macro_rules! attention {
    ($case:literal) => {
        [
            Row::seconds(
                concat!($case, ": forward"),
                concat!("decalign attention ", $case, ": forward"),
                Some(concat!("torch attention ", $case, ": forward")),
                Asked::Times(1.0),
            ),
            Row::seconds(
                "  forward and backward",
                concat!("decalign attention ", $case, ": both"),
                Some(concat!("torch attention ", $case, ": both")),
                Asked::Times(1.0),
            ),
        ]
    };
}

const ROWS: &[Row] = &{
    let [a, b, c, d, e, f] = preset!("mosi", 0.110, 4.1, Asked::Times(1.7), 0.040, 2.4);
    let [g, h, i, j, k, l] = preset!("mosei", 0.410, 4.0, Asked::Times(1.7), 0.150, 2.0);
    let [m, n, o, p, q, r] = preset!("sims", 0.110, 10.2, Asked::Nothing, 0.050, 2.7);
    let [s, t, u, v, w, x] = preset!("iemocap", 0.003, 16.7, Asked::Nothing, 0.0006, 16.0);
    let [aa, ab] = attention!("B 32, L 50, S 100, d 64, 8 heads");
    let [ac, ad] = attention!("B 32, L 50, S 100, d 64, 4 heads");
    let [ae, af] = attention!("B 8, L 1024, S 1024, d 64, 1 heads");
    let [ag, ah] = attention!("B 8, L 1024, S 1024, d 64, 2 heads");
    let [ai, aj] = attention!("B 8, L 1024, S 1024, d 64, 4 heads");
    let [ak, al] = attention!("B 8, L 1024, S 1024, d 64, 8 heads");
    let memory = Row {
        case: "memory of attention, L = S = 8192, by that of 2048",
        ours: "decalign attention memory, L = S = 8192",
        peer: Some("decalign attention memory, L = S = 2048"),
        unit: Unit::Bytes,
        asked: Asked::Within(4.4),
    };
    [
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, aa, ab, ac, ad, ae,
        af, ag, ah, ai, aj, ak, al, memory,
    ]
};
