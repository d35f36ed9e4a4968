//! The independent branches of a forward pass.

use candle_core::Tensor;
use decalign_core::Error;
use decalign_core::device::Backend;
use decalign_core::nn::Mode;
use decalign_core::op::{Branch, split};
use decalign_core::profile::phase;
use decalign_decouple::Decoupled;
use decalign_fusion::{Attention, MaskedSequence, mean_pool};

use super::alignment::{heterogeneous, homogeneous, nothing};
use super::{DecAlign, parameter_key};
use crate::config::{Component, Semantics};

impl DecAlign {
    /// The pooled output of each active modality's encoder, in [`pieces`] of the batch: all pieces of the first
    /// modality, then of the next.
    pub(super) fn fusion_branches<'a>(
        &'a self,
        active: &'a [usize],
        parts: &[Decoupled],
        masks: &'a [Option<Tensor>],
        mode: Mode,
    ) -> decalign_core::Result<Vec<Branch<'a>>> {
        let config = &self.config;
        // Upstream attends to padded steps; their features are zero.
        let attend_to_all = config.semantics == Semantics::Reference;
        let attention = match config.cross_modal_attention {
            true => Attention::Cross,
            false => Attention::SelfOnly {
                causal: config.causal_mask,
            },
        };
        let sizes = pieces(parts)?;
        let features = active.iter().map(|i| split(&parts[*i].unique, &sizes));
        let features = features.collect::<decalign_core::Result<Vec<_>>>()?;
        let branch = |i: usize, piece: usize| {
            let (first, size) = (sizes[..piece].iter().sum(), sizes[piece]);
            let mask = move |j: usize| -> decalign_core::Result<Option<Tensor>> {
                let mask = masks[j].as_ref().map(|mask| mask.narrow(0, first, size));
                Ok(mask.transpose()?)
            };
            let inputs = features.iter().map(|of| of[piece].clone()).collect();
            let mode = mode.child(piece as u64);
            Branch::new(inputs, self.parameters_of("trans", i), move |features| {
                let mut streams = vec![None; masks.len()];
                for (j, features) in active.iter().zip(features) {
                    streams[*j] = Some(MaskedSequence::masked(
                        features.clone(),
                        mask(*j)?.filter(|_| !attend_to_all),
                    ));
                }
                phase("fusion", || {
                    let encoded = self.fusion.encode(i, &streams, attention, mode)?;
                    let pooled = encoded.iter().map(|h| mean_pool(h, mask(i)?.as_ref()));
                    pooled.collect()
                })
            })
        };
        let pieces = (0..sizes.len()).collect::<Vec<_>>();
        let of = |i: &usize| pieces.iter().map(|p| branch(*i, *p)).collect::<Vec<_>>();
        Ok(active.iter().flat_map(of).collect())
    }

    /// `L_hete` of the pooled unique parts.
    pub(super) fn heterogeneous_branch(&self, unique: Vec<Tensor>) -> Branch<'_> {
        Branch::new(unique, Vec::new(), |unique| {
            Ok(vec![
                match self.aligns(unique.len(), Component::Heterogeneous) {
                    true => {
                        heterogeneous(unique, &self.config).map_err(in_loss("heterogeneous"))?
                    }
                    false => nothing(&unique[0])?,
                },
            ])
        })
    }

    /// `L_homo` of the pooled common parts, and the distribution features `z_m`.
    pub(super) fn homogeneous_branch<'a>(
        &'a self,
        active: &'a [usize],
        common: &[Tensor],
        mode: Mode,
    ) -> Branch<'a> {
        let inputs = active.iter().map(|i| common[*i].clone()).collect();
        let parameters = active
            .iter()
            .flat_map(|i| self.parameters_of("pde", *i))
            .collect();
        Branch::new(inputs, parameters, move |common| {
            let dropout = self.config.relu_dropout;
            let encode = |(i, x): (&usize, &Tensor)| {
                self.distribution[*i].forward(x, dropout, mode.child(*i as u64))
            };
            phase("homogeneous", || {
                let mut outputs = active
                    .iter()
                    .zip(common)
                    .map(encode)
                    .collect::<decalign_core::Result<Vec<_>>>()?;
                let loss = match self.aligns(outputs.len(), Component::Homogeneous) {
                    true => homogeneous(&outputs, &self.config).map_err(in_loss("homogeneous"))?,
                    false => nothing(&outputs[0])?,
                };
                outputs.insert(0, loss);
                Ok(outputs)
            })
        })
    }

    /// The parameters of modality `i` under upstream's name of a part.
    fn parameters_of(&self, part: &str, i: usize) -> Vec<Tensor> {
        let key = parameter_key(&self.config.modalities[i].name);
        self.parameters.scope(format!("{part}_{key}")).within()
    }

    /// True if a part of the method aligns this many active modalities: upstream aligns three or none, native
    /// semantics two or more.
    fn aligns(&self, active: usize, component: Component) -> bool {
        let enough = match self.config.semantics {
            Semantics::Reference => active == 3,
            Semantics::Native => active >= 2,
        };
        enough && self.config.has(component)
    }
}

/// Sizes of the parts into which encoders split a batch: two when the batch is large, so that three modalities keep two
/// threads busy to the end. They depend on the batch alone, so results do not depend on threads.
fn pieces(parts: &[Decoupled]) -> decalign_core::Result<Vec<usize>> {
    let size = parts[0].unique.dim(0)?;
    let most = parts.iter().map(|part| part.unique.elem_count()).max();
    // A device runs launches one after the other, so fewer and larger ones are faster.
    let on_host = Backend::of(&parts[0].unique)?.is_none();
    Ok(match on_host && size >= 2 && most >= Some(ENOUGH) {
        true => vec![size.div_ceil(2), size / 2],
        false => vec![size],
    })
}

/// Elements of a modality's features from which on an encoder splits its batch.
const ENOUGH: usize = 1 << 15;

/// Adds the name of the loss to an error.
fn in_loss(name: &str) -> impl Fn(Error) -> Error {
    move |error| {
        Error::value(
            format!("the {name} loss"),
            "not computable",
            error.to_string(),
        )
    }
}
