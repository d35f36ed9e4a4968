//! Times attention on a device, forward and backward: `device_attention [--device cpu|cuda|metal]`.

use std::env;
use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::device::Place;
use decalign_core::nn::Mode;
use decalign_core::op::Graph;
use decalign_core::random::Stream;
use decalign_fusion::{AttentionMask, dot_product_attention};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Batch, queries, keys, width, heads: the model's with mosi, mosei and sims; a long one.
const CASES: [([usize; 5], DType); 5] = [
    ([32, 50, 100, 64, 8], DType::F32),
    ([128, 50, 100, 64, 8], DType::F32),
    ([24, 400, 94, 32, 8], DType::F32),
    ([4, 4096, 4096, 512, 8], DType::BF16),
    ([4, 4096, 4096, 512, 8], DType::F32),
];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let place = match &arguments[..] {
        [] => Place::Cpu,
        [flag, place] if flag == "--device" => place.parse()?,
        _ => return Err("usage: device_attention [--device PLACE]".into()),
    };
    let device = place.open()?;
    // The long one takes a CPU half a minute.
    let cases = if device.is_cpu() { &CASES[..3] } else { &CASES };
    for case in cases {
        println!("{}", line(*case, &device)?);
    }
    Ok(())
}

fn line(([b, l, s, d, heads], dtype): ([usize; 5], DType), device: &Device) -> Outcome<String> {
    let table = |steps: usize, number: u64| -> Outcome<Var> {
        let x = Stream::new(1, number).normal_tensor(&[b, steps, d])?;
        Ok(Var::from_tensor(&x.to_dtype(dtype)?.to_device(device)?)?)
    };
    let (q, k, v) = (table(l, 1)?, table(s, 2)?, table(s, 3)?);
    let both = || -> Outcome<()> {
        let graph = Graph::on(device);
        let attend = || {
            let mask = AttentionMask::default();
            let drop = (0.0, Mode::Inference);
            dot_product_attention(&q, &k, &v, heads, mask, drop)?
                .sum_all()
                .map_err(Into::into)
        };
        let loss: Tensor = graph.run(|| -> decalign_core::Result<Tensor> { attend() })?;
        graph.backward(&loss)?;
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
