//! The input projections of attention on devices.

use candle_core::Tensor;
use decalign_core::device::{Backend, Memory, multiply};
use decalign_core::gemm::Store;
use decalign_core::nn::device::{affine_map, sum_columns};
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Error, Result};

use crate::reference::KEYS;

/// One projection: which source, which layer's parameters, and which of the three parts of these.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) source: usize,
    pub(crate) layer: usize,
    pub(crate) part: usize,
}

/// Sources times parts of packed weights: `x W_p^T + b_p` of each of `parts`, without a bias where it is of keys.
///
/// # Shapes
/// Each source (B, T, d); of each layer weight (3d, d), bias (3d).
pub(crate) fn project(
    backend: &Backend,
    sources: &[&Tensor],
    layers: &[(&Tensor, &Tensor)],
    parts: &[Part],
) -> Result<Vec<Tensor>> {
    let d = layers.first().map_or(0, |(_, bias)| bias.elem_count() / 3);
    let flat = sources
        .iter()
        .map(|x| flat(&x.detach(), d))
        .collect::<Result<Vec<_>>>()?;
    let mut outputs: Vec<Output> = Vec::with_capacity(parts.len());
    for part in parts {
        let (weight, bias) = layers[part.layer];
        let part_of = |x: &Tensor| x.detach().narrow(0, part.part * d, d);
        let bias = (part.part != KEYS).then(|| part_of(bias)).transpose()?;
        let y = affine_map(
            backend,
            &flat[part.source],
            &part_of(weight)?,
            bias.as_ref(),
        )?;
        outputs.push(y.reshape(sources[part.source].shape())?.into());
    }
    let inputs: Vec<&Tensor> = sources
        .iter()
        .copied()
        .chain(layers.iter().flat_map(|(w, b)| [*w, *b]))
        .collect();
    let (backend, count, parts) = (backend.clone(), sources.len(), parts.to_vec());
    record("attention_projection", &inputs, outputs, move |b| {
        back(&backend, b, count, &parts, d)
    })
}

fn flat(x: &Tensor, d: usize) -> Result<Tensor> {
    Ok(x.contiguous()?.reshape((x.elem_count() / d.max(1), d))?)
}

fn back(
    backend: &Backend,
    b: &Backward,
    sources: usize,
    parts: &[Part],
    d: usize,
) -> Result<InputGradients> {
    let dtype = b.inputs[0].dtype();
    let mut to_sources: Vec<Option<Memory>> = (0..sources).map(|_| None).collect();
    let mut weights: Vec<Option<Memory>> = (sources..b.inputs.len()).map(|_| None).collect();
    let mut gradients = vec![None; b.inputs.len()];
    for (part, g) in parts.iter().zip(b.gradients) {
        let Some(g) = g else { continue };
        let g = flat(g, d)?;
        let at = sources + 2 * part.layer;
        if b.needed[part.source] {
            let weight = b.inputs[at].narrow(0, part.part * d, d)?;
            let x = &b.inputs[part.source];
            let (mut dx, store) = match to_sources[part.source].take() {
                Some(dx) => (dx, Store::Add),
                None => (Memory::new(backend, dtype, x.shape())?, Store::Write),
            };
            multiply(backend, &mut dx, 0, [&g, &weight], store)?;
            to_sources[part.source] = Some(dx);
        }
        if b.needed[at] {
            let x = flat(&b.inputs[part.source], d)?;
            let mut dw = match weights[2 * part.layer].take() {
                Some(dw) => dw,
                // What no part writes is zero.
                None => Memory::zeros(backend, dtype, (3 * d, d))?,
            };
            multiply(
                backend,
                &mut dw,
                part.part * d * d,
                [&g.t()?, &x],
                Store::Write,
            )?;
            weights[2 * part.layer] = Some(dw);
        }
        if b.needed[at + 1] && part.part != KEYS {
            let found = weights[2 * part.layer + 1].take();
            let fresh = found.is_none();
            let mut db = match found {
                Some(db) => db,
                None => Memory::new(backend, dtype, 3 * d)?,
            };
            sum_columns(backend, &mut db, (part.part * d, fresh), (&g, d))?;
            weights[2 * part.layer + 1] = Some(db);
        }
    }
    for (gradient, memory) in gradients
        .iter_mut()
        .zip(to_sources.into_iter().chain(weights))
    {
        *gradient = memory.map(Memory::into_tensor);
    }
    Ok(gradients)
}

/// The three projections of one layer, each of a source of its own, see [`crate::project`].
pub(crate) fn project_all(
    backend: &Backend,
    sources: [&Tensor; 3],
    layer: (&Tensor, &Tensor),
) -> Result<[Tensor; 3]> {
    let parts = [0, 1, 2].map(|part| Part {
        source: part,
        layer: 0,
        part,
    });
    let y = project(backend, &sources, &[layer], &parts)?;
    y.try_into().map_err(|_| {
        Error::value(
            "projections",
            "not three",
            "one for queries, keys and values",
        )
    })
}
