//! Command line and timing of the programs that time kernels on a device: `PROGRAM [--device DEVICE]`.

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Var};
use decalign_core::device::DeviceSpec;
use decalign_core::random::Stream;

/// Results of a timing program.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// The value of an option of the command line.
#[must_use]
pub fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

/// The device that `--device` names, by default the CPU.
///
/// # Errors
/// When there is no such device or this program was built without its feature.
pub fn open() -> Outcome<Device> {
    let place: DeviceSpec = option("--device").as_deref().unwrap_or("cpu").parse()?;
    Ok(place.open()?)
}

/// A variable of standard normal numbers.
///
/// # Errors
/// Those of tensor operations.
pub fn normal(shape: &[usize], number: u64, dtype: DType, device: &Device) -> Outcome<Var> {
    let x = Stream::new(1, number).normal_tensor(shape)?;
    Ok(Var::from_tensor(&x.to_dtype(dtype)?.to_device(device)?)?)
}

/// Mean milliseconds of `runs` runs after two warm-up runs, until the device has finished, and the last result.
///
/// # Errors
/// Those of a run.
pub fn mean<T>(device: &Device, runs: usize, run: impl Fn() -> Outcome<T>) -> Outcome<(f64, T)> {
    let mut last = run()?;
    run()?;
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..runs {
        last = run()?;
    }
    device.synchronize()?;
    Ok((1e3 * start.elapsed().as_secs_f64() / runs as f64, last))
}

/// The median milliseconds of `runs` runs after two warm-up runs; each ends with a wait for the device.
///
/// # Errors
/// Those of a run.
pub fn median(device: &Device, runs: usize, mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    for number in 0..runs + 2 {
        device.synchronize()?;
        let start = Instant::now();
        run()?;
        device.synchronize()?;
        if number >= 2 {
            times.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
