//! `decalign-ot` alone in a Candle training loop: a generator learns to turn noise into a ring, by the Sinkhorn
//! divergence between its points and those of the ring.
//!
//! `cargo run --release -p decalign --example transport_in_candle`

use std::error::Error;

use candle_core::{Device, Tensor, Var};
use decalign_core::random::Stream;
use decalign_ot::{Geometry, LinearProblem, Sinkhorn, SinkhornDivergence};

const POINTS: usize = 128;
const HIDDEN: usize = 32;

/// Points on a ring of radius 2, a little noisy.
fn ring(stream: Stream) -> candle_core::Result<Tensor> {
    let (angles, noise) = (
        stream.child(0).uniform(POINTS, 0.0, std::f64::consts::TAU),
        stream.child(1),
    );
    let radii = noise.normal(POINTS);
    let point = |(angle, noise): (&f64, &f64)| {
        let radius = 2.0 + 0.05 * noise;
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    };
    let points: Vec<f32> = angles.iter().zip(&radii).flat_map(point).collect();
    Tensor::from_vec(points, (POINTS, 2), &Device::Cpu)
}

fn normal(stream: Stream, shape: (usize, usize), scale: f64) -> candle_core::Result<Tensor> {
    let numbers = stream.normal(shape.0 * shape.1).into_iter();
    let numbers: Vec<f32> = numbers.map(|v| (scale * v) as f32).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let start = Stream::new(3, 0);
    let first = Var::from_tensor(&normal(start.child(0), (2, HIDDEN), 0.7)?)?;
    let bias = Var::from_tensor(&normal(start.child(1), (1, HIDDEN), 0.7)?)?;
    let second = Var::from_tensor(&normal(start.child(2), (HIDDEN, 2), 0.2)?)?;
    let generate = |noise: &Tensor| -> candle_core::Result<Tensor> {
        noise
            .matmul(&first)?
            .broadcast_add(&bias)?
            .tanh()?
            .matmul(&second)
    };
    let divergence = SinkhornDivergence::new(Sinkhorn::new(0.05)?);
    let distance = |step: u64| -> Result<Tensor, Box<dyn Error>> {
        let stream = Stream::new(3, 1).child(step);
        let points = generate(&normal(stream.child(0), (POINTS, 2), 1.0)?)?;
        let geometry = Geometry::squared_euclidean(&points, &ring(stream.child(1))?)?;
        let solved = divergence.solve(&LinearProblem::uniform(geometry)?)?;
        assert!(solved.converged());
        Ok(solved.value)
    };
    let before = distance(0)?.to_scalar::<f32>()?;
    for step in 1..=120 {
        let loss = distance(step)?;
        let gradients = loss.backward()?;
        for variable in [&first, &bias, &second] {
            if let Some(gradient) = gradients.get(variable) {
                variable.set(&(variable.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        if step % 20 == 0 {
            println!("step {step}: divergence {:.4}", loss.to_scalar::<f32>()?);
        }
    }
    let after = distance(0)?.to_scalar::<f32>()?;
    println!("from {before:.3} to {after:.3}");
    assert!(after < 0.2 * before);
    Ok(())
}
