//! The cost of a coupling: a launch forward, a launch back.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

use super::LANES;
use crate::device::WARP;

pub(crate) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("coupling", include_str!("coupling.cu"), dtype)?.lanes(LANES))
}

/// See [`crate::coupling_cost`]: points, responsibilities, means, and variances where they are taken; `factor` is what the sum
/// is multiplied by.
pub(in crate::prototypes) fn coupling_cost(
    backend: &Backend,
    inputs: &[&Tensor],
    floor: f64,
    factor: f64,
) -> Result<Tensor> {
    let dtype = inputs[0].dtype();
    let (batch, width) = inputs[0].dims2()?;
    let k = inputs[2].dims()[0];
    let scaled = usize::from(inputs.len() > 3);
    let program = program(dtype)?;
    let mut cost = Memory::new(backend, dtype, ())?;
    let mut launch = Launch::new(&program, "coupling", 1);
    for i in 0..4 {
        // The means in place of variances, which are not read then.
        launch = launch.input(inputs.get(i).unwrap_or(&inputs[2]))?;
    }
    launch
        .output(&mut cost)
        .count(batch)?
        .count(k)?
        .count(width)?
        .count(scaled)?
        .real(floor)
        .real(factor)
        .run(backend)?;
    let backend = backend.clone();
    record_one("coupling_cost", inputs, cost.into(), move |b| {
        let x = |i: usize| b.inputs.get(i).unwrap_or(&b.inputs[2]);
        let gradients = (0..4).map(|i| Memory::new(&backend, dtype, x(i).shape()));
        let mut gradients = gradients.collect::<Result<Vec<_>>>()?;
        let blocks = ((batch + k) * width).div_ceil(LANES);
        let groups = blocks + (batch * k).div_ceil(LANES / WARP);
        let mut launch = Launch::new(&program, "coupling_back", groups);
        for i in 0..4 {
            launch = launch.input(x(i))?;
        }
        launch = launch.input(&b.gradient(0)?)?;
        for gradient in &mut gradients {
            launch = launch.output(gradient);
        }
        launch
            .count(batch)?
            .count(k)?
            .count(width)?
            .count(scaled)?
            .real(floor)
            .real(factor)
            .count(blocks)?
            .run(&backend)?;
        gradients.truncate(b.inputs.len());
        Ok(gradients
            .into_iter()
            .map(|g| Some(g.into_tensor()))
            .collect())
    })
}
