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
//! assert!(solution.converged && solution.marginal_error < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`Sinkhorn`] | two measures, log domain, epsilon scaling, overrelaxation, to a tolerance |
//! | [`MultiMarginalSinkhorn`] | any number of measures at once: costs between pairs (chains, stars, trees, rings), or a joint cost; batches |
//! | [`KernelSinkhorn`] | the DecAlign release's loss, number for number, gradient through every sweep |
//! | [`bures_wasserstein_diagonal`] | costs between Gaussians |
//! | [`coupling_cost`] | the cost of a coupling that is given, such as responsibilities |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! Values carry gradients with respect to weights, costs and points by the envelope theorem; plans and
//! potentials carry none.

mod geometry;
mod linear;
mod multi_marginal;
pub mod reference;

pub use decalign_core::{Error, Result};
pub use geometry::{Geometry, Reduction, bures_wasserstein_diagonal, coupling_cost};
pub use linear::{LinearProblem, Plan, Sinkhorn, SinkhornSolution};
pub use multi_marginal::{
    CELL_LIMIT, KernelSinkhorn, MultiMarginalOutcome, MultiMarginalProblem, MultiMarginalSinkhorn,
    MultiMarginalSolution,
};
pub use reference::ROOT_SHIFT;
