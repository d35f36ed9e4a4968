//! Products with a kernel in the log domain: the messages along an edge.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::engine::greatest;
use super::passes::columns;

/// The costs of an edge, in rows of whole blocks.
pub(super) struct EdgeCosts<T> {
    cost: Vec<T>,
    stride: usize,
}

/// The length of a vector in whole blocks.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

impl<T: Real> EdgeCosts<T> {
    /// Of a matrix with so many columns.
    pub(super) fn new(cost: &[T], columns: usize) -> Self {
        let stride = padded(columns);
        let mut rows = vec![T::zero(); cost.len() / columns * stride];
        for (to, from) in rows
            .chunks_exact_mut(stride)
            .zip(cost.chunks_exact(columns))
        {
            to[..columns].copy_from_slice(from);
        }
        Self { cost: rows, stride }
    }

    /// The costs from point `i`, padded.
    pub(super) fn row(&self, i: usize) -> &[T] {
        &self.cost[i * self.stride..][..self.stride]
    }
}

/// What is sent along an edge in one direction:
///
/// ```text
/// out_j = log sum_i exp(a_i - C_ij / eps)
/// ```
///
/// From one sweep to the next `a` moves little. So `A_ij = exp(a_i - C_ij / eps - shift_j)` of an
/// earlier `a`, the origin, is kept: the sum is `A^T exp(a - origin)`, without an exponential a cell,
/// until `a` has moved far.
pub(super) struct Message<'a, T> {
    costs: &'a EdgeCosts<T>,
    kernel: Vec<T>,
    origin: Vec<T>,
    shift: Vec<T>,
    /// `exp(a - origin)`.
    factors: Vec<T>,
    sums: Vec<T>,
    /// `1 / eps` of the kernel; 0 of none.
    inverse: T,
}

/// Columns of one piece of work.
const COLUMNS: usize = 512;
/// Cells of one piece of work.
const PIECE: usize = 1 << 14;

/// Sums and factors outside are not trusted: what underflows might matter beside them.
fn trusted<T: Real>(x: &[T]) -> bool {
    let (low, high) = (T::of(1e-12), T::of(1e12));
    // Every number is looked at, so that the loop needs no branch.
    x.iter()
        .fold(true, |all, v| all & (*v >= low) & (*v <= high))
}

impl<'a, T: Real> Message<'a, T> {
    pub(super) fn new(costs: &'a EdgeCosts<T>) -> Self {
        let points = costs.cost.len() / costs.stride;
        Self {
            costs,
            kernel: vec![T::zero(); costs.cost.len()],
            origin: vec![T::zero(); points],
            shift: vec![T::zero(); costs.stride],
            factors: vec![T::zero(); points],
            sums: vec![T::zero(); costs.stride],
            inverse: T::zero(),
        }
    }

    /// The message; `a` is -inf where there is no mass. What `out` holds is taken as a guess.
    pub(super) fn send(&mut self, a: &[T], inverse: T, out: &mut [T]) {
        if inverse != self.inverse || !self.is_near(a) {
            self.renew(a, inverse, out);
        }
        columns(&self.kernel, &self.factors, &mut self.sums);
        if !trusted(&self.sums) {
            largest(self.costs, a, inverse, out);
            self.renew(a, inverse, out);
            columns(&self.kernel, &self.factors, &mut self.sums);
        }
        simd::ln(&self.sums, out);
        out.iter_mut().zip(&self.shift).for_each(|(o, s)| *o += *s);
    }

    /// Finds the factors; whether they can be trusted.
    fn is_near(&mut self, a: &[T]) -> bool {
        for ((x, a), origin) in self.factors.iter_mut().zip(a).zip(&self.origin) {
            // Without mass: 1, for now.
            *x = if *a > T::neg_infinity() {
                *a - *origin
            } else {
                T::zero()
            };
        }
        simd::exp_in_place(&mut self.factors);
        trusted(&self.factors)
    }

    /// The kernel of `a`, its columns shifted.
    fn renew(&mut self, a: &[T], inverse: T, shift: &[T]) {
        self.inverse = inverse;
        self.origin.copy_from_slice(a);
        self.shift.copy_from_slice(shift);
        // Rows without mass are zeros.
        self.factors.fill(T::one());
        let stride = self.costs.stride;
        let rows = (PIECE / stride).max(1);
        let (cost, shift) = (&self.costs.cost, &self.shift);
        parallel::for_each_chunk(
            &mut self.kernel,
            rows * stride,
            20 * cost.len(),
            |i, kernel| {
                simd::dispatch(Exponentials {
                    cost: &cost[i * rows * stride..],
                    a: &a[i * rows..],
                    shift,
                    inverse,
                    kernel,
                });
            },
        );
    }
}

/// `A_ij = exp(a_i - C_ij / eps - shift_j)`.
struct Exponentials<'a, T> {
    cost: &'a [T],
    a: &'a [T],
    shift: &'a [T],
    inverse: T,
    kernel: &'a mut [T],
}

impl<T: Real> Kernel for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.shift.len();
        let rows = self.cost.chunks_exact(n).zip(self.a);
        for ((cost, a), kernel) in rows.zip(self.kernel.chunks_exact_mut(n)) {
            for_blocks!(at in n, {
                let (mut c, shift) = (at.load(cost), at.load(self.shift));
                for i in 0..LANES {
                    let term = isa.mul_add(-self.inverse, c[i], *a - shift[i]);
                    c[i] = simd::exp_normal_value(isa, term);
                }
                at.store(c, kernel);
            });
        }
    }
}

/// `max_i (a_i - C_ij / eps)`.
fn largest<T: Real>(costs: &EdgeCosts<T>, a: &[T], inverse: T, out: &mut [T]) {
    struct Largest<'a, T> {
        costs: &'a EdgeCosts<T>,
        start: usize,
        a: &'a [T],
        inverse: T,
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Largest<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let n = self.out.len();
            self.out.fill(T::neg_infinity());
            for (i, a) in self.a.iter().enumerate() {
                let costs = &self.costs.row(i)[self.start..][..n];
                for_blocks!(at in n, {
                    let (c, mut most) = (at.load(costs), at.load(self.out));
                    for i in 0..LANES {
                        most[i] = greatest(most[i], isa.mul_add(-self.inverse, c[i], *a));
                    }
                    at.store(most, self.out);
                });
            }
        }
    }
    let work = 4 * a.len() * out.len();
    parallel::for_each_chunk(out, COLUMNS, work, |i, out| {
        simd::dispatch(Largest {
            costs,
            start: i * COLUMNS,
            a,
            inverse,
            out,
        });
    });
}
