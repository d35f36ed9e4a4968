//! The model's outputs, losses, gradients and steps by the names of the upstream code.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use decalign_core::nn::Mode;
use decalign_core::random::Stream;

use super::files::Fixture;
use crate::Result;
use crate::model::{DecAlign, ModelOutput, parameter_key};
use crate::objective::{LossTerms, Objective};
use crate::optim::{Adam, AdamSettings};

type Tensors = BTreeMap<String, Tensor>;

/// Every tensor that a folder may expect.
pub(super) fn compute(fixture: &Fixture) -> Result<Tensors> {
    let model = fixture.model()?;
    let mut tensors = Tensors::new();
    let (output, losses) = pass(fixture, &model)?;
    representations(fixture, &output, &mut tensors)?;
    let names = [
        ("task", "main_loss"),
        ("decoupling", "dec_loss"),
        ("heterogeneous", "hete_loss"),
        ("homogeneous", "homo_loss"),
        ("contrastive", "contrastive_loss"),
    ];
    for (name, upstream) in names {
        if let Some(loss) = losses.component(name) {
            tensors.insert(upstream.to_owned(), loss.clone());
        }
    }
    tensors.insert("total_loss".to_owned(), losses.total.clone());
    let gradients = losses.total.backward()?;
    for (name, var) in model.variables() {
        if let Some(gradient) = gradients.get(&var) {
            tensors.insert(format!("grad.{name}"), gradient.clone());
        }
    }
    trajectory(fixture, &mut tensors)?;
    Ok(tensors)
}

fn pass(fixture: &Fixture, model: &DecAlign) -> Result<(ModelOutput, LossTerms)> {
    let objective = Objective::new(&fixture.settings.objective, None);
    // Without dropout the stream is not used.
    let output = model.forward(&fixture.sequences, true, Mode::Training(Stream::new(0, 0)))?;
    let losses = objective.losses(&output, &fixture.labels)?;
    Ok((output, losses))
}

fn representations(fixture: &Fixture, output: &ModelOutput, tensors: &mut Tensors) -> Result<()> {
    let model = &fixture.settings.model;
    let half = output.representation.dim(D::Minus1)? / 2;
    let mut insert = |name: &str, x: Tensor| tensors.insert(name.to_owned(), x);
    insert("output_logit", output.prediction.clone());
    if let Some(text) = &output.text {
        insert("text_features", text.clone());
    }
    insert("final_rep", output.representation.clone());
    insert(
        "fusion_rep_hete",
        output.representation.narrow(D::Minus1, 0, half)?,
    );
    insert(
        "fusion_rep_homo",
        output.representation.narrow(D::Minus1, half, half)?,
    );
    for (modality, part) in model.modalities.iter().zip(&output.parts) {
        let key = parameter_key(&modality.name);
        // Upstream has time as the last dimension.
        insert(&format!("s_{key}"), part.unique.transpose(1, 2)?);
        insert(&format!("c_{key}"), part.common.transpose(1, 2)?);
    }
    let active = model.modalities.iter().filter(|m| m.active);
    for (modality, z) in active.zip(&output.distribution) {
        insert(&format!("z_{}", parameter_key(&modality.name)), z.clone());
    }
    Ok(())
}

/// As many optimiser steps as the folder records, on the same batch.
fn trajectory(fixture: &Fixture, tensors: &mut Tensors) -> Result<()> {
    let Some(recorded) = fixture.expected.get("trajectory.total_loss") else {
        return Ok(());
    };
    let config = &fixture.settings.config;
    let model = fixture.model()?;
    let settings = AdamSettings::new(config.weight_decay, config.clip);
    let mut adam = Adam::new(model.variables(), settings);
    let mut totals = Vec::new();
    for _ in 0..recorded.elem_count() {
        let (_, losses) = pass(fixture, &model)?;
        adam.step(&losses.total.backward()?, |_| config.learning_rate)?;
        totals.push(losses.total.reshape(1)?);
    }
    tensors.insert("trajectory.total_loss".to_owned(), Tensor::cat(&totals, 0)?);
    for (name, var) in model.variables() {
        tensors.insert(format!("trajectory.param.{name}"), var.as_tensor().clone());
    }
    Ok(())
}
