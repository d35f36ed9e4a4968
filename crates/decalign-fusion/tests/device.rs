//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::Mode;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{AttentionMask, dot_product_attention, residual_norm};

const TIGHT: (f64, f64) = (1e-11, 5e-5);

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(5, number).normal_tensor(shape).unwrap()
}

/// Queries, keys and values of a batch: lengths L and S, heads, widths of a head of keys and of values.
fn rows(batch: usize, [l, s]: [usize; 2], heads: usize, [d, e]: [usize; 2]) -> Vec<Tensor> {
    vec![
        normal(&[batch, l, heads * d], 1),
        normal(&[batch, s, heads * d], 2),
        normal(&[batch, s, heads * e], 3),
    ]
}

/// 1 where a key exists; the last sample has none.
fn lengths(batch: usize, s: usize) -> Tensor {
    let seen = |b: usize, j: usize| f64::from(u8::from(b + 1 < batch && j <= s / (b + 1)));
    let all = (0..batch).flat_map(|b| (0..s).map(move |j| seen(b, j)));
    Tensor::from_vec(all.collect(), (batch, s), &candle_core::Device::Cpu).unwrap()
}

#[test]
fn heads_of_any_width() -> Result<()> {
    // Below a lane's share, odd, of two lanes, of four; values of another width.
    let widths = [[4, 4], [7, 7], [33, 5], [128, 128]];
    for [d, e] in widths {
        holds(&rows(2, [3, 35], 2, [d, e]), TIGHT, |x| {
            let mask = AttentionMask::default();
            let y = dot_product_attention(&x[0], &x[1], &x[2], 2, mask, (0.0, Mode::Inference))?;
            Ok(vec![y])
        })?;
    }
    Ok(())
}

#[test]
fn masks_bias_and_dropout() -> Result<()> {
    // More queries than a group has rows, more keys than a tile.
    let (batch, l, s) = (3, 70, 67);
    let keys = lengths(batch, s);
    let mode = Mode::Training(Stream::new(9, 4));
    for shape in [[1, 1, 1, s], [batch, 2, l, s]] {
        let mut inputs = rows(batch, [l, s], 2, [4, 4]);
        inputs.push(normal(&shape, 4));
        holds(&inputs, TIGHT, |x| {
            let keys = keys.to_device(x[0].device())?;
            let mask = AttentionMask {
                causal: true,
                keys: Some(&keys),
                bias: Some(&x[3]),
            };
            let y = dot_product_attention(&x[0], &x[1], &x[2], 2, mask, (0.3, mode))?;
            Ok(vec![y])
        })?;
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_differences() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut inputs = rows(2, [3, 4], 2, [3, 3]);
    inputs.push(normal(&[2, 1, 3, 4], 4));
    let mode = Mode::Training(Stream::new(2, 2));
    gradcheck(&inputs, 1e-7, |x| {
        let mask = AttentionMask {
            bias: Some(&x[3]),
            ..AttentionMask::default()
        };
        emulated(7, || {
            let y = dot_product_attention(&x[0], &x[1], &x[2], 2, mask, (0.4, mode))?;
            Ok(vec![y])
        })
    })
}

#[test]
fn residual_norms() -> Result<()> {
    let inputs = [
        normal(&[2, 5, 9], 0),
        normal(&[2, 5, 9], 1),
        normal(&[9], 2),
        normal(&[9], 3),
    ];
    let mode = Mode::Training(Stream::new(2, 8));
    holds(&inputs, TIGHT, |x| {
        Ok(vec![residual_norm(
            &x[0],
            &x[1],
            &x[2],
            &x[3],
            1e-5,
            (0.2, mode),
        )?])
    })
}
