//! The two alignment losses of a batch.

use candle_core::Tensor;
use decalign_gmm::{UnrolledEm, UnrolledFit};
use decalign_mmd::{Estimator, Kernel, Mmd, moment_matching};
use decalign_ot::{
    KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, Reduction,
    bures_wasserstein_diagonal, coupling_cost,
};

use decalign_core::Result;
use decalign_core::profile::phase;

use crate::config::{Component, CostReduction, ModelConfig, Semantics};

/// What pulls unique and common parts apart, and modalities together. Scalars.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// `L_dec`: mean squared cosine between unique and common parts.
    pub decoupling: Tensor,
    /// `L_hete`: transport between prototypes of the unique parts, and samples to prototypes.
    pub heterogeneous: Tensor,
    /// `L_homo`: moments and MMD of the common parts.
    pub homogeneous: Tensor,
}

/// How far marginals may be from what they should be when native transport stops.
pub(super) const TRANSPORT_TOLERANCE: f64 = 1e-4;

/// `L_hete = L_ot + L_local` of pooled unique parts, (B, d) each.
///
/// A mixture of K Gaussians is fitted to each modality. `L_ot` transports the prototypes of all
/// modalities onto one another at once, by their Bures-Wasserstein distances; `L_local` is the
/// expected cost of samples to the other modalities' prototypes (paper, section 3.3).
pub(super) fn heterogeneous(unique: &[Tensor], config: &ModelConfig) -> Result<Tensor> {
    let em = UnrolledEm::new(
        config.prototypes,
        config.em_iterations,
        config.variance_floor,
    )?;
    let fit = || unique.iter().map(|x| em.fit(x)).collect();
    let fits: Vec<UnrolledFit> = phase("mixtures", || -> Result<_> { fit() })?;
    phase("transport", || {
        let local = samples_to_prototypes(unique, &fits, config)?;
        match config.has(Component::PrototypeOt) {
            true => Ok((transport(&fits, config)? + local)?),
            false => Ok(local),
        }
    })
}

/// The transport of all modalities' prototypes onto one another.
pub(super) fn problem(fits: &[UnrolledFit], config: &ModelConfig) -> Result<MultiMarginalProblem> {
    let reduction = reduction(config);
    let mass = fits
        .iter()
        .map(UnrolledFit::prototype_mass)
        .collect::<decalign_core::Result<Vec<_>>>()?;
    let mut costs = Vec::new();
    for (i, a) in fits.iter().enumerate() {
        for b in &fits[i + 1..] {
            let gaussians = ((&a.means, &a.variances), (&b.means, &b.variances));
            costs.push(bures_wasserstein_diagonal(
                gaussians.0,
                gaussians.1,
                reduction,
            )?);
        }
    }
    MultiMarginalProblem::pairwise(&mass, &costs)
}

fn transport(fits: &[UnrolledFit], config: &ModelConfig) -> Result<Tensor> {
    let problem = problem(fits, config)?;
    let (epsilon, sweeps) = (config.transport_epsilon, config.transport_iterations);
    Ok(match config.semantics {
        Semantics::Reference => KernelSinkhorn::new(epsilon, sweeps)?.loss(&problem)?,
        Semantics::Native => {
            MultiMarginalSinkhorn::new(epsilon, TRANSPORT_TOLERANCE, sweeps)?
                .value(&problem)?
                .value
        }
    })
}

/// Mean over ordered pairs of modalities.
fn samples_to_prototypes(
    unique: &[Tensor],
    fits: &[UnrolledFit],
    config: &ModelConfig,
) -> Result<Tensor> {
    let mut costs = Vec::new();
    for (i, (x, own)) in unique.iter().zip(fits).enumerate() {
        for (_, other) in fits.iter().enumerate().filter(|(j, _)| *j != i) {
            let scale = config
                .local_mahalanobis
                .then_some((&other.variances, config.variance_floor));
            costs.push(coupling_cost(
                x,
                &own.responsibilities,
                &other.means,
                scale,
                reduction(config),
            )?);
        }
    }
    Ok(Tensor::stack(&costs, 0)?.mean(0)?)
}

fn reduction(config: &ModelConfig) -> Reduction {
    match config.cost_reduction {
        CostReduction::Mean => Reduction::Mean,
        CostReduction::Sum => Reduction::Sum,
    }
}

/// `L_homo = L_sem + L_mmd` of distribution features, (B, P) each: moments, and biased MMD^2 with
/// a Gaussian kernel, means over pairs (paper, section 3.4).
pub(super) fn homogeneous(distribution: &[Tensor], config: &ModelConfig) -> Result<Tensor> {
    let mmd = || {
        let kernel = Kernel::gaussian_variance(config.mmd_bandwidth)?;
        Mmd::new(kernel, Estimator::Biased).mean_over_pairs(distribution)
    };
    match (config.has(Component::Moments), config.has(Component::Mmd)) {
        (true, true) => {
            let mmd = mmd()?;
            Ok((moment_matching(distribution)? + mmd)?)
        }
        (true, false) => moment_matching(distribution),
        (false, true) => mmd(),
        (false, false) => nothing(&distribution[0]),
    }
}

/// A loss of 0.
pub(super) fn nothing(like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros((), like.dtype(), like.device())?)
}
