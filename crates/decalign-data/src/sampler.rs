//! The order in which an epoch visits its samples.

use decalign_core::random::Stream;
use rand::seq::SliceRandom;

use crate::{Error, Result};

/// Cuts an epoch into shuffled batches; the last, smaller one is kept.
///
/// The order of an epoch depends on the seed and the epoch's number only, so a run can start again
/// in the middle.
#[derive(Clone, Debug)]
pub struct BatchSampler {
    rows: Vec<usize>,
    batch_size: usize,
    seed: u64,
}

/// Keeps the shuffle's numbers apart from those of dropout and initialisation of the same seed.
const SHUFFLE: u64 = 0x5348_5546;

impl BatchSampler {
    /// A sampler of the given rows.
    ///
    /// # Errors
    /// When the batch size is 0 or there is no row.
    pub fn new(rows: Vec<usize>, batch_size: usize, seed: u64) -> Result<Self> {
        if batch_size == 0 || rows.is_empty() {
            let message = format!(
                "{batch_size} samples a batch from {} samples; both must be at least 1",
                rows.len()
            );
            return Err(Error::field("sampler", "batch_size", message));
        }
        Ok(Self {
            rows,
            batch_size,
            seed,
        })
    }

    /// How many batches an epoch has.
    pub fn len(&self) -> usize {
        self.rows.len().div_ceil(self.batch_size)
    }

    /// Never: an epoch has a batch.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut rows = self.rows.clone();
        rows.shuffle(&mut Stream::new(self.seed, SHUFFLE).child(epoch).generator());
        rows.chunks(self.batch_size)
            .map(<[usize]>::to_vec)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_row_once_in_its_own_order() -> Result<()> {
        let sampler = BatchSampler::new((10..33).collect(), 5, 7)?;
        let flat = |epoch| sampler.epoch(epoch).concat();
        let mut sorted = flat(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (10..33).collect::<Vec<_>>());
        assert_eq!(sampler.epoch(0).last().map(Vec::len), Some(3));
        assert_eq!(sampler.epoch(0).len(), sampler.len());
        assert_eq!(flat(1), flat(1));
        assert_ne!(flat(0), flat(1));
        assert_ne!(
            flat(0),
            BatchSampler::new((10..33).collect(), 5, 8)?
                .epoch(0)
                .concat()
        );
        assert!(
            BatchSampler::new(vec![], 5, 7).is_err() && BatchSampler::new(vec![1], 0, 7).is_err()
        );
        Ok(())
    }
}
