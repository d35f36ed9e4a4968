//! Dealing samples into parts of given shares.

use decalign_core::random::Stream;
use rand::seq::SliceRandom;

/// Samples that stay together.
pub(super) struct Unit {
    pub(super) rows: Vec<usize>,
    /// What each part is to have its share of.
    pub(super) stratum: i64,
}

/// Keeps these draws apart from others of the same seed.
const DEAL: u64 = 0x4445_414C;

/// The part of each unit: shares `fractions` of every stratum's samples, as near as whole units
/// allow. What rounding takes from a part in one stratum, the next ones give back.
pub(super) fn deal(units: &[Unit], fractions: &[f64], seed: u64) -> Vec<usize> {
    let mut strata: Vec<i64> = units.iter().map(|unit| unit.stratum).collect();
    strata.sort_unstable();
    strata.dedup();
    let mut parts = vec![0; units.len()];
    let mut owed = vec![0.0; fractions.len()];
    for stratum in strata {
        let here = (0..units.len()).filter(|i| units[*i].stratum == stratum);
        let mut order: Vec<usize> = here.collect();
        let stream = Stream::new(seed, DEAL).child(stratum as u64);
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
                // Rounding must not decide between equals: the first one wins.
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
