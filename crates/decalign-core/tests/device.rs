//! Kernels in the emulator: the layers against their loops, and that the emulator finds what is wrong.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck, nn};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(7, number).normal_tensor(shape).unwrap()
}

const TIGHT: (f64, f64) = (1e-12, 2e-5);

#[test]
fn softmax_is_that_of_the_cpu() -> Result<()> {
    for dims in [vec![1], vec![5, 3], vec![2, 3, 70], vec![9, 32]] {
        holds(&[normal(&dims, 0)], TIGHT, |x| {
            Ok(vec![nn::softmax(&x[0])?])
        })?;
    }
    if available() {
        let x = normal(&[3, 4], 1);
        gradcheck(&[x], 1e-8, |x| {
            emulated(4, || Ok(vec![nn::softmax(&x[0])?]))
        })?;
    }
    Ok(())
}

#[test]
fn layer_norm_is_that_of_the_cpu() -> Result<()> {
    for (dims, n) in [(vec![1, 4], 4), (vec![3, 5, 7], 7), (vec![130, 33], 33)] {
        let inputs = [normal(&dims, 0), normal(&[n], 1), normal(&[n], 2)];
        holds(&inputs, TIGHT, |x| {
            Ok(vec![nn::layer_norm(&x[0], &x[1], &x[2], 1e-5)?])
        })?;
    }
    if available() {
        let inputs = [normal(&[2, 3, 5], 0), normal(&[5], 1), normal(&[5], 2)];
        gradcheck(&inputs, 1e-7, |x| {
            emulated(4, || Ok(vec![nn::layer_norm(&x[0], &x[1], &x[2], 1e-5)?]))
        })?;
    }
    Ok(())
}

#[test]
fn dropout_draws_the_same_numbers() -> Result<()> {
    for (dims, p) in [(vec![3], 0.5), (vec![2, 33], 0.1), (vec![71, 31], 0.9)] {
        let stream = Stream::new(11, 5).child(3);
        holds(&[normal(&dims, 0)], (0.0, 0.0), |x| {
            Ok(vec![nn::dropout(&x[0], p, stream)?])
        })?;
    }
    Ok(())
}

/// What a kernel of one output of `n` elements writes, in one group of 64 lanes.
fn run(source: &'static str, n: usize) -> Result<Vec<f32>> {
    let x = Tensor::zeros(n, DType::F32, &Device::Cpu)?;
    emulated(9, || {
        let backend = Backend::of(&x)?.unwrap();
        let program = Program::new("trial", source, DType::F32)?.lanes(64);
        let mut y = Memory::new(&backend, DType::F32, n)?;
        Launch::new(&program, "trial", 2)
            .input(&x)?
            .output(&mut y)
            .run(&backend)?;
        Ok(y.into_tensor().to_vec1()?)
    })
}

macro_rules! trial {
    ($body:literal) => {
        concat!(
            "KERNEL(trial, INPUT(0, REAL, x), OUTPUT(1, REAL, y)) { ",
            $body,
            " }"
        )
    };
}

#[test]
fn the_emulator_runs_what_is_right() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let sums = trial!(
        "SHARED(REAL, s, 64); s[LANE] = LANE; BARRIER();
         REAL sum = 0; for (uint i = 0; i < 64; i++) sum += s[i];
         y[GROUP * 64 + LANE] = sum + warp_sum((REAL)1) + warp_max((REAL)(LANE % 32)) + x[0];"
    );
    assert_eq!(run(sums, 128)?, vec![2016.0 + 32.0 + 31.0; 128]);
    Ok(())
}

#[test]
fn the_emulator_finds_what_is_wrong() {
    if !available() {
        return;
    }
    let faults = [
        (
            trial!("y[GROUP * 64 + LANE + 1] = 0;"),
            "y[128] is outside its 128 elements",
        ),
        (
            trial!("y[GROUP * 64 + LANE] = x[128 + LANE];"),
            "is outside its 128 elements",
        ),
        (trial!("y[LANE] = 0;"), "another group"),
        (
            trial!("SHARED(REAL, s, 64); s[LANE] = 1; y[GROUP * 64 + LANE] = s[63 - LANE];"),
            "no barrier between",
        ),
        (
            trial!("SHARED(REAL, s, 64); if (LANE == 0) s[0] = 1; BARRIER(); s[0] = s[0] + 1;"),
            "no barrier between",
        ),
        (
            trial!(
                "SHARED(REAL, s, 65); s[LANE] = 1; BARRIER(); y[GROUP * 64 + LANE] = s[LANE + 1];"
            ),
            "read before it is written",
        ),
        (
            trial!("if (LANE < 7) BARRIER();"),
            "do not come to one barrier",
        ),
        (
            trial!(
                "y[GROUP * 64 + LANE] = 1; BARRIER(); y[GROUP * 64 + LANE] = y[GROUP * 64 + 63 - LANE];"
            ),
            "no barrier between",
        ),
        (
            trial!("int a[2] = {1, 2}; y[GROUP * 64 + LANE] = a[LANE % 3];"),
            "undefined behaviour",
        ),
        (
            trial!("y[GROUP * 64 + LANE] = nothing;"),
            "does not compile",
        ),
    ];
    for (source, expected) in faults {
        let error = run(source, 128).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} is not {expected}");
    }
    let types = "KERNEL(trial, INPUT(0, double, x), OUTPUT(1, REAL, y)) { y[0] = x[0]; }";
    assert!(
        run(types, 128)
            .unwrap_err()
            .to_string()
            .contains("argument has kind 0")
    );
    let indices = "KERNEL(trial, INPUT(0, REAL, x), OUTPUT(0, REAL, y)) { y[0] = x[0]; }";
    assert!(
        run(indices, 128)
            .unwrap_err()
            .to_string()
            .contains("must have its position")
    );
}
