//! Every layer: fused equals reference, values and gradients, f32 and f64, batches, strided input.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck, nn};
use decalign_testkit::{largest_difference as distance, normal};

/// Holds two implementations equal, values and gradients.
fn same(
    inputs: &[Tensor],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    agree(
        inputs,
        (1e-12, 2e-5),
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

#[test]
fn linear() -> Result<()> {
    for dims in [vec![5, 4], vec![3, 2, 4], vec![70, 4]] {
        let inputs = [normal(&dims, 0), normal(&[3, 4], 1), normal(&[3], 2)];
        same(
            &inputs,
            |x| nn::linear(&x[0], &x[1], Some(&x[2])),
            |x| nn::reference::linear(&x[0], &x[1], Some(&x[2])),
        );
        same(
            &inputs,
            |x| nn::linear_relu(&x[0], &x[1], Some(&x[2])),
            |x| Ok(nn::reference::linear(&x[0], &x[1], Some(&x[2]))?.relu()?),
        );
        // The same mask, drawn once.
        let mode = nn::Mode::Training(Stream::new(3, 1));
        same(
            &inputs,
            |x| nn::linear_relu_dropout(&x[0], &x[1], Some(&x[2]), (0.4, mode)),
            |x| mode.dropout(&nn::linear_relu(&x[0], &x[1], Some(&x[2]))?, 0.4),
        );
    }
    let inputs = [normal(&[2, 3, 4], 0), normal(&[3, 4], 1), normal(&[3], 2)];
    gradcheck(&inputs, 1e-8, |x| {
        Ok(vec![nn::linear(&x[0], &x[1], Some(&x[2]))?])
    })?;
    gradcheck(&inputs, 1e-8, |x| {
        Ok(vec![nn::linear_relu(&x[0], &x[1], Some(&x[2]))?])
    })?;
    let mode = nn::Mode::Training(Stream::new(3, 1));
    gradcheck(&inputs, 1e-8, |x| {
        let drop = (0.4, mode);
        let y = nn::linear_relu_dropout(&x[0], &x[1], Some(&x[2]), drop)?;
        Ok(vec![y])
    })?;
    let wrong = nn::linear_relu_dropout(&inputs[0], &inputs[1], None, (1.0, mode));
    assert!(wrong.unwrap_err().to_string().contains("[0, 1)"));
    gradcheck(&inputs[..2], 1e-8, |x| {
        Ok(vec![nn::linear(&x[0], &x[1], None)?])
    })
}

#[test]
fn convolution() -> Result<()> {
    for kernel in [1, 2, 5] {
        let inputs = [normal(&[3, 6, 4], 0), normal(&[2, 4, kernel], 1)];
        same(
            &inputs,
            |x| nn::convolution(&x[0], &x[1]),
            |x| nn::reference::convolution(&x[0], &x[1]),
        );
        gradcheck(&inputs, 1e-8, |x| Ok(vec![nn::convolution(&x[0], &x[1])?]))?;
    }
    Ok(())
}

#[test]
fn convolution_by_hand() -> Result<()> {
    let x = Tensor::new(&[[[1f64], [2.0], [4.0]]], &Device::Cpu)?;
    let weight = Tensor::new(&[[[1f64, 10.0]]], &Device::Cpu)?;
    assert_eq!(
        nn::convolution(&x, &weight)?
            .flatten_all()?
            .to_vec1::<f64>()?,
        [21.0, 42.0]
    );
    Ok(())
}

#[test]
fn layer_norm() -> Result<()> {
    let inputs = [normal(&[3, 2, 7], 0), normal(&[7], 1), normal(&[7], 2)];
    same(
        &inputs,
        |x| nn::layer_norm(&x[0], &x[1], &x[2], 1e-5),
        |x| nn::reference::layer_norm(&x[0], &x[1], &x[2], 1e-5),
    );
    gradcheck(&inputs, 1e-7, |x| {
        Ok(vec![nn::layer_norm(&x[0], &x[1], &x[2], 1e-5)?])
    })
}

#[test]
fn layer_norm_of_shifted_rows_keeps_its_digits() -> Result<()> {
    let x = normal(&[4, 64], 0);
    let (one, zero) = (
        Tensor::ones(64, DType::F32, &Device::Cpu)?,
        Tensor::zeros(64, DType::F32, &Device::Cpu)?,
    );
    let plain = nn::layer_norm(&x.to_dtype(DType::F32)?, &one, &zero, 1e-5)?;
    let shifted = nn::layer_norm(&(x + 1000.0)?.to_dtype(DType::F32)?, &one, &zero, 1e-5)?;
    assert!(distance(&plain, &shifted) < 3e-4);
    Ok(())
}

#[test]
fn softmax() -> Result<()> {
    let x = [normal(&[3, 2, 5], 0)];
    same(
        &x,
        |x| nn::softmax(&x[0]),
        |x| nn::reference::softmax(&x[0]),
    );
    gradcheck(&x, 1e-8, |x| Ok(vec![nn::softmax(&x[0])?]))?;
    let huge = Tensor::new(&[[1e30f32, -1e30, 1e30]], &Device::Cpu)?;
    assert_eq!(nn::softmax(&huge)?.to_vec2::<f32>()?, [[0.5, 0.0, 0.5]]);
    Ok(())
}

#[test]
fn dropout() -> Result<()> {
    let x = [normal(&[40, 25], 0)];
    let stream = Stream::new(3, 1);
    gradcheck(&x, 1e-8, |x| Ok(vec![nn::dropout(&x[0], 0.3, stream)?]))?;
    let y = nn::dropout(&x[0], 0.3, stream)?;
    let ratio = (&y / &x[0])?.flatten_all()?.to_vec1::<f64>()?;
    let kept = ratio.iter().filter(|r| **r != 0.0).count();
    assert!(
        ratio
            .iter()
            .all(|r| *r == 0.0 || (r - 1.0 / 0.7).abs() < 1e-12)
    );
    assert!((600..800).contains(&kept));
    assert_eq!(distance(&y, &nn::dropout(&x[0], 0.3, stream)?), 0.0);
    assert!(nn::dropout(&x[0], 1.0, stream).is_err());
    Ok(())
}

#[test]
fn wrong_shapes_are_named() {
    let x = normal(&[2, 3], 0);
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(nn::linear(&x, &normal(&[2, 4], 1), None)).contains("(..., 4)"));
    let message = message(nn::convolution(
        &normal(&[1, 2, 3], 0),
        &normal(&[1, 3, 4], 1),
    ));
    assert!(message.contains("sequence length 2"), "{message}");
}

#[test]
fn threads_do_not_change_results() -> Result<()> {
    let (x, w) = (normal(&[700, 64], 0), normal(&[96, 64], 1));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| nn::linear(&x, &w, None).unwrap())
    };
    assert_eq!(distance(&run(1), &run(3)), 0.0);
    Ok(())
}
