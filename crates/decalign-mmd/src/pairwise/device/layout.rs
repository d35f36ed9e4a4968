//! The layout of concatenated samples and of the tasks over their pairs.

use candle_core::Tensor;
use decalign_core::Result;

use super::GROUPS;
use crate::estimator::Estimator;
use crate::statistic::Statistic;

/// Concatenated samples, the pairs of samples to sum over, and their tasks.
pub(super) struct DeviceLayout {
    /// The first row of every sample, then the end.
    pub(super) rows: Vec<usize>,
    /// The first tile of every sample, then the end.
    pub(super) tiles: Vec<usize>,
    pub(super) pairs: Vec<(usize, usize)>,
    /// The first task of every pair, then the end.
    pub(super) tasks: Vec<usize>,
    /// Tiles of columns that a task goes through.
    pub(super) chain: usize,
}

impl DeviceLayout {
    pub(super) fn new(statistic: &Statistic, sizes: &[usize], side: usize) -> Self {
        let all: usize = sizes.iter().map(|n| n.div_ceil(side)).sum();
        // About 16 tasks for every group that a device runs at once.
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
        let pairs = statistic.pairs();
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

    /// The numbers that kernels read, see kernel.cu.
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

    /// The weights of the sums of pairs in the functionals, (functionals, pairs).
    pub(super) fn weights(&self, statistic: &Statistic) -> Vec<f64> {
        let size = |i: usize| (self.rows[i + 1] - self.rows[i]) as f64;
        let index = |pair| self.pairs.binary_search(&pair).unwrap_or(0);
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
                row[index((*i, *i))] += 2.0 * c / count;
            }
            for (i, j, c) in &f.across {
                row[index((*i, *j))] += c / (size(*i) * size(*j));
            }
        }
        all
    }
}
