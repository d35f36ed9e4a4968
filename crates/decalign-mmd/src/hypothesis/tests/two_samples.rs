//! One pass over many relabellings against a loop over them.

use candle_core::{Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Elements, Result};

use super::super::relabelling::Relabelling;
use super::super::two_samples::TwoSamples;
use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::reference;

fn kernels() -> Result<Vec<Kernel>> {
    Ok(vec![
        Kernel::gaussian_length_scale(1.3)?,
        Kernel::laplace(2.0)? + Kernel::energy(),
        Kernel::linear(),
        (Kernel::polynomial(2, 0.3, 1.0)? * Kernel::cosine())?,
    ])
}

fn points(n: usize, number: u64) -> Result<Tensor> {
    Stream::new(8, number).normal_tensor((n, 3))
}

/// MMD^2 of the points that a vector puts together.
fn relabelled(
    kernel: &Kernel,
    estimator: Estimator,
    pooled: &Tensor,
    vector: &[f64],
) -> Result<f64> {
    let side = |first: bool| {
        let of = (0u32..).zip(vector).filter(|(_, v)| (**v > 0.0) == first);
        let of: Vec<u32> = of.map(|(i, _)| i).collect();
        let count = of.len();
        pooled.index_select(&Tensor::from_vec(of, count, &Device::Cpu)?, 0)
    };
    let value = reference::squared(kernel, estimator, &side(true)?, &side(false)?)?;
    Ok(Elements::<f64>::new(&value)?[0])
}

#[test]
fn one_pass_equals_a_loop_over_relabellings() -> Result<()> {
    // One block, and several in either sample.
    for sizes in [(5, 3), (3, 5), (6, 6), (230, 190), (200, 200)] {
        let (x, y) = (points(sizes.0, 0)?, points(sizes.1, 1)?);
        let all = Tensor::cat(&[&x, &y], 0)?;
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let kernels = kernels()?;
            let count = if sizes.0 > 100 { 3 } else { 20 };
            let vector = |i| Relabelling::Permutations.vector(sizes, 4, i);
            let pooled = TwoSamples::<f64>::new(&kernels, estimator, (&x, &y))?;
            let found = pooled.statistics(Relabelling::Permutations, count, vector)?;
            let single = |x: &Tensor| x.to_dtype(candle_core::DType::F32);
            let narrow = TwoSamples::<f32>::new(&kernels, estimator, (&single(&x)?, &single(&y)?))?;
            let rough = narrow.statistics(Relabelling::Permutations, count, |i| {
                Relabelling::Permutations.vector(sizes, 4, i)
            })?;
            for (q, kernel) in kernels.iter().enumerate() {
                for i in 0..count {
                    let want = relabelled(kernel, estimator, &all, &vector(i))?;
                    let (wide, single) = (found.values[q][i], rough.values[q][i]);
                    assert!((wide - want).abs() < 1e-11, "{sizes:?} {q}: {wide} {want}");
                    assert!(
                        (single - want).abs() < 2e-5,
                        "{sizes:?} {q}: {single} {want}"
                    );
                    assert!((wide - single).abs() < rough.tolerances[q].max(1e-6));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_pass_equals_a_loop_over_signs() -> Result<()> {
    for n in [2, 7, 200] {
        let (x, y) = (points(n, 0)?, points(n, 1)?);
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            for scheme in [Relabelling::Signs, Relabelling::Process { lag: 3.0 }] {
                let kernels = kernels()?;
                let vector = |i| scheme.vector((n, n), 4, i);
                let pooled = TwoSamples::<f64>::new(&kernels, estimator, (&x, &y))?;
                let found = pooled.statistics(scheme, 4, vector)?;
                for (q, kernel) in kernels.iter().enumerate() {
                    let matrix = |a: &Tensor, b: &Tensor| {
                        Elements::<f64>::new(&reference::kernel_matrix(kernel, a, b)?)
                            .map(|k| k.to_vec())
                    };
                    let (xx, yy, xy) = (matrix(&x, &x)?, matrix(&y, &y)?, matrix(&x, &y)?);
                    for i in 0..4 {
                        let w: Vec<f64> = vector(i);
                        let mut sum = 0.0;
                        for a in 0..n {
                            for b in 0..n {
                                let (to, from) = (a * n + b, b * n + a);
                                let h = xx[to] + yy[to] - xy[to] - xy[from];
                                if a != b || estimator == Estimator::Biased {
                                    sum += w[a] * w[b] * h;
                                }
                            }
                        }
                        let n = n as f64;
                        let want = match estimator {
                            Estimator::Biased => sum / (n * n),
                            Estimator::Unbiased => sum / (n * (n - 1.0)),
                        };
                        let got = found.values[q][i];
                        assert!((got - want).abs() < 1e-11, "{n} {q} {i}: {got} {want}");
                    }
                }
            }
        }
    }
    Ok(())
}
