//! One corpus of problems for every engine.

use candle_core::Tensor;
use decalign_core::device::emulator;
use decalign_core::{Result, agree, gradcheck};

type Operation<'a> = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'a>;

/// A problem and the engines that solve it: the reference in tensor operations, the loops of the CPU in f64 and f32, the
/// emulator of device kernels, and a device where the machine has one.
///
/// A case runs on the engines that a tolerance is given for. An entry holds when
/// `|got - want| <= tolerance * max(1, largest |want|)` of its tensor; values and gradients of all inputs are compared, on
/// contiguous and on strided inputs.
pub struct Case<'a> {
    name: String,
    inputs: Vec<Tensor>,
    fused: Operation<'a>,
    reference: Option<Operation<'a>>,
    cpu: (f64, f64),
    device: Option<(f64, f64)>,
    differences: Option<f64>,
}

impl<'a> Case<'a> {
    /// A case of an operation on inputs in f64.
    pub fn new(
        name: impl Into<String>,
        inputs: Vec<Tensor>,
        fused: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            inputs,
            fused: Box::new(fused),
            reference: None,
            cpu: (1e-11, 1e-4),
            device: None,
            differences: None,
        }
    }

    /// Compares with this implementation in plain tensor operations, on the CPU in f64 and f32.
    pub fn reference(mut self, plain: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'a) -> Self {
        self.reference = Some(Box::new(plain));
        self
    }

    /// The tolerances against the reference in f64 and in f32; 1e-11 and 1e-4 by default.
    pub fn cpu(mut self, double: f64, single: f64) -> Self {
        self.cpu = (double, single);
        self
    }

    /// Compares kernels with the loops of the CPU at these tolerances in f64 and in f32: in the emulator, with the lanes in several
    /// orders, and on a device where the machine has one.
    pub fn device(mut self, double: f64, single: f64) -> Self {
        self.device = Some((double, single));
        self
    }

    /// Compares gradients with central differences in f64.
    pub fn central_differences(mut self, tolerance: f64) -> Self {
        self.differences = Some(tolerance);
        self
    }

    /// Runs the case on its engines.
    ///
    /// # Errors
    /// Where the case names no engine, an engine fails, or two engines differ; with the engine and the entry.
    pub fn run(&self) -> std::result::Result<(), String> {
        let Self { inputs, fused, .. } = self;
        if self.reference.is_none() && self.differences.is_none() && self.device.is_none() {
            return Err(format!("{}: the case names no engine", self.name));
        }
        let done = |engine: &str, result: Result<()>| {
            result.map_err(|error| format!("{}, {engine}: {error}", self.name))
        };
        if let Some(plain) = &self.reference {
            done("reference", agree(inputs, self.cpu, fused, plain))?;
        }
        if let Some(tolerance) = self.differences {
            let result = gradcheck(inputs, tolerance, fused);
            done("central differences", result)?;
        }
        match self.device {
            Some(tolerances) => done("device", emulator::holds(inputs, tolerances, fused)),
            None => Ok(()),
        }
    }
}

/// Runs every case of a corpus.
///
/// # Panics
/// Where cases fail, with all of them.
#[track_caller]
pub fn check<'a>(corpus: impl IntoIterator<Item = Case<'a>>) {
    let results: Vec<_> = corpus.into_iter().map(|case| case.run()).collect();
    assert!(!results.is_empty(), "the corpus has no case");
    let failed: Vec<String> = results
        .into_iter()
        .filter_map(|result| result.err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
