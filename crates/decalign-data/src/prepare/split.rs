//! Making splits: by fractions, by groups, by strata, and for cross-validation.

use std::collections::HashMap;

use super::assign::{Unit, assign};
use crate::{Dataset, Labels, Part, Result};

/// Options of a split; the same options make the same split of the same data.
///
/// ```
/// use decalign_data::{Dataset, Part, SplitOptions};
/// let options = SplitOptions::new(7).stratified(true);
/// let data = Dataset::mfeat()?.with_fractions("mine", [0.6, 0.2, 0.2], options)?;
/// assert_eq!(data.part(Some("mine"), Part::Train)?.len(), 1200);
/// # Ok::<(), decalign_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitOptions {
    /// Keep the samples of a group (a video, a speaker) in one part.
    pub grouped: bool,
    /// Give every part its fraction of each class, or of each score rounded to a whole number.
    pub stratified: bool,
    /// The seed of the shuffle.
    pub seed: u64,
}

impl SplitOptions {
    /// A shuffle of single samples by a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Keeps the samples of a group in one part.
    pub fn grouped(self, grouped: bool) -> Self {
        Self { grouped, ..self }
    }

    /// Gives every part its fraction of each class or rounded score.
    pub fn stratified(self, stratified: bool) -> Self {
        Self { stratified, ..self }
    }
}

impl Dataset {
    /// The data set with a split added: fractions of the samples for training, validation and test.
    ///
    /// # Errors
    /// When the fractions are not positive or their sum is not 1, a part would be empty, a split of this name exists,
    /// or the options need groups or labels that the data does not have.
    pub fn with_fractions(
        self,
        name: &str,
        shares: [f64; 3],
        options: SplitOptions,
    ) -> Result<Self> {
        let sum: f64 = shares.iter().sum();
        if !shares.iter().all(|s| *s > 0.0) || (sum - 1.0).abs() > 1e-6 {
            let message = format!("shares {shares:?} are not three positive numbers of sum 1");
            return Err(self.error("split", message));
        }
        let assigned = self.assigned(&shares, options)?;
        let part = |i: &usize| Some(Part::ALL[*i]);
        let parts: Vec<Option<Part>> = assigned.iter().map(part).collect();
        self.with_split(name, parts)
    }

    /// The data set with `folds` splits added, `<name>0`, `<name>1`, ...: in split i, fold i tests, the next one
    /// validates, the others train. Every sample is tested once.
    ///
    /// # Errors
    /// As [`Dataset::with_fractions`], and for fewer than 3 folds or more than there are samples.
    pub fn with_folds(mut self, name: &str, folds: usize, options: SplitOptions) -> Result<Self> {
        if folds < 3 || folds > self.len() {
            let message = format!(
                "{folds} folds of {} samples; at least 3, at most one a sample",
                self.len()
            );
            return Err(self.error("split", message));
        }
        let assigned = self.assigned(&vec![1.0 / folds as f64; folds], options)?;
        for fold in 0..folds {
            let part = |i: &usize| match (i + folds - fold) % folds {
                0 => Some(Part::Test),
                1 => Some(Part::Valid),
                _ => Some(Part::Train),
            };
            let parts = assigned.iter().map(part).collect();
            self = self.with_split(&format!("{name}{fold}"), parts)?;
        }
        Ok(self)
    }

    /// The index of the part of each sample.
    fn assigned(&self, shares: &[f64], options: SplitOptions) -> Result<Vec<usize>> {
        let units = self.units(options)?;
        let assigned = assign(&units, shares, options.seed);
        let mut parts = vec![0; self.len()];
        for (unit, part) in units.iter().zip(&assigned) {
            unit.rows.iter().for_each(|row| parts[*row] = *part);
        }
        match (0..shares.len()).find(|part| !assigned.contains(part)) {
            None => Ok(parts),
            Some(part) => {
                let what = if options.grouped { "groups" } else { "samples" };
                let message = format!(
                    "part {} of {} would be empty: there are {} {what}",
                    part + 1,
                    shares.len(),
                    units.len()
                );
                Err(self.error("split", message))
            }
        }
    }

    fn units(&self, options: SplitOptions) -> Result<Vec<Unit>> {
        let strata = match (options.stratified, self.labels()) {
            (false, _) => vec![0; self.len()],
            (true, Some(Labels::Scores(scores))) => {
                scores.iter().map(|v| v.round_ties_even() as i64).collect()
            }
            (true, Some(Labels::Classes { values, .. })) => {
                values.iter().map(|v| i64::from(*v)).collect()
            }
            (true, None) => return Err(self.error("labels", "missing; strata are made of them")),
        };
        if !options.grouped {
            let unit = |(row, stratum): (usize, i64)| Unit {
                rows: vec![row],
                stratum,
            };
            return Ok(strata.into_iter().enumerate().map(unit).collect());
        }
        let Some(groups) = self.sample_groups() else {
            let message = "missing, and identifiers do not show them (video$_$clip, video[clip])";
            return Err(self.error("groups", message));
        };
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (row, group) in groups.into_iter().enumerate() {
            let place = *places.entry(group).or_insert(members.len());
            if place == members.len() {
                members.push(Vec::new());
            }
            members[place].push(row);
        }
        let unit = |rows: Vec<usize>| Unit {
            stratum: most_frequent(rows.iter().map(|row| strata[*row])),
            rows,
        };
        Ok(members.into_iter().map(unit).collect())
    }
}

/// The most frequent value, the smallest of several.
fn most_frequent(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    let runs = values.chunk_by(|a, b| a == b);
    let best = runs.fold(&[][..], |best: &[i64], run| match run.len() > best.len() {
        true => run,
        false => best,
    });
    best.first().copied().unwrap_or(0)
}
