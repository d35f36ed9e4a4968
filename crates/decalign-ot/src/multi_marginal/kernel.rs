//! The transport loss of the upstream DecAlign code.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Error, Real, Result, for_blocks, parallel, with_real};

use super::device;
use super::dimension_tree::DimensionTree;
use super::inputs::{BatchInputs, record_values};
use super::joint::{cost_gradients, joint_cost, row_terms, scale_cells};
use super::kernel_backward::backward;
use super::layout::JointLayout;
use super::problem::MultiMarginalProblem;
use super::problem_checks::check_cells;
use crate::reference;

/// Least entry of the kernel; at small epsilon it adds mass.
pub(crate) const KERNEL_FLOOR: f64 = 1e-30;
/// Added to every denominator.
pub(crate) const DENOMINATOR_SHIFT: f64 = 1e-8;
/// Least entry of the plan under the logarithm of its entropy.
pub(crate) const PLAN_FLOOR: f64 = 1e-8;

/// Multi-marginal Sinkhorn in the kernel domain with a fixed number of sweeps, as the upstream
/// DecAlign code computes its loss:
///
/// ```text
/// K = max(exp(-C / eps), 1e-30);  u_m = nu_m / (sum of K times the other scalings + 1e-8)
/// T = K u_1 ... u_M;  loss = <T, C> + eps sum T (log max(T, 1e-8) - 1)
/// ```
///
/// The loss may be negative, and is not zero at equality; [`crate::MultiMarginalSinkhorn`] is the
/// solver to prefer. The gradient passes through every sweep.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{KernelSinkhorn, MultiMarginalProblem};
/// let half = Tensor::new(&[0.5f32, 0.5], &Device::Cpu)?;
/// let cost = Tensor::new(&[[0f32, 1.0], [1.0, 0.0]], &Device::Cpu)?;
/// let problem = MultiMarginalProblem::pairwise(&[half.clone(), half], &[cost])?;
/// let loss = KernelSinkhorn::new(0.1, 50)?.loss(&problem)?;
/// assert!(loss.to_scalar::<f32>()? < 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelSinkhorn {
    epsilon: f64,
    sweeps: usize,
}

impl KernelSinkhorn {
    /// `sweeps` sweeps at regularisation `epsilon`.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite, or there is no sweep.
    pub fn new(epsilon: f64, sweeps: usize) -> Result<Self> {
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::value(
                "epsilon",
                epsilon,
                "must be positive and finite",
            ));
        }
        if sweeps == 0 {
            return Err(Error::value("sweeps", 0, "must be at least 1"));
        }
        Ok(Self { epsilon, sweeps })
    }

    /// The loss; it carries gradients with respect to marginals and costs.
    ///
    /// # Shapes
    /// A scalar, or (B) of a batch.
    ///
    /// # Errors
    /// When the joint cost of a problem with structured costs has more than [`crate::CELL_LIMIT`]
    /// cells: this loss is defined on the whole of it.
    pub fn loss(&self, problem: &MultiMarginalProblem) -> Result<Tensor> {
        check_cells(&problem.sizes)?;
        let first = &problem.marginals[0];
        if let Some(backend) = Backend::of(first)? {
            if !device::supports_upstream(&problem.sizes, first.dtype()) {
                return reference::kernel_sinkhorn(problem, self.epsilon, self.sweeps);
            }
            let given = super::value::given(&backend, problem, (first.dtype(), device::UPSTREAM))?;
            let shape = Vec::from_iter(problem.batch);
            return device::upstream_loss(&backend, given, &shape, (self.epsilon, self.sweeps));
        }
        with_real!("marginals", first, T => self.fused::<T>(problem))
    }

    fn fused<T: Real>(&self, problem: &MultiMarginalProblem) -> Result<Tensor> {
        let inputs = BatchInputs::<T>::read(problem)?;
        let cells = JointLayout::new(&problem.sizes);
        let work = (8 * self.sweeps + 30) * cells.len();
        let settings = *self;
        let runs = parallel::map(problem.count(), problem.count() * work, |b| {
            let weights = cells.vectors(inputs.marginals(b), T::zero());
            let cost = joint_cost(&cells, &problem.structure, &inputs.costs(b));
            settings.forward(&cells, &weights, &cost)
        });
        let losses = runs.iter().map(|run| run.loss).collect();
        let structure = problem.structure.clone();
        let gradients = move |b: usize, outer: T| {
            let (weights, mut joint) = backward(&cells, &runs[b], settings.epsilon);
            joint.iter_mut().for_each(|v| *v *= outer);
            let weights = cells.each(&weights);
            let mut all: Vec<Vec<T>> = weights
                .map(|w| w.iter().map(|v| *v * outer).collect())
                .collect();
            all.extend(cost_gradients(&cells, &structure, &joint));
            all
        };
        record_values("kernel_sinkhorn", problem, losses, 3 * work, gradients)
    }

    fn forward<T: Real>(&self, cells: &JointLayout, weights: &[T], cost: &[T]) -> ForwardPass<T> {
        let epsilon = T::of(self.epsilon);
        let n = cells.vectors_len();
        let mut kernel = vec![T::zero(); cells.len()];
        simd::dispatch(FlooredExponentials {
            cells,
            cost,
            epsilon,
            kernel: &mut kernel,
        });
        let mut history = Vec::with_capacity((self.sweeps + 1) * n);
        let ones = cells.sizes.iter().map(|k| vec![T::one(); *k]);
        history.extend(cells.vectors(ones, T::zero()));
        let mut denominators = vec![T::one(); self.sweeps * n];
        let mut levels = DimensionTree::new(cells);
        for (sweep, sums) in denominators.chunks_exact_mut(n).enumerate() {
            history.extend_from_within(sweep * n..);
            let scalings = &mut history[(sweep + 1) * n..];
            levels.prepare(cells, scalings);
            for m in 0..=cells.last() {
                let sums = cells.vector_mut(m, sums);
                levels.sums(cells, &kernel, m, sums);
                simd::dispatch(ScalingUpdate {
                    weights: cells.vector(m, weights),
                    sums,
                    scalings: cells.vector_mut(m, scalings),
                });
                if m < cells.last() {
                    levels.descend(cells, &kernel, m, scalings);
                }
            }
        }
        let scalings = &history[self.sweeps * n..];
        let factors = row_terms(cells, scalings, T::one(), |a, b| a * b);
        let mut plan = vec![T::zero(); cells.len()];
        let along = cells.vector(cells.last(), scalings);
        scale_cells(&kernel, (&factors, along), &mut plan);
        let mut plan_gradient = vec![T::zero(); cells.len()];
        let loss = simd::dispatch(Loss {
            plan: &plan,
            cost,
            epsilon,
            gradient: &mut plan_gradient,
        });
        ForwardPass {
            loss,
            kernel,
            plan,
            plan_gradient,
            history,
            denominators,
        }
    }
}

/// The numbers of a forward pass that its backward pass needs.
pub(super) struct ForwardPass<T> {
    loss: T,
    pub(super) kernel: Vec<T>,
    pub(super) plan: Vec<T>,
    /// The gradient of the loss with respect to the plan.
    pub(super) plan_gradient: Vec<T>,
    /// The scalings before every sweep, and at the end.
    pub(super) history: Vec<T>,
    /// The denominators of every sweep.
    pub(super) denominators: Vec<T>,
}

/// `K = max(exp(-C / eps), floor)`, zeros in the padding.
struct FlooredExponentials<'a, T> {
    cells: &'a JointLayout,
    cost: &'a [T],
    epsilon: T,
    kernel: &'a mut [T],
}

impl<T: Real> Kernel for FlooredExponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (n, stride) = (self.cells.sizes[self.cells.last()], self.cells.stride);
        let floor = T::of(KERNEL_FLOOR);
        for_blocks!(at in self.kernel.len(), {
            let mut c = at.load(self.cost);
            for v in &mut c {
                let e = simd::exp_value(isa, -*v / self.epsilon);
                *v = if e < floor { floor } else { e };
            }
            at.store(c, self.kernel);
        });
        for row in self.kernel.chunks_exact_mut(stride) {
            row[n..].fill(T::zero());
        }
    }
}

/// `u = nu / (sums + shift)`; turns the sums into the denominators.
struct ScalingUpdate<'a, T> {
    weights: &'a [T],
    sums: &'a mut [T],
    scalings: &'a mut [T],
}

impl<T: Real> Kernel for ScalingUpdate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for_blocks!(at in self.weights.len(), {
            let (mut u, mut s) = (at.load(self.weights), at.load(self.sums));
            for i in 0..LANES {
                s[i] += T::of(DENOMINATOR_SHIFT);
                u[i] /= s[i];
            }
            at.store(s, self.sums);
            at.store(u, self.scalings);
        });
    }
}

/// The loss of a plan, and its gradient.
struct Loss<'a, T> {
    plan: &'a [T],
    cost: &'a [T],
    epsilon: T,
    gradient: &'a mut [T],
}

impl<T: Real> Kernel for Loss<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let (floor, epsilon) = (T::of(PLAN_FLOOR), self.epsilon);
        let mut sums = [T::zero(); LANES];
        for_blocks!(at in self.plan.len(), {
            let (plan, mut cost) = (at.load(self.plan), at.load(self.cost));
            for i in 0..LANES {
                let free = plan[i] >= floor;
                let log = simd::ln_value(isa, if free { plan[i] } else { floor });
                let value = isa.mul_add(epsilon, log - T::one(), cost[i]);
                sums[i] = isa.mul_add(plan[i], value, sums[i]);
                cost[i] = value + if free { epsilon } else { T::zero() };
            }
            at.store(cost, self.gradient);
        });
        simd::total(sums)
    }
}
