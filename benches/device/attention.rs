//! Times attention on a device, forward and backward:
//! `cargo run --release -p decalign-benches --features cuda --bin device_attention -- --device cuda`.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use decalign_benches::device::{self, Outcome, normal};
use decalign_core::device::{Backend, Memory};
use decalign_core::nn::Mode;
use decalign_core::op::{Backward, Graph, Output, record_one};
use decalign_fusion::{AttentionMask, dot_product_attention};

/// Batch, queries, keys, width, heads: the model with mosi, mosei and sims; a long one.
const CASES: [([usize; 5], DType); 5] = [
    ([32, 50, 100, 64, 8], DType::F32),
    ([128, 50, 100, 64, 8], DType::F32),
    ([24, 400, 94, 32, 8], DType::F32),
    ([4, 4096, 4096, 512, 8], DType::BF16),
    ([4, 4096, 4096, 512, 8], DType::F32),
];

fn main() -> Outcome<()> {
    let device = device::open()?;
    // The long one takes a CPU half a minute.
    let cases = if device.is_cpu() { &CASES[..3] } else { &CASES };
    for case in cases {
        println!("{}", line(*case, &device)?);
    }
    Ok(())
}

fn line(([b, l, s, d, heads], dtype): ([usize; 5], DType), device: &Device) -> Outcome<String> {
    let table = |steps: usize, number: u64| normal(&[b, steps, d], number, dtype, device);
    let (q, k, v) = (table(l, 1)?, table(s, 2)?, table(s, 3)?);
    let ones = Tensor::ones((b, l, d), dtype, device)?;
    let both = || -> Outcome<()> {
        let graph = Graph::on(device);
        let attend = || -> decalign_core::Result<Tensor> {
            let mask = AttentionMask::default();
            let drop = (0.0, Mode::Inference);
            let y = dot_product_attention(&q, &k, &v, heads, mask, drop)?;
            // The gradient of the result is given, so that only attention is timed.
            let given = ones.clone();
            let gradient = move |_: &Backward| Ok(vec![Some(given.clone())]);
            let loss = match Backend::of(&y)? {
                Some(backend) => Memory::zeros(&backend, DType::F32, ())?.into(),
                None => Output::new(vec![0f32], ()),
            };
            record_one("given", &[&y], loss, gradient)
        };
        graph.backward(&graph.run(attend)?)?;
        Ok(())
    };
    both()?;
    both()?;
    device.synchronize()?;
    let (start, mut runs) = (Instant::now(), 0);
    while runs < 5 || start.elapsed().as_secs_f64() < 0.5 {
        both()?;
        device.synchronize()?;
        runs += 1;
    }
    let milliseconds = 1e3 * start.elapsed().as_secs_f64() / f64::from(runs);
    let name = match dtype {
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    Ok(format!(
        "attention B {b}, L {l}, S {s}, d {d}, {heads} heads, {name}: both {milliseconds:.3} ms"
    ))
}
