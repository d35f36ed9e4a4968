//! The DecAlign release's transport loss, as it is.

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::cells::{Cells, axpy, dot, product};
use super::problem::MultiMarginalProblem;
use crate::reference::{self, DENOMINATOR_SHIFT, KERNEL_FLOOR, PLAN_FLOOR};

/// Multi-marginal Sinkhorn in the kernel domain with a fixed number of sweeps, as the DecAlign
/// release computes its loss:
///
/// ```text
/// K = max(exp(-C / eps), 1e-30);  u_m = nu_m / (sum of K times the other scalings + 1e-8)
/// T = K u_1 ... u_M;  loss = <T, C> + eps sum T (log max(T, 1e-8) - 1)
/// ```
///
/// The loss may be negative, and is not zero at equality; [`crate::MultiMarginalSinkhorn`] is the
/// solver to prefer. The gradient passes through every sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelSinkhorn {
    epsilon: f64,
    sweeps: usize,
}

impl KernelSinkhorn {
    /// `sweeps` sweeps at regularisation `epsilon`.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64, sweeps: usize) -> Result<Self> {
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::value(
                "epsilon",
                epsilon,
                "must be positive and finite",
            ));
        }
        Ok(Self { epsilon, sweeps })
    }

    /// The loss; it carries gradients with respect to marginals and costs.
    ///
    /// # Shapes
    /// The result is a scalar.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn loss(&self, problem: &MultiMarginalProblem) -> Result<Tensor> {
        let first = &problem.marginals[0];
        if !first.device().is_cpu() {
            return reference::kernel_sinkhorn(problem, self.epsilon, self.sweeps);
        }
        with_real!("marginals", first, T => self.fused::<T>(problem))
    }

    fn fused<T: Real>(&self, problem: &MultiMarginalProblem) -> Result<Tensor> {
        let read = |tensors: &[Tensor]| -> Result<Vec<Vec<T>>> {
            tensors
                .iter()
                .map(|x| Ok(Elements::<T>::new(x)?.to_vec()))
                .collect()
        };
        let cells = Cells::new(&problem.sizes);
        let marginals = read(&problem.marginals)?;
        let cost = cells.joint_cost(&read(&problem.costs)?);
        let epsilon = T::of(self.epsilon);
        let forward = Forward {
            cells: &cells,
            marginals: &marginals,
            cost: &cost,
            epsilon,
            sweeps: self.sweeps,
        };
        let run = simd::dispatch(forward);
        let output = Output::new(vec![run.loss], ());
        record_one("kernel_sinkhorn", &problem.inputs(), output, move |b| {
            backward(b, &cells, &cost, &run, epsilon)
        })
    }
}

/// What a run leaves for its backward pass.
struct Run<T> {
    loss: T,
    kernel: Vec<T>,
    plan: Vec<T>,
    /// The scalings after every update, the start first; update u belongs to marginal u mod M.
    history: Vec<Vec<T>>,
    /// The denominators of every update.
    denominators: Vec<Vec<T>>,
    scalings: Vec<Vec<T>>,
}

struct Forward<'a, T> {
    cells: &'a Cells,
    marginals: &'a [Vec<T>],
    cost: &'a [T],
    epsilon: T,
    sweeps: usize,
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = Run<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Run<T> {
        let (cells, epsilon) = (self.cells, self.epsilon);
        let floor = T::of(KERNEL_FLOOR);
        let mut kernel: Vec<T> = self.cost.iter().map(|c| -*c / epsilon).collect();
        for k in &mut kernel {
            let e = simd::exp_value(isa, *k);
            *k = if e < floor { floor } else { e };
        }
        let mut scalings: Vec<Vec<T>> = cells.sizes.iter().map(|k| vec![T::one(); *k]).collect();
        let (mut history, mut denominators) = (Vec::new(), Vec::new());
        for _ in 0..self.sweeps {
            for (m, marginal) in self.marginals.iter().enumerate() {
                let mut sums = vec![T::zero(); marginal.len()];
                cells.contract(isa, &kernel, &scalings, m, &mut sums);
                sums.iter_mut().for_each(|s| *s += T::of(DENOMINATOR_SHIFT));
                let new = marginal.iter().zip(&sums).map(|(nu, s)| *nu / *s).collect();
                // The scaling that was replaced: undone on the way back.
                history.push(std::mem::replace(&mut scalings[m], new));
                denominators.push(sums);
            }
        }
        let mut plan = kernel.clone();
        for (m, u) in scalings.iter().enumerate() {
            cells.scale(&mut plan, m, u);
        }
        let mut loss = T::zero();
        for (t, c) in plan.iter().zip(self.cost) {
            let log = if *t < T::of(PLAN_FLOOR) {
                T::of(PLAN_FLOOR)
            } else {
                *t
            }
            .ln();
            loss += *t * *c + epsilon * *t * (log - T::one());
        }
        Run {
            loss,
            kernel,
            plan,
            history,
            denominators,
            scalings,
        }
    }
}

fn backward<T: Real>(
    b: &Backward,
    cells: &Cells,
    cost: &[T],
    run: &Run<T>,
    epsilon: T,
) -> Result<InputGradients> {
    let outer = b.gradient(0)?;
    let outer = Elements::<T>::new(&outer)?[0];
    let reverse = Reverse {
        cells,
        cost,
        run,
        epsilon,
    };
    let (mut weights, joint) = simd::dispatch(reverse);
    weights.extend(cells.pair_sums(&joint));
    let gradients = weights.into_iter().zip(b.inputs).map(|(g, x)| {
        let g: Vec<T> = g.into_iter().map(|v| v * outer).collect();
        Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
    });
    gradients.collect()
}

struct Reverse<'a, T> {
    cells: &'a Cells,
    cost: &'a [T],
    run: &'a Run<T>,
    epsilon: T,
}

impl<T: Real> Kernel for Reverse<'_, T> {
    /// Gradients with respect to the marginals and the joint cost.
    type Output = (Vec<Vec<T>>, Vec<T>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let (cells, run, epsilon) = (self.cells, self.run, self.epsilon);
        let zeros = || -> Vec<Vec<T>> { cells.sizes.iter().map(|k| vec![T::zero(); *k]).collect() };
        let (mut d_scalings, mut d_marginals) = (zeros(), zeros());
        let mut d_kernel = vec![T::zero(); run.kernel.len()];
        self.loss_back(isa, &mut d_kernel, &mut d_scalings);
        let mut scalings = run.scalings.clone();
        let updates = run.history.iter().zip(&run.denominators).enumerate();
        for (update, (before, denominators)) in updates.rev() {
            let m = update % cells.sizes.len();
            // u = nu / s: the gradient of s replaces that of u, which the update overwrote.
            let after = std::mem::replace(&mut scalings[m], before.clone());
            let mut slope = std::mem::replace(&mut d_scalings[m], vec![T::zero(); after.len()]);
            for i in 0..slope.len() {
                slope[i] /= denominators[i];
                d_marginals[m][i] += slope[i];
                slope[i] *= -after[i];
            }
            contract_back(
                isa,
                cells,
                (&run.kernel, &scalings),
                m,
                &slope,
                (&mut d_kernel, &mut d_scalings),
            );
        }
        let mut joint = d_kernel;
        for ((g, kernel), (plan, cost)) in joint
            .iter_mut()
            .zip(&run.kernel)
            .zip(run.plan.iter().zip(self.cost))
        {
            // No gradient where the floor held.
            let free = simd::exp_value(isa, -*cost / epsilon) >= T::of(KERNEL_FLOOR);
            let slope = if free { -*kernel / epsilon } else { T::zero() };
            *g = *g * slope + *plan;
        }
        (d_marginals, joint)
    }
}

impl<T: Real> Reverse<'_, T> {
    /// The gradients of the loss with respect to kernel and final scalings.
    #[inline(always)]
    fn loss_back<I: Isa>(&self, isa: I, d_kernel: &mut [T], d_scalings: &mut [Vec<T>]) {
        let (cells, run) = (self.cells, self.run);
        let (last, n, floor) = (cells.last(), cells.row(), T::of(PLAN_FLOOR));
        let u_last = &run.scalings[last];
        let mut slope = vec![T::zero(); n];
        let mut along = vec![T::zero(); n];
        for (r, digits) in cells.rows().enumerate() {
            let at = r * n..(r + 1) * n;
            let (plan, cost) = (&run.plan[at.clone()], &self.cost[at.clone()]);
            for i in 0..n {
                let free = plan[i] >= floor;
                let log = if free { plan[i] } else { floor }.ln();
                let own = if free { T::one() } else { T::zero() };
                slope[i] = cost[i] + self.epsilon * (log - T::one() + own);
                along[i] = slope[i] * u_last[i];
            }
            let kernel = &run.kernel[at.clone()];
            let others = product(digits, &run.scalings, [last, last]);
            axpy(isa, others, &along, &mut d_kernel[at]);
            let through = dot(isa, kernel, &along);
            for (k, digit) in digits.iter().enumerate() {
                d_scalings[k][*digit as usize] +=
                    through * product(digits, &run.scalings, [k, last]);
            }
            for i in 0..n {
                d_scalings[last][i] += others * slope[i] * kernel[i];
            }
        }
    }
}

/// The gradients of [`Cells::contract`] given that of its result.
#[inline(always)]
fn contract_back<T: Real, I: Isa>(
    isa: I,
    cells: &Cells,
    (kernel, scalings): (&[T], &[Vec<T>]),
    m: usize,
    slope: &[T],
    (d_kernel, d_scalings): (&mut [T], &mut [Vec<T>]),
) {
    let (last, n) = (cells.last(), cells.row());
    let rows = kernel.chunks_exact(n).zip(d_kernel.chunks_exact_mut(n));
    for (digits, (kernel, d_kernel)) in cells.rows().zip(rows) {
        let others = product(digits, scalings, [m, last]);
        let through = if m < last {
            let g = slope[digits[m] as usize];
            axpy(isa, g * others, &scalings[last], d_kernel);
            axpy(isa, g * others, kernel, &mut d_scalings[last]);
            g * dot(isa, kernel, &scalings[last])
        } else {
            axpy(isa, others, slope, d_kernel);
            dot(isa, kernel, slope)
        };
        for (k, digit) in digits.iter().enumerate().filter(|(k, _)| *k != m) {
            let mut rest = T::one();
            for (l, d) in digits
                .iter()
                .enumerate()
                .filter(|(l, _)| *l != m && *l != k)
            {
                rest *= scalings[l][*d as usize];
            }
            d_scalings[k][*digit as usize] += through * rest;
        }
    }
}
