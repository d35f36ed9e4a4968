//! The batches of an epoch.

use decalign_core::random::Stream;
use rand::seq::SliceRandom;

use crate::{Error, Result};

/// Cuts an epoch into shuffled batches; the last, smaller one is kept.
///
/// The order of an epoch depends on the seed and the epoch's number only, so that a run can be resumed.
#[derive(Clone, Debug)]
pub struct BatchSampler {
    rows: Vec<usize>,
    batch_size: usize,
    seed: u64,
}

/// The random stream of the shuffle, distinct from those of dropout and initialisation.
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

    /// The number of batches an epoch.
    pub fn len(&self) -> usize {
        self.rows.len().div_ceil(self.batch_size)
    }

    /// Always false: an epoch has at least one batch.
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
