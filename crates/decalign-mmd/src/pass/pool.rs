//! Pooled samples as numbers.

use std::sync::Mutex;

use candle_core::Tensor;
use decalign_core::pairs::{Measure, Panels, STRIP};
use decalign_core::{Elements, Real, Result, parallel, simd};

use super::program::Program;
use super::tile::Tile;
use crate::kernel::{Feature, Kernel};
use crate::sample::{self, Sample};

/// The tensors that a pass reads.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) points: Vec<Tensor>,
    /// Rows of length 1; none where no kernel needs them.
    pub(crate) directions: Vec<Tensor>,
    pub(crate) weights: Vec<Option<Tensor>>,
    pub(crate) width: usize,
}

impl Inputs {
    /// Of at least `count` samples, each of at least `least` rows.
    pub(crate) fn new(
        samples: &[Sample],
        program: &Program,
        (count, least): (usize, usize),
    ) -> Result<Self> {
        let width = sample::check(samples, count, least)?;
        let directions = match program.needs_directions() {
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

    /// All tensors that gradients go to: points, directions, weights, and then the lengths of `kernels`.
    pub(crate) fn all<'a>(&'a self, kernels: &'a [Kernel]) -> Vec<&'a Tensor> {
        let lengths = kernels.iter().flat_map(Kernel::leaves);
        let lengths = lengths.filter_map(|l| l.length.as_ref()?.tensor());
        let given = self.points.iter().chain(&self.directions);
        given
            .chain(self.weights.iter().flatten())
            .chain(lengths)
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

/// What kernels are functions of: the points in the order of the tiles.
#[derive(Clone)]
pub(crate) struct Field<T> {
    pub(crate) feature: Feature,
    pub(crate) measure: Measure,
    pub(crate) panels: Vec<Panels<T>>,
}

impl<T: Real> Field<T> {
    /// What its numbers are at most, as far as is known.
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

/// Samples, cut into blocks.
pub(crate) struct Pool<T> {
    pub(crate) program: Program,
    pub(crate) width: usize,
    pub(crate) blocks: Vec<Block>,
    pub(crate) fields: Vec<Field<T>>,
    /// Of every block, zeros behind the end.
    pub(crate) weights: Vec<Vec<T>>,
    /// Of every sample the sum of the weights and of their squares.
    pub(crate) masses: Vec<(f64, f64)>,
    /// Room that tasks have left.
    pub(super) stash: Mutex<Vec<Tile<T>>>,
}

impl<T: Real> Pool<T> {
    /// `pulled`: gradients will be asked for.
    pub(crate) fn new(inputs: &Inputs, mut program: Program, pulled: bool) -> Result<Self> {
        let mut points = Vec::with_capacity(inputs.points.len());
        for (i, x) in inputs.points.iter().enumerate() {
            let x = Elements::<T>::new(x)?;
            sample::check_finite(i, &x, inputs.width)?;
            points.push(x.to_vec());
        }
        let rows: Vec<usize> = points.iter().map(|x| x.len() / inputs.width).collect();
        let blocks = cut(&rows);
        let (weights, masses) = weigh(inputs, &rows, &blocks)?;
        let mut fields = Vec::new();
        let centred = centre(&points, inputs.width);
        for (i, feature) in program.features.iter().enumerate() {
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
                    match pulled {
                        true => Panels::with_slabs(rows, inputs.width),
                        false => Panels::new(rows, inputs.width),
                    }
                })
                .collect();
            fields.push(Field {
                feature: *feature,
                measure: measure(*feature, program.steepness(i), &panels),
                panels,
            });
        }
        for leaf in &mut program.leaves {
            leaf.shape = leaf.shape.below::<T>(fields[leaf.field].bound());
        }
        Ok(Self {
            program,
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
        let of: Vec<Vec<usize>> = (0..self.samples()).map(|_| Vec::new()).collect();
        let of = self
            .blocks
            .iter()
            .enumerate()
            .fold(of, |mut of, (b, block)| {
                of[block.sample].push(b);
                of
            });
        let mut tasks = Vec::new();
        for (pair, (i, j)) in pairs.iter().enumerate() {
            for rows in &of[*i] {
                for columns in of[*j].iter().filter(|c| i != j || *c >= rows) {
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

    /// About how many operations a pair of points takes.
    pub(crate) fn work(&self, tasks: &[Task]) -> usize {
        let pairs: usize = tasks
            .iter()
            .map(|t| self.blocks[t.rows].len * self.blocks[t.columns].len)
            .sum();
        pairs * (self.fields.len() * self.width + 4 * self.program.leaves.len())
    }
}

/// A pair of blocks, the same one twice for the pairs within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Which pair of samples it belongs to.
    pub(crate) pair: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// The most and the least rows of a block.
const BLOCK: (usize, usize) = (4 * STRIP, 48 * STRIP);

/// Blocks by size alone: about 32 in all, more of many rows.
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

fn weigh<T: Real>(inputs: &Inputs, rows: &[usize], blocks: &[Block]) -> Result<Weights<T>> {
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

/// The samples without the mean of all of them: distances are the same, and keep their digits.
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

/// What error of an exponent is put up with.
const EXPONENT_ERROR: f64 = 1e-4;

/// How a feature is computed: fast where points lie close enough to their mean, exactly elsewhere.
fn measure<T: Real>(feature: Feature, steepness: Option<f64>, panels: &[Panels<T>]) -> Measure {
    match feature {
        Feature::CityBlock => Measure::CityBlock,
        Feature::CentredDot | Feature::Dot | Feature::Cosine => Measure::Dot,
        Feature::SquaredExact => Measure::SquaredDifferences,
        Feature::Squared => {
            let error = 4.0 * largest_norm(panels) * T::epsilon().as_f64();
            match steepness.is_some_and(|s| error * s < EXPONENT_ERROR) {
                true => Measure::Squared,
                false => Measure::SquaredDifferences,
            }
        }
    }
}
