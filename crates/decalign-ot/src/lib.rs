//! Multi-marginal optimal transport, differentiable on Candle tensors.
//!
//! A *problem* is M probability vectors and the costs between their points, one matrix a pair of
//! marginals; the joint cost is their sum, `C[i1, ..., iM] = sum over m < n of c_mn[i_m, i_n]`.
//!
//! | item | what it is |
//! |---|---|
//! | [`MultiMarginalSinkhorn`] | entropic transport between any number of marginals, to a tolerance |
//! | [`KernelSinkhorn`] | the DecAlign release's loss, number for number, gradient through every sweep |
//! | [`bures_wasserstein_diagonal`] | costs between Gaussians |
//! | [`coupling_cost`] | the cost of a coupling that is given, such as responsibilities |
//! | [`mod@reference`] | the same in plain tensor operations |
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use decalign_ot::{MultiMarginalProblem, MultiMarginalSinkhorn};
//!
//! let half = Tensor::new(&[0.5f64, 0.5], &Device::Cpu)?;
//! let cost = Tensor::new(&[[0.0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
//! let problem = MultiMarginalProblem::new(&[half.clone(), half], &[cost])?;
//! let solution = MultiMarginalSinkhorn::new(0.05, 1e-9, 1000)?.solve(&problem)?;
//! // Two equal measures: nothing moves.
//! assert!(solution.converged && solution.transport_cost < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: Benamou and others (2015) for multi-marginal Sinkhorn; DecAlign (ICLR 2026).

mod geometry;
mod linear;
mod multi_marginal;
pub mod reference;

pub use decalign_core::{Error, Result};
pub use geometry::{Geometry, Reduction, bures_wasserstein_diagonal, coupling_cost};
pub use linear::{LinearProblem, Plan, Sinkhorn, SinkhornSolution};
pub use multi_marginal::{
    CELL_LIMIT, KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, MultiMarginalSolution,
};
pub use reference::ROOT_SHIFT;
