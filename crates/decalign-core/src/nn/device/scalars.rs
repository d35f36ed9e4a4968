//! Weighted sums of scalars on devices, and scalars gathered into one tensor.

use candle_core::{DType, Tensor};

use crate::device::{Backend, Launch, Memory, Program};
use crate::op::record_one;
use crate::{Error, Result};

/// Scalars of one launch; as many as the kernels have parameters.
pub(in crate::nn) const TERMS: usize = 8;

pub(in crate::nn) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("scalars", include_str!("scalars.cu"), dtype)?.lanes(32))
}

/// Passes [`TERMS`] scalars; the first stands in for missing ones.
fn with_terms<'a>(mut launch: Launch<'a>, terms: &[Tensor]) -> Result<Launch<'a>> {
    for i in 0..TERMS {
        launch = launch.input(terms.get(i).unwrap_or(&terms[0]))?;
    }
    Ok(launch)
}

/// Passes [`TERMS`] weights, 0 for missing ones.
fn with_weights<'a>(launch: Launch<'a>, weights: &[f64]) -> Launch<'a> {
    let weight = |i: usize| weights.get(i).copied().unwrap_or(0.0);
    (0..TERMS).fold(launch, |launch, i| launch.real(weight(i)))
}

/// See [`crate::nn::weighted_sum`]; up to [`TERMS`] scalars of one type.
pub(in crate::nn) fn weighted_sum(backend: &Backend, terms: &[(Tensor, f64)]) -> Result<Tensor> {
    if terms.is_empty() || terms.len() > TERMS {
        let remedy = format!("give 1 to {TERMS}");
        return Err(Error::value("terms of a sum", terms.len(), remedy));
    }
    let dtype = terms[0].0.dtype();
    let (tensors, weights): (Vec<Tensor>, Vec<f64>) = terms.iter().cloned().unzip();
    let program = program(dtype)?;
    let mut sum = Memory::new(backend, dtype, ())?;
    let launch = with_terms(Launch::new(&program, "weighted_sum", 1), &tensors)?;
    with_weights(launch.output(&mut sum), &weights).run(backend)?;
    let (backend, inputs) = (backend.clone(), tensors.iter().collect::<Vec<_>>());
    record_one("weighted_sum", &inputs, sum.into(), move |b| {
        let mut gradients = Memory::new(&backend, dtype, TERMS)?;
        let launch = Launch::new(&program, "weighted_sum_backward", 1).input(&b.gradient(0)?)?;
        with_weights(launch.output(&mut gradients), &weights).run(&backend)?;
        let gradients = gradients.into_tensor();
        let each = b.inputs.iter().enumerate();
        each.map(|(i, x)| Ok(Some(gradients.narrow(0, i, 1)?.reshape(x.shape())?)))
            .collect()
    })
}

/// Scalars of one type as one tensor on their device.
pub(crate) fn stack_scalars(backend: &Backend, scalars: &[Tensor]) -> Result<Tensor> {
    let dtype = scalars.first().map_or(DType::F32, Tensor::dtype);
    let program = program(dtype)?;
    let mut all = Memory::new(backend, dtype, scalars.len())?;
    for (i, terms) in scalars.chunks(TERMS).enumerate() {
        with_terms(Launch::new(&program, "stack", 1), terms)?
            .output(&mut all)
            .count(i * TERMS)?
            .count(terms.len())?
            .run(backend)?;
    }
    Ok(all.into_tensor())
}
