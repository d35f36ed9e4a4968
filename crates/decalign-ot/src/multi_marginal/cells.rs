//! Loops over the cells of a joint tensor, one contiguous row (the last marginal) at a time.

use decalign_core::Real;
use decalign_core::simd::Isa;

/// The cells of a K_1 x ... x K_M tensor as rows of length K_M.
pub(crate) struct Cells {
    pub(crate) sizes: Vec<usize>,
    /// The index in every marginal but the last, row after row.
    digits: Vec<u32>,
}

impl Cells {
    pub(crate) fn new(sizes: &[usize]) -> Self {
        let outer = &sizes[..sizes.len() - 1];
        let rows: usize = outer.iter().product();
        let mut digits = Vec::with_capacity(rows * outer.len());
        let mut index = vec![0u32; outer.len()];
        for _ in 0..rows {
            digits.extend_from_slice(&index);
            for (i, size) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                if (*i as usize) < *size {
                    break;
                }
                *i = 0;
            }
        }
        Self {
            sizes: sizes.to_vec(),
            digits,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Length of a row: points of the last marginal.
    pub(crate) fn row(&self) -> usize {
        self.sizes[self.last()]
    }

    pub(crate) fn last(&self) -> usize {
        self.sizes.len() - 1
    }

    /// The outer indices of every row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.digits.chunks_exact(self.last())
    }

    /// `C = sum of pair costs`, costs in the order of pairs.
    pub(crate) fn joint_cost<T: Real>(&self, costs: &[Vec<T>]) -> Vec<T> {
        let (last, n) = (self.last(), self.row());
        let mut joint = vec![T::zero(); self.count()];
        for (digits, row) in self.rows().zip(joint.chunks_exact_mut(n)) {
            let mut constant = T::zero();
            let mut pair = 0;
            for a in 0..=last {
                for b in a + 1..=last {
                    let i = digits.get(a).map_or(0, |d| *d as usize);
                    if b < last {
                        constant += costs[pair][i * self.sizes[b] + digits[b] as usize];
                    } else {
                        let cost = &costs[pair][i * n..][..n];
                        row.iter_mut().zip(cost).for_each(|(v, c)| *v += *c);
                    }
                    pair += 1;
                }
            }
            row.iter_mut().for_each(|v| *v += constant);
        }
        joint
    }

    /// Sums of a joint tensor over all marginals but each pair: the transpose of
    /// [`Cells::joint_cost`].
    pub(crate) fn pair_sums<T: Real>(&self, joint: &[T]) -> Vec<Vec<T>> {
        let (last, n) = (self.last(), self.row());
        let mut sums = Vec::new();
        for a in 0..=last {
            for b in a + 1..=last {
                sums.push(vec![T::zero(); self.sizes[a] * self.sizes[b]]);
            }
        }
        for (digits, row) in self.rows().zip(joint.chunks_exact(n)) {
            let total: T = row.iter().copied().sum();
            let mut pair = 0;
            for a in 0..=last {
                for b in a + 1..=last {
                    let i = digits.get(a).map_or(0, |d| *d as usize);
                    if b < last {
                        sums[pair][i * self.sizes[b] + digits[b] as usize] += total;
                    } else {
                        let sum = &mut sums[pair][i * n..][..n];
                        sum.iter_mut().zip(row).for_each(|(s, v)| *s += *v);
                    }
                    pair += 1;
                }
            }
        }
        sums
    }

    /// Sums of a joint tensor over all marginals but `m`.
    pub(crate) fn marginal<T: Real>(&self, joint: &[T], m: usize, out: &mut [T]) {
        out.fill(T::zero());
        for (digits, row) in self.rows().zip(joint.chunks_exact(self.row())) {
            if m < self.last() {
                out[digits[m] as usize] += row.iter().copied().sum();
            } else {
                out.iter_mut().zip(row).for_each(|(s, v)| *s += *v);
            }
        }
    }

    /// Multiplies every cell by the factor of its index in marginal `m`.
    pub(crate) fn scale<T: Real>(&self, joint: &mut [T], m: usize, factors: &[T]) {
        for (digits, row) in self.rows().zip(joint.chunks_exact_mut(self.row())) {
            if m < self.last() {
                let factor = factors[digits[m] as usize];
                row.iter_mut().for_each(|v| *v *= factor);
            } else {
                row.iter_mut().zip(factors).for_each(|(v, f)| *v *= *f);
            }
        }
    }

    /// `sum over cells with i_m = i of kernel * product of scalings of the other marginals`.
    #[inline(always)]
    pub(crate) fn contract<T: Real, I: Isa>(
        &self,
        isa: I,
        kernel: &[T],
        scalings: &[Vec<T>],
        m: usize,
        out: &mut [T],
    ) {
        let last = self.last();
        out.fill(T::zero());
        for (digits, row) in self.rows().zip(kernel.chunks_exact(self.row())) {
            let others = product(digits, scalings, [m, last]);
            if m < last {
                out[digits[m] as usize] += others * dot(isa, row, &scalings[last]);
            } else {
                axpy(isa, others, row, out);
            }
        }
    }
}

/// The product of the scalings of a row's outer marginals, two of them left out.
#[inline(always)]
pub(crate) fn product<T: Real>(digits: &[u32], scalings: &[Vec<T>], without: [usize; 2]) -> T {
    let mut product = T::one();
    for (n, digit) in digits.iter().enumerate() {
        if !without.contains(&n) {
            product *= scalings[n][*digit as usize];
        }
    }
    product
}

#[inline(always)]
pub(crate) fn dot<T: Real, I: Isa>(isa: I, a: &[T], b: &[T]) -> T {
    let mut sum = T::zero();
    for (a, b) in a.iter().zip(b) {
        sum = isa.mul_add(*a, *b, sum);
    }
    sum
}

#[inline(always)]
pub(crate) fn axpy<T: Real, I: Isa>(isa: I, a: T, x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = isa.mul_add(a, *x, *y);
    }
}
