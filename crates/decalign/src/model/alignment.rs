//! The two alignment losses of a batch.

use candle_core::Tensor;
use decalign_gmm::{UnrolledEm, UnrolledFit};
use decalign_mmd::{Estimator, Kernel, Mmd, moment_matching};
use decalign_ot::{
    KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, PrototypeCosts, Reduction,
    bures_wasserstein_diagonal, prototype_costs,
};

use decalign_core::Result;
use decalign_core::profile::phase;

use crate::config::{Component, CostReduction, ModelConfig, Semantics};
use decalign_core::nn::sum_on_device;

/// The losses that separate unique from common parts and align modalities. Scalars.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Alignment {
    /// `L_dec`: mean squared cosine between unique and common parts.
    pub decoupling: Tensor,
    /// `L_hete`: transport between prototypes of the unique parts, and samples to prototypes.
    pub heterogeneous: Tensor,
    /// `L_homo`: moments and MMD of the common parts.
    pub homogeneous: Tensor,
}

/// Tolerance of the marginals at which native transport stops.
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
    let prototypes = phase("mixtures", || em.prototypes(unique))?;
    let (fits, masses): (Vec<UnrolledFit>, Vec<Tensor>) = prototypes.into_iter().unzip();
    phase("transport", || {
        let costs = costs(unique, &fits, config)?;
        let local = costs.samples;
        let transported = match config.has(Component::PrototypeOt) {
            true => Some(transport(&masses, &costs.prototypes, config)?),
            false => None,
        };
        let each = 1.0 / local.len() as f64;
        let terms = local.iter().map(|cost| (cost.clone(), each));
        let terms: Vec<(Tensor, f64)> = transported
            .iter()
            .map(|x| (x.clone(), 1.0))
            .chain(terms)
            .collect();
        if let Some(sum) = sum_on_device(&terms)? {
            return Ok(sum);
        }
        let local = Tensor::stack(&local, 0)?.mean(0)?;
        Ok(match transported {
            Some(transported) => (transported + local)?,
            None => local,
        })
    })
}

/// The transport of all modalities' prototypes onto one another.
pub(super) fn problem(fits: &[UnrolledFit], config: &ModelConfig) -> Result<MultiMarginalProblem> {
    let masses = fits
        .iter()
        .map(UnrolledFit::prototype_mass)
        .collect::<decalign_core::Result<Vec<_>>>()?;
    let reduction = reduction(config);
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
    MultiMarginalProblem::pairwise(&masses, &costs)
}

fn transport(masses: &[Tensor], costs: &[Tensor], config: &ModelConfig) -> Result<Tensor> {
    let problem = MultiMarginalProblem::pairwise(masses, costs)?;
    let (epsilon, sweeps) = (config.transport_epsilon, config.transport_iterations);
    Ok(match config.semantics {
        Semantics::Reference => KernelSinkhorn::new(epsilon, sweeps)?.loss(&problem)?,
        Semantics::Native => {
            MultiMarginalSinkhorn::new(epsilon)?
                .tolerance(TRANSPORT_TOLERANCE)?
                .max_iterations(sweeps)?
                .value(&problem)?
                .value
        }
    })
}

/// Transport costs between prototypes and from samples to prototypes, for all pairs of modalities.
fn costs(unique: &[Tensor], fits: &[UnrolledFit], config: &ModelConfig) -> Result<PrototypeCosts> {
    let of = |part: fn(&UnrolledFit) -> &Tensor| -> Vec<Tensor> {
        fits.iter().map(|fit| part(fit).clone()).collect()
    };
    prototype_costs(
        unique,
        &of(|fit| &fit.responsibilities),
        &of(|fit| &fit.means),
        &of(|fit| &fit.variances),
        config.local_mahalanobis.then_some(config.variance_floor),
        reduction(config),
    )
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
            let (mmd, moments) = (mmd()?, moment_matching(distribution)?);
            match sum_on_device(&[(moments.clone(), 1.0), (mmd.clone(), 1.0)])? {
                Some(sum) => Ok(sum),
                None => Ok((moments + mmd)?),
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Var;
    use decalign_core::device::emulator::{available, emulated};
    use decalign_core::op::{Gradients, Tape};
    use decalign_core::random::Stream;

    use super::*;
    use crate::config::Config;

    /// Both losses on a tape of kernels: those of the CPU, and with nothing of Candle's between them.
    #[test]
    fn on_a_device_every_operation_is_recorded() -> Result<()> {
        if !available() {
            return Ok(());
        }
        let config = Config {
            feature_dims: Some(vec![5, 6, 7]),
            num_prototypes: 3,
            ot_num_iters: 4,
            ..Config::default()
        };
        let mut config = config.resolve_alone().unwrap().model;
        let normal = |i| -> Result<Var> {
            Ok(Var::from_tensor(
                &Stream::new(9, i).normal_tensor(&[9, 8])?,
            )?)
        };
        let vars = (0..3).map(normal).collect::<Result<Vec<_>>>()?;
        let x: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        for semantics in [Semantics::Reference, Semantics::Native] {
            config.semantics = semantics;
            for loss in [heterogeneous, homogeneous] {
                let plain = loss(&x, &config)?;
                let want = Gradients::from(plain.backward()?);
                let tape = Tape::new();
                let taped = emulated(1, || tape.run(|| loss(&x, &config)))?;
                let got = emulated(2, || tape.backward(&taped))?;
                assert_eq!(tape.islands(), 0);
                let apart = |a: &Tensor, b: &Tensor| -> Result<f64> {
                    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
                };
                // Native transport stops at a tolerance.
                let tolerance = 1e-6;
                assert!(apart(&taped.reshape(1)?, &plain.reshape(1)?)? < tolerance);
                for v in &vars {
                    let apart = apart(got.get(v).unwrap(), want.get(v).unwrap())?;
                    assert!(apart < tolerance, "{apart}");
                }
            }
        }
        Ok(())
    }
}
