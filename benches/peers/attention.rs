//! Measurements of attention alone for `cargo xtask peers step`, one JSON object a line.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use decalign_benches::{Memory, least_within, pool, print, thread_count};
use decalign_core::Result;
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_fusion::{AttentionMask, dot_product_attention};

/// Batch, queries, keys, width, heads; those of xtask/peers/layers.py.
const CASES: [(usize, usize, usize, usize, usize); 6] = [
    (32, 50, 100, 64, 8),
    (32, 50, 100, 64, 4),
    (8, 1024, 1024, 64, 1),
    (8, 1024, 1024, 64, 2),
    (8, 1024, 1024, 64, 4),
    (8, 1024, 1024, 64, 8),
];

/// Cases of the model: many heads, with dropout of the weights.
const DROPPED: [(usize, usize, usize, usize, usize); 2] =
    [(32, 50, 100, 64, 8), (24, 39, 455, 32, 8)];

/// Seconds of a measurement, those of xtask/peers/layers.py.
const SECONDS: f64 = 1.0;

fn normal(seed: u64, shape: (usize, usize, usize)) -> Result<Var> {
    let x = Stream::new(seed, 0).normal_tensor(shape)?;
    Ok(Var::from_tensor(
        &x.to_dtype(candle_core::DType::F32)?
            .to_device(&Device::Cpu)?,
    )?)
}

fn case((b, l, s, d, heads): (usize, usize, usize, usize, usize), p: f64) -> Result<()> {
    let (q, k, v) = (
        normal(1, (b, l, d))?,
        normal(2, (b, s, d))?,
        normal(3, (b, s, d))?,
    );
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        let mode = Mode::Training(Stream::new(5, 0));
        dot_product_attention(q, k, v, heads, AttentionMask::default(), (p, mode)).unwrap()
    };
    let plain = [&q, &k, &v].map(|x| x.as_detached_tensor());
    let dropped = if p > 0.0 { ", dropout" } else { "" };
    for threads in [1, 2] {
        let name = format!("attention B {b}, L {l}, S {s}, d {d}, {heads} heads{dropped}");
        let name = match threads {
            2 => name,
            _ => format!("{name}, {}", thread_count(threads)),
        };
        pool(threads).install(|| {
            let forward = least_within(SECONDS, || drop(attend(&plain[0], &plain[1], &plain[2])));
            print(&format!("{name}: forward"), forward);
            let both = least_within(SECONDS, || {
                // The gradient of the sum of all results is one everywhere.
                attend(&q, &k, &v).backward().unwrap();
            });
            print(&format!("{name}: both"), both);
        });
    }
    Ok(())
}

/// Memory that a forward and backward pass adds at its peak; the length doubles each time.
fn memory() -> Result<()> {
    for length in [1024, 2048, 4096, 8192] {
        let x = normal(1, (1, length, 64))?;
        let memory = Memory::now();
        let mask = AttentionMask::default();
        let y = dot_product_attention(&x, &x, &x, 8, mask, (0.0, Mode::Inference))?;
        y.backward()?;
        if let Some(added) = memory.added_at_peak() {
            print(&format!("attention memory, L = S = {length}"), added);
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    memory()?;
    for one in CASES {
        case(one, 0.0)?;
    }
    for one in DROPPED {
        case(one, 0.1)?;
    }
    Ok(())
}
