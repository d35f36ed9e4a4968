//! Gradients of kernel sums.

use decalign_core::pairs::{CHUNK, Measure, Panels, Part, add_product, add_signs, add_transposed};
use decalign_core::pairs::{fill, rows_of_slabs};
use decalign_core::simd::{self, LANES};
use decalign_core::{Real, Result};

use super::pool::{Pool, Task};
use super::rounds::{self, Ends};
use super::sums::Sum;
use super::tile::{Place, Tile, mask, zip};
use super::weigh::{Margins, Weigh};
use crate::kernel::{Buffer, Feature, buffer};

/// What a sum over a pair of samples counts: the pairs, and the diagonal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Coefficient {
    pub(crate) pairs: f64,
    pub(crate) diagonal: f64,
}

/// The function of kernel values that is differentiated.
pub(crate) enum Target<'a, T> {
    /// `sum_pq coefficients[p][q] sums[p][q]`, of [`Pool::sums`].
    Sums(&'a [Vec<Coefficient>]),
    /// `sum_rj k_rj L_r . R_j` over r < j of one kernel, half of it on the diagonal: L and R of every block.
    LowRank(&'a [Panels<T>], &'a [Panels<T>]),
}

/// Gradients, of every sample or kernel.
pub(crate) struct Pulled<T> {
    pub(crate) points: Vec<Vec<T>>,
    /// Empty without directions.
    pub(crate) directions: Vec<Vec<T>>,
    /// `sum_j coefficient b_j k_rj`: the gradient with respect to weights, as far as sums depend on
    /// them.
    pub(crate) weights: Vec<Vec<T>>,
    /// Of every leaf `sum_rj W_rj u_rj`, W being the gradient with respect to u.
    pub(crate) lengths: Vec<f64>,
    pub(crate) sums: Vec<Vec<Sum>>,
}

/// What a block gathers.
struct Gathered<T> {
    /// Of every field: sums over other points, as slabs, and of weights.
    fields: Vec<(Vec<T>, Vec<T>)>,
    weights: Vec<T>,
}

/// What a task finds besides.
struct Found {
    lengths: Vec<f64>,
    sums: Vec<Sum>,
}

impl<T: Real> Pool<T> {
    /// The gradient of a target; `weights`: with respect to the weights too.
    pub(crate) fn pull(
        &self,
        pairs: &[(usize, usize)],
        target: &Target<T>,
        weights: bool,
    ) -> Result<Pulled<T>> {
        let tasks = self.tasks(pairs);
        let gathered = (0..self.blocks.len()).map(|b| Gathered {
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
        let (gathered, found) = rounds::run(&tasks, gathered.collect(), work, |task, ends| {
            Puller::new(self, task, target, weights).run(ends)
        })?;
        let mut pulled = self.finish(&gathered);
        pulled.sums = vec![vec![Sum::default(); self.program.kernels.len()]; pairs.len()];
        for (task, found) in tasks.iter().zip(found) {
            let lengths = pulled.lengths.iter_mut().zip(found.lengths);
            lengths.for_each(|(sum, part)| *sum += part);
            for (sum, part) in pulled.sums[task.pair].iter_mut().zip(found.sums) {
                sum.pairs += part.pairs;
                sum.diagonal += part.diagonal;
            }
        }
        Ok(pulled)
    }

    fn finish(&self, gathered: &[Gathered<T>]) -> Pulled<T> {
        let samples = self.samples();
        let mut pulled = Pulled {
            points: vec![Vec::new(); samples],
            directions: Vec::new(),
            weights: vec![Vec::new(); samples],
            lengths: vec![0.0; self.program.leaves.len()],
            sums: Vec::new(),
        };
        if self.program.needs_directions() {
            pulled.directions = vec![Vec::new(); samples];
        }
        for (b, (block, gathered)) in self.blocks.iter().zip(gathered).enumerate() {
            let n = block.len;
            let mut points = vec![T::zero(); n * self.width];
            for (field, (slabs, masses)) in self.fields.iter().zip(&gathered.fields) {
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
                        pulled.directions[block.sample].extend(rows);
                        continue;
                    }
                    _ => {}
                }
                points.iter_mut().zip(&rows).for_each(|(p, v)| *p += *v);
            }
            pulled.points[block.sample].extend(points);
            pulled.weights[block.sample].extend(gathered.weights.iter().take(n));
        }
        pulled
    }
}

/// The gradient of one task.
struct Puller<'a, T> {
    pool: &'a Pool<T>,
    task: Task,
    target: &'a Target<'a, T>,
    /// Whether the gradient with respect to weights is wanted.
    weighted: bool,
    /// `L_r . R_j`.
    outer: Option<Box<Buffer<T>>>,
    found: Found,
}

impl<'a, T: Real> Puller<'a, T> {
    fn new(pool: &'a Pool<T>, task: Task, target: &'a Target<'a, T>, weighted: bool) -> Self {
        Self {
            pool,
            task,
            target,
            weighted,
            outer: matches!(target, Target::LowRank(..)).then(buffer),
            found: Found {
                lengths: vec![0.0; pool.program.leaves.len()],
                sums: vec![Sum::default(); pool.program.kernels.len()],
            },
        }
    }

    fn run(mut self, ends: &mut Ends<Gathered<T>>) -> Result<Found> {
        let pool = self.pool;
        pool.with_tile(|tile| {
            pool.tiles(self.task, tile, |tile, place| {
                tile.gradients.iter_mut().for_each(|(_, any)| *any = false);
                if let (Target::LowRank(left, right), Some(outer)) = (self.target, &mut self.outer)
                {
                    let rows = (&left[self.task.rows], place.rows);
                    let columns = (&right[self.task.columns], place.columns);
                    fill(Measure::Dot, rows, columns, outer);
                }
                for q in 0..pool.program.kernels.len() {
                    let coefficient = match self.target {
                        Target::Sums(coefficients) => coefficients[self.task.pair][q],
                        Target::LowRank(..) => Coefficient {
                            pairs: 1.0,
                            diagonal: 0.5,
                        },
                    };
                    self.kernel(tile, q, place, coefficient, ends);
                }
                self.gather(tile, place, ends);
                Ok(())
            })
        })?;
        Ok(self.found)
    }

    /// Adds the gradient of kernel `q` to those of the fields.
    fn kernel(
        &mut self,
        tile: &mut Tile<T>,
        q: usize,
        place: Place,
        c: Coefficient,
        ends: &mut Ends<Gathered<T>>,
    ) {
        let pool = self.pool;
        for term in &pool.program.kernels[q] {
            for (i, l) in term.leaves.iter().enumerate() {
                let leaf = pool.program.leaves[*l];
                let others: Vec<usize> = {
                    let all = term.leaves.iter().enumerate();
                    all.filter(|(j, _)| *j != i).map(|(_, l)| *l).collect()
                };
                // The rest of the product first: both need the same room.
                let rest = (!others.is_empty()).then(|| {
                    tile.product(pool, &others, 1.0, place.size());
                    tile.values.clone()
                });
                let Tile {
                    features,
                    values,
                    slopes,
                    ..
                } = tile;
                let u = &features[leaf.field];
                leaf.shape.map(u, place.size(), values, Some(slopes));
                if let Some(rest) = &rest {
                    zip(slopes, rest, |a, b| a * b);
                    zip(values, rest, |a, b| a * b);
                }
                self.weigh(tile, *l, term.factor, place, c);
            }
            // The values of the whole product are there still.
            self.values(tile, q, term.factor, place, c, ends);
        }
    }

    fn ends_of(&self, place: Place) -> (&'a [T], &'a [T]) {
        let (rows, columns) = (place.rows, place.columns);
        let columns_len = columns.len.next_multiple_of(LANES);
        (
            &self.pool.weights[self.task.rows][rows.first..][..rows.len],
            &self.pool.weights[self.task.columns][columns.first..][..columns_len],
        )
    }

    /// The slopes become the gradient with respect to the numbers of the field.
    fn weigh(&mut self, tile: &mut Tile<T>, l: usize, factor: f64, place: Place, c: Coefficient) {
        let leaf = self.pool.program.leaves[l];
        let mut scale = factor * c.pairs;
        if place.diagonal {
            let (above, on) = (T::of(factor * c.pairs), T::of(factor * c.diagonal));
            mask(&mut tile.slopes, place.rows.len, above, on);
            scale = 1.0;
        }
        let (a, b) = self.ends_of(place);
        let (to, any) = &mut tile.gradients[leaf.field];
        let learned = simd::dispatch(Weigh {
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
        self.found.lengths[l] += learned.as_f64();
    }

    /// Sums of values, and the gradient with respect to weights.
    fn values(
        &mut self,
        tile: &mut Tile<T>,
        q: usize,
        factor: f64,
        place: Place,
        c: Coefficient,
        ends: &mut Ends<Gathered<T>>,
    ) {
        if self.outer.is_some() {
            return;
        }
        let (a, b) = self.ends_of(place);
        if self.weighted {
            let mut weighted = tile.values.clone();
            let (above, on) = (T::of(factor * c.pairs), T::of(factor * c.diagonal));
            match place.diagonal {
                true => mask(&mut weighted, place.rows.len, above, on),
                false => weighted.iter_mut().for_each(|v| *v *= above),
            }
            let sums = simd::dispatch(Margins(&weighted, a, b));
            add(&mut ends.rows().weights, place.rows, &sums.0);
            add(&mut ends.columns().weights, place.columns, &sums.1);
        }
        let mut sum = Sum::default();
        tile.add_values(place, (a, b), &mut sum);
        self.found.sums[q].pairs += factor * sum.pairs;
        self.found.sums[q].diagonal += factor * sum.diagonal;
    }

    /// Takes the gradients of the fields to the points.
    fn gather(&self, tile: &Tile<T>, place: Place, ends: &mut Ends<Gathered<T>>) {
        let (rows, columns) = (place.rows, place.columns);
        for (f, (field, (w, any))) in self.pool.fields.iter().zip(&tile.gradients).enumerate() {
            if !any {
                continue;
            }
            let (x, y) = (
                &field.panels[self.task.rows],
                &field.panels[self.task.columns],
            );
            if field.feature == Feature::CityBlock {
                let (to_x, to_y) = ends.both();
                let to_x = to_x.map(|e| e.fields[f].0.as_mut_slice());
                add_signs(w, (x, rows, to_x), (y, columns, &mut to_y.fields[f].0));
                continue;
            }
            if matches!(field.feature, Feature::Squared | Feature::SquaredExact) {
                let ones = ([T::one(); CHUNK], [T::one(); CHUNK]);
                let count = columns.len.next_multiple_of(LANES);
                let ones = (&ones.0[..rows.len], &ones.1[..count]);
                let sums = simd::dispatch(Margins(w, ones.0, ones.1));
                add(&mut ends.rows().fields[f].1, rows, &sums.0);
                add(&mut ends.columns().fields[f].1, columns, &sums.1);
            }
            add_product(
                w,
                (x.padded(), rows),
                (y, columns),
                &mut ends.rows().fields[f].0,
            );
            add_transposed(
                w,
                (x, rows),
                (y.padded(), columns),
                &mut ends.columns().fields[f].0,
            );
        }
    }
}

fn add<T: Real>(to: &mut [T], part: Part, sums: &[T; CHUNK]) {
    let to = to[part.first..][..part.len].iter_mut();
    to.zip(sums).for_each(|(a, b)| *a += *b);
}
