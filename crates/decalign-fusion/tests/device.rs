//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{
    AttentionMask, Encoder, EncoderSettings, LayerSettings, MaskedSequence, Position,
    dot_product_attention, mean_pool, project, project_context, residual_norm,
};
use decalign_testkit::normal;

const TIGHT: (f64, f64) = (1e-11, 5e-5);

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
            let mask = AttentionMask::default()
                .causal(true)
                .keys(Some(&keys))
                .bias(Some(&x[3]));
            let y = dot_product_attention(&x[0], &x[1], &x[2], 2, mask, (0.3, mode))?;
            Ok(vec![y])
        })?;
    }
    Ok(())
}

/// Attention of 16-bit numbers on tensor cores against f32 rounded: what is left is what rounding weights leaves.
fn halves(
    dtype: DType,
    ([l, s], heads, widths): ([usize; 2], usize, [usize; 2]),
    restricted: bool,
) -> Result<()> {
    let tolerance = if dtype == DType::BF16 { 3e-2 } else { 4e-3 };
    let keys = lengths(2, s);
    let drop = match restricted {
        true => (0.3, Mode::Training(Stream::new(9, 4))),
        false => (0.0, Mode::Inference),
    };
    let inputs = rows(2, [l, s], heads, widths);
    holds(&inputs, (tolerance, tolerance), |x| {
        let half = |x: &Tensor| x.to_dtype(dtype);
        let keys = keys.to_device(x[0].device())?;
        let mask = AttentionMask::default()
            .causal(restricted)
            .keys(restricted.then_some(&keys))
            .bias(None);
        let (q, k, v) = (half(&x[0])?, half(&x[1])?, half(&x[2])?);
        let y = dot_product_attention(&q, &k, &v, heads, mask, drop)?;
        Ok(vec![y.to_dtype(x[0].dtype())?])
    })
}

#[test]
fn bf16() -> Result<()> {
    // More rows than a group has, more than a tile; of one warp, keys fewer than a tile.
    halves(DType::BF16, ([67, 70], 2, [16, 32]), true)?;
    halves(DType::BF16, ([3, 5], 1, [64, 64]), false)
}

#[test]
fn f16() -> Result<()> {
    // Tiles of 32 rows.
    halves(DType::F16, ([33, 34], 1, [80, 16]), true)
}

/// What saw NaN is NaN, also where its own weight was dropped.
#[test]
fn nan_stays() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let x = rows(1, [9, 11], 1, [16, 16]);
    let hole = Tensor::full(f64::NAN, (1, 1, 16), x[1].device())?;
    let k = x[1].slice_assign(&[0..1, 4..5, 0..16], &hole)?;
    let mode = Mode::Training(Stream::new(9, 4));
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let [q, k, v] = [&x[0], &k, &x[2]].map(|x| x.to_dtype(dtype).unwrap());
        let y = emulated(3, || {
            dot_product_attention(&q, &k, &v, 1, AttentionMask::default(), (0.5, mode))
        })?;
        let all = y.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        assert!(all.iter().all(|v| v.is_nan()), "{dtype:?}");
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
        let mask = AttentionMask::default().bias(Some(&x[3]));
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

#[test]
fn residual_norms_of_any_width() -> Result<()> {
    // Less than a warp, more than one with a rest, several groups of rows.
    for (rows, d) in [(70, 3), (9, 41), (33, 64)] {
        let inputs = [
            normal(&[rows, d], 0),
            normal(&[rows, d], 1),
            normal(&[d], 2),
            normal(&[d], 3),
        ];
        holds(&inputs, TIGHT, |x| {
            let drop = (0.0, Mode::Inference);
            Ok(vec![residual_norm(&x[0], &x[1], &x[2], &x[3], 1e-5, drop)?])
        })?;
        let mode = Mode::Training(Stream::new(2, 9));
        holds(&inputs, TIGHT, |x| {
            let drop = (0.3, mode);
            Ok(vec![residual_norm(&x[0], &x[1], &x[2], &x[3], 1e-5, drop)?])
        })?;
    }
    Ok(())
}

#[test]
fn means_over_time() -> Result<()> {
    let mask = lengths(3, 7);
    holds(&[normal(&[3, 7, 5], 0)], TIGHT, |x| {
        let mask = mask.to_device(x[0].device())?;
        Ok(vec![
            mean_pool(&x[0], None)?,
            mean_pool(&x[0], Some(&mask))?,
        ])
    })
}

#[test]
fn projections() -> Result<()> {
    let inputs = [
        normal(&[2, 3, 5], 1),
        normal(&[2, 4, 5], 2),
        normal(&[2, 4, 5], 3),
        normal(&[15, 5], 4),
        normal(&[15], 5),
        normal(&[15, 5], 6),
        normal(&[15], 7),
    ];
    holds(&inputs, TIGHT, |x| {
        let mut all = project(&x[0], &x[1], &x[2], &x[3], &x[4])?.to_vec();
        let layers = [(&x[3], &x[4]), (&x[5], &x[6])];
        all.extend(project_context(&x[1], &x[2], &layers)?.concat());
        Ok(all)
    })
}

/// Encoders with embeddings, projections and dropout, from one stream to two others and to itself.
#[test]
fn encoders() -> Result<()> {
    let layer = LayerSettings::new(6, 2)
        .attention_dropout(0.1)
        .activation_dropout(0.2)
        .residual_dropout(0.3);
    let mode = Mode::Training(Stream::new(8, 1));
    let inputs = [
        normal(&[2, 3, 6], 1),
        normal(&[2, 4, 6], 2),
        normal(&[2, 9, 6], 3),
    ];
    for position in [Position::None, Position::Sinusoidal] {
        let settings = EncoderSettings::new(2, layer)
            .position(position)
            .embed_dropout(0.2);
        // Deviations of small rows make gradients steep.
        holds(&inputs, (1e-9, 2e-3), |x| {
            let parameters = Parameters::new(3, x[0].dtype(), x[0].device());
            let encoder = Encoder::new(&parameters, settings)?;
            let stream = |i: usize| MaskedSequence::new(x[i].clone());
            let crossed = encoder.cross(&stream(0), &[stream(1), stream(2)], mode)?;
            let own = encoder.self_attend(&stream(1), AttentionMask::default(), mode)?;
            Ok(vec![crossed, own])
        })?;
    }
    Ok(())
}
