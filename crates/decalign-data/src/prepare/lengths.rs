//! Lengths from zero padding, and missing modalities.

use crate::{Dataset, Result};

impl Dataset {
    /// The data set with lengths for every modality of several steps that has none: a sequence ends after its last step
    /// that is not all zeros.
    ///
    /// A sample of zeros only has length 0: it lacks the modality. Modalities without zeros at the end of any sample stay
    /// without lengths.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn with_zero_tails(mut self) -> Result<Self> {
        let origin = self.origin().to_owned();
        for modality in self.modalities_mut() {
            if modality.lengths().is_some() || modality.steps() == 1 {
                continue;
            }
            let lengths = zero_tails(modality)?;
            if lengths.iter().any(|length| *length < modality.steps()) {
                modality.set_lengths(Some(lengths), &origin)?;
            }
        }
        Ok(self)
    }

    /// The data set with a modality marked as missing for some samples: they have length 0 there.
    ///
    /// # Errors
    /// When the modality or a sample does not exist.
    pub fn with_missing(mut self, modality: &str, rows: &[usize]) -> Result<Self> {
        let n = self.len();
        if let Some(row) = rows.iter().find(|row| **row >= n) {
            return Err(self.error(
                modality,
                format!("sample {row} does not exist; there are {n}"),
            ));
        }
        let origin = self.origin().to_owned();
        let found = self.modality_mut(modality)?;
        let all = vec![found.steps(); n];
        let mut lengths = found.lengths().map_or(all, <[usize]>::to_vec);
        rows.iter().for_each(|row| lengths[*row] = 0);
        found.set_lengths(Some(lengths), &origin)?;
        Ok(self)
    }
}

/// The number of steps of each sample up to its last step that is not all zeros.
pub(crate) fn zero_tails(modality: &crate::Modality) -> Result<Vec<usize>> {
    let (steps, width) = (modality.steps(), modality.width());
    let pieces = modality.source().map_chunks(|_, numbers| {
        let samples = numbers.chunks_exact(steps * width);
        let length = |sample: &[f32]| {
            let last = sample.iter().rposition(|v| *v != 0.0);
            last.map_or(0, |place| place / width + 1)
        };
        samples.map(length).collect::<Vec<usize>>()
    })?;
    Ok(pieces.concat())
}
