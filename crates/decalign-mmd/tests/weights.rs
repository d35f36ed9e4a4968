//! Weighted samples in every estimator that takes them.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Tensor};
use common::{distance, kernels, normal, same, value, weights};
use decalign_core::{Result, gradcheck};
use decalign_mmd::{Estimator, Kernel, Mmd, Nystrom, RandomFeatures, StreamingMmd, reference};

/// x, its weights, y, its weights.
fn inputs() -> [Tensor; 4] {
    [
        normal(&[6, 3], 0),
        weights(6, 0),
        normal(&[5, 3], 1),
        weights(5, 1),
    ]
}

fn mmd(kernel: &Kernel) -> Mmd {
    Mmd::new(kernel.clone(), Estimator::Unbiased)
}

/// Weights that sum to 1, as a column.
fn shares(w: &Tensor) -> Result<Tensor> {
    Ok(w.broadcast_div(&w.sum_all()?)?.unsqueeze(1)?)
}

#[test]
fn estimates_equal_their_formula() -> Result<()> {
    // The mean within less that across, and what it varies by, from kernel matrices.
    let side = |kernel: &Kernel, x: &Tensor, p: &Tensor, y: &Tensor, q: &Tensor| {
        let (p, q) = (shares(p)?, shares(q)?);
        let n = x.dims()[0];
        let off = (1.0 - Tensor::eye(n, x.dtype(), x.device())?)?;
        let own = (reference::kernel_matrix(kernel, x, x)? * off)?.matmul(&p)?;
        let across = reference::kernel_matrix(kernel, x, y)?.matmul(&q)?;
        let different = (1.0 - p.sqr()?.sum_all()?)?;
        let squared = ((&p * &own)?.sum_all()?.div(&different)? - (&p * &across)?.sum_all()?)?;
        let a = (own.div(&(1.0 - &p)?)? - across)?;
        let a = a.broadcast_sub(&(&p * &a)?.sum_all()?)?;
        let variance = ((p * a)?.sqr()?.sum_all()?.div(&different)? * 4.0)?;
        Result::Ok(vec![squared, variance])
    };
    for kernel in kernels() {
        let fused = |x: &[Tensor]| {
            let e = mmd(&kernel).estimate((&x[0], &x[1]), (&x[2], &x[3]))?;
            Result::Ok(vec![e.squared, e.variance])
        };
        let plain = |x: &[Tensor]| {
            let one = side(&kernel, &x[0], &x[1], &x[2], &x[3])?;
            let two = side(&kernel, &x[2], &x[3], &x[0], &x[1])?;
            let both = one.iter().zip(&two).map(|(a, b)| Ok((a + b)?));
            both.collect::<Result<Vec<_>>>()
        };
        decalign_core::agree(&inputs(), (1e-11, 1e-3), fused, plain)?;
        gradcheck(&inputs(), 1e-6, fused)?;
        let x = inputs();
        let want = mmd(&kernel).squared((&x[0], &x[1]), (&x[2], &x[3]))?;
        assert!(distance(&fused(&x)?[0], &want) < 1e-11 * (1.0 + value(&want).abs()));
    }
    Ok(())
}

#[test]
fn witnesses_and_blocks_equal_their_references() -> Result<()> {
    let at = normal(&[4, 3], 2);
    let inputs: Vec<Tensor> = inputs().into_iter().chain([at]).collect();
    for kernel in kernels() {
        let witness = |x: &[Tensor]| mmd(&kernel).witness(&x[4], (&x[0], &x[1]), (&x[2], &x[3]));
        same(&inputs, (1e-11, 1e-4), &witness, &|x| {
            let mean = |y: &Tensor, w: &Tensor| -> Result<Tensor> {
                Ok(reference::kernel_matrix(&kernel, &x[4], y)?.matmul(&shares(w)?)?)
            };
            Ok((mean(&x[0], &x[1])? - mean(&x[2], &x[3])?)?.squeeze(1)?)
        });
        gradcheck(&inputs, 1e-6, |x| Ok(vec![witness(x)?]))?;
        let blocks = |x: &[Tensor]| mmd(&kernel).blocks((&x[0], &x[1]), (&x[2], &x[3]), 2);
        same(&inputs[..4], (1e-11, 1e-4), &blocks, &|x| {
            let block = |i: usize| -> Result<Tensor> {
                let part: Vec<Tensor> = x
                    .iter()
                    .map(|x| x.narrow(0, 2 * i, 2))
                    .collect::<std::result::Result<_, _>>()?;
                let (x, y) = ((&part[0], &part[1]), (&part[2], &part[3]));
                reference::squared(&kernel, Estimator::Unbiased, x, y)
            };
            Ok(((block(0)? + block(1)?)? / 2.0)?)
        });
        gradcheck(&inputs[..4], 1e-6, |x| Ok(vec![blocks(x)?]))?;
    }
    Ok(())
}

#[test]
fn approximations_and_streams_take_weights() -> Result<()> {
    let x = inputs();
    let kernel = Kernel::gaussian_length_scale(1.5)?;
    let exact = Mmd::new(kernel.clone(), Estimator::Biased);
    let want = exact.squared((&x[0], &x[1]), (&x[2], &x[3]))?;
    // Every point a landmark: nothing is lost.
    let all = Nystrom::new(kernel.clone(), &Tensor::cat(&[&x[0], &x[2]], 0)?)?;
    let got = all.squared((&x[0], &x[1]), (&x[2], &x[3]))?;
    assert!((value(&got) - value(&want)).abs() < 1e-8 * value(&want));
    let some = Nystrom::new(kernel.clone(), &x[0].narrow(0, 0, 3)?)?;
    let run = |x: &[Tensor]| some.squared((&x[0], &x[1]), (&x[2], &x[3]));
    gradcheck(&x, 1e-6, |x| Ok(vec![run(x)?]))?;
    let narrow: Vec<Tensor> = x
        .iter()
        .map(|x| x.to_dtype(DType::F32))
        .collect::<std::result::Result<_, _>>()?;
    let narrow = Nystrom::new(kernel.clone(), &narrow[0].narrow(0, 0, 3)?)?
        .squared((&narrow[0], &narrow[1]), (&narrow[2], &narrow[3]))?;
    assert!(narrow.dtype() == DType::F32);
    assert!((value(&narrow) - value(&run(&x)?)).abs() < 1e-4);

    let features =
        RandomFeatures::new(&kernel, 3, 20_000, decalign_core::random::Stream::new(1, 0))?;
    let got = features.squared((&x[0], &x[1]), (&x[2], &x[3]))?;
    assert!((value(&got) - value(&want)).abs() < 0.05, "{got} {want}");

    // Chunks count as much as the smaller of their samples weighs.
    let mut stream = StreamingMmd::new(kernel.clone());
    stream.push((&x[0], &x[1]), (&x[2], &x[3]))?;
    stream.push(&x[0], &x[2])?;
    let parts = [
        value(&mmd(&kernel).squared((&x[0], &x[1]), (&x[2], &x[3]))?),
        value(&mmd(&kernel).squared(&x[0], &x[2])?),
    ];
    let masses = [value(&x[1].sum_all()?).min(value(&x[3].sum_all()?)), 5.0];
    let want = (parts[0] * masses[0] + parts[1] * masses[1]) / (masses[0] + masses[1]);
    assert!((stream.squared()? - want).abs() < 1e-12);
    Ok(())
}

#[test]
fn the_scale_of_weights_does_not_count() -> Result<()> {
    let x = inputs();
    let kernel = Kernel::laplace(2.0)?;
    let mmd = mmd(&kernel);
    let ones = Tensor::full(3.7, 6, x[0].device())?;
    let plain = mmd.estimate(&x[0], &x[2])?;
    let equal = mmd.estimate((&x[0], &ones), &x[2])?;
    assert!(distance(&plain.squared, &equal.squared) < 1e-12);
    assert!(distance(&plain.variance, &equal.variance) < 1e-12);
    let at = normal(&[4, 3], 2);
    let (some, same) = (
        mmd.witness(&at, &x[0], &x[2])?,
        mmd.witness(&at, (&x[0], &ones), &x[2])?,
    );
    assert!(distance(&some, &same) < 1e-12);
    Ok(())
}

#[test]
fn what_is_no_weight_is_named() -> Result<()> {
    let x = inputs();
    let kernel = Kernel::gaussian_length_scale(1.0)?;
    let mmd = mmd(&kernel);
    let one = Tensor::new(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], x[0].device())?;
    let negative = x[1].neg()?;
    let short = weights(5, 0);
    let nystrom = Nystrom::new(kernel.clone(), &x[0])?;
    for (w, named) in [(&negative, "not negative"), (&short, "shape (6)")] {
        let messages = [
            mmd.estimate((&x[0], w), &x[2]).unwrap_err(),
            mmd.witness(&x[0], (&x[0], w), &x[2]).unwrap_err(),
            mmd.blocks((&x[0], w), &x[2], 2).unwrap_err(),
            nystrom.squared((&x[0], w), &x[2]).unwrap_err(),
            StreamingMmd::new(kernel.clone())
                .push((&x[0], w), &x[2])
                .unwrap_err(),
        ];
        for message in messages.map(|e| e.to_string()) {
            assert!(message.contains(named), "{message}");
        }
    }
    for message in [
        mmd.estimate((&x[0], &one), &x[2]).unwrap_err().to_string(),
        mmd.squared((&x[0], &one), &x[2]).unwrap_err().to_string(),
    ] {
        assert!(message.contains("needs two"), "{message}");
    }
    Ok(())
}
