//! Separable costs between grids.

use candle_core::Tensor;
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, Result, parallel};

use crate::tensor_convert::read;

/// The costs along every axis, in base-2 sums of exponentials one axis at a time.
pub(crate) struct Grid<T> {
    axes: Vec<Axis<T>>,
}

struct Axis<T> {
    n: usize,
    m: usize,
    cost: Vec<T>,
    transposed: Vec<T>,
}

impl<T: Real> Axis<T> {
    fn new(cost: Vec<T>, n: usize, m: usize) -> Self {
        let transposed = (0..n * m).map(|k| cost[(k % n) * m + k / n]).collect();
        Self {
            n,
            m,
            cost,
            transposed,
        }
    }

    /// The matrix that takes m entries to n, or with `back` the other way.
    fn direction(&self, back: bool) -> (&[T], usize) {
        match back {
            true => (&self.transposed, self.n),
            false => (&self.cost, self.m),
        }
    }

    fn least(&self) -> T {
        self.cost
            .iter()
            .fold(T::infinity(), |a, v| if *v < a { *v } else { a })
    }
}

impl<T: Real> Grid<T> {
    pub(crate) fn read(axes: &[Tensor]) -> Result<Self> {
        let each = axes.iter().map(|axis| {
            let (n, m) = axis.dims2()?;
            Ok(Axis::new(read(axis)?, n, m))
        });
        Ok(Self {
            axes: each.collect::<Result<_>>()?,
        })
    }

    /// n and m.
    pub(crate) fn size(&self) -> (usize, usize) {
        (
            self.axes.iter().map(|a| a.n).product(),
            self.axes.iter().map(|a| a.m).product(),
        )
    }

    pub(crate) fn range(&self) -> f64 {
        let each = self
            .axes
            .iter()
            .map(|a| simd::max(&a.cost).as_f64() - a.least().as_f64());
        each.sum()
    }

    /// `log2 sum_j 2^(g_j - inverse C_ij)` of every i, or with `back` of every j over all i.
    pub(crate) fn log_sums(&self, g: &[T], inverse: T, back: bool) -> Vec<T> {
        self.contract(g, inverse, back, usize::MAX)
    }

    /// `sum_ij 2^(f_i + g_j - inverse C_ij) C_ij`.
    pub(crate) fn cost(&self, f: &[T], g: &[T], inverse: T, mass: f64) -> f64 {
        let mut total = 0.0;
        for (k, axis) in self.axes.iter().enumerate() {
            // Costs above the least are positive and have logarithms.
            let logs = self.contract(g, inverse, false, k);
            let above: f64 = f
                .iter()
                .zip(&logs)
                .map(|(f, l)| (*f + *l).exp2().as_f64())
                .sum();
            total += above + axis.least().as_f64() * mass;
        }
        total
    }

    /// Sums over the last axis, which then becomes the first: after all axes they are in order again.
    /// Along axis `weighted` the terms are multiplied by how much their cost is above the least.
    fn contract(&self, g: &[T], inverse: T, back: bool, weighted: usize) -> Vec<T> {
        let mut array = g.to_vec();
        for (k, axis) in self.axes.iter().enumerate().rev() {
            let (cost, from) = axis.direction(back);
            let to = cost.len() / from;
            let least = axis.least();
            let logs = cost.iter().map(|c| match k == weighted {
                true => (*c - least).log2() - inverse * *c,
                false => -inverse * *c,
            });
            let logs: Vec<T> = logs.collect();
            let rows = array.len() / from;
            let mut out = vec![T::zero(); rows * to];
            parallel::for_each_chunk(&mut out, 16 * to, 12 * rows * from * to, |chunk, out| {
                let input = &array[chunk * 16 * from..];
                simd::dispatch(LogSums {
                    input,
                    logs: &logs,
                    from,
                    to,
                    out,
                });
            });
            array = transposed(&out, rows, to);
        }
        array
    }

    /// The gradient of `sum_ij W_ij C_ij` with respect to the costs of axis k, for `W = 2^(f + g - inverse C) (L R^T)` with L and R of
    /// `rank` columns. Terms of either sign are summed apart, as logarithms have none.
    pub(super) fn backward(
        &self,
        [f, g, left, right]: [&[T]; 4],
        (inverse, rank): (T, usize),
        k: usize,
    ) -> Vec<f64> {
        let mut sums: Vec<f64> = Vec::new();
        let part = |potential: &[T], factors: &[T], c: usize, sign: f64| -> Vec<T> {
            let factors = factors.iter().skip(c).step_by(rank);
            let positive = factors.map(|v| {
                if v.as_f64() * sign > 0.0 {
                    v.abs()
                } else {
                    T::zero()
                }
            });
            potential
                .iter()
                .zip(positive)
                .map(|(f, v)| *f + v.log2())
                .collect()
        };
        for c in 0..rank {
            for (row_sign, column_sign) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
                let f = part(f, left, c, row_sign);
                let g = part(g, right, c, column_sign);
                if simd::max(&f) == T::neg_infinity() || simd::max(&g) == T::neg_infinity() {
                    continue;
                }
                let each = self.axis_sums(&f, &g, inverse, k);
                sums.resize(each.len(), 0.0);
                sums.iter_mut()
                    .zip(each)
                    .for_each(|(s, v)| *s += row_sign * column_sign * v);
            }
        }
        match sums.is_empty() {
            true => self
                .axis_sums(f, g, inverse, k)
                .iter()
                .map(|_| 0.0)
                .collect(),
            false => sums,
        }
    }

    /// Along axis k, `sum 2^(f_i + g_j - inverse C_ij)` over all i, j with given i_k, j_k.
    fn axis_sums(&self, f: &[T], g: &[T], inverse: T, k: usize) -> Vec<f64> {
        let axis = &self.axes[k];
        // Every other axis is summed; this one is moved to the end on both sides.
        let g = self.gather(g, inverse, k);
        let f = rotate(f, &self.axes.iter().map(|a| a.n).collect::<Vec<_>>(), k);
        let (rest, n, m) = (f.len() / axis.n, axis.n, axis.m);
        let mut sums = vec![0.0; n * m];
        for r in 0..rest {
            for i in 0..n {
                for j in 0..m {
                    let exponent = f[r * n + i] + g[r * m + j] - inverse * axis.cost[i * m + j];
                    sums[i * m + j] += exponent.exp2().as_f64();
                }
            }
        }
        sums
    }

    /// Logarithmic sums over all axes but k, in the order (n of the others, m_k).
    fn gather(&self, g: &[T], inverse: T, k: usize) -> Vec<T> {
        let mut array = g.to_vec();
        // One axis after the other, the last first, is summed or left and becomes the first.
        for (l, axis) in self.axes.iter().enumerate().rev() {
            let rows = array.len() / axis.m;
            if l == k {
                array = transposed(&array, rows, axis.m);
                continue;
            }
            let logs: Vec<T> = axis.cost.iter().map(|c| -inverse * *c).collect();
            let mut out = vec![T::zero(); rows * axis.n];
            simd::dispatch(LogSums {
                input: &array,
                logs: &logs,
                from: axis.m,
                to: axis.n,
                out: &mut out,
            });
            array = transposed(&out, rows, axis.n);
        }
        let sizes: Vec<usize> = self
            .axes
            .iter()
            .enumerate()
            .map(|(l, a)| if l == k { a.m } else { a.n })
            .collect();
        rotate(&array, &sizes, k)
    }
}

/// Axis k moved to the end.
fn rotate<T: Real>(x: &[T], sizes: &[usize], k: usize) -> Vec<T> {
    let outer: usize = sizes[..k].iter().product();
    let inner: usize = sizes[k + 1..].iter().product();
    let block = sizes[k] * inner;
    (0..outer)
        .flat_map(|o| transposed(&x[o * block..][..block], sizes[k], inner))
        .collect()
}

fn transposed<T: Real>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..rows * columns)
        .map(|k| x[(k % rows) * columns + k / rows])
        .collect()
}

/// `out[r, i] = log2 sum_j 2^(input[r, j] + logs[i, j])`.
struct LogSums<'a, T> {
    input: &'a [T],
    logs: &'a [T],
    from: usize,
    to: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel for LogSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            input,
            logs,
            from,
            to,
            out,
        } = self;
        let mut terms = vec![T::neg_infinity(); from.next_multiple_of(LANES)];
        for (row, out) in input.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            for (logs, out) in logs.chunks_exact(from).zip(out) {
                for ((t, v), l) in terms.iter_mut().zip(row).zip(logs) {
                    *t = *v + *l;
                }
                *out = log_sum(isa, &terms);
            }
        }
    }
}

/// `log2 sum 2^x`, shifted by the largest; of whole blocks.
#[inline(always)]
fn log_sum<T: Real, I: Isa>(isa: I, terms: &[T]) -> T {
    let blocks = terms.as_chunks::<LANES>().0;
    let mut largest = [T::neg_infinity(); LANES];
    for block in blocks {
        for i in 0..LANES {
            largest[i] = if block[i] > largest[i] {
                block[i]
            } else {
                largest[i]
            };
        }
    }
    let largest = largest
        .into_iter()
        .fold(T::neg_infinity(), |a, v| if v > a { v } else { a });
    if !largest.is_finite() {
        return largest;
    }
    let mut sums = [T::zero(); LANES];
    for block in blocks {
        for i in 0..LANES {
            sums[i] += simd::exp2_value(isa, block[i] - largest);
        }
    }
    largest + simd::total(sums).log2()
}
