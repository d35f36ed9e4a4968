//! Sweeps on the joint tensor by stabilised scaling.
//!
//! With the potentials f fixed for some sweeps, the plan is `A v_1 ... v_M`, where
//! `A = exp((f_1 + ... + f_M - C) / eps)` and `v_m = nu_m / s_m`, with `s_m` the sums of A times all other vectors:
//! a sweep reads A and computes no exponential. When a scaling `1 / s` becomes large or small it is absorbed,
//! `f_m -= eps log s_m`, and A is recomputed; where sums underflow, a shifted log-sum-exp finds the potential.
//! Source: Schmitzer (2019).

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks};

use super::dimension_tree::DimensionTree;
use super::exponentials::{Terms, exponentials};
use super::joint::{Structure, cost_gradients, row_coordinates, row_terms, scale_cells};
use super::layout::JointLayout;
use super::state::{Evaluation, SinkhornState, greatest, least};
use crate::validate::larger;

/// One problem on its joint cost.
pub(super) struct DenseState<'a, T> {
    cells: &'a JointLayout,
    structure: &'a Structure,
    cost: &'a [T],
    /// Concatenated like all vectors here; zeros in the padding.
    weights: Vec<T>,
    epsilon: f64,
    /// -inf at points without mass and in the padding.
    potentials: Vec<T>,
    kernel: Vec<T>,
    /// `v_m` of all marginals.
    scaled: Vec<T>,
    /// `s_m` of all marginals.
    sums: Vec<T>,
    levels: DimensionTree<T>,
    /// Bounds of the sums beyond which scalings are absorbed.
    absorb_bounds: (T, T),
}

/// Bounds of the sums beyond which they may have lost terms to underflow.
fn trusted_bounds<T: Real>() -> (T, T) {
    let limit = T::max_value().sqrt();
    (limit.recip(), limit)
}

impl<'a, T: Real> DenseState<'a, T> {
    pub(super) fn new(
        cells: &'a JointLayout,
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
            levels: DimensionTree::new(cells),
            absorb_bounds: (limit.recip(), limit),
        }
    }

    /// Moves the scalings into the potentials, `f -= eps log s`, and resets them to 1.
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

    /// Recomputes the kernel from the potentials.
    fn recompute_kernel(&mut self) {
        let cells = self.cells;
        let rows = row_terms(cells, &self.potentials, T::zero(), |a, b| a + b);
        let along = cells.vector(cells.last(), &self.potentials);
        let terms = (Terms::Potentials, T::of(1.0 / self.epsilon));
        exponentials(self.cost, (&rows, along), terms, &mut self.kernel);
        self.scaled.clone_from(&self.weights);
    }

    /// Finds the potential of marginal `m` by a shifted log-sum-exp, because its sums cannot be trusted.
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
        self.recompute_kernel();
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
        let rows = row_terms(cells, &terms, T::zero(), |a, b| a + b);
        let (last, n) = (cells.last(), cells.sizes[cells.last()]);
        let along = cells.vector(last, &terms);
        let points = cells.sizes[m];
        let mut places: Box<dyn Iterator<Item = usize>> = match m == last {
            true => Box::new(std::iter::repeat(0)),
            false => Box::new(row_coordinates(cells, m)),
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

    pub(super) fn cells(&self) -> &JointLayout {
        self.cells
    }

    /// The plan in the layout of the joint tensor.
    pub(super) fn plan(&self) -> Vec<T> {
        let rows = row_terms(self.cells, &self.scaled, T::one(), |a, b| a * b);
        let mut plan = vec![T::zero(); self.kernel.len()];
        let along = self.cells.vector(self.cells.last(), &self.scaled);
        scale_cells(&self.kernel, (&rows, along), &mut plan);
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

impl<T: Real> SinkhornState<T> for DenseState<'_, T> {
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
                // Shift marginal 0 so that the largest cell of the kernel is 1.
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
        self.recompute_kernel();
    }

    fn set_epsilon(&mut self, epsilon: f64) {
        self.absorb();
        self.epsilon = epsilon;
        self.recompute_kernel();
    }

    fn sweep(&mut self, relaxation: f64) -> f64 {
        let cells = self.cells;
        let (mut error, mut low, mut high) = (0.0, T::one(), T::one());
        self.levels.prepare(cells, &self.scaled);
        for m in 0..=cells.last() {
            let sums = cells.vector_mut(m, &mut self.sums);
            self.levels.sums(cells, &self.kernel, m, sums);
            let report = simd::dispatch(Update {
                weights: cells.vector(m, &self.weights),
                relaxation: T::of(relaxation),
                sums,
                scaled: cells.vector_mut(m, &mut self.scaled),
            });
            let bounds = trusted_bounds::<T>();
            let trusted =
                report.least >= bounds.0 && report.greatest <= bounds.1 && !report.error.is_nan();
            if !trusted {
                self.recover(m);
                return f64::INFINITY;
            }
            error = larger(error, report.error);
            (low, high) = (least(low, report.least), greatest(high, report.greatest));
            if m < cells.last() {
                self.levels.descend(cells, &self.kernel, m, &self.scaled);
            }
        }
        if low < self.absorb_bounds.0 || high > self.absorb_bounds.1 {
            self.absorb();
            self.recompute_kernel();
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

/// The update `v = nu / s` of one marginal, whose error before is `v s - nu`. A relaxation w replaces s by
/// `s (v s / nu)^(w - 1)`.
struct Update<'a, T> {
    weights: &'a [T],
    relaxation: T,
    sums: &'a mut [T],
    scaled: &'a mut [T],
}

/// The L1 error before an update, NaN if any number was, and the range of its sums.
struct UpdateReport<T> {
    error: f64,
    least: T,
    greatest: T,
}

impl<T: Real> Kernel for Update<'_, T> {
    type Output = UpdateReport<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> UpdateReport<T> {
        let excess = self.relaxation - T::one();
        let mut off = [T::zero(); LANES];
        let (mut low, mut high) = ([T::one(); LANES], [T::one(); LANES]);
        for_blocks!(at in self.weights.len(), {
            let (nu, mut v) = (at.load(self.weights), at.load(self.scaled));
            let mut s = at.load(self.sums);
            for i in 0..LANES {
                // Points without mass do not count.
                s[i] = if nu[i] > T::zero() { s[i] } else { T::one() };
                off[i] += (v[i] * s[i] - nu[i]).abs();
                low[i] = least(low[i], s[i]);
                high[i] = greatest(high[i], s[i]);
            }
            if excess != T::zero() {
                for i in 0..LANES {
                    let ratio = if nu[i] > T::zero() { v[i] * s[i] / nu[i] } else { T::one() };
                    s[i] *= simd::exp_value(isa, excess * simd::ln_value(isa, ratio));
                }
            }
            for i in 0..LANES {
                v[i] = nu[i] / s[i];
            }
            at.store(s, self.sums);
            at.store(v, self.scaled);
        });
        UpdateReport {
            error: simd::total(off).as_f64(),
            least: low.into_iter().fold(T::one(), least),
            greatest: high.into_iter().fold(T::one(), greatest),
        }
    }
}
