//! Optimal transport, entropic and exact, differentiable on Candle tensors.
//!
//! Transport moves mass `a` on n points to mass `b` on m points at the least cost:
//!
//! ```text
//! min over P >= 0 with P 1 = a, P^T 1 = b of  <P, C> + eps KL(P | a x b)
//! ```
//!
//! with `eps = 0` for exact transport. Four types, in this order:
//!
//! 1. A [`Geometry`] gives the costs C: a stored matrix, or computed from points block by block and never stored.
//! 2. A [`LinearProblem`] adds the masses, of one problem or of a batch, and checks them.
//! 3. A solver such as [`Sinkhorn`] holds the settings and solves the problem.
//! 4. The solution has the value, the potentials, the [`Plan`] (its cells are computed on request) and its
//!    [`Convergence`]: iterations, marginal error, whether the tolerance was met.
//!
//! Bad input is an error that names the input, its value and the remedy.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_ot::{Geometry, LinearProblem, Sinkhorn};
//!
//! let x = Tensor::new(&[[0f32, 0.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
//! let y = (&x + 0.5)?;
//! let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
//! let solution = Sinkhorn::new(0.05)?.solve(&problem)?;
//! assert!(solution.converged() && solution.marginal_error() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | two measures | |
//! |---|---|
//! | [`Sinkhorn`] | entropic transport to a tolerance, [balanced](LinearProblem::new) or [unbalanced](LinearProblem::unbalanced) |
//! | [`SinkhornDivergence`] | entropic transport without its bias: 0 for equal measures |
//! | [`LowRankSinkhorn`] | plans of low rank, in time and memory linear in the number of points |
//! | [`NetworkSimplex`] | exact transport, with a sparse plan |
//! | [`wasserstein_1d`], [`sliced_wasserstein`] | measures on a line in closed form; the mean over random lines |
//! | [`bures_wasserstein`], [`entropic_gaussian`] | Gaussians in closed form |
//!
//! | more than two measures, or different spaces | |
//! |---|---|
//! | [`MultiMarginalSinkhorn`] | any number of measures at once, with costs between pairs (chains, stars, trees, rings) or a joint cost |
//! | [`KernelSinkhorn`] | the transport loss of the public DecAlign code, number for number |
//! | [`FixedSupportBarycenter`], [`FreeSupportBarycenter`] | means of measures |
//! | [`GromovWasserstein`] | points of different spaces, compared by the costs within each space; fused |
//!
//! # Gradients
//!
//! Every value carries gradients with respect to weights, costs and points, by the envelope theorem. With [`Gradient::Implicit`] or
//! [`Gradient::Unrolled`] the potentials of [`Sinkhorn`] and the products of its plan carry them too. The gradient with respect to
//! weights of a fixed total is known up to a constant; it is centred.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use decalign_ot::{Geometry, Gradient, LinearProblem, Sinkhorn};
//!
//! // Where does each point go, and how does that change with the points?
//! let x = Var::new(&[[0f64, 0.0], [1.0, 0.0]], &Device::Cpu)?;
//! let y = Tensor::new(&[[0f64, 1.0], [2.0, 1.0]], &Device::Cpu)?;
//! let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
//! let solution = Sinkhorn::new(0.5)?.gradient(Gradient::Implicit).solve(&problem)?;
//! let moved = solution.plan.barycentric_projection(&y)?;
//! let gradients = moved.sqr()?.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&x).unwrap().dims(), [2, 2]);
//! assert!(solution.gradient_solves().iter().all(|solve| solve.converged));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mod@reference`] computes the results of [`Sinkhorn`] and of many marginals in plain tensor operations. Tests compare the other
//! solvers with closed forms, enumeration and one another, and gradients with central differences.

mod barycenter;
mod convergence;
mod device;
mod exact;
mod gaussian;
mod geometry;
mod linear;
mod low_rank;
mod multi_marginal;
mod prototypes;
mod quadratic;
mod reduction;
pub mod reference;
mod schedule;
mod tensor_convert;
mod validate;
mod value;

pub use barycenter::{
    BarycenterProblem, BarycenterSolution, FixedSupportBarycenter, FreeSupportBarycenter,
    FreeSupportSolution, Support, unrolled_barycenter,
};
pub use convergence::Convergence;
pub use decalign_core::{Error, ErrorKind, Result};
pub use exact::{ExactSolution, NetworkSimplex, SparsePlan, sliced_wasserstein, wasserstein_1d};
pub use gaussian::{ROOT_SHIFT, bures_wasserstein, bures_wasserstein_diagonal, entropic_gaussian};
pub use geometry::Geometry;
pub use linear::{
    Acceleration, Divergence, Gradient, LinearProblem, LinearSolve, Plan, Sinkhorn,
    SinkhornDivergence, SinkhornSolution, Update,
};
pub use low_rank::{LowRankPlan, LowRankSinkhorn, LowRankSolution};
pub use multi_marginal::{
    CELL_LIMIT, KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, MultiMarginalSolution,
};
pub use prototypes::{PrototypeCosts, coupling_cost, prototype_costs};
pub use quadratic::{GromovProblem, GromovSolution, GromovWasserstein};
pub use reduction::Reduction;
pub use value::TransportValue;

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn device_programs() -> Result<Vec<decalign_core::device::Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = Vec::new();
    for dtype in [F32, F64] {
        all.push(gaussian::device::program(dtype)?);
        all.push(prototypes::device::coupling_program(dtype)?);
        for modalities in [2, 3] {
            all.push(prototypes::device::costs_program(dtype, modalities, 7)?);
        }
    }
    for sizes in [&[7, 7, 7][..], &[32, 32]] {
        for dtype in [F32, F64] {
            all.push(device::log_domain_program(sizes, dtype)?);
            all.push(multi_marginal::device::upstream_program(sizes, dtype)?);
        }
    }
    for dtype in [F32, F64] {
        all.push(linear::device::small_program(dtype)?);
        all.push(linear::device::sweep_program(dtype, 64, false)?);
        all.push(linear::device::plan_program(dtype, 64)?);
    }
    for width in [16, 64, 128] {
        all.push(linear::device::sweep_program(F32, width, true)?);
    }
    Ok(all)
}
