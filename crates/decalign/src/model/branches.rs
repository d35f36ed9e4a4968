//! The parts of a pass that do not wait for one another.

use candle_core::Tensor;
use decalign_core::Error;
use decalign_core::nn::Mode;
use decalign_core::op::Branch;
use decalign_core::profile::phase;
use decalign_decouple::Decoupled;
use decalign_fusion::{Attention, Stream, mean_pool};

use super::alignment::{heterogeneous, homogeneous, nothing};
use super::{DecAlign, parameter_key};
use crate::config::{Component, Semantics};

impl DecAlign {
    /// The pooled output of each active modality's encoder.
    pub(super) fn fusion_branches<'a>(
        &'a self,
        active: &'a [usize],
        parts: &[Decoupled],
        masks: &'a [Option<Tensor>],
        mode: Mode,
    ) -> Vec<Branch<'a>> {
        let config = &self.config;
        // The release lets padded steps be attended to (their features are zero).
        let attend_to_all = config.semantics == Semantics::Reference;
        let attention = match config.cross_modal_attention {
            true => Attention::Cross,
            false => Attention::SelfOnly {
                causal: config.causal_mask,
            },
        };
        let features: Vec<Tensor> = active.iter().map(|i| parts[*i].unique.clone()).collect();
        let branch = |i: usize| {
            let parameters = self.parameters_of("trans", i);
            Branch::new(features.clone(), parameters, move |features| {
                let mut streams = vec![None; masks.len()];
                for (j, features) in active.iter().zip(features) {
                    let mask = masks[*j].clone().filter(|_| !attend_to_all);
                    streams[*j] = Some(Stream {
                        features: features.clone(),
                        mask,
                    });
                }
                phase("fusion", || {
                    let encoded = self.encoder.encode(i, &streams, attention, mode)?;
                    encoded
                        .iter()
                        .map(|h| mean_pool(h, masks[i].as_ref()))
                        .collect()
                })
            })
        };
        active.iter().map(|i| branch(*i)).collect()
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

    /// The parameters of modality `i` under the release's name of a part.
    fn parameters_of(&self, part: &str, i: usize) -> Vec<Tensor> {
        let key = parameter_key(&self.config.modalities[i].name);
        self.parameters.scope(format!("{part}_{key}")).within()
    }

    /// Whether so many active modalities are aligned by a part of the method: the release aligns
    /// three or none.
    fn aligns(&self, active: usize, component: Component) -> bool {
        let enough = match self.config.semantics {
            Semantics::Reference => active == 3,
            Semantics::Native => active >= 2,
        };
        enough && self.config.has(component)
    }
}

/// Says which loss could not be computed.
fn in_loss(name: &str) -> impl Fn(Error) -> Error {
    move |error| {
        Error::value(
            format!("the {name} loss"),
            "not computable",
            error.to_string(),
        )
    }
}
