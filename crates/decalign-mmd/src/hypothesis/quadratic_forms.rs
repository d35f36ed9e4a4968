//! Quadratic forms `v^T K v` of kernel matrices, for all vectors and kernels in one pass.

use decalign_core::pairs::CHUNK;
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Error, Real, Result};

use super::label_vectors::{LabelVectors, PaddedLayout};
use crate::kernel::{Buffer, buffer};
use crate::pairwise::{PooledSamples, Task, Tile, TileRange, mask, schedule};

/// The pairs of points that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountedPairs {
    /// Whether pairs of a point with itself count.
    pub(crate) diagonal: bool,
    /// Whether pairs of point i of one sample and point i of the other are left out.
    pub(crate) exclude_paired: bool,
}

/// Results of a pass; every field has an entry a kernel.
pub(crate) struct QuadraticForms {
    /// `v^T K v` of every vector.
    pub(crate) values: Vec<Vec<f64>>,
    /// `K g`.
    pub(crate) rows: Vec<Vec<f64>>,
    /// The sum of squares of K without its diagonal.
    pub(crate) squares: Vec<f64>,
}

/// Sums of the tasks with a block of rows or of columns.
struct Gathered {
    values: Vec<f64>,
    rows: Vec<f64>,
    squares: Vec<f64>,
}

/// The forms of all vectors, and the products with `g` (in the order of the layout).
pub(crate) fn quadratic_forms<T: Real>(
    pool: &PooledSamples<T>,
    layout: &PaddedLayout,
    vectors: &LabelVectors<T>,
    g: &[T],
    pairs: CountedPairs,
) -> Result<QuadraticForms> {
    let kernels = pool.plan.kernels.len();
    let lanes = vectors.count.next_multiple_of(LANES);
    let gathered = pool.blocks.iter().map(|block| Gathered {
        values: vec![0.0; kernels * lanes],
        rows: vec![0.0; kernels * block.len],
        squares: vec![0.0; kernels],
    });
    let samples = pool.samples();
    let all = (0..samples).flat_map(|j| (0..=j).map(move |i| (i, j)));
    let tasks = pool.tasks(&all.collect::<Vec<_>>());
    let work = pool.work(&tasks).saturating_mul(1 + vectors.count / 8);
    let (gathered, _) = schedule::run(&tasks, gathered.collect(), work, |task, blocks| {
        let (rows, columns) = (pool.blocks[task.rows].len, pool.blocks[task.columns].len);
        let at = (layout.starts[task.rows], layout.starts[task.columns]);
        pool.tiles(task, &mut Tile::new(pool), |tile, range| {
            for q in 0..kernels {
                tile.evaluate(pool, q, range.size());
                prepare(&mut tile.values, pool, (task, range), pairs);
                let (row, column) = (at.0 + range.rows.first, at.1 + range.columns.first);
                let own = blocks.rows();
                simd::dispatch(Quadratic {
                    values: &tile.values,
                    size: range.size(),
                    vectors,
                    at: (row, column),
                    totals: &mut own.values[q * lanes..][..lanes],
                });
                let mut sums = Sums::default();
                simd::dispatch(Rows {
                    values: &tile.values,
                    size: range.size(),
                    g: (&g[row..], &g[column..]),
                    sums: &mut sums,
                });
                own.squares[q] += sums.squares;
                let out = &mut own.rows[q * rows + range.rows.first..];
                add(&mut out[..range.rows.len], &sums.rows);
                let out = &mut blocks.columns().rows[q * columns + range.columns.first..];
                add(&mut out[..range.columns.len], &sums.columns);
            }
            Ok(())
        })
    })?;
    collect(pool, &gathered, vectors.count)
}

fn add(out: &mut [f64], sums: &[f64]) {
    out.iter_mut().zip(sums).for_each(|(out, v)| *out += v);
}

fn collect<T: Real>(
    pool: &PooledSamples<T>,
    gathered: &[Gathered],
    count: usize,
) -> Result<QuadraticForms> {
    let kernels = pool.plan.kernels.len();
    let lanes = count.next_multiple_of(LANES);
    let mut forms = QuadraticForms {
        values: vec![vec![0.0; count]; kernels],
        rows: vec![Vec::new(); kernels],
        squares: vec![0.0; kernels],
    };
    for (block, part) in pool.blocks.iter().zip(gathered) {
        for q in 0..kernels {
            let values = forms.values[q].iter_mut().zip(&part.values[q * lanes..]);
            // A tile holds each pair once, and half of the diagonal.
            values.for_each(|(sum, v)| *sum += 2.0 * v);
            forms.rows[q].extend(&part.rows[q * block.len..][..block.len]);
            forms.squares[q] += 2.0 * part.squares[q];
        }
    }
    let all = forms.values.iter().chain(&forms.rows).flatten();
    match all.chain(&forms.squares).find(|v| !v.is_finite()) {
        None => Ok(forms),
        Some(bad) => {
            let remedy = "must be finite: distances or powers overflow; scale the samples down";
            Err(Error::value("a kernel sum", bad, remedy))
        }
    }
}

/// Clears entries that do not count: below the diagonal, in the padding, excluded pairs.
fn prepare<T: Real>(
    values: &mut Buffer<T>,
    pool: &PooledSamples<T>,
    (task, range): (Task, TileRange),
    pairs: CountedPairs,
) {
    let (rows, columns) = range.size();
    if range.diagonal {
        let diagonal = if pairs.diagonal { 0.5 } else { 0.0 };
        mask(values, rows, T::one(), T::of(diagonal));
    }
    clear_padding(values, (rows, columns));
    let (a, b) = (&pool.blocks[task.rows], &pool.blocks[task.columns]);
    if pairs.exclude_paired && a.sample != b.sample {
        let (row, column) = (a.first + range.rows.first, b.first + range.columns.first);
        for r in 0..rows {
            if let Some(c) = (row + r).checked_sub(column).filter(|c| *c < columns) {
                values[r * CHUNK + c] = T::zero();
            }
        }
    }
}

/// Clears the padding after the last row and the last column that loops over tiles read.
pub(crate) fn clear_padding<T: Real>(values: &mut Buffer<T>, (rows, columns): (usize, usize)) {
    let end = columns.next_multiple_of(LANES);
    for row in values.as_chunks_mut::<CHUNK>().0.iter_mut().take(rows) {
        row[columns..end].fill(T::zero());
    }
    let last = rows.next_multiple_of(GROUP);
    values[rows * CHUNK..last * CHUNK].fill(T::zero());
}

/// Rows that are multiplied together: a multiple of 6 rows in f32 and 3 in f64.
const GROUP: usize = 6;

/// `sum_rj v_r k_rj v_j` of every vector.
struct Quadratic<'a, T> {
    values: &'a Buffer<T>,
    size: (usize, usize),
    vectors: &'a LabelVectors<T>,
    /// Positions of the first row and of the first column.
    at: (usize, usize),
    totals: &'a mut [f64],
}

impl<T: Real> simd::Kernel for Quadratic<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // The vector registers hold the sums of 6 rows in f32 and of 3 in f64.
        match size_of::<T>() {
            4 => self.with::<I, 6>(isa),
            _ => self.with::<I, 3>(isa),
        }
    }
}

impl<T: Real> Quadratic<'_, T> {
    #[inline(always)]
    fn with<I: Isa, const R: usize>(self, isa: I) {
        let (rows, columns) = self.size;
        let groups = rows.div_ceil(R);
        // Transpose R rows at a time: the compiler does not vectorise loops over slices of rows reliably.
        let mut turned = buffer::<T>();
        for (turned, values) in turned
            .chunks_exact_mut(R * CHUNK)
            .zip(self.values.chunks_exact(R * CHUNK))
            .take(groups)
        {
            for (r, row) in values.as_chunks::<CHUNK>().0.iter().enumerate() {
                for (to, v) in turned.as_chunks_mut::<R>().0.iter_mut().zip(row) {
                    to[r] = *v;
                }
            }
        }
        let slabs = self
            .vectors
            .slabs
            .chunks_exact(self.vectors.padded.max(1) * LANES);
        // Sums of a tile stay in T: f64 sums in the loop would halve its vector width.
        let mut partial = vec![T::zero(); self.totals.len()];
        for (slab, partial) in slabs.zip(partial.as_chunks_mut::<LANES>().0) {
            let slab = slab.as_chunks::<LANES>().0;
            let y = &slab[self.at.1..][..columns];
            let x = slab[self.at.0..].as_chunks::<R>().0;
            for (x, k) in x.iter().zip(turned.chunks_exact(R * CHUNK)).take(groups) {
                let mut sums = [[T::zero(); LANES]; R];
                for (k, y) in k.as_chunks::<R>().0.iter().zip(y) {
                    for r in 0..R {
                        for i in 0..LANES {
                            sums[r][i] = isa.mul_add(k[r], y[i], sums[r][i]);
                        }
                    }
                }
                let mut total = *partial;
                for r in 0..R {
                    for i in 0..LANES {
                        total[i] = isa.mul_add(x[r][i], sums[r][i], total[i]);
                    }
                }
                *partial = total;
            }
        }
        for (total, v) in self.totals.iter_mut().zip(&partial) {
            *total += v.as_f64();
        }
    }
}

/// Sums of a tile by rows and by columns.
struct Sums {
    rows: [f64; CHUNK],
    columns: [f64; CHUNK],
    squares: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            rows: [0.0; CHUNK],
            columns: [0.0; CHUNK],
            squares: 0.0,
        }
    }
}

/// `sum_j k_rj g_j` of every row, `sum_r k_rj g_r` of every column, the sum of squares.
struct Rows<'a, T> {
    values: &'a Buffer<T>,
    size: (usize, usize),
    g: (&'a [T], &'a [T]),
    sums: &'a mut Sums,
}

impl<T: Real> simd::Kernel for Rows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (rows, columns) = self.size;
        let count = columns.div_ceil(LANES);
        let mut down = [[T::zero(); LANES]; CHUNK / LANES];
        // Blocks end at whole strips, which are whole lanes.
        let across = self.g.1.as_chunks::<LANES>().0;
        let values = self.values.as_chunks::<CHUNK>().0.iter();
        for ((row, g), out) in values.zip(self.g.0).zip(&mut self.sums.rows).take(rows) {
            let (mut sum, mut square) = ([T::zero(); LANES], [T::zero(); LANES]);
            let blocks = row.as_chunks::<LANES>().0.iter().zip(across);
            for ((k, other), down) in blocks.zip(&mut down).take(count) {
                for i in 0..LANES {
                    sum[i] = isa.mul_add(k[i], other[i], sum[i]);
                    down[i] = isa.mul_add(k[i], *g, down[i]);
                    square[i] = isa.mul_add(k[i], k[i], square[i]);
                }
            }
            *out = simd::total(sum).as_f64();
            self.sums.squares += simd::total(square).as_f64();
        }
        for (out, sum) in self.sums.columns.iter_mut().zip(down.as_flattened()) {
            *out = sum.as_f64();
        }
    }
}
