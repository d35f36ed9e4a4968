//! Distances between diagonal Gaussians on a device: one launch forward, one backward.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

use crate::device::WARP;

/// Lanes of a group: a warp for each pair forward, a lane for each number backward.
const LANES: usize = 256;

pub(crate) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("gaussian", include_str!("diagonal.cu"), dtype)?.lanes(LANES))
}

/// See [`super::bures_wasserstein_diagonal`]; `factor` multiplies the sum over dimensions.
pub(super) fn bures_wasserstein(
    backend: &Backend,
    inputs: [&Tensor; 4],
    factor: f64,
) -> Result<Tensor> {
    let dtype = inputs[0].dtype();
    let (k, width) = inputs[0].dims2()?;
    let l = inputs[2].dims()[0];
    let program = program(dtype)?;
    let mut cost = Memory::new(backend, dtype, (k, l))?;
    let mut launch = Launch::new(&program, "bures", (k * l).div_ceil(LANES / WARP));
    for x in inputs {
        launch = launch.input(x)?;
    }
    let launch = launch.output(&mut cost);
    let launch = launch.count(k)?.count(l)?.count(width)?;
    launch.real(factor).run(backend)?;
    let backend = backend.clone();
    record_one("bures_wasserstein", &inputs, cost.into(), move |b| {
        let gradients = b
            .inputs
            .iter()
            .map(|x| Memory::new(&backend, dtype, x.shape()));
        let mut gradients = gradients.collect::<Result<Vec<_>>>()?;
        let groups = ((k + l) * width).div_ceil(LANES);
        let mut launch = Launch::new(&program, "bures_backward", groups);
        for x in b.inputs {
            launch = launch.input(x)?;
        }
        launch = launch.input(&b.gradient(0)?)?;
        for gradient in &mut gradients {
            launch = launch.output(gradient);
        }
        let launch = launch.count(k)?.count(l)?.count(width)?;
        launch.real(factor).run(&backend)?;
        let gradients = gradients.into_iter();
        Ok(gradients.map(|g| Some(g.into_tensor())).collect())
    })
}
