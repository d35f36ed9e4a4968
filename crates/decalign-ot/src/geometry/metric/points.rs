//! Two sets of points, in the order that tiles read them, and the loops over tiles that all metrics share.

use decalign_core::Real;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::{self, Isa, LANES};

use super::Metric;
use crate::geometry::cells::{Cells, ROWS, Sink, padded};

/// Points about their common mean, in the order that tiles read them.
pub(crate) struct Points<T> {
    pub(crate) metric: Metric,
    pub(crate) width: usize,
    /// As given, row after row; rows of `y` up to [`padded`] length.
    pub(crate) x: Vec<T>,
    pub(crate) y: Vec<T>,
    /// Groups of as many rows as a tile has, coordinate after coordinate.
    x_groups: Vec<T>,
    /// Blocks of [`LANES`] rows, likewise.
    y_blocks: Vec<T>,
    pub(crate) x_norms: Vec<T>,
    pub(crate) y_norms: Vec<T>,
}

/// Rows of a tile: as many as keep their sums in the registers of 256-bit vectors.
const fn group<T>() -> usize {
    if size_of::<T>() == 4 { 6 } else { 3 }
}

impl<T: Real> Points<T> {
    pub(crate) fn new(mut x: Vec<T>, mut y: Vec<T>, width: usize, metric: Metric) -> Self {
        centre(&mut x, &mut y, width);
        y.resize(padded(y.len() / width) * width, T::zero());
        let norms = |x: &[T]| x.chunks_exact(width).map(simd::sum_squares).collect();
        let (x_norms, y_norms): (Vec<T>, Vec<T>) = (norms(&x), norms(&y));
        Self {
            metric,
            width,
            x_groups: grouped(&x, width, group::<T>()),
            y_blocks: grouped(&y, width, LANES),
            x,
            y,
            x_norms,
            y_norms,
        }
    }

    /// A bound on the costs.
    pub(crate) fn bound(&self) -> f64 {
        let norms = [&self.x_norms, &self.y_norms];
        let [x, y] = norms.map(|norms| simd::max(norms).as_f64().sqrt());
        self.metric.bound(x + y, self.width)
    }

    /// Tiles of the rows in `f`, by the metric.
    #[inline(always)]
    pub(super) fn fill_by<I: Isa, D: Distance<T>, S: Sink<T>>(
        &self,
        isa: I,
        rows: (usize, &[T]),
        g: &[T],
        inverse: T,
        distance: &D,
        cells: &mut Cells<T>,
    ) {
        // Two copies of one loop, each with the tile that suits its type.
        match group::<T>() {
            6 => self.tiles::<I, D, S, 6>(isa, rows, g, inverse, distance, cells),
            _ => self.tiles::<I, D, S, 3>(isa, rows, g, inverse, distance, cells),
        }
    }

    #[inline(always)]
    fn tiles<I: Isa, D: Distance<T>, S: Sink<T>, const R: usize>(
        &self,
        isa: I,
        (first, f): (usize, &[T]),
        g: &[T],
        inverse: T,
        distance: &D,
        cells: &mut Cells<T>,
    ) {
        debug_assert!(first % ROWS == 0 && ROWS.is_multiple_of(R));
        let d = self.width;
        let mut x = vec![[T::zero(); R]; d];
        for (part, f) in f.chunks(R).enumerate() {
            let start = first + part * R;
            let group = &self.x_groups[start * d..][..R * d];
            for (to, from) in x.iter_mut().zip(group.as_chunks::<R>().0) {
                *to = from.map(|v| D::scaled(v, inverse));
            }
            let mut offsets = [T::neg_infinity(); R];
            for (r, (offset, f)) in offsets.iter_mut().zip(f).enumerate() {
                *offset = D::offset(*f, self.x_norms[start + r], inverse);
            }
            let mut outs = cells.values.chunks_exact_mut(g.len()).skip(part * R);
            let outs: [&mut [[T; LANES]]; R] = std::array::from_fn(|_| match outs.next() {
                Some(out) => out.as_chunks_mut::<LANES>().0,
                None => &mut [],
            });
            let mut sums = [[T::zero(); LANES]; R];
            let given = g
                .as_chunks::<LANES>()
                .0
                .iter()
                .zip(self.y_norms.as_chunks::<LANES>().0);
            let blocks = self.y_blocks.chunks_exact(d * LANES).zip(given);
            for (block, (y, (g, norms))) in blocks.enumerate() {
                let mut shifted = *g;
                for i in 0..LANES {
                    shifted[i] = D::shifted(isa, g[i], norms[i], inverse);
                }
                let y = y.as_chunks::<LANES>().0;
                let tile = distance.tile(isa, &x, y, (&offsets, &shifted), inverse);
                for r in 0..R {
                    S::take(isa, tile[r], &mut outs[r][block], &mut sums[r]);
                }
            }
            cells.lanes[part * R..][..R].copy_from_slice(&sums);
        }
    }
}

/// `f_r + g_j - inverse C_rj` of a tile of R rows and one block of columns.
pub(super) trait Distance<T: Real> {
    /// What is prepared of a coordinate of x, of a row and of a column.
    fn scaled(x: T, inverse: T) -> T;
    fn offset(f: T, norm: T, inverse: T) -> T;
    fn shifted<I: Isa>(isa: I, g: T, norm: T, inverse: T) -> T;
    fn tile<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        offsets: (&[T; R], &[T; LANES]),
        inverse: T,
    ) -> [[T; LANES]; R];
}

/// Costs of a tile of R rows and one block of columns, from coordinates as they are.
pub(super) trait Cost<T: Real> {
    fn costs<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
    ) -> [[T; LANES]; R];
}

/// The distance that such costs are.
pub(super) struct By<C>(pub(super) C);

impl<T: Real, C: Cost<T>> Distance<T> for By<C> {
    #[inline(always)]
    fn scaled(x: T, _: T) -> T {
        x
    }
    #[inline(always)]
    fn offset(f: T, _: T, _: T) -> T {
        f
    }
    #[inline(always)]
    fn shifted<I: Isa>(_: I, g: T, _: T, _: T) -> T {
        g
    }
    #[inline(always)]
    fn tile<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        (rows, columns): (&[T; R], &[T; LANES]),
        inverse: T,
    ) -> [[T; LANES]; R] {
        let mut tile = self.0.costs(isa, x, y);
        for r in 0..R {
            for i in 0..LANES {
                tile[r][i] = isa.mul_add(-inverse, tile[r][i], rows[r] + columns[i]);
            }
        }
        tile
    }
}

/// Costs that are functions of a sum over coordinate differences.
pub(super) trait Differences<T: Real> {
    fn add<I: Isa>(isa: I, sum: T, difference: T) -> T;
    fn finish(sum: T) -> T;
}

/// Such a cost.
pub(super) struct Summed<D>(pub(super) D);

impl<T: Real, D: Differences<T>> Cost<T> for Summed<D> {
    #[inline(always)]
    fn costs<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
    ) -> [[T; LANES]; R] {
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    sums[r][i] = D::add(isa, sums[r][i], x[r] - y[i]);
                }
            }
        }
        sums.map(|row| row.map(D::finish))
    }
}

impl<T: Real> Points<T> {
    /// `sum_j w_rj (x_r - y_j)` of the rows from `first` that `out` holds: the gradient of costs whose derivative is a multiple of the
    /// difference.
    pub(super) fn sum_differences(&self, first: usize, w: &[T], out: &mut [T]) {
        let (d, m) = (self.width, self.y_norms.len());
        let x = &self.x[first * d..][..out.len()];
        let weights = Matrix::new(w, out.len() / d, m);
        matmul(out, d, weights, Matrix::new(&self.y, m, d), Store::Write);
        for ((out, x), w) in out
            .chunks_exact_mut(d)
            .zip(x.chunks_exact(d))
            .zip(w.chunks_exact(m))
        {
            let mass = simd::sum(w);
            out.iter_mut().zip(x).for_each(|(o, x)| *o = mass * *x - *o);
        }
    }

    /// `sum_j w_rj slope(x_r - y_j, C_rj)` of the rows from `first` that `out` holds, `slope` being that of one coordinate.
    pub(super) fn sum_slopes(
        &self,
        first: usize,
        (w, costs): (&[T], &[T]),
        out: &mut [T],
        slope: impl Fn(T, T) -> T,
    ) {
        let (d, m) = (self.width, self.y_norms.len());
        let x = &self.x[first * d..][..out.len()];
        let rows = out.chunks_exact_mut(d).zip(x.chunks_exact(d));
        for ((out, x), (w, costs)) in rows.zip(w.chunks_exact(m).zip(costs.chunks_exact(m))) {
            out.fill(T::zero());
            let pairs = self.y.chunks_exact(d).zip(w.iter().zip(costs));
            for (y, (w, c)) in pairs.filter(|(_, (w, _))| **w != T::zero()) {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    let e = *x - *y;
                    if e != T::zero() {
                        *out += *w * slope(e, *c);
                    }
                }
            }
        }
    }
}

/// Moves both sets so that their common mean is 0: distances keep their digits.
fn centre<T: Real>(x: &mut [T], y: &mut [T], width: usize) {
    let rows = ((x.len() + y.len()) / width) as f64;
    let mut mean = vec![0.0; width];
    for row in x.chunks_exact(width).chain(y.chunks_exact(width)) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, v)| *m += v.as_f64() / rows);
    }
    for row in x.chunks_exact_mut(width).chain(y.chunks_exact_mut(width)) {
        row.iter_mut()
            .zip(&mean)
            .for_each(|(v, m)| *v = T::of(v.as_f64() - m));
    }
}

/// Rows in groups of `size`, each coordinate after coordinate; the last groups are filled with
/// zeros up to whole [`ROWS`].
fn grouped<T: Real>(x: &[T], width: usize, size: usize) -> Vec<T> {
    let rows = (x.len() / width).next_multiple_of(if size == LANES { LANES } else { ROWS });
    let mut groups = vec![T::zero(); rows * width];
    for (i, row) in x.chunks_exact(width).enumerate() {
        let group = &mut groups[(i / size) * size * width..][..size * width];
        for (k, v) in row.iter().enumerate() {
            group[k * size + i % size] = *v;
        }
    }
    groups
}
