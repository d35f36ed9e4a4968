//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, TensorId, Var};
use decalign::config::RegressionLoss;
use decalign::core::device;
use decalign::core::device::emulator::{available, emulated, holds};
use decalign::core::random::Stream;
use decalign::core::{Error, Result, gradcheck};
use decalign::objective::{
    Grouping, cross_entropy, regression_loss, sign_loss, supervised_contrastive,
};
use decalign::optim::{Adam, AdamSettings, GradientSource, clip_gradient_norm};

const CPU: Device = Device::Cpu;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(7, number).normal_tensor(shape).unwrap()
}

fn plain<T>(result: decalign::Result<T>) -> Result<T> {
    result.map_err(|error| Error::from(candle_core::Error::Msg(error.to_string())))
}

/// Holds a loss of one tensor and labels against the CPU, and its gradient against differences.
fn check(
    x: &Tensor,
    labels: &Tensor,
    loss: impl Fn(&Tensor, &Tensor) -> decalign::Result<Tensor>,
) -> Result<()> {
    let all = std::slice::from_ref(x);
    holds(all, (1e-12, 1e-5), |x| {
        let labels = labels.to_device(x[0].device())?;
        Ok(vec![plain(loss(&x[0], &labels))?])
    })?;
    // Every number is two runs.
    if available() && x.elem_count() < 50 {
        gradcheck(all, 1e-6, |x| {
            emulated(5, || Ok(vec![plain(loss(&x[0], labels))?]))
        })?;
    }
    Ok(())
}

#[test]
fn regression() -> Result<()> {
    let kinds = [
        RegressionLoss::Mae,
        RegressionLoss::Mse,
        RegressionLoss::SmoothL1 { beta: 0.7 },
    ];
    for (n, kind) in [1, 37, 300].into_iter().zip(kinds) {
        let (x, y) = (normal(&[n, 1], 1), normal(&[n, 1], 2));
        check(&x, &y, |x, y| regression_loss(x, y, kind))?;
    }
    Ok(())
}

#[test]
fn signs() -> Result<()> {
    let x = (normal(&[40, 1], 3) * 8.0)?;
    // Some labels are 0, and all of them in the second case.
    let labels = normal(&[40, 1], 4).round()?;
    check(&x, &labels, sign_loss)?;
    check(&x, &labels.zeros_like()?, sign_loss)
}

#[test]
fn classes() -> Result<()> {
    let labels: Vec<u32> = (0..300).map(|i| (i * i % 5) as u32).collect();
    let weights = [0.5, 2.0, 1.0, 0.0, 3.0];
    for batch in [1, 9, 300] {
        let x = normal(&[batch, 5], 5);
        let y = Tensor::new(&labels[..batch], &CPU)?;
        check(&x, &y, |x, y| cross_entropy(x, y, None))?;
        let y = y.to_dtype(DType::F32)?.unsqueeze(1)?;
        check(&x, &y, |x, y| cross_entropy(x, y, Some(&weights)))?;
    }
    if available() {
        // A class that there is not: nothing is read outside, and it shows.
        for label in [5f64, -1.0, f64::NAN] {
            let y = Tensor::new(&[0.0, label], &CPU)?;
            let x = normal(&[2, 5], 5);
            assert!(cross_entropy(&x, &y, Some(&weights)).is_err());
            let loss = emulated(1, || cross_entropy(&x, &y, Some(&weights)));
            assert!(plain(loss)?.to_scalar::<f64>()?.is_nan());
        }
    }
    Ok(())
}

#[test]
fn contrastive() -> Result<()> {
    for (batch, width) in [(1, 3), (7, 5), (13, 40)] {
        let x = normal(&[batch, width], 6);
        let classes: Vec<u32> = (0..batch).map(|i| (i * i % 3) as u32).collect();
        let classes = Tensor::new(classes, &CPU)?;
        let scores = (normal(&[batch, 1], 7) * 2.0)?;
        for (labels, grouping) in [
            (classes, Grouping::Classes),
            (scores, Grouping::RoundedScores),
        ] {
            check(&x, &labels, |x, y| {
                supervised_contrastive(x, y, grouping, 0.3)
            })?;
        }
    }
    // More columns than lanes; more rows, once, as it takes its time. Halves round to even.
    let halves = |batch: usize| {
        let halves = (0..batch).map(|i| (i % 17) as f64 / 2.0 - 4.0);
        Tensor::new(halves.collect::<Vec<_>>(), &CPU)
    };
    let loss = |x: &Tensor| {
        let y = halves(x.dim(0)?)?.to_device(x.device())?;
        let loss = supervised_contrastive(x, &y, Grouping::RoundedScores, 0.3);
        plain(loss)
    };
    holds(&[normal(&[4, 140], 8)], (1e-12, 1e-5), |x| {
        Ok(vec![loss(&x[0])?])
    })?;
    if available() {
        let x = Var::from_tensor(&normal(&[130, 2], 8))?;
        let gradient = |loss: Tensor| -> Result<Vec<f64>> {
            let gradients = loss.backward()?;
            Ok(numbers(&gradients.get(&x).unwrap().flatten_all()?))
        };
        let (got, want) = (emulated(1, || loss(&x))?, loss(&x)?);
        assert!((numbers(&got.reshape(1)?)[0] - numbers(&want.reshape(1)?)[0]).abs() < 1e-12);
        for (g, w) in gradient(got)?.iter().zip(gradient(want)?) {
            assert!((g - w).abs() < 1e-12, "{g} {w}");
        }
    }
    Ok(())
}

/// Gradients of some parameters.
struct Given(HashMap<TensorId, Tensor>);

impl GradientSource for Given {
    fn gradient_of(&self, x: &Tensor) -> Option<&Tensor> {
        self.0.get(&x.id())
    }
}

/// Sizes about the chunks of the kernels, and more tensors than a launch takes.
const SIZES: [usize; 20] = [
    5000, 1, 3, 2048, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2049,
];

fn parameters(dtype: DType, device: &Device) -> Vec<(String, Var)> {
    let named = |(i, n): (usize, &usize)| {
        let x = normal(&[*n], i as u64).to_dtype(dtype).unwrap();
        let x = Var::from_tensor(&x.to_device(device).unwrap()).unwrap();
        (format!("p{i:02}"), x)
    };
    SIZES.iter().enumerate().map(named).collect()
}

/// Gradients of a step; the third parameter has none in the first, the last never.
fn given(parameters: &[(String, Var)], step: u64) -> Given {
    let reached = parameters
        .iter()
        .enumerate()
        .filter(|(i, _)| !(*i == 2 && step == 0 || *i == SIZES.len() - 2));
    let gradient = |(i, (_, v)): (usize, &(String, Var))| {
        let g = normal(v.dims(), 100 * (step + 1) + i as u64);
        let g = g.to_dtype(v.dtype()).unwrap();
        (v.id(), g.to_device(v.device()).unwrap())
    };
    Given(reached.map(gradient).collect())
}

fn rate(name: &str) -> f64 {
    if name < "p05" { 0.1 } else { 0.02 }
}

/// Parameters and state after three steps, and their norms; saved and restored in between where asked.
fn trained(dtype: DType, device: &Device, restored: bool) -> (BTreeMap<String, Tensor>, Vec<f64>) {
    let all = parameters(dtype, device);
    let settings = AdamSettings::new(0.01, 20.0);
    let mut adam = Adam::new(all.clone(), settings);
    let mut norms = Vec::new();
    for step in 0..3 {
        if restored && step == 2 {
            let state = adam.state().unwrap();
            adam = Adam::new(all.clone(), settings);
            adam.restore(&state).unwrap();
        }
        let norm = adam.step(&given(&all, step), rate).unwrap();
        norms.push(norm.value().unwrap());
    }
    let mut result = adam.state().unwrap();
    for (name, v) in all {
        result.insert(name, v.to_device(&CPU).unwrap());
    }
    (result, norms)
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn same(
    got: &(BTreeMap<String, Tensor>, Vec<f64>),
    want: &(BTreeMap<String, Tensor>, Vec<f64>),
    tolerance: f64,
) {
    assert!(got.0.keys().eq(want.0.keys()));
    for (name, want) in &want.0 {
        for (g, w) in numbers(&got.0[name]).iter().zip(numbers(want)) {
            assert!(
                (g - w).abs() <= tolerance * w.abs().max(1.0),
                "{name}: {g} {w}"
            );
        }
    }
    for (g, w) in got.1.iter().zip(&want.1) {
        assert!((g - w).abs() <= tolerance * w, "norm: {g} {w}");
    }
}

#[test]
fn adam() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let want = trained(dtype, &CPU, false);
        if available() {
            let got = emulated(1, || trained(dtype, &CPU, false));
            same(&got, &want, tolerance);
            // From a state, and with the lanes in another order: bit for bit.
            same(&emulated(2, || trained(dtype, &CPU, true)), &got, 0.0);
        }
        if let Some(device) = device::available().filter(Device::is_cuda) {
            let got = trained(dtype, &device, false);
            same(&got, &want, tolerance);
            same(&trained(dtype, &device, true), &got, 0.0);
        }
    }
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    if !available() {
        return;
    }
    emulated(1, || {
        let all = parameters(DType::F32, &CPU);
        let mut adam = Adam::new(all.clone(), AdamSettings::new(0.01, 20.0));
        adam.step(&given(&all, 0), rate).unwrap();
        let values = |adam: &Adam| -> Vec<Vec<f64>> {
            let state = adam.state().unwrap();
            let means = state.iter().filter(|(name, _)| !name.starts_with("steps"));
            let parameters = all.iter().map(|(_, v)| numbers(v));
            means.map(|(_, x)| numbers(x)).chain(parameters).collect()
        };
        let before = values(&adam);
        let mut bad = given(&all, 0);
        let spoilt = (normal(&[1], 0) / 0.0).unwrap().to_dtype(DType::F32);
        bad.0.insert(all[1].1.id(), spoilt.unwrap());
        let norm = adam.step(&bad, rate).unwrap();
        assert!(!norm.value().unwrap().is_finite());
        assert_eq!(before, values(&adam));
    });
}

#[test]
fn clipping() {
    let gradients: Vec<Tensor> = SIZES.iter().map(|n| normal(&[*n], 9)).collect();
    for limit in [0.5, 1e6, f64::INFINITY] {
        let want = clip_gradient_norm(&gradients, limit).unwrap();
        if available() {
            let got = emulated(1, || clip_gradient_norm(&gradients, limit)).unwrap();
            assert!((got.0 - want.0).abs() < 1e-12 && (got.1 - want.1).abs() < 1e-10);
        }
    }
}
