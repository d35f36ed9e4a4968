//! Responsibilities that a fit is initialised with, before there is a mixture.

use decalign_core::Real;
use decalign_core::random::Stream;

use crate::row_chunk::ROWS;

/// To which components the samples belong.
#[derive(Clone, Debug)]
pub(crate) enum Assignment {
    /// Every sample to the first component.
    Single,
    /// Each sample to the component of its label.
    Labels(Vec<u32>),
    /// Each sample to all components: uniform numbers divided by their sum, drawn again on every pass.
    Random(Stream),
}

impl Assignment {
    /// Responsibilities of the rows of the chunk that begins at `first`, (rows, K).
    pub(crate) fn responsibilities<T: Real>(
        &self,
        first: usize,
        rows: usize,
        components: usize,
    ) -> Vec<T> {
        let mut out = vec![T::zero(); rows * components];
        let each = out.chunks_exact_mut(components);
        match self {
            Self::Single => each.for_each(|row| row[0] = T::one()),
            Self::Labels(labels) => {
                let each = each.zip(&labels[first..]);
                each.for_each(|(row, label)| row[*label as usize] = T::one());
            }
            Self::Random(stream) => {
                let draws = stream.child((first / ROWS) as u64);
                // Above 0, so that no responsibility is 0.
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
