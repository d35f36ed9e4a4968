//! TwoSamples samples as numbers.

use std::sync::Mutex;

use candle_core::Tensor;
use decalign_core::pairs::{Measure, Panels, STRIP};
use decalign_core::{Elements, Real, Result, parallel, simd};

use super::plan::KernelPlan;
use super::tile::Tile;
use crate::kernel::{Feature, Kernel};
use crate::sample::{self, Sample};

/// The tensors that a pass reads.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) points: Vec<Tensor>,
    /// The points divided by their norms; empty where no kernel needs them.
    pub(crate) directions: Vec<Tensor>,
    pub(crate) weights: Vec<Option<Tensor>>,
    pub(crate) width: usize,
}

impl Inputs {
    /// Checks that there are at least `count` samples, each of at least `least` rows.
    pub(crate) fn new(
        samples: &[Sample],
        plan: &KernelPlan,
        (count, least): (usize, usize),
    ) -> Result<Self> {
        let width = sample::check(samples, count, least)?;
        let directions = match plan.needs_directions() {
            true => {
                let each = samples.iter().enumerate();
                each.map(|(i, s)| sample::directions(i, &s.points))
                    .collect::<Result<_>>()?
            }
            false => Vec::new(),
        };
        Ok(Self {
            points: samples.iter().map(|s| s.points.clone()).collect(),
            directions,
            weights: samples.iter().map(|s| s.weights.clone()).collect(),
            width,
        })
    }

    /// All tensors that gradients go to: points, directions, weights, and then the bandwidths of `kernels`.
    pub(crate) fn all<'a>(&'a self, kernels: &'a [Kernel]) -> Vec<&'a Tensor> {
        let bandwidths = kernels.iter().flat_map(Kernel::leaves);
        let bandwidths = bandwidths.filter_map(|l| l.bandwidth.tensor());
        let given = self.points.iter().chain(&self.directions);
        given
            .chain(self.weights.iter().flatten())
            .chain(bandwidths)
            .collect()
    }
}

/// Some neighbouring rows of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) sample: usize,
    /// Its first row in the sample.
    pub(crate) first: usize,
    pub(crate) len: usize,
}

/// A feature, how it is computed, and the points in the layout that tiles read.
#[derive(Clone)]
pub(crate) struct Field<T> {
    pub(crate) feature: Feature,
    pub(crate) measure: Measure,
    pub(crate) panels: Vec<Panels<T>>,
}

impl<T: Real> Field<T> {
    /// An upper bound of the feature, or infinity.
    fn bound(&self) -> f64 {
        match self.feature {
            // (|x| + |y|)^2
            Feature::Squared | Feature::SquaredExact => 4.0 * largest_norm(&self.panels),
            _ => f64::INFINITY,
        }
    }
}

/// The largest squared length of a point.
fn largest_norm<T: Real>(panels: &[Panels<T>]) -> f64 {
    let largest = panels.iter().map(|p| simd::max(p.norms()).as_f64());
    largest.fold(0.0, f64::max)
}

/// Samples, cut into blocks of rows, ready for passes over all pairs.
pub(crate) struct PooledSamples<T> {
    pub(crate) plan: KernelPlan,
    pub(crate) width: usize,
    pub(crate) blocks: Vec<Block>,
    pub(crate) fields: Vec<Field<T>>,
    /// Weights of every block, padded with zeros to whole lanes.
    pub(crate) weights: Vec<Vec<T>>,
    /// The sums of the weights and of their squares, of every sample.
    pub(crate) masses: Vec<(f64, f64)>,
    /// Tiles that no task uses at the moment.
    pub(super) stash: Mutex<Vec<Tile<T>>>,
}

impl<T: Real> PooledSamples<T> {
    /// `differentiated`: [`PooledSamples::backward`] will be called, which needs points in slabs too.
    pub(crate) fn new(inputs: &Inputs, mut plan: KernelPlan, differentiated: bool) -> Result<Self> {
        let mut points = Vec::with_capacity(inputs.points.len());
        for (i, x) in inputs.points.iter().enumerate() {
            let x = Elements::<T>::new(x)?;
            sample::check_finite(i, &x, inputs.width)?;
            points.push(x.to_vec());
        }
        let rows: Vec<usize> = points.iter().map(|x| x.len() / inputs.width).collect();
        let blocks = cut(&rows);
        let (weights, masses) = read_weights(inputs, &rows, &blocks)?;
        let mut fields = Vec::new();
        let centred = centre(&points, inputs.width);
        for (i, feature) in plan.features.iter().enumerate() {
            let mut directions = Vec::new();
            let data = match feature {
                Feature::Dot => &points,
                Feature::Cosine => {
                    for x in &inputs.directions {
                        directions.push(Elements::<T>::new(x)?.to_vec());
                    }
                    &directions
                }
                _ => &centred,
            };
            let panels: Vec<Panels<T>> = blocks
                .iter()
                .map(|b| {
                    let rows = &data[b.sample][b.first * inputs.width..][..b.len * inputs.width];
                    match differentiated {
                        true => Panels::with_slabs(rows, inputs.width),
                        false => Panels::new(rows, inputs.width),
                    }
                })
                .collect();
            fields.push(Field {
                feature: *feature,
                measure: measure(*feature, plan.max_slope(i), &panels),
                panels,
            });
        }
        for leaf in &mut plan.leaves {
            leaf.profile = leaf.profile.below::<T>(fields[leaf.field].bound());
        }
        Ok(Self {
            plan,
            width: inputs.width,
            blocks,
            fields,
            weights,
            masses,
            stash: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn samples(&self) -> usize {
        self.masses.len()
    }

    /// The blocks of every sample.
    pub(crate) fn blocks_of(&self, sample: usize) -> impl Iterator<Item = usize> {
        (0..self.blocks.len()).filter(move |b| self.blocks[*b].sample == sample)
    }

    /// The pairs of blocks that make up pairs of samples, the first of a pair not after the second.
    pub(crate) fn tasks(&self, pairs: &[(usize, usize)]) -> Vec<Task> {
        let blocks = (0..self.samples()).map(|s| self.blocks_of(s).collect());
        let blocks: Vec<Vec<usize>> = blocks.collect();
        let mut tasks = Vec::new();
        for (pair, (i, j)) in pairs.iter().enumerate() {
            for rows in &blocks[*i] {
                for columns in blocks[*j].iter().filter(|c| i != j || *c >= rows) {
                    tasks.push(Task {
                        pair,
                        rows: *rows,
                        columns: *columns,
                    });
                }
            }
        }
        tasks
    }

    /// Roughly the number of operations of some tasks, for the threshold of parallel loops.
    pub(crate) fn work(&self, tasks: &[Task]) -> usize {
        let pairs: usize = tasks
            .iter()
            .map(|t| self.blocks[t.rows].len * self.blocks[t.columns].len)
            .sum();
        pairs * (self.fields.len() * self.width + 4 * self.plan.leaves.len())
    }
}

/// A pair of blocks; within a sample the first may be the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// The index of its pair of samples.
    pub(crate) pair: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// The least and the most rows of a block: a task must outweigh its overhead, and its panels fit the L2 cache.
const BLOCK: (usize, usize) = (4 * STRIP, 48 * STRIP);

/// Cuts by sizes alone, so results do not depend on the number of threads: about 32 blocks, more where they
/// would exceed the largest size.
fn cut(rows: &[usize]) -> Vec<Block> {
    let total: usize = rows.iter().sum();
    let size = (total / 32)
        .next_multiple_of(2 * STRIP)
        .clamp(BLOCK.0, BLOCK.1);
    let mut blocks = Vec::new();
    for (sample, n) in rows.iter().enumerate() {
        for first in (0..*n).step_by(size) {
            blocks.push(Block {
                sample,
                first,
                len: size.min(n - first),
            });
        }
    }
    blocks
}

type Weights<T> = (Vec<Vec<T>>, Vec<(f64, f64)>);

fn read_weights<T: Real>(inputs: &Inputs, rows: &[usize], blocks: &[Block]) -> Result<Weights<T>> {
    let mut given = Vec::new();
    for (i, (w, n)) in inputs.weights.iter().zip(rows).enumerate() {
        given.push(match w {
            Some(w) => sample::read_weights(i, w)?,
            None => vec![T::one(); *n],
        });
    }
    let masses = given.iter().map(|w| {
        let wide = w.iter().map(|v| v.as_f64());
        wide.fold((0.0, 0.0), |(a, b), v| (a + v, b + v * v))
    });
    let masses = masses.collect();
    let of = |b: &Block| {
        let mut w = given[b.sample][b.first..][..b.len].to_vec();
        w.resize(b.len.next_multiple_of(simd::LANES), T::zero());
        w
    };
    Ok((blocks.iter().map(of).collect(), masses))
}

/// Subtracts the common mean of all samples: distances do not change, and inner products lose fewer digits.
pub(crate) fn centre<T: Real>(samples: &[Vec<T>], width: usize) -> Vec<Vec<T>> {
    let mut mean = vec![0.0; width];
    let rows: usize = samples.iter().map(|x| x.len() / width).sum();
    for row in samples.iter().flat_map(|x| x.chunks_exact(width)) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v.as_f64());
    }
    mean.iter_mut().for_each(|m| *m /= rows as f64);
    let moved = |x: &Vec<T>| {
        let mut moved = x.clone();
        for row in moved.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(v, m)| *v = T::of(v.as_f64() - m));
        }
        moved
    };
    parallel::map(samples.len(), rows * width, |i| moved(&samples[i]))
}

/// The largest accepted error of an exponent.
const EXPONENT_ERROR: f64 = 1e-4;

/// How to compute a feature: squared distances from inner products where points lie close enough to their mean,
/// from differences elsewhere.
fn measure<T: Real>(feature: Feature, max_slope: Option<f64>, panels: &[Panels<T>]) -> Measure {
    match feature {
        Feature::CityBlock => Measure::CityBlock,
        Feature::CentredDot | Feature::Dot | Feature::Cosine => Measure::Dot,
        Feature::SquaredExact => Measure::SquaredDifferences,
        Feature::Squared => {
            let error = 4.0 * largest_norm(panels) * T::epsilon().as_f64();
            match max_slope.is_some_and(|s| error * s < EXPONENT_ERROR) {
                true => Measure::Squared,
                false => Measure::SquaredDifferences,
            }
        }
    }
}
