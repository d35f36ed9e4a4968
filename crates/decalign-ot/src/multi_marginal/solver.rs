//! Entropic multi-marginal transport to a tolerance.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::cells::Cells;
use super::problem::MultiMarginalProblem;

/// Entropic transport between any number of marginals:
///
/// ```text
/// min over T with marginals nu_m of  <T, C> + eps KL(T | nu_1 x ... x nu_M)
/// ```
///
/// Solved by Sinkhorn's iteration on the plan, with potentials kept in the log domain: where a
/// marginal of the plan underflows, the potential is found by a shifted log-sum-exp instead.
/// Points of weight 0 take no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiMarginalSinkhorn {
    epsilon: f64,
    tolerance: f64,
    max_iterations: usize,
}

/// How a solve ended, and what it found.
#[derive(Clone, Debug)]
pub struct MultiMarginalSolution {
    /// The regularised value (dual, equal to the primal at convergence), a scalar. It carries
    /// gradients by the envelope theorem: with respect to costs the pair marginals of the plan,
    /// with respect to weights the potentials, centred to mean 0.
    pub value: Tensor,
    /// `<T, C>`, without regularisation.
    pub transport_cost: f64,
    /// `f_m` of every marginal, 0 where its weight is 0.
    pub potentials: Vec<Vec<f64>>,
    /// The largest L1 distance between a marginal of the plan and what it should be.
    pub marginal_error: f64,
    /// Sweeps over all marginals.
    pub iterations: usize,
    /// Whether the marginal error is within the tolerance. Never true of NaN or infinity.
    pub converged: bool,
    plan: Vec<f64>,
    sizes: Vec<usize>,
}

impl MultiMarginalSolution {
    /// The plan, (K_1, ..., K_M), f64 on the CPU. It carries no gradient.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn plan(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(
            &self.plan,
            &self.sizes[..],
            &candle_core::Device::Cpu,
        )?)
    }
}

impl MultiMarginalSinkhorn {
    /// Regularisation `epsilon`, in units of the cost; the solve ends when the marginal error is at
    /// most `tolerance` times the mass, or after `max_iterations` sweeps.
    ///
    /// # Errors
    /// When `epsilon` or `tolerance` is not positive and finite, or there is no iteration.
    pub fn new(epsilon: f64, tolerance: f64, max_iterations: usize) -> Result<Self> {
        for (name, value) in [("epsilon", epsilon), ("tolerance", tolerance)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::value(name, value, "must be positive and finite"));
            }
        }
        if max_iterations == 0 {
            return Err(Error::value("max_iterations", 0, "must be at least 1"));
        }
        Ok(Self {
            epsilon,
            tolerance,
            max_iterations,
        })
    }

    /// Solves a problem. Not converging is a result, not an error: see [`MultiMarginalSolution::converged`].
    ///
    /// The solve runs on the CPU, in the type of the problem's tensors.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn solve(&self, problem: &MultiMarginalProblem) -> Result<MultiMarginalSolution> {
        with_real!("marginals", problem.marginals[0], T => self.run::<T>(problem))
    }

    fn run<T: Real>(&self, problem: &MultiMarginalProblem) -> Result<MultiMarginalSolution> {
        let cpu = candle_core::Device::Cpu;
        let read = |tensors: &[Tensor]| -> Result<Vec<Vec<T>>> {
            let read = |x: &Tensor| Ok(Elements::<T>::new(&x.to_device(&cpu)?)?.to_vec());
            tensors.iter().map(read).collect()
        };
        let cells = Cells::new(&problem.sizes);
        let marginals = read(&problem.marginals)?;
        let cost = cells.joint_cost(&read(&problem.costs)?);
        let solver = Solver {
            settings: self,
            cells: &cells,
            marginals: &marginals,
            cost: &cost,
            epsilon: T::of(self.epsilon),
        };
        let state = simd::dispatch(solver);
        let mass = state.plan.iter().map(|v| v.as_f64()).sum::<f64>();
        let total = marginals[0].iter().map(|v| v.as_f64()).sum::<f64>();
        let dual: f64 = marginals
            .iter()
            .zip(&state.potentials)
            .map(|(nu, f)| inner(nu, f))
            .sum();
        let value = dual + self.epsilon * (total - mass);
        let mut gradients = state
            .potentials
            .iter()
            .map(|f| centred(f))
            .collect::<Vec<_>>();
        gradients.extend(cells.pair_sums(&state.plan));
        let value = T::of(value);
        let output = Output::new(vec![value], ());
        let value = record_one(
            "multi_marginal_sinkhorn",
            &problem.inputs(),
            output,
            move |b| {
                let outer = b.gradient(0)?;
                let outer = Elements::<T>::new(&outer)?[0];
                let each = gradients.iter().zip(b.inputs).map(|(g, x)| {
                    let g: Vec<T> = g.iter().map(|v| *v * outer).collect();
                    Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
                });
                each.collect()
            },
        )?;
        let finite = state.error.is_finite() && mass.is_finite();
        Ok(MultiMarginalSolution {
            value,
            transport_cost: inner(&state.plan, &cost),
            potentials: state
                .potentials
                .iter()
                .map(|f| f.iter().map(|v| v.as_f64()).collect())
                .collect(),
            marginal_error: state.error,
            iterations: state.iterations,
            converged: finite && state.error <= self.tolerance * total,
            plan: state.plan.iter().map(|v| v.as_f64()).collect(),
            sizes: problem.sizes.clone(),
        })
    }
}

fn inner<T: Real>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.as_f64() * b.as_f64()).sum()
}

fn centred<T: Real>(f: &[T]) -> Vec<T> {
    let mean = f.iter().copied().sum::<T>() / T::of(f.len() as f64);
    f.iter().map(|v| *v - mean).collect()
}

struct State<T> {
    potentials: Vec<Vec<T>>,
    plan: Vec<T>,
    error: f64,
    iterations: usize,
}

struct Solver<'a, T> {
    settings: &'a MultiMarginalSinkhorn,
    cells: &'a Cells,
    marginals: &'a [Vec<T>],
    cost: &'a [T],
    epsilon: T,
}

/// Sweeps between computing the plan anew from the potentials, so that rounding cannot pile up.
const REFRESH: usize = 20;

impl<T: Real> Kernel for Solver<'_, T> {
    type Output = State<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> State<T> {
        let mut potentials: Vec<Vec<T>> = self
            .cells
            .sizes
            .iter()
            .map(|k| vec![T::zero(); *k])
            .collect();
        let mut plan = self.plan(isa, &potentials);
        let limit =
            self.settings.tolerance * self.marginals[0].iter().map(|v| v.as_f64()).sum::<f64>();
        let (mut error, mut iterations) = (f64::INFINITY, 0);
        while iterations < self.settings.max_iterations {
            if iterations % REFRESH == REFRESH - 1 {
                plan = self.plan(isa, &potentials);
            }
            error = 0.0;
            for (m, wanted) in self.marginals.iter().enumerate() {
                let mut sums = vec![T::zero(); wanted.len()];
                self.cells.marginal(&plan, m, &mut sums);
                let off: f64 = sums
                    .iter()
                    .zip(wanted)
                    .map(|(s, w)| (*s - *w).abs().as_f64())
                    .sum();
                error = if off > error || off.is_nan() {
                    off
                } else {
                    error
                };
                self.update(isa, m, &sums, &mut potentials, &mut plan);
            }
            iterations += 1;
            if error <= limit {
                break;
            }
        }
        State {
            potentials,
            plan,
            error,
            iterations,
        }
    }
}

impl<T: Real> Solver<'_, T> {
    /// `T = nu_1 ... nu_M exp((f_1 + ... + f_M - C) / eps)`.
    #[inline(always)]
    fn plan<I: Isa>(&self, isa: I, potentials: &[Vec<T>]) -> Vec<T> {
        let mut plan = self.exponents(potentials, usize::MAX);
        for v in &mut plan {
            *v = simd::exp_value(isa, *v);
        }
        for (m, nu) in self.marginals.iter().enumerate() {
            self.cells.scale(&mut plan, m, nu);
        }
        plan
    }

    /// `(sum of potentials but that of `without` - C) / eps` of every cell.
    fn exponents(&self, potentials: &[Vec<T>], without: usize) -> Vec<T> {
        let (cells, last) = (self.cells, self.cells.last());
        let n = cells.row();
        let mut out = Vec::with_capacity(self.cost.len());
        for (digits, cost) in cells.rows().zip(self.cost.chunks_exact(n)) {
            let mut constant = T::zero();
            for (m, digit) in digits.iter().enumerate().filter(|(m, _)| *m != without) {
                constant += potentials[m][*digit as usize];
            }
            for (c, f) in cost.iter().zip(&potentials[last]) {
                let f = if last == without { T::zero() } else { *f };
                out.push((constant + f - *c) / self.epsilon);
            }
        }
        out
    }

    /// Makes marginal `m` of the plan right.
    #[inline(always)]
    fn update<I: Isa>(
        &self,
        isa: I,
        m: usize,
        sums: &[T],
        potentials: &mut [Vec<T>],
        plan: &mut Vec<T>,
    ) {
        let wanted = &self.marginals[m];
        // A ratio of these is safe to take and to multiply by.
        let (low, high) = (T::of(1e-20), T::of(1e20));
        let safe = |(s, w): (&T, &T)| *w == T::zero() || (*s > *w * low && *s < *w * high);
        if sums.iter().zip(wanted).all(safe) {
            let ratio = |(s, w): (&T, &T)| if *w == T::zero() { T::one() } else { *w / *s };
            let factors: Vec<T> = sums.iter().zip(wanted).map(ratio).collect();
            self.cells.scale(plan, m, &factors);
            for (f, factor) in potentials[m].iter_mut().zip(&factors) {
                *f += self.epsilon * factor.ln();
            }
        } else {
            potentials[m] = self.soft_minimum(isa, m, potentials);
            *plan = self.plan(isa, potentials);
        }
    }

    /// `f_m[i] = -eps log sum over cells with i_m = i of (product of the other weights) exp(...)`,
    /// by a shifted log-sum-exp.
    #[inline(always)]
    fn soft_minimum<I: Isa>(&self, isa: I, m: usize, potentials: &[Vec<T>]) -> Vec<T> {
        let (cells, last) = (self.cells, self.cells.last());
        let n = cells.row();
        let exponents = self.exponents(potentials, m);
        let size = cells.sizes[m];
        let (mut largest, mut sum) = (vec![T::neg_infinity(); size], vec![T::zero(); size]);
        for pass in 0..2 {
            for (digits, row) in cells.rows().zip(exponents.chunks_exact(n)) {
                let mut weight = T::one();
                for (k, digit) in digits.iter().enumerate().filter(|(k, _)| *k != m) {
                    weight *= self.marginals[k][*digit as usize];
                }
                for (j, e) in row.iter().enumerate() {
                    let at = if m < last { digits[m] as usize } else { j };
                    let own = if m < last {
                        self.marginals[last][j]
                    } else {
                        T::one()
                    };
                    if weight * own == T::zero() {
                        continue;
                    }
                    if pass == 0 {
                        largest[at] = if *e > largest[at] { *e } else { largest[at] };
                    } else {
                        sum[at] += weight * own * simd::exp_value(isa, *e - largest[at]);
                    }
                }
            }
        }
        let potential = |i: usize| match self.marginals[m][i] == T::zero() {
            true => T::zero(),
            false => -self.epsilon * (largest[i] + sum[i].ln()),
        };
        (0..size).map(potential).collect()
    }
}
