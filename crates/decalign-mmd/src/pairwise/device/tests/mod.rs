//! Tasks of several tiles of columns give the sums of tasks of one.

use decalign_core::device::emulator::{available, emulated};
use decalign_core::random::Stream;

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, pairs};

use super::layout::DeviceLayout;
use super::{PairwiseRun, Specialised};
use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::pairwise::plan::KernelPlan;
use crate::sample::Sample;
use crate::statistic::Functional;
use crate::statistic::Statistic;

#[test]
fn tasks_of_several_tiles() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let statistic = Statistic {
        kernels: vec![Kernel::gaussian_length_scale(1.0)?],
        estimator: Estimator::Biased,
        functionals: vec![Functional::mmd(0, 1, 1.0)],
        squares: true,
        scalar: true,
    };
    let Some(specialised) = Specialised::new(&KernelPlan::new(&statistic.kernels, true)) else {
        return Err(decalign_core::Error::value(
            "leaves",
            "none",
            "a Gaussian is one",
        ));
    };
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
        // Some tiles each.
        let (sizes, side) = ([300, 140], pairs::side(dtype));
        let each = sizes.iter().zip(0..);
        let samples = each.map(|(n, i)| -> Result<Tensor> {
            let points = Stream::new(8, i).normal_tensor(&[*n, 2])?;
            Ok(points.to_dtype(dtype)?)
        });
        let samples = samples.collect::<Result<Vec<Tensor>>>()?;
        let samples: Vec<Sample> = samples.iter().map(Sample::from).collect();
        let value = |chain: usize| -> Result<f64> {
            emulated(chain as u64, || {
                let Some(backend) = Backend::of(&samples[0].points)? else {
                    return Ok(f64::NAN);
                };
                let mut run = PairwiseRun::new(&backend, &statistic, &specialised, &samples, 2)?;
                run.layout = DeviceLayout::chained(&statistic, &sizes, side, chain);
                run.layout_numbers = run.layout.tensor(&run.points)?;
                run.split()?;
                let value = run.values(&statistic)?.into_tensor();
                Ok(value.to_dtype(DType::F64)?.to_scalar()?)
            })
        };
        let want = value(1)?;
        for chain in [2, 3, 8] {
            assert!((value(chain)? - want).abs() < tolerance);
        }
    }
    Ok(())
}
