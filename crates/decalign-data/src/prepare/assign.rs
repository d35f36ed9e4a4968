//! Assignment of samples to parts of given fractions.

use decalign_core::random::Stream;
use rand::seq::SliceRandom;

/// Samples that stay together.
pub(super) struct Unit {
    pub(super) rows: Vec<usize>,
    /// Each part gets its fraction of every stratum.
    pub(super) stratum: i64,
}

/// Keeps these draws apart from others of the same seed.
const ASSIGNMENT: u64 = 0x4445_414C;

/// The part of each unit: `fractions` of every stratum's samples, up to whole units. The rounding error of a part is
/// carried from one stratum to the next.
pub(super) fn assign(units: &[Unit], fractions: &[f64], seed: u64) -> Vec<usize> {
    let mut strata: Vec<i64> = units.iter().map(|unit| unit.stratum).collect();
    strata.sort_unstable();
    strata.dedup();
    let mut parts = vec![0; units.len()];
    let mut owed = vec![0.0; fractions.len()];
    for stratum in strata {
        let here = (0..units.len()).filter(|i| units[*i].stratum == stratum);
        let mut order: Vec<usize> = here.collect();
        let stream = Stream::new(seed, ASSIGNMENT).child(stratum as u64);
        order.shuffle(&mut stream.generator());
        // Large units first: small ones fill the gaps.
        order.sort_by_key(|i| std::cmp::Reverse(units[*i].rows.len()));
        let size: usize = order.iter().map(|i| units[*i].rows.len()).sum();
        for (owed, fraction) in owed.iter_mut().zip(fractions) {
            *owed += fraction * size as f64;
        }
        for i in order {
            let mut most = 0;
            for part in 1..owed.len() {
                // A tolerance, so that rounding does not decide between equal parts: the first one wins.
                if owed[part] > owed[most] + 1e-9 {
                    most = part;
                }
            }
            parts[i] = most;
            owed[most] -= units[i].rows.len() as f64;
        }
    }
    parts
}
