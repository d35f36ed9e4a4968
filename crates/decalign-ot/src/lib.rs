//! Entropic optimal transport, differentiable on Candle tensors.
//!
//! Mass `a` on n points is moved to mass `b` on m points at the least cost:
//!
//! ```text
//! min over P >= 0 with P 1 = a, P^T 1 = b of  <P, C> + eps KL(P | a x b)
//! ```
//!
//! A [`Geometry`] gives the costs, stored or computed as they are needed; a [`LinearProblem`] adds
//! the two masses; [`Sinkhorn`] solves it; a [`SinkhornSolution`] says what came of it, with the
//! [`Plan`] computed on request. Nothing is silent: bad input is an error with the numbers, and a
//! solution says whether it converged and how far its marginals are off.
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
//! | item | what it is |
//! |---|---|
//! | [`Sinkhorn`] | two measures, log domain, epsilon scaling, overrelaxation, to a tolerance |
//! | [`NetworkSimplex`] | two measures, exactly, with a sparse plan |
//! | [`wasserstein_1d`], [`sliced_wasserstein`] | on a line in closed form, and the mean over lines |
//! | [`MultiMarginalSinkhorn`] | any number of measures at once, on the dense joint cost |
//! | [`KernelSinkhorn`] | the DecAlign release's loss, number for number, gradient through every sweep |
//! | [`FixedSupportBarycenter`], [`FreeSupportBarycenter`] | means of measures |
//! | [`GromovWasserstein`] | points of different spaces, by the costs within each; fused |
//! | [`LowRankSinkhorn`] | plans of low rank, in time and memory linear in the points |
//! | [`bures_wasserstein`], [`bures_wasserstein_diagonal`] | costs between Gaussians |
//! | [`entropic_gaussian`] | entropic transport between Gaussians in closed form |
//! | [`coupling_cost`] | the cost of a coupling that is given, such as responsibilities |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Values carry gradients with respect to weights, costs and points by the envelope theorem; plans and
//! potentials carry none.

mod barycenter;
mod exact;
mod geometry;
mod guard;
mod inner;
mod linear;
mod low_rank;
mod multi_marginal;
mod quadratic;
pub mod reference;

pub use barycenter::{
    BarycenterProblem, BarycenterSolution, FixedSupportBarycenter, FreeSupportBarycenter,
    FreeSupportSolution, Support, unrolled_barycenter,
};
pub use decalign_core::{Error, Result};
pub use exact::{ExactSolution, NetworkSimplex, SparsePlan, sliced_wasserstein, wasserstein_1d};
pub use geometry::{
    Geometry, Reduction, bures_wasserstein, bures_wasserstein_diagonal, coupling_cost,
    entropic_gaussian,
};
pub use linear::{
    Acceleration, Divergence, End, Gradient, LinearProblem, LinearSolve, Plan, Sinkhorn,
    SinkhornDivergence, SinkhornSolution, Update,
};
pub use low_rank::{LowRankPlan, LowRankSinkhorn, LowRankSolution};
pub use multi_marginal::{
    CELL_LIMIT, KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, MultiMarginalSolution,
};
pub use quadratic::{GromovProblem, GromovSolution, GromovWasserstein};
pub use reference::ROOT_SHIFT;
