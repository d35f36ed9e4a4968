//! Where samples lie, and which pairs of them are met.

use candle_core::Tensor;
use decalign_core::Result;

use super::GROUPS;
use crate::estimator::Estimator;
use crate::statistic::Statistic;

/// Samples one below the other, and which pairs of them are summed over.
pub(super) struct Layout {
    /// First rows.
    pub(super) rows: Vec<usize>,
    /// First tiles.
    pub(super) tiles: Vec<usize>,
    pub(super) pairs: Vec<(usize, usize)>,
    /// First tasks of pairs.
    pub(super) tasks: Vec<usize>,
    /// Tiles of columns that a task goes through.
    pub(super) chain: usize,
}

impl Layout {
    pub(super) fn new(statistic: &Statistic, sizes: &[usize], side: usize) -> Self {
        let all: usize = sizes.iter().map(|n| n.div_ceil(side)).sum();
        // Some 16 tasks for every group that a device runs at once.
        let chain = (all * all / 2 / (16 * GROUPS)).clamp(1, 64);
        Self::chained(statistic, sizes, side, chain)
    }

    pub(super) fn chained(
        statistic: &Statistic,
        sizes: &[usize],
        side: usize,
        chain: usize,
    ) -> Self {
        let starts = |sizes: &mut dyn Iterator<Item = usize>| {
            let mut starts = vec![0];
            let mut sum = 0;
            starts.extend(sizes.map(|n| {
                sum += n;
                sum
            }));
            starts
        };
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for f in &statistic.functionals {
            pairs.extend(f.within.iter().map(|(i, _)| (*i, *i)));
            pairs.extend(f.across.iter().map(|(i, j, _)| (*i, *j)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let tiles = |i: usize| sizes[i].div_ceil(side);
        let tasks = |(i, j): &(usize, usize)| {
            let chunks = tiles(*j).div_ceil(chain);
            match i == j {
                true => chain * (chunks - 1) * chunks / 2 + tiles(*i),
                false => tiles(*i) * chunks,
            }
        };
        Self {
            rows: starts(&mut sizes.iter().copied()),
            tiles: starts(&mut (0..sizes.len()).map(tiles)),
            tasks: starts(&mut pairs.iter().map(tasks)),
            pairs,
            chain,
        }
    }

    pub(super) fn samples(&self) -> usize {
        self.rows.len() - 1
    }

    pub(super) fn last(starts: &[usize]) -> usize {
        starts.last().copied().unwrap_or(0)
    }

    /// As the kernels read it.
    pub(super) fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let mut all: Vec<usize> = [&self.rows[..], &self.tiles, &self.tasks].concat();
        all.extend(self.pairs.iter().flat_map(|(i, j)| [*i, *j]));
        let mut starts = vec![0];
        let mut partners = Vec::new();
        for s in 0..self.samples() {
            for (p, (i, j)) in self.pairs.iter().enumerate() {
                if *i == s {
                    partners.extend([*j, p]);
                } else if *j == s {
                    partners.extend([*i, p]);
                }
            }
            starts.push(partners.len() / 2);
        }
        all.extend(starts);
        all.extend(partners);
        let all: Vec<u32> = all.into_iter().map(|n| n as u32).collect();
        Ok(Tensor::from_vec(all.clone(), all.len(), like.device())?)
    }

    /// What the functionals weigh the sums of pairs by, (functionals, pairs).
    pub(super) fn weights(&self, statistic: &Statistic) -> Vec<f64> {
        let size = |i: usize| (self.rows[i + 1] - self.rows[i]) as f64;
        let place = |pair| self.pairs.binary_search(&pair).unwrap_or(0);
        let mut all = vec![0.0; statistic.functionals.len() * self.pairs.len()];
        for (f, row) in statistic
            .functionals
            .iter()
            .zip(all.chunks_exact_mut(self.pairs.len()))
        {
            for (i, c) in &f.within {
                let n = size(*i);
                let count = match statistic.estimator {
                    Estimator::Biased => n * n,
                    Estimator::Unbiased => n * (n - 1.0),
                };
                row[place((*i, *i))] += 2.0 * c / count;
            }
            for (i, j, c) in &f.across {
                row[place((*i, *j))] += c / (size(*i) * size(*j));
            }
        }
        all
    }
}
