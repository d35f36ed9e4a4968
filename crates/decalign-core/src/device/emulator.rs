//! Kernels on the CPU, every access checked, without a device.
//!
//! The system's C++ compiler turns a [`Program`](super::Program) into a process that runs launches: one fibre a lane,
//! in an order that a seed permutes. It finds accesses out of bounds, elements that two lanes
//! touch without a barrier between, shared memory that is read before it is written, and lanes that do not come to
//! the same barrier. It is for tests: a launch takes about a thousand times as long as on a device.

use candle_core::{DType, Device, Tensor};

use super::runtime::emulator as runtime;
use super::scope::Scope;
use super::spec;
use crate::{Error, Result, agree};

/// Runs `f` with CPU tensors taken for tensors of a device, so that operations take the ways they take there.
pub fn emulated<T>(seed: u64, f: impl FnOnce() -> T) -> T {
    Scope::emulated(seed).enter(f)
}

/// Holds an operation in the emulator against itself on the CPU, values and gradients, as [`agree`] does, and against
/// itself with the lanes in another order, bit for bit; and on a CUDA device against the CPU, where there is one. Where there is
/// neither a C++ compiler nor a device it says so and checks nothing.
///
/// # Errors
/// Errors of [`agree`]; also when the operation starts no kernel, or the order of lanes changes a bit.
pub fn holds(
    inputs: &[Tensor],
    tolerances: (f64, f64),
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    on_device(inputs, tolerances, &f)?;
    if !available() {
        return Ok(());
    }
    let before = runtime::launches();
    let orders = [1, 2].map(|seed| bits(&emulated(seed, || f(inputs))?));
    let [first, second]: [Result<Vec<f64>>; 2] = orders;
    let (first, second) = (first?, second?);
    if runtime::launches() == before {
        return Err(Error::value(
            "launches",
            0,
            "the operation must use its kernels",
        ));
    }
    same_bits(&first, &second, "with the lanes in another order it is")?;
    agree(inputs, tolerances, |x| emulated(3, || f(x)), &f)
}

/// Makes the checks on the CUDA device of this machine, or prints that it skips them where there is none.
fn on_device(
    inputs: &[Tensor],
    tolerances: (f64, f64),
    f: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    let Some(device) = spec::available().filter(Device::is_cuda) else {
        eprintln!("skipped: no CUDA device");
        return Ok(());
    };
    let moved = |x: &[Tensor], device: &Device| -> Result<Vec<Tensor>> {
        Ok(x.iter()
            .map(|x| x.to_device(device))
            .collect::<candle_core::Result<_>>()?)
    };
    let there = |x: &[Tensor]| moved(&f(&moved(x, &device)?)?, &Device::Cpu);
    let again = |x: &[Tensor]| there(x).and_then(|y| bits(&y));
    let (first, second) = (again(inputs)?, again(inputs)?);
    same_bits(&first, &second, "a second run on the device gives")?;
    agree(inputs, tolerances, there, f)
}

/// An error at the first number whose bits differ.
fn same_bits(first: &[f64], second: &[f64], other: &str) -> Result<()> {
    let mut both = first.iter().zip(second).enumerate();
    match both.find(|(_, (a, b))| a.to_bits() != b.to_bits()) {
        Some((i, (a, b))) => {
            let what = format!("output element {i}");
            Err(Error::value(what, a, format!("{other} {b}")))
        }
        None => Ok(()),
    }
}

/// All numbers of some tensors.
fn bits(x: &[Tensor]) -> Result<Vec<f64>> {
    let each = x
        .iter()
        .map(|x| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
    Ok(each.collect::<candle_core::Result<Vec<_>>>()?.concat())
}

/// True if there is a C++ compiler; prints that tests are skipped where there is none.
pub fn available() -> bool {
    runtime::available()
}
