//! Distances between points, computed a tile at a time.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, LANES};

use super::cells::{Cells, ROWS, Sink, padded};

/// How the distance of two points is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Metric {
    SquaredEuclidean,
    Euclidean,
    CityBlock,
    Minkowski(f64),
}

impl Metric {
    /// The largest distance of points whose `width` coordinates differ by `side` at most.
    pub(crate) fn bound(self, side: f64, width: usize) -> f64 {
        let width = width as f64;
        match self {
            Self::SquaredEuclidean => side * side * width,
            Self::Euclidean => side * width.sqrt(),
            Self::CityBlock => side * width,
            Self::Minkowski(p) => side * width.powf(1.0 / p),
        }
    }
}

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

    /// A bound on the distances.
    pub(crate) fn bound(&self) -> f64 {
        let largest =
            simd::max(&self.x_norms).as_f64().sqrt() + simd::max(&self.y_norms).as_f64().sqrt();
        match self.metric {
            Metric::SquaredEuclidean => largest * largest,
            Metric::Euclidean => largest,
            // The norm for p < 2 is at most d^(1/p - 1/2) times the Euclidean one.
            Metric::CityBlock => largest * (self.width as f64).sqrt(),
            Metric::Minkowski(p) => largest * (self.width as f64).powf((1.0 / p - 0.5).max(0.0)),
        }
    }

    /// See [`super::costs::Costs::fill`].
    #[inline(always)]
    pub(crate) fn fill<I: Isa, S: Sink<T>>(
        &self,
        isa: I,
        (first, f): (usize, &[T]),
        g: &[T],
        inverse: T,
        cells: &mut Cells<T>,
    ) {
        match self.metric {
            Metric::SquaredEuclidean => {
                self.with::<I, _, S>(isa, (first, f), g, inverse, &Squared, cells)
            }
            Metric::Euclidean => {
                self.with::<I, _, S>(isa, (first, f), g, inverse, &By(Summed(Root)), cells)
            }
            Metric::CityBlock => {
                self.with::<I, _, S>(isa, (first, f), g, inverse, &By(Summed(Sum)), cells)
            }
            Metric::Minkowski(p) => {
                self.with::<I, _, S>(isa, (first, f), g, inverse, &By(Power(T::of(p))), cells)
            }
        }
    }

    #[inline(always)]
    fn with<I: Isa, D: Distance<T>, S: Sink<T>>(
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
trait Distance<T: Real> {
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

/// `|x|^2 + |y|^2 - 2 x . y`, folded into one chain of products: nothing is left to do after it.
struct Squared;

impl<T: Real> Distance<T> for Squared {
    #[inline(always)]
    fn scaled(x: T, inverse: T) -> T {
        T::of(2.0) * inverse * x
    }
    #[inline(always)]
    fn offset(f: T, norm: T, inverse: T) -> T {
        f - inverse * norm
    }
    #[inline(always)]
    fn shifted<I: Isa>(isa: I, g: T, norm: T, inverse: T) -> T {
        isa.mul_add(-inverse, norm, g)
    }
    #[inline(always)]
    fn tile<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
        (rows, columns): (&[T; R], &[T; LANES]),
        _: T,
    ) -> [[T; LANES]; R] {
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    sums[r][i] = isa.mul_add(x[r], y[i], sums[r][i]);
                }
            }
        }
        for r in 0..R {
            for i in 0..LANES {
                sums[r][i] += rows[r] + columns[i];
            }
        }
        sums
    }
}

/// Costs of a tile of R rows and one block of columns, from coordinates as they are.
trait Cost<T: Real> {
    fn costs<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
    ) -> [[T; LANES]; R];
}

/// The distance that such costs are.
struct By<C>(C);

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
trait Differences<T: Real> {
    fn add<I: Isa>(isa: I, sum: T, difference: T) -> T;
    fn finish(sum: T) -> T;
}

/// Such a cost.
struct Summed<D>(D);

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

struct Root;

impl<T: Real> Differences<T> for Root {
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: T, difference: T) -> T {
        isa.mul_add(difference, difference, sum)
    }
    #[inline(always)]
    fn finish(sum: T) -> T {
        sum.sqrt()
    }
}

struct Sum;

impl<T: Real> Differences<T> for Sum {
    #[inline(always)]
    fn add<I: Isa>(_: I, sum: T, difference: T) -> T {
        sum + difference.abs()
    }
    #[inline(always)]
    fn finish(sum: T) -> T {
        sum
    }
}

/// Powers of differences divided by the largest of them: none overflows, and not all underflow.
struct Power<T>(T);

impl<T: Real> Cost<T> for Power<T> {
    #[inline(always)]
    fn costs<I: Isa, const R: usize>(
        &self,
        isa: I,
        x: &[[T; R]],
        y: &[[T; LANES]],
    ) -> [[T; LANES]; R] {
        let mut largest = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    let e = (x[r] - y[i]).abs();
                    largest[r][i] = if e > largest[r][i] { e } else { largest[r][i] };
                }
            }
        }
        let mut sums = [[T::zero(); LANES]; R];
        for (x, y) in x.iter().zip(y) {
            for r in 0..R {
                for i in 0..LANES {
                    let most = largest[r][i];
                    let most = if most > T::zero() { most } else { T::one() };
                    sums[r][i] += power(isa, (x[r] - y[i]).abs() / most, self.0);
                }
            }
        }
        for r in 0..R {
            for i in 0..LANES {
                sums[r][i] = largest[r][i] * power(isa, sums[r][i], T::one() / self.0);
            }
        }
        sums
    }
}

/// `x^p` for x >= 0.
#[inline(always)]
fn power<T: Real, I: Isa>(isa: I, x: T, p: T) -> T {
    simd::exp_value(isa, p * simd::ln_value(isa, x))
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
