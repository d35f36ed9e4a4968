//! Sweeps on the joint tensor.
//!
//! With potentials f fixed for a while the plan is `A v_1 ... v_M`, where
//! `A = exp((f_1 + ... + f_M - C) / eps)` and `v_m = nu_m / s_m`, `s_m` the sums of A with all other
//! vectors: sweeps need no exponential and only read A. When a scaling `1 / s` gets large or small
//! it is absorbed, `f_m -= eps log s_m`, and A computed anew; where sums underflow a potential is
//! found by a shifted log-sum-exp instead. (Stabilised scaling: Schmitzer, 2019.)

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::cells::{Cells, Levels};
use super::engine::{Engine, Evaluation, greatest, least};
use super::joint::{Structure, cost_gradients, digits, of_rows, piece_rows, scaled};
use crate::validate::larger;

/// One problem with its joint cost.
pub(super) struct DenseEngine<'a, T> {
    cells: &'a Cells,
    structure: &'a Structure,
    cost: &'a [T],
    /// End to end, as all vectors here; zeros in the padding.
    weights: Vec<T>,
    epsilon: f64,
    /// -inf where there is no mass, and in the padding.
    potentials: Vec<T>,
    kernel: Vec<T>,
    scaled: Vec<T>,
    sums: Vec<T>,
    levels: Levels<T>,
    /// Sums outside have their scalings absorbed.
    mild: (T, T),
}

/// Sums outside are not trusted: they may have lost terms that underflow.
fn trusted<T: Real>() -> (T, T) {
    let limit = T::max_value().sqrt();
    (limit.recip(), limit)
}

impl<'a, T: Real> DenseEngine<'a, T> {
    pub(super) fn new(
        cells: &'a Cells,
        structure: &'a Structure,
        cost: &'a [T],
        weights: &[Vec<T>],
    ) -> Self {
        // The product of all scalings stays far from overflow.
        let share = T::of(3.0 * cells.sizes.len() as f64).recip();
        let limit = T::max_value().powf(share);
        Self {
            cells,
            structure,
            cost,
            weights: cells.vectors(weights.iter(), T::zero()),
            epsilon: 1.0,
            potentials: Vec::new(),
            kernel: vec![T::zero(); cells.len()],
            scaled: Vec::new(),
            sums: vec![T::one(); cells.vectors_len()],
            levels: Levels::new(cells),
            mild: (limit.recip(), limit),
        }
    }

    /// `f -= eps log s`: scalings start anew.
    fn absorb(&mut self) {
        let epsilon = T::of(self.epsilon);
        for ((f, s), nu) in self
            .potentials
            .iter_mut()
            .zip(&mut self.sums)
            .zip(&self.weights)
        {
            if *nu > T::zero() {
                *f -= epsilon * s.ln();
            }
            *s = T::one();
        }
    }

    /// The kernel of the potentials.
    fn renew(&mut self) {
        let cells = self.cells;
        let rows = of_rows(cells, &self.potentials, T::zero(), |a, b| a + b);
        let along = cells.vector(cells.last(), &self.potentials);
        let (cost, stride) = (self.cost, cells.stride);
        let inverse = T::of(1.0 / self.epsilon);
        let piece = piece_rows(stride);
        parallel::for_each_chunk(
            &mut self.kernel,
            piece * stride,
            20 * cost.len(),
            |i, kernel| {
                simd::dispatch(Exponentials {
                    cost: &cost[i * piece * stride..],
                    rows: &rows[i * piece..],
                    along,
                    inverse,
                    kernel,
                });
            },
        );
        self.scaled.clone_from(&self.weights);
    }

    /// The potential of marginal `m` by a shifted log-sum-exp, when its sums cannot be trusted.
    fn recover(&mut self, m: usize) {
        self.cells.vector_mut(m, &mut self.sums).fill(T::one());
        self.absorb();
        let epsilon = T::of(self.epsilon);
        let logs = self.shifted_logs(m);
        let weights = self.cells.vector(m, &self.weights);
        let potentials = self.cells.vector_mut(m, &mut self.potentials);
        for ((f, log), nu) in potentials.iter_mut().zip(logs).zip(weights) {
            if *nu > T::zero() {
                *f = -epsilon * log;
            }
        }
        self.renew();
    }

    /// `log sum exp((f - C) / eps)` over the points of all marginals but m, with their weights.
    fn shifted_logs(&self, m: usize) -> Vec<T> {
        let (cells, inverse) = (self.cells, T::of(1.0 / self.epsilon));
        let mut terms = self.potentials.clone();
        for (f, nu) in terms.iter_mut().zip(&self.weights) {
            *f = if *nu > T::zero() {
                *f * inverse + nu.ln()
            } else {
                T::neg_infinity()
            };
        }
        cells.vector_mut(m, &mut terms).fill(T::zero());
        let rows = of_rows(cells, &terms, T::zero(), |a, b| a + b);
        let (last, n) = (cells.last(), cells.sizes[cells.last()]);
        let along = cells.vector(last, &terms);
        let points = cells.sizes[m];
        let mut places: Box<dyn Iterator<Item = usize>> = match m == last {
            true => Box::new(std::iter::repeat(0)),
            false => Box::new(digits(cells, m)),
        };
        let mut logs = vec![(T::neg_infinity(), T::zero()); points];
        for (row, cost) in rows.iter().zip(self.cost.chunks_exact(cells.stride)) {
            let place = places.next().unwrap_or(0);
            for j in 0..n {
                let at = if m == last { j } else { place };
                add_term(&mut logs[at], *row + along[j] - cost[j] * inverse);
            }
        }
        logs.into_iter()
            .map(|(largest, sum)| largest + sum.ln())
            .collect()
    }

    pub(super) fn cells(&self) -> &Cells {
        self.cells
    }

    /// The plan, in the layout of the cells.
    pub(super) fn plan(&self) -> Vec<T> {
        let rows = of_rows(self.cells, &self.scaled, T::one(), |a, b| a * b);
        let mut plan = vec![T::zero(); self.kernel.len()];
        let along = self.cells.vector(self.cells.last(), &self.scaled);
        scaled(&self.kernel, (&rows, along), &mut plan);
        plan
    }
}

/// Adds `exp(term)` to `exp(largest) sum`.
fn add_term<T: Real>((largest, sum): &mut (T, T), term: T) {
    if term > *largest {
        *sum = *sum * (*largest - term).exp() + T::one();
        *largest = term;
    } else if term > T::neg_infinity() {
        *sum += (term - *largest).exp();
    }
}

impl<T: Real> Engine<T> for DenseEngine<'_, T> {
    fn start(&mut self, epsilon: f64, potentials: Option<&[Vec<f64>]>) {
        let cells = self.cells;
        self.epsilon = epsilon;
        self.sums.fill(T::one());
        self.potentials = match potentials {
            Some(given) => {
                let given = given
                    .iter()
                    .map(|f| f.iter().map(|v| T::of(*v)).collect::<Vec<T>>());
                cells.vectors(given, T::neg_infinity())
            }
            None => {
                // The largest cell of the kernel is 1.
                let n = cells.sizes[cells.last()];
                let rows = self.cost.chunks_exact(cells.stride);
                let start = rows
                    .flat_map(|row| &row[..n])
                    .copied()
                    .fold(T::infinity(), least);
                let each = cells.sizes.iter().enumerate();
                let each = each.map(|(m, k)| vec![if m == 0 { start } else { T::zero() }; *k]);
                cells.vectors(each, T::neg_infinity())
            }
        };
        for (f, nu) in self.potentials.iter_mut().zip(&self.weights) {
            if *nu == T::zero() {
                *f = T::neg_infinity();
            }
        }
        self.renew();
    }

    fn go_on(&mut self, epsilon: f64) {
        self.absorb();
        self.epsilon = epsilon;
        self.renew();
    }

    fn sweep(&mut self, relaxation: f64) -> f64 {
        let cells = self.cells;
        let (mut error, mut low, mut high) = (0.0, T::one(), T::one());
        self.levels.prepare(cells, &self.scaled);
        for m in 0..=cells.last() {
            let sums = cells.vector_mut(m, &mut self.sums);
            self.levels.sums(cells, &self.kernel, m, sums);
            let look = simd::dispatch(Update {
                weights: cells.vector(m, &self.weights),
                relaxation: T::of(relaxation),
                sums,
                scaled: cells.vector_mut(m, &mut self.scaled),
            });
            let bounds = trusted::<T>();
            let trusted =
                look.least >= bounds.0 && look.greatest <= bounds.1 && !look.error.is_nan();
            if !trusted {
                self.recover(m);
                return f64::INFINITY;
            }
            error = larger(error, look.error);
            (low, high) = (least(low, look.least), greatest(high, look.greatest));
            if m < cells.last() {
                self.levels.descend(cells, &self.kernel, m, &self.scaled);
            }
        }
        if low < self.mild.0 || high > self.mild.1 {
            self.absorb();
            self.renew();
        }
        error
    }

    fn potentials(&self) -> Vec<Vec<f64>> {
        let cells = self.cells;
        let parts = cells.each(&self.potentials).zip(cells.each(&self.sums));
        let parts = parts.zip(cells.each(&self.weights));
        let each = parts.map(|((f, s), nu)| {
            let points = f
                .iter()
                .zip(s)
                .zip(nu)
                .map(|((f, s), nu)| match *nu > T::zero() {
                    true => f.as_f64() - self.epsilon * s.as_f64().ln(),
                    false => 0.0,
                });
            points.collect()
        });
        each.collect()
    }

    fn evaluate(&mut self, costs: bool) -> Evaluation<T> {
        let cells = self.cells;
        let sums = self.levels.all_sums(cells, &self.kernel, &self.scaled);
        let marginal = |(s, v): (&[T], &[T])| s.iter().zip(v).map(|(s, v)| *s * *v).collect();
        let parts = cells.each(&sums).zip(cells.each(&self.scaled));
        let marginals: Vec<Vec<T>> = parts.map(marginal).collect();
        let mass = marginals[0].iter().map(|v| v.as_f64()).sum();
        let plan = self.plan();
        let rows = plan
            .chunks_exact(cells.stride)
            .zip(self.cost.chunks_exact(cells.stride));
        let transport_cost = rows.map(|(p, c)| simd::dot(p, c).as_f64()).sum();
        let costs = match costs {
            true => cost_gradients(cells, self.structure, &plan),
            false => Vec::new(),
        };
        Evaluation {
            marginals,
            mass,
            transport_cost,
            costs,
        }
    }
}

/// `A = exp((f - C) / eps)`, row by row.
struct Exponentials<'a, T> {
    cost: &'a [T],
    rows: &'a [T],
    along: &'a [T],
    inverse: T,
    kernel: &'a mut [T],
}

impl<T: Real> Kernel for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.along.len();
        let rows = self.cost.chunks_exact(n).zip(self.rows);
        for ((cost, row), kernel) in rows.zip(self.kernel.chunks_exact_mut(n)) {
            for_blocks!(at in n, {
                let (mut c, f) = (at.load(cost), at.load(self.along));
                for i in 0..LANES {
                    let e = (*row + f[i] - c[i]) * self.inverse;
                    c[i] = simd::exp_normal_value(isa, e);
                }
                at.store(c, kernel);
            });
        }
    }
}

/// `v = nu / s`; what `v` was is off by `v s - nu`. With a relaxation w, `s (v s / nu)^(w - 1)` stands
/// for s.
struct Update<'a, T> {
    weights: &'a [T],
    relaxation: T,
    sums: &'a mut [T],
    scaled: &'a mut [T],
}

/// What an update saw; the error is NaN if anything was.
struct Look<T> {
    error: f64,
    least: T,
    greatest: T,
}

impl<T: Real> Kernel for Update<'_, T> {
    type Output = Look<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Look<T> {
        let beyond = self.relaxation - T::one();
        let mut off = [T::zero(); LANES];
        let (mut low, mut high) = ([T::one(); LANES], [T::one(); LANES]);
        for_blocks!(at in self.weights.len(), {
            let (nu, mut v) = (at.load(self.weights), at.load(self.scaled));
            let mut s = at.load(self.sums);
            for i in 0..LANES {
                // Points without mass take no part.
                s[i] = if nu[i] > T::zero() { s[i] } else { T::one() };
                off[i] += (v[i] * s[i] - nu[i]).abs();
                low[i] = least(low[i], s[i]);
                high[i] = greatest(high[i], s[i]);
            }
            if beyond != T::zero() {
                for i in 0..LANES {
                    let ratio = if nu[i] > T::zero() { v[i] * s[i] / nu[i] } else { T::one() };
                    s[i] *= simd::exp_value(isa, beyond * simd::ln_value(isa, ratio));
                }
            }
            for i in 0..LANES {
                v[i] = nu[i] / s[i];
            }
            at.store(s, self.sums);
            at.store(v, self.scaled);
        });
        Look {
            error: simd::total(off).as_f64(),
            least: low.into_iter().fold(T::one(), least),
            greatest: high.into_iter().fold(T::one(), greatest),
        }
    }
}
