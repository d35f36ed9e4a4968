//! The input projections of attention on devices.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::device::{Backend, Memory, multiply};
use decalign_core::gemm::Store;
use decalign_core::nn::device::{
    LAYERS, Layer, LayerGradients, Target, affine_maps, weight_gradient, weight_gradient_deferred,
};
use decalign_core::op::{Backward, InputGradients, Output, record};

use crate::op::projection::Part;
use crate::reference::KEYS;

/// `x W_p^T + b_p` for each of `parts`, without the bias for keys: sources (B, T, d); for each layer weight (3d, d), bias (3d).
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
    let mut outputs: Vec<Option<Output>> = parts.iter().map(|_| None).collect();
    for group in groups(parts) {
        let Part { source, part, .. } = parts[group[0]];
        let of = |x: &Tensor| x.detach().narrow(0, part * d, d);
        let layer = |i: &usize| -> Result<_> {
            let (weight, bias) = layers[parts[*i].layer];
            let bias = (part != KEYS).then(|| of(bias)).transpose()?;
            Ok((of(weight)?, bias))
        };
        let maps = group.iter().map(layer).collect::<Result<Vec<_>>>()?;
        let found = affine_maps(backend, &flat[source], &maps)?;
        for (i, y) in group.iter().zip(found) {
            outputs[*i] = Some(y.reshape(sources[source].shape())?.into());
        }
    }
    let outputs = outputs.into_iter().flatten().collect();
    let inputs: Vec<&Tensor> = sources
        .iter()
        .copied()
        .chain(layers.iter().flat_map(|(w, b)| [*w, *b]))
        .collect();
    let (backend, count, parts) = (backend.clone(), sources.len(), parts.to_vec());
    record("attention_projection", &inputs, outputs, move |b| {
        backward(&backend, b, count, &parts, d)
    })
}

/// Parts of one source and kind, at most as many as a launch has layers.
fn groups(parts: &[Part]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let alike = |group: &&mut Vec<usize>| {
            let first = parts[group[0]];
            first.source == part.source && first.part == part.part && group.len() < LAYERS
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

fn flat(x: &Tensor, d: usize) -> Result<Tensor> {
    Ok(x.contiguous()?.reshape((x.elem_count() / d.max(1), d))?)
}

fn backward(
    backend: &Backend,
    b: &Backward,
    sources: usize,
    parts: &[Part],
    d: usize,
) -> Result<InputGradients> {
    let dtype = b.inputs[0].dtype();
    let mut to_sources: Vec<Option<Memory>> = (0..sources).map(|_| None).collect();
    let layers = (b.inputs.len() - sources) / 2;
    let mut written: Vec<Option<LayerGradients>> = (0..layers).map(|_| None).collect();
    let deferrable = (sources..b.inputs.len()).all(|i| b.deferrable(i));
    for group in groups(parts) {
        // The outputs that the loss depends on.
        let mut given = Vec::with_capacity(group.len());
        for i in &group {
            if let Some(g) = &b.gradients[*i] {
                given.push((parts[*i], flat(g, d)?));
            }
        }
        let Some((Part { source, part, .. }, _)) = given.first() else {
            continue;
        };
        let (source, part) = (*source, *part);
        if b.needed[source] {
            for (Part { layer, .. }, g) in &given {
                let weight = b.inputs[sources + 2 * layer].narrow(0, part * d, d)?;
                let (mut dx, store) = match to_sources[source].take() {
                    Some(dx) => (dx, Store::Add),
                    None => (
                        Memory::new(backend, dtype, b.inputs[source].shape())?,
                        Store::Write,
                    ),
                };
                multiply(backend, &mut dx, 0, [g, &weight], store)?;
                to_sources[source] = Some(dx);
            }
        }
        // First the layers whose gradients exist already (from another part), then the others.
        for fresh in [false, true] {
            let some = given.iter();
            let some = some.filter(|(p, _)| {
                written[p.layer].is_none() == fresh && b.needed[sources + 2 * p.layer]
            });
            let some: Vec<(usize, &Tensor)> = some.map(|(p, g)| (p.layer, g)).collect();
            if some.is_empty() {
                continue;
            }
            let x = flat(&b.inputs[source], d)?;
            let mut each = Vec::with_capacity(some.len());
            for (i, g) in some {
                let gradients = match &written[i] {
                    Some(gradients) => gradients.clone(),
                    None => LayerGradients::new(backend, dtype, (3 * d, d), true)?,
                };
                each.push((
                    i,
                    Layer {
                        x: x.clone(),
                        g: g.clone(),
                        gradients,
                    },
                ));
            }
            let target = Target {
                at: part * d,
                fresh,
                // The bias of keys has no gradient.
                biased: part != KEYS,
            };
            for (i, layer) in &each {
                written[*i] = Some(layer.gradients.clone());
            }
            let all: Vec<Layer> = each.into_iter().map(|(_, layer)| layer).collect();
            match &all[..] {
                // One part of one layer can wait for others.
                [layer] if parts.len() == 1 && deferrable => {
                    weight_gradient_deferred(backend, layer.clone(), target)?
                }
                all => weight_gradient(backend, all, target)?,
            }
        }
    }
    let mut gradients: InputGradients = to_sources
        .into_iter()
        .map(|memory| memory.map(Memory::into_tensor))
        .collect();
    for layer in written {
        let (weight, bias) = layer.map_or((None, None), |s| (Some(s.weight), s.bias));
        gradients.extend([weight, bias]);
    }
    Ok(gradients)
}
