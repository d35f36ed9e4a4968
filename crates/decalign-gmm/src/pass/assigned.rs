//! Responsibilities that no mixture gives: those that a fit starts from.

use decalign_core::Real;
use decalign_core::random::Stream;

use crate::chunk::ROWS;

/// Whose a sample is.
#[derive(Clone, Debug)]
pub(crate) enum Assigned {
    /// Every sample of the first component.
    First,
    /// Of each sample its component.
    Labels(Vec<u32>),
    /// Of each sample uniform numbers divided by their sum, drawn anew whenever they are asked for.
    Random(Stream),
}

impl Assigned {
    /// Of the rows of a chunk that begins at `first`, (rows, K).
    pub(crate) fn of<T: Real>(&self, first: usize, rows: usize, components: usize) -> Vec<T> {
        let mut out = vec![T::zero(); rows * components];
        let each = out.chunks_exact_mut(components);
        match self {
            Self::First => each.for_each(|row| row[0] = T::one()),
            Self::Labels(labels) => {
                let each = each.zip(&labels[first..]);
                each.for_each(|(row, label)| row[*label as usize] = T::one());
            }
            Self::Random(stream) => {
                let draws = stream.child((first / ROWS) as u64);
                // Above 0, so that every sample is of every component.
                let draws = draws.uniform(rows * components, f64::EPSILON, 1.0);
                for (row, draws) in each.zip(draws.chunks_exact(components)) {
                    let sum: f64 = draws.iter().sum();
                    row.iter_mut()
                        .zip(draws)
                        .for_each(|(r, v)| *r = T::of(v / sum));
                }
            }
        }
        out
    }
}
