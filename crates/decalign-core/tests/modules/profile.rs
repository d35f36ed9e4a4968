//! Time and products by phase.

use std::time::Duration;

use candle_core::{Device, Var};
use decalign_core::nn::linear;
use decalign_core::profile::{Profile, measure, phase};
use decalign_core::{Error, Result};

#[test]
fn operations_count_for_the_phase_that_recorded_them() -> Result<()> {
    let x = Var::ones((300, 200), candle_core::DType::F32, &Device::Cpu)?;
    let run = || -> Result<()> {
        let y = phase("first", || linear(&x, &x.narrow(0, 0, 50)?, None))?;
        let z = phase("second", || y.sqr()?.sum_all().map_err(Error::from))?;
        z.backward()?;
        Ok(())
    };
    let (done, profile) = measure(run);
    done?;
    let [first, second] = ["first", "second"].map(|name| profile.phases[name]);
    assert!(first.forward > Duration::ZERO && first.backward > Duration::ZERO);
    // Candle's own operations are not recorded here.
    assert!(second.forward > Duration::ZERO && second.backward == Duration::ZERO);
    // Forward once, backward for either side.
    assert!(profile.product_flops >= 3 * 2 * 300 * 200 * 50);
    // Nothing is measured outside.
    phase("third", || ());
    assert!(measure(|| ()).1 == Profile::default());
    Ok(())
}
