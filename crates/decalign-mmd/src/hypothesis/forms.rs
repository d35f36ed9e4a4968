//! Quadratic forms of kernel matrices: all vectors and all kernels in one pass.

use decalign_core::pairs::CHUNK;
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Error, Real, Result};

use super::vectors::{Layout, Vectors};
use crate::kernel::{Buffer, buffer};
use crate::pass::{Place, Pool, Task, Tile, mask, rounds};

/// What counts of a kernel matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Pairs of a point with itself.
    pub(crate) diagonal: bool,
    /// Whether point i of one sample and point i of the other do not meet.
    pub(crate) paired: bool,
}

/// What a pass found, of every kernel.
pub(crate) struct Forms {
    /// `v^T K v` of every vector.
    pub(crate) values: Vec<Vec<f64>>,
    /// `K g`.
    pub(crate) rows: Vec<Vec<f64>>,
    /// The sum of squares of K without its diagonal.
    pub(crate) squares: Vec<f64>,
}

/// What the tasks with a block for rows, or for columns, add up.
struct Gathered {
    values: Vec<f64>,
    rows: Vec<f64>,
    squares: Vec<f64>,
}

/// The forms of all vectors, and the product with `g` (in the places of the layout).
pub(crate) fn forms<T: Real>(
    pool: &Pool<T>,
    layout: &Layout,
    vectors: &Vectors<T>,
    g: &[T],
    rule: Rule,
) -> Result<Forms> {
    let kernels = pool.program.kernels.len();
    let lanes = vectors.count.next_multiple_of(LANES);
    let gathered = pool.blocks.iter().map(|block| Gathered {
        values: vec![0.0; kernels * lanes],
        rows: vec![0.0; kernels * block.len],
        squares: vec![0.0; kernels],
    });
    let samples = pool.samples();
    let pairs = (0..samples).flat_map(|j| (0..=j).map(move |i| (i, j)));
    let tasks = pool.tasks(&pairs.collect::<Vec<_>>());
    let work = pool.work(&tasks).saturating_mul(1 + vectors.count / 8);
    let (gathered, _) = rounds::run(&tasks, gathered.collect(), work, |task, ends| {
        let (rows, columns) = (pool.blocks[task.rows].len, pool.blocks[task.columns].len);
        let at = (layout.starts[task.rows], layout.starts[task.columns]);
        pool.tiles(task, &mut Tile::new(pool), |tile, place| {
            for q in 0..kernels {
                tile.evaluate(pool, q, place.size());
                prepare(&mut tile.values, pool, (task, place), rule);
                let (row, column) = (at.0 + place.rows.first, at.1 + place.columns.first);
                let own = ends.rows();
                simd::dispatch(Quadratic {
                    values: &tile.values,
                    size: place.size(),
                    vectors,
                    at: (row, column),
                    totals: &mut own.values[q * lanes..][..lanes],
                });
                let mut sums = Sums::default();
                simd::dispatch(Rows {
                    values: &tile.values,
                    size: place.size(),
                    g: (&g[row..], &g[column..]),
                    sums: &mut sums,
                });
                own.squares[q] += sums.squares;
                let out = &mut own.rows[q * rows + place.rows.first..];
                add(&mut out[..place.rows.len], &sums.rows);
                let out = &mut ends.columns().rows[q * columns + place.columns.first..];
                add(&mut out[..place.columns.len], &sums.columns);
            }
            Ok(())
        })
    })?;
    collect(pool, &gathered, vectors.count)
}

fn add(out: &mut [f64], sums: &[f64]) {
    out.iter_mut().zip(sums).for_each(|(out, v)| *out += v);
}

fn collect<T: Real>(pool: &Pool<T>, gathered: &[Gathered], count: usize) -> Result<Forms> {
    let kernels = pool.program.kernels.len();
    let lanes = count.next_multiple_of(LANES);
    let mut forms = Forms {
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

/// Clears what does not count: below the diagonal, behind the end, pairs that must not meet.
fn prepare<T: Real>(
    values: &mut Buffer<T>,
    pool: &Pool<T>,
    (task, place): (Task, Place),
    rule: Rule,
) {
    let (rows, columns) = place.size();
    if place.diagonal {
        let diagonal = if rule.diagonal { 0.5 } else { 0.0 };
        mask(values, rows, T::one(), T::of(diagonal));
    }
    clear_behind(values, (rows, columns));
    let (a, b) = (&pool.blocks[task.rows], &pool.blocks[task.columns]);
    if rule.paired && a.sample != b.sample {
        let (row, column) = (a.first + place.rows.first, b.first + place.columns.first);
        for r in 0..rows {
            if let Some(c) = (row + r).checked_sub(column).filter(|c| *c < columns) {
                values[r * CHUNK + c] = T::zero();
            }
        }
    }
}

/// Clears what lies behind the last row and the last column, as far as loops over tiles go.
pub(crate) fn clear_behind<T: Real>(values: &mut Buffer<T>, (rows, columns): (usize, usize)) {
    let end = columns.next_multiple_of(LANES);
    for row in values.as_chunks_mut::<CHUNK>().0.iter_mut().take(rows) {
        row[columns..end].fill(T::zero());
    }
    let last = rows.next_multiple_of(GROUP);
    values[rows * CHUNK..last * CHUNK].fill(T::zero());
}

/// Rows that are multiplied together, a multiple of what either type takes.
const GROUP: usize = 6;

/// `sum_rj v_r k_rj v_j` of every vector.
struct Quadratic<'a, T> {
    values: &'a Buffer<T>,
    size: (usize, usize),
    vectors: &'a Vectors<T>,
    /// Places of the first row and of the first column.
    at: (usize, usize),
    totals: &'a mut [f64],
}

impl<T: Real> simd::Kernel for Quadratic<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // As many sums as the registers hold.
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
        // Column after column of R rows: loops over slices of rows are not made vector code reliably.
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
        // Of a tile, in the type itself: a sum in f64 in the loop would halve the width of its vectors.
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
