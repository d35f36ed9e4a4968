//! Internal quantities of a model: pooled parts, prototypes and the transport between them.

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_data::Sequence;
use decalign_fusion::mean_pool;
use decalign_gmm::{UnrolledEm, UnrolledFit};
use decalign_ot::{MultiMarginalSinkhorn, MultiMarginalSolution};

use super::DecAlign;
use super::alignment::{TRANSPORT_TOLERANCE, problem};
use crate::Result;

/// The pooled parts of every active modality, (B, d) each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pooled {
    /// The modality-specific parts.
    pub unique: Vec<Tensor>,
    /// The parts shared by all modalities.
    pub common: Vec<Tensor>,
}

/// The prototypes of every active modality and the transport between them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prototypes {
    /// One mixture a modality.
    pub fits: Vec<UnrolledFit>,
    /// The plan over all modalities.
    pub plan: MultiMarginalSolution,
}

/// Sweeps that a plan for looking at may take.
const SWEEPS: usize = 2000;

impl DecAlign {
    /// The names of the modalities that take part.
    pub fn active_modalities(&self) -> Vec<&str> {
        let active = self.active().into_iter();
        active
            .map(|i| self.config.modalities[i].name.as_str())
            .collect()
    }

    /// The pooled parts of some samples, as the alignment losses see them.
    ///
    /// # Errors
    /// As [`DecAlign::forward`].
    pub fn pooled_parts(&self, sequences: &[Sequence]) -> Result<Pooled> {
        let (mut unique, mut common) = (Vec::new(), Vec::new());
        for i in self.active() {
            let encoded = self.encode(i, &sequences[i], Mode::Inference)?;
            let part = self.decouple(i, encoded.features)?;
            unique.push(mean_pool(&part.unique, encoded.mask.as_ref())?);
            common.push(mean_pool(&part.common, encoded.mask.as_ref())?);
        }
        Ok(Pooled { unique, common })
    }

    /// The mixtures that `L_hete` fits to pooled unique parts, (B, d) each, and the transport
    /// between their prototypes, solved in the log domain to a marginal error of 1e-4 whatever the
    /// semantics.
    ///
    /// # Errors
    /// When there are fewer than two modalities, or the parts are not finite.
    pub fn prototypes(&self, unique: &[Tensor]) -> Result<Prototypes> {
        let config = &self.config;
        let em = UnrolledEm::new(
            config.prototypes,
            config.em_iterations,
            config.variance_floor,
        )?;
        let fits: Vec<UnrolledFit> = unique
            .iter()
            .map(|x| em.fit(x))
            .collect::<decalign_core::Result<_>>()?;
        let epsilon = config.transport_epsilon;
        let solver = MultiMarginalSinkhorn::new(epsilon)?
            .tolerance(TRANSPORT_TOLERANCE)?
            .max_iterations(SWEEPS)?;
        let plan = solver.solve(&problem(&fits, config)?)?;
        Ok(Prototypes { fits, plan })
    }
}
