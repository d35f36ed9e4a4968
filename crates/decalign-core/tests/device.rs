//! Kernels in the emulator: the layers against their loops, and that the emulator finds what is wrong.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::device::{Backend, Launch, Memory, Program, bf16x3, pairs};
use decalign_core::nn::Mode;
use decalign_core::nn::device::{Layer, LayerGradients, Target, weight_gradient};
use decalign_core::op::{Tape, record_one};
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

/// What function `name` of `source` writes to its output of `n` elements, by two groups of 64 lanes.
fn run(source: &'static str, name: &'static str, n: usize) -> Result<Vec<f32>> {
    let x = Tensor::zeros(n, DType::F32, &Device::Cpu)?;
    emulated(9, || {
        let backend = Backend::of(&x)?.unwrap();
        let program = Program::new("trial", source, DType::F32)?.lanes(64);
        let mut y = Memory::new(&backend, DType::F32, n)?;
        Launch::new(&program, name, 2)
            .input(&x)?
            .output(&mut y)
            .run(&backend)?;
        Ok(y.into_tensor().to_vec1()?)
    })
}

/// One right function and many wrong ones: `i` is the place of the lane in the output.
const TRIALS: &str = "
#define TRIAL(name, ...) KERNEL(name, INPUT(0, REAL, x), OUTPUT(1, REAL, y)) { const uint i = GROUP * 64 + LANE; __VA_ARGS__ }
KERNEL(right, INPUT(0, REAL, x), OUTPUT(1, REAL, y)) {
  SHARED(REAL, s, 64);
  s[LANE] = LANE;
  BARRIER();
  REAL sum = 0;
  for (uint k = 0; k < 64; k++) sum += s[k];
  y[GROUP * 64 + LANE] = sum + warp_sum((REAL)1) + warp_max((REAL)(LANE % 32)) + x[0];
}
TRIAL(beyond_output, y[i + 1] = 0;)
TRIAL(beyond_input, y[i] = x[128 + LANE];)
TRIAL(same_element, y[LANE] = 0;)
TRIAL(no_barrier, SHARED(REAL, s, 64); s[LANE] = 1; y[i] = s[63 - LANE];)
TRIAL(all_write, SHARED(REAL, s, 64); if (LANE == 0) s[0] = 1; BARRIER(); s[0] = s[0] + 1;)
TRIAL(not_written, SHARED(REAL, s, 65); s[LANE] = 1; BARRIER(); y[i] = s[LANE + 1];)
TRIAL(apart, if (LANE < 7) BARRIER();)
TRIAL(global, y[i] = 1; BARRIER(); y[i] = y[GROUP * 64 + 63 - LANE];)
TRIAL(local_bounds, int a[2] = {1, 2}; y[i] = a[LANE % 3];)
TRIAL(shuffle, y[i] = SHUFFLE(x[i], LANE);)
";

#[test]
fn the_emulator_runs_what_is_right_and_finds_what_is_wrong() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let right = run(TRIALS, "right", 128)?;
    assert_eq!(right, vec![2016.0 + 32.0 + 31.0; 128]);
    let faults = [
        ("beyond_output", "y[128] is outside its 128 elements"),
        ("beyond_input", "is outside its 128 elements"),
        ("same_element", "another group"),
        ("no_barrier", "no barrier between"),
        ("all_write", "no barrier between"),
        ("not_written", "read before it is written"),
        ("apart", "do not come to one barrier"),
        ("global", "no barrier between"),
        ("local_bounds", "undefined behaviour"),
        ("shuffle", "a shuffle asks for lane"),
        ("absent", "there is no such function"),
    ];
    for (name, expected) in faults {
        let error = run(TRIALS, name, 128).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    // After all that it still runs.
    assert_eq!(run(TRIALS, "right", 128)?, right);
    Ok(())
}

#[test]
fn sources_that_do_not_fit_are_errors() {
    if !available() {
        return;
    }
    let sources = [
        (
            "KERNEL(trial, INPUT(0, double, x), OUTPUT(1, REAL, y)) { y[0] = x[0] + nothing; }",
            "does not compile",
        ),
        (
            "KERNEL(trial, INPUT(0, double, x), OUTPUT(1, REAL, y)) { y[0] = x[0]; }",
            "argument has kind 0",
        ),
        (
            "KERNEL(trial, INPUT(0, REAL, x), OUTPUT(0, REAL, y)) { y[0] = x[0]; }",
            "must have its position",
        ),
    ];
    for (source, expected) in sources {
        let error = run(source, "trial", 128).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// All products of the rows of two tables, a group a tile.
const PAIRS: &str = "
KERNEL(products, INPUT(0, REAL, x), INPUT(1, REAL, y), OUTPUT(2, REAL, z), VALUE(3, uint, n), VALUE(4, uint, m), VALUE(5, uint, width)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
  REAL cells[EACH * EACH];
  const uint tiles = (m + SIDE - 1u) / SIDE, first = GROUP / tiles * SIDE;
  const uint second = GROUP % tiles * SIDE;
  pair_products(x, first, n, y, second, m, width, x_table, y_table, LANE, cells);
  UNROLL for (uint a = 0u; a < EACH; a++) {
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const uint i = first + row_of(LANE, a), j = second + column_of(LANE, b);
      if (i < n && j < m) z[(ulong)i * m + j] = cells[a * EACH + b];
    }
  }
}";

#[test]
fn products_of_all_pairs() -> Result<()> {
    for (n, m, width) in [(1, 1, 1), (130, 67, 9), (64, 129, 24)] {
        holds(
            &[normal(&[n, width], 0), normal(&[m, width], 1)],
            TIGHT,
            |x| {
                let Some(backend) = Backend::of(&x[0])? else {
                    return Ok(vec![x[0].matmul(&x[1].t()?)?]);
                };
                let program = pairs::with_pairs(
                    Program::new("products", PAIRS, x[0].dtype())?,
                    pairs::aligned(&[&x[0], &x[1]]),
                );
                let side = pairs::side(x[0].dtype());
                let mut z = Memory::new(&backend, x[0].dtype(), (n, m))?;
                Launch::new(&program, "products", n.div_ceil(side) * m.div_ceil(side))
                    .input(&x[0])?
                    .input(&x[1])?
                    .output(&mut z)
                    .count(n)?
                    .count(m)?
                    .count(width)?
                    .run(&backend)?;
                record_one("products", &[&x[0], &x[1]], z.into(), |b| {
                    let g = b.gradient(0)?;
                    Ok(vec![
                        Some(g.matmul(&b.inputs[1].contiguous()?)?),
                        Some(g.t()?.contiguous()?.matmul(&b.inputs[0].contiguous()?)?),
                    ])
                })
                .map(|z| vec![z])
            },
        )?;
    }
    Ok(())
}

/// The same in parts, a group a tile of rows.
const PARTS: &str = "
KERNEL(products, INPUT(0, TABLE, x), INPUT(1, TABLE, y), OUTPUT(2, REAL, z), VALUE(3, uint, n), VALUE(4, uint, m)) {
  PAIR_TABLES;
  const uint tiles = (m + SIDE - 1u) / SIDE;
  START_TILES(x, GROUP, y, 0u, tiles);
  SERIAL for (uint tile = 0u; tile < tiles; tile++) {
    REAL cells[OWN_ROWS * OWN_COLUMNS];
    UNROLL for (uint c = 0u; c < OWN_ROWS * OWN_COLUMNS; c++) cells[c] = 0;
    TILE_PRODUCTS(x, GROUP * SIDE, n, y, tile * SIDE, m, width, cells);
    UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
      UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
        const uint i = GROUP * SIDE + row_of(LANE, a), j = tile * SIDE + column_of(LANE, b);
        if (i < n && j < m) z[(ulong)i * m + j] = cells[a * OWN_COLUMNS + b];
      }
    }
  }
}";

/// Products in parts are as far from the right ones as those of f32 are.
#[test]
fn products_in_parts() -> Result<()> {
    if !available() {
        return Ok(());
    }
    for (n, m, width) in [(1, 1, 1), (130, 3, 33), (5, 260, 64)] {
        // Numbers of many sizes.
        let sizes = (normal(&[width], 2) * 3.0)?.exp()?;
        let x = normal(&[n, width], 0)
            .broadcast_mul(&sizes)?
            .to_dtype(DType::F32)?;
        let y = normal(&[m, width], 1)
            .broadcast_div(&sizes)?
            .to_dtype(DType::F32)?;
        let found = emulated(3, || -> Result<Tensor> {
            let backend = Backend::of(&x)?.unwrap();
            assert!(bf16x3::supports(&backend, DType::F32, width));
            assert!(!bf16x3::supports(&backend, DType::F64, width));
            let program = Program::new("products", PARTS, DType::F32)?;
            let program = bf16x3::with_bf16x3(program, width);
            let mut z = Memory::new(&backend, DType::F32, (n, m))?;
            Launch::new(&program, "products", n.div_ceil(bf16x3::SIDE))
                .large(bf16x3::shared_bytes(width))
                .input(&bf16x3::split(&backend, &x)?)?
                .input(&bf16x3::split(&backend, &y)?)?
                .output(&mut z)
                .count(n)?
                .count(m)?
                .run(&backend)?;
            Ok(z.into_tensor())
        })?;
        let [x, y, found] = [&x, &y, &found].map(|t| t.to_dtype(DType::F64).unwrap());
        let right = x.matmul(&y.t()?)?;
        let bound = x.abs()?.matmul(&y.abs()?.t()?)?;
        let off = ((found - right)?.abs()? / bound)?
            .max_all()?
            .to_scalar::<f64>()?;
        // Three products of parts are left out, each below 2^-24, and few sums are rounded.
        assert!(off < 3.0 * f64::from(f32::EPSILON), "{off:e}");
    }
    Ok(())
}

/// Gradients of layers of one size meet in launches of their own; they are the same.
#[test]
fn gradients_that_wait() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let variable = |shape: &[usize], i: u64| Var::from_tensor(&normal(shape, i));
    let mut weights = Vec::new();
    for i in 0..10 {
        weights.push((variable(&[6, 6], 2 * i)?, variable(&[6], 2 * i + 1)?));
    }
    let (last, x) = (variable(&[3, 6], 90)?, normal(&[70, 6], 91));
    let forward = || -> Result<Tensor> {
        let mut y = x.clone();
        for (weight, bias) in &weights {
            y = nn::linear(&y, weight, Some(bias))?;
        }
        // The first once more; and one that is computed from a variable, whose gradient is read at once.
        y = nn::linear(&y, &weights[0].0, None)?;
        y = nn::linear(&y, &(last.as_tensor() * 2.0)?, None)?;
        Ok(y.sqr()?.sum_all()?)
    };
    emulated(5, || -> Result<()> {
        let tape = Tape::new();
        let waiting = tape.backward(&tape.run(forward)?)?;
        let graph = forward()?.backward()?;
        let pairs = weights.iter().flat_map(|(weight, bias)| [weight, bias]);
        for variable in pairs.chain([&last]) {
            let (found, right) = (waiting.get(variable).unwrap(), graph.get(variable).unwrap());
            let off = (found - right)?.abs()?.max_all()?.to_scalar::<f64>()?;
            let size = right.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(size > 0.0 && off <= 1e-12 * size, "{off:e} of {size:e}");
        }
        Ok(())
    })
}

/// Rows of a parameter of several layers, by our kernel and by the library's product.
#[test]
fn gradients_of_parts_of_a_weight() -> Result<()> {
    if !available() {
        return Ok(());
    }
    for m in [5, 1030] {
        let (total, at, n, rows) = (m + 9, 4, 3, 67);
        let (x, g) = (normal(&[rows, n], 0), normal(&[rows, m], 1));
        let right = g.t()?.contiguous()?.matmul(&x)?;
        for (fresh, biased) in [(true, true), (true, false), (false, true), (false, false)] {
            let target = Target { at, fresh, biased };
            let (weight, bias) = emulated(6, || -> Result<(Tensor, Tensor)> {
                let backend = Backend::of(&x)?.unwrap();
                let gradients = LayerGradients {
                    weight: Tensor::ones((total, n), DType::F64, &Device::Cpu)?,
                    bias: Some(Tensor::ones(total, DType::F64, &Device::Cpu)?),
                };
                let (x, g) = (x.clone(), g.clone());
                let layer = Layer { x, g, gradients };
                weight_gradient(&backend, std::slice::from_ref(&layer), target)?;
                Ok((layer.gradients.weight, layer.gradients.bias.unwrap()))
            })?;
            let others = if fresh { 0.0 } else { 1.0 };
            let rest = |from: usize, count: usize| -> Result<f64> {
                let off = (weight.narrow(0, from, count)? - others)?.abs()?;
                Ok(off.max_all()?.to_scalar()?)
            };
            let beside =
                |from: usize| -> Result<Vec<f64>> { Ok(bias.narrow(0, from, 4)?.to_vec1()?) };
            assert_eq!(
                (beside(0)?, beside(at + m)?),
                (vec![others; 4], vec![others; 4])
            );
            assert_eq!((rest(0, at)?, rest(at + m, 5)?), (0.0, 0.0));
            let off = (weight.narrow(0, at, m)? - &right)?.abs()?;
            assert!(off.max_all()?.to_scalar::<f64>()? < 1e-12);
            let sums = if biased {
                g.sum(0)?
            } else {
                Tensor::zeros(m, DType::F64, &Device::Cpu)?
            };
            let off = (bias.narrow(0, at, m)? - sums)?.abs()?;
            assert!(off.max_all()?.to_scalar::<f64>()? < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn linear_layers() -> Result<()> {
    let inputs = [
        normal(&[2, 35, 5], 0),
        normal(&[33, 5], 1),
        normal(&[33], 2),
    ];
    let mode = Mode::Training(Stream::new(4, 1));
    holds(&inputs, TIGHT, |x| {
        Ok(vec![
            nn::linear(&x[0], &x[1], None)?,
            nn::linear(&x[0], &x[1], Some(&x[2]))?,
            nn::linear_relu(&x[0], &x[1], Some(&x[2]))?,
            nn::linear_relu_dropout(&x[0], &x[1], Some(&x[2]), (0.4, mode))?,
        ])
    })
}

#[test]
fn convolutions() -> Result<()> {
    for (t, k) in [(7, 3), (4, 4), (5, 1)] {
        let inputs = [normal(&[3, t, 5], 0), normal(&[6, 5, k], 1)];
        holds(&inputs, TIGHT, |x| Ok(vec![nn::convolution(&x[0], &x[1])?]))?;
    }
    Ok(())
}

#[test]
fn concatenations() -> Result<()> {
    // Rows that begin inside of a block of the generator, and more than a warp takes.
    let inputs = [
        normal(&[2, 3, 7], 0),
        normal(&[2, 1, 7], 1),
        normal(&[2, 160, 7], 2),
    ];
    let mode = Mode::Training(Stream::new(4, 2));
    holds(&inputs, TIGHT, |x| {
        let tables: Vec<&Tensor> = x.iter().collect();
        let mut all = nn::concatenate(&tables, 2.5, &[(0.3, mode), (0.5, mode.child(1))])?;
        all.extend(nn::concatenate(
            &tables[..2],
            1.0,
            &[(0.2, Mode::Inference)],
        )?);
        Ok(all)
    })
}

/// Wider than one launch takes, and tables of several tiles.
#[test]
fn wide_linear_layers() -> Result<()> {
    let mode = Mode::Training(Stream::new(4, 3));
    for (rows, m, n) in [(3, 5, 260), (70, 67, 9), (2, 1030, 3)] {
        let inputs = [normal(&[rows, n], 0), normal(&[m, n], 1), normal(&[m], 2)];
        holds(&inputs, (1e-11, 1e-4), |x| {
            Ok(vec![
                nn::linear(&x[0], &x[1], None)?,
                nn::linear(&x[0], &x[1], Some(&x[2]))?,
                nn::linear_relu_dropout(&x[0], &x[1], Some(&x[2]), (0.4, mode))?,
                nn::linear_relu_dropout(&x[0], &x[1], None, (0.4, mode))?,
            ])
        })?;
    }
    Ok(())
}
