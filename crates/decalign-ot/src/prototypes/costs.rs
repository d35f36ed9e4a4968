//! All costs between the mixtures of several modalities.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::{Error, Result};

use super::coupling::coupling_cost;
use super::device;
use crate::gaussian::bures_wasserstein_diagonal;
use crate::reduction::Reduction;

/// What [`prototype_costs`] gives.
#[derive(Clone, Debug)]
pub struct PrototypeCosts {
    /// Of prototypes to prototypes, (`K_i`, `K_j`), in the order of pairs `i < j`: (0, 1), (0, 2), (1, 2).
    pub prototypes: Vec<Tensor>,
    /// Of samples of `i` to prototypes of `j`, scalars, in the order of pairs `i != j`: (0, 1), (0, 2), (1, 0).
    pub samples: Vec<Tensor>,
}

/// What the costs are of.
pub(super) struct Inputs<'a> {
    pub(super) samples: &'a [Tensor],
    pub(super) responsibilities: &'a [Tensor],
    pub(super) means: &'a [Tensor],
    pub(super) variances: &'a [Tensor],
    pub(super) floor: Option<f64>,
    pub(super) reduction: Reduction,
}

impl<'a> Inputs<'a> {
    pub(super) fn lists(&self) -> [&'a [Tensor]; 4] {
        [
            self.samples,
            self.responsibilities,
            self.means,
            self.variances,
        ]
    }
}

/// The costs between the mixtures `sum_k N(mu_k, diag(v_k))` of several modalities, one each: of every two of them between
/// prototypes, and of each one's samples to every other's prototypes:
///
/// ```text
/// C_ij[k, l] = sum_d (mu_i,kd - mu_j,ld)^2 + sum_d (v_i,kd + v_j,ld - 2 sqrt(v_i,kd v_j,ld + 1e-8))    i < j
/// c_ij       = mean_b sum_k gamma_i[b, k] sum_d (x_i,bd - mu_j,kd)^2                                   i != j
/// ```
///
/// or with means over dimensions: [`bures_wasserstein_diagonal`] and [`coupling_cost`]. With a `floor` samples are scaled by
/// variances: each squared difference of `c_ij` is divided by `max(v_j,kd, floor)`.
///
/// On a device two or three modalities of equal sizes are one launch forward and one back, which adds up the gradients of all
/// uses.
///
/// # Shapes
/// A tensor a modality: `samples` (B, d), `responsibilities` (B, K), `means` and `variances` (K, d), variances not negative.
/// d and K are those of all, B may differ.
///
/// # Errors
/// When there are not as many tensors of each kind, shapes or dtypes do not fit, or the floor is not positive.
///
/// Source: Dowson and Landau (1982) for `C_ij`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Reduction, prototype_costs};
/// let column = |x: f64| Tensor::new(&[[x]], &Device::Cpu);
/// let (means, ones) = ([column(0.0)?, column(3.0)?], [column(1.0)?, column(1.0)?]);
/// // Samples at 0 and 1; prototypes at 0 and 3.
/// let samples = [column(0.0)?, column(1.0)?];
/// let costs = prototype_costs(&samples, &ones, &means, &ones, None, Reduction::Sum)?;
/// assert!((costs.prototypes[0].to_vec2::<f64>()?[0][0] - 9.0).abs() < 1e-7);
/// assert_eq!(costs.samples[0].to_scalar::<f64>()?, 9.0);
/// assert_eq!(costs.samples[1].to_scalar::<f64>()?, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prototype_costs(
    samples: &[Tensor],
    responsibilities: &[Tensor],
    means: &[Tensor],
    variances: &[Tensor],
    floor: Option<f64>,
    reduction: Reduction,
) -> Result<PrototypeCosts> {
    let inputs = Inputs {
        samples,
        responsibilities,
        means,
        variances,
        floor,
        reduction,
    };
    let counts = inputs.lists().map(<[Tensor]>::len);
    if counts.iter().any(|n| *n != counts[0]) {
        return Err(Error::value(
            "samples, responsibilities, means and variances",
            format!("{counts:?}"),
            "must be one a modality each",
        ));
    }
    if let Some(x) = samples.first()
        && let Some(backend) = Backend::of(x)?
        && let Some(costs) = device::prototype_costs(&backend, &inputs)?
    {
        return Ok(costs);
    }
    one_by_one(&inputs)
}

fn one_by_one(inputs: &Inputs) -> Result<PrototypeCosts> {
    let (means, variances) = (inputs.means, inputs.variances);
    let (mut prototypes, mut samples) = (Vec::new(), Vec::new());
    let count = means.len();
    for i in 0..count {
        for j in (0..count).filter(|j| *j != i) {
            let scale = inputs.floor.map(|floor| (&variances[j], floor));
            samples.push(coupling_cost(
                &inputs.samples[i],
                &inputs.responsibilities[i],
                &means[j],
                scale,
                inputs.reduction,
            )?);
        }
    }
    for i in 0..count {
        for j in i + 1..count {
            prototypes.push(bures_wasserstein_diagonal(
                (&means[i], &variances[i]),
                (&means[j], &variances[j]),
                inputs.reduction,
            )?);
        }
    }
    Ok(PrototypeCosts {
        prototypes,
        samples,
    })
}
