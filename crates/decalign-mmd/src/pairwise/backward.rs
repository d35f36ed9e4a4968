//! Gradients of kernel sums.
//!
//! With W the gradient with respect to squared distances, `dx_r = 2 (x_r sum_j W_rj - sum_j W_rj x_j)`: tasks add up
//! both sums for the rows of their two blocks, and [`PooledSamples::finish`] combines them.

use decalign_core::pairs::{CHUNK, Measure, Panels, Part, add_product, add_signs, add_transposed};
use decalign_core::pairs::{fill, rows_of_slabs};
use decalign_core::simd::{self, LANES};
use decalign_core::{Real, Result};

use super::pooled_samples::{PooledSamples, Task};
use super::schedule::{self, BlockPair};
use super::sums::Sum;
use super::tile::{Tile, TileRange, mask, zip};
use super::weighting::{RowColumnSums, WeightedSlopes};
use crate::kernel::{Buffer, Feature, buffer};

/// Weights of the sums over a pair of samples: of the pairs, and of the diagonal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Coefficient {
    pub(crate) pairs: f64,
    pub(crate) diagonal: f64,
}

/// The function of kernel values that is differentiated.
pub(crate) enum Target<'a, T> {
    /// `sum_pq coefficients[p][q] sums[p][q]`, of [`PooledSamples::sums`].
    Sums(&'a [Vec<Coefficient>]),
    /// `sum_rj k_rj L_r . R_j` over r < j of one kernel and half of that on the diagonal, given L and R of every
    /// block.
    LowRank(&'a [Panels<T>], &'a [Panels<T>]),
}

/// Gradients of every sample and kernel.
pub(crate) struct PairwiseGradients<T> {
    pub(crate) points: Vec<Vec<T>>,
    /// Empty without directions.
    pub(crate) directions: Vec<Vec<T>>,
    /// `sum_j coefficient b_j k_rj`: the gradient with respect to weights through the sums, not through
    /// their normalisation.
    pub(crate) weights: Vec<Vec<T>>,
    /// `sum_rj W_rj u_rj` of every leaf, W being the gradient with respect to u.
    pub(crate) bandwidths: Vec<f64>,
    pub(crate) sums: Vec<Vec<Sum>>,
}

/// Sums of all tasks of one block.
struct BlockSums<T> {
    /// `sum_j W_rj x_j` as slabs and `sum_j W_rj`, for every field.
    fields: Vec<(Vec<T>, Vec<T>)>,
    weights: Vec<T>,
}

/// Results of one task that belong to no block.
struct TaskSums {
    bandwidths: Vec<f64>,
    sums: Vec<Sum>,
}

impl<T: Real> PooledSamples<T> {
    /// The gradient of a target with respect to points, learned bandwidths and, if `weights`, the weights.
    pub(crate) fn backward(
        &self,
        pairs: &[(usize, usize)],
        target: &Target<T>,
        weights: bool,
    ) -> Result<PairwiseGradients<T>> {
        let tasks = self.tasks(pairs);
        let sums = (0..self.blocks.len()).map(|b| BlockSums {
            fields: self
                .fields
                .iter()
                .map(|f| {
                    let p = &f.panels[b];
                    (vec![T::zero(); p.slab_len()], vec![T::zero(); p.padded()])
                })
                .collect(),
            weights: vec![T::zero(); if weights { self.weights[b].len() } else { 0 }],
        });
        let work = 3 * self.work(&tasks);
        let (sums, results) = schedule::run(&tasks, sums.collect(), work, |task, blocks| {
            TaskBackward::new(self, task, target, weights).run(blocks)
        })?;
        let mut found = self.finish(&sums);
        found.sums = vec![vec![Sum::default(); self.plan.kernels.len()]; pairs.len()];
        for (task, result) in tasks.iter().zip(results) {
            let bandwidths = found.bandwidths.iter_mut().zip(result.bandwidths);
            bandwidths.for_each(|(sum, part)| *sum += part);
            for (sum, part) in found.sums[task.pair].iter_mut().zip(result.sums) {
                sum.pairs += part.pairs;
                sum.diagonal += part.diagonal;
            }
        }
        Ok(found)
    }

    /// Combines the sums of all blocks into the gradients of samples.
    fn finish(&self, sums: &[BlockSums<T>]) -> PairwiseGradients<T> {
        let samples = self.samples();
        let mut found = PairwiseGradients {
            points: vec![Vec::new(); samples],
            directions: Vec::new(),
            weights: vec![Vec::new(); samples],
            bandwidths: vec![0.0; self.plan.leaves.len()],
            sums: Vec::new(),
        };
        if self.plan.needs_directions() {
            found.directions = vec![Vec::new(); samples];
        }
        for (b, (block, own)) in self.blocks.iter().zip(sums).enumerate() {
            let n = block.len;
            let mut points = vec![T::zero(); n * self.width];
            for (field, (slabs, masses)) in self.fields.iter().zip(&own.fields) {
                let p = &field.panels[b];
                let mut rows = rows_of_slabs(slabs, p.padded(), n, self.width);
                match field.feature {
                    Feature::Squared | Feature::SquaredExact => {
                        let own = rows_of_slabs(p.slabs(), p.padded(), n, self.width);
                        let each = rows.chunks_exact_mut(self.width).zip(masses);
                        for ((row, mass), own) in each.zip(own.chunks_exact(self.width)) {
                            for (v, x) in row.iter_mut().zip(own) {
                                *v = T::of(2.0) * (*mass * *x - *v);
                            }
                        }
                    }
                    Feature::Cosine => {
                        found.directions[block.sample].extend(rows);
                        continue;
                    }
                    _ => {}
                }
                points.iter_mut().zip(&rows).for_each(|(p, v)| *p += *v);
            }
            found.points[block.sample].extend(points);
            found.weights[block.sample].extend(own.weights.iter().take(n));
        }
        found
    }
}

/// The gradient of one task.
struct TaskBackward<'a, T> {
    pool: &'a PooledSamples<T>,
    task: Task,
    target: &'a Target<'a, T>,
    /// Whether to compute the gradient with respect to weights.
    weighted: bool,
    /// `L_r . R_j`.
    outer: Option<Box<Buffer<T>>>,
    found: TaskSums,
}

impl<'a, T: Real> TaskBackward<'a, T> {
    fn new(
        pool: &'a PooledSamples<T>,
        task: Task,
        target: &'a Target<'a, T>,
        weighted: bool,
    ) -> Self {
        Self {
            pool,
            task,
            target,
            weighted,
            outer: matches!(target, Target::LowRank(..)).then(buffer),
            found: TaskSums {
                bandwidths: vec![0.0; pool.plan.leaves.len()],
                sums: vec![Sum::default(); pool.plan.kernels.len()],
            },
        }
    }

    fn run(mut self, blocks: &mut BlockPair<BlockSums<T>>) -> Result<TaskSums> {
        let pool = self.pool;
        pool.with_tile(|tile| {
            pool.tiles(self.task, tile, |tile, range| {
                tile.gradients.iter_mut().for_each(|(_, any)| *any = false);
                if let (Target::LowRank(left, right), Some(outer)) = (self.target, &mut self.outer)
                {
                    let rows = (&left[self.task.rows], range.rows);
                    let columns = (&right[self.task.columns], range.columns);
                    fill(Measure::Dot, rows, columns, outer);
                }
                for q in 0..pool.plan.kernels.len() {
                    let coefficient = match self.target {
                        Target::Sums(coefficients) => coefficients[self.task.pair][q],
                        Target::LowRank(..) => Coefficient {
                            pairs: 1.0,
                            diagonal: 0.5,
                        },
                    };
                    self.kernel_gradient(tile, q, range, coefficient, blocks);
                }
                self.point_gradients(tile, range, blocks);
                Ok(())
            })
        })?;
        Ok(self.found)
    }

    /// Adds the gradient of kernel `q` to those with respect to features.
    fn kernel_gradient(
        &mut self,
        tile: &mut Tile<T>,
        q: usize,
        range: TileRange,
        c: Coefficient,
        blocks: &mut BlockPair<BlockSums<T>>,
    ) {
        let pool = self.pool;
        for term in &pool.plan.kernels[q] {
            for (i, l) in term.leaves.iter().enumerate() {
                let leaf = pool.plan.leaves[*l];
                let others: Vec<usize> = {
                    let all = term.leaves.iter().enumerate();
                    all.filter(|(j, _)| *j != i).map(|(_, l)| *l).collect()
                };
                // The rest of the product first: both use the buffer of values.
                let rest = (!others.is_empty()).then(|| {
                    tile.product(pool, &others, 1.0, range.size());
                    tile.values.clone()
                });
                let Tile {
                    features,
                    values,
                    slopes,
                    ..
                } = tile;
                let u = &features[leaf.field];
                leaf.profile.map(u, range.size(), values, Some(slopes));
                if let Some(rest) = &rest {
                    zip(slopes, rest, |a, b| a * b);
                    zip(values, rest, |a, b| a * b);
                }
                self.weight_slopes(tile, *l, term.factor, range, c);
            }
            // The buffer of values still holds the whole product.
            self.add_values(tile, q, term.factor, range, c, blocks);
        }
    }

    fn weights_of(&self, range: TileRange) -> (&'a [T], &'a [T]) {
        let (rows, columns) = (range.rows, range.columns);
        let columns_len = columns.len.next_multiple_of(LANES);
        (
            &self.pool.weights[self.task.rows][rows.first..][..rows.len],
            &self.pool.weights[self.task.columns][columns.first..][..columns_len],
        )
    }

    /// Turns slopes into the gradient with respect to the feature.
    fn weight_slopes(
        &mut self,
        tile: &mut Tile<T>,
        l: usize,
        factor: f64,
        range: TileRange,
        c: Coefficient,
    ) {
        let leaf = self.pool.plan.leaves[l];
        let mut scale = factor * c.pairs;
        if range.diagonal {
            let (above, on) = (T::of(factor * c.pairs), T::of(factor * c.diagonal));
            mask(&mut tile.slopes, range.rows.len, above, on);
            scale = 1.0;
        }
        let (a, b) = self.weights_of(range);
        let (to, any) = &mut tile.gradients[leaf.field];
        let learned = simd::dispatch(WeightedSlopes {
            slopes: &tile.slopes,
            u: &tile.features[leaf.field],
            weights: (a, b),
            outer: self.outer.as_deref(),
            scale: T::of(scale),
            add: *any,
            learned: leaf.learned,
            to,
        });
        *any = true;
        self.found.bandwidths[l] += learned.as_f64();
    }

    /// Sums of values, and the gradient with respect to weights.
    fn add_values(
        &mut self,
        tile: &mut Tile<T>,
        q: usize,
        factor: f64,
        range: TileRange,
        c: Coefficient,
        blocks: &mut BlockPair<BlockSums<T>>,
    ) {
        if self.outer.is_some() {
            return;
        }
        let (a, b) = self.weights_of(range);
        if self.weighted {
            let mut weighted = tile.values.clone();
            let (above, on) = (T::of(factor * c.pairs), T::of(factor * c.diagonal));
            match range.diagonal {
                true => mask(&mut weighted, range.rows.len, above, on),
                false => weighted.iter_mut().for_each(|v| *v *= above),
            }
            let sums = simd::dispatch(RowColumnSums(&weighted, a, b));
            add(&mut blocks.rows().weights, range.rows, &sums.0);
            add(&mut blocks.columns().weights, range.columns, &sums.1);
        }
        let mut sum = Sum::default();
        tile.add_values(range, (a, b), &mut sum);
        self.found.sums[q].pairs += factor * sum.pairs;
        self.found.sums[q].diagonal += factor * sum.diagonal;
    }

    /// Adds the gradients with respect to features to those of the points.
    fn point_gradients(
        &self,
        tile: &Tile<T>,
        range: TileRange,
        blocks: &mut BlockPair<BlockSums<T>>,
    ) {
        let (rows, columns) = (range.rows, range.columns);
        for (f, (field, (w, any))) in self.pool.fields.iter().zip(&tile.gradients).enumerate() {
            if !any {
                continue;
            }
            let (x, y) = (
                &field.panels[self.task.rows],
                &field.panels[self.task.columns],
            );
            if field.feature == Feature::CityBlock {
                let (to_x, to_y) = blocks.both();
                let to_x = to_x.map(|e| e.fields[f].0.as_mut_slice());
                add_signs(w, (x, rows, to_x), (y, columns, &mut to_y.fields[f].0));
                continue;
            }
            if matches!(field.feature, Feature::Squared | Feature::SquaredExact) {
                let ones = ([T::one(); CHUNK], [T::one(); CHUNK]);
                let count = columns.len.next_multiple_of(LANES);
                let ones = (&ones.0[..rows.len], &ones.1[..count]);
                let sums = simd::dispatch(RowColumnSums(w, ones.0, ones.1));
                add(&mut blocks.rows().fields[f].1, rows, &sums.0);
                add(&mut blocks.columns().fields[f].1, columns, &sums.1);
            }
            add_product(
                w,
                (x.padded(), rows),
                (y, columns),
                &mut blocks.rows().fields[f].0,
            );
            add_transposed(
                w,
                (x, rows),
                (y.padded(), columns),
                &mut blocks.columns().fields[f].0,
            );
        }
    }
}

fn add<T: Real>(to: &mut [T], part: Part, sums: &[T; CHUNK]) {
    let to = to[part.first..][..part.len].iter_mut();
    to.zip(sums).for_each(|(a, b)| *a += *b);
}
