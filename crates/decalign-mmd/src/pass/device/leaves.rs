//! Kernels as the programs know them.

use candle_core::DType;
use decalign_core::Result;
use decalign_core::device::{Program, pairs, parts};

use super::super::program;
use crate::kernel::{Feature, Shape};

/// Leaves that the kernels count.
const LEAVES: usize = 8;
/// Below every value that a floor is to leave as it is.
pub(super) const LARGEST: f64 = 1e38;
/// Measures of kernel.cu: squared distances from inner products, and from differences.
pub(super) const SQUARED: usize = 0;
pub(super) const DIFFERENCES: usize = 1;
/// Inner products.
pub(super) const DOT: usize = 3;
/// What error of an exponent is put up with; that of the CPU.
const EXPONENT_ERROR: f64 = 1e-4;

/// Kernels as the programs know them.
#[derive(Clone, Debug)]
pub(crate) struct Leaves {
    pub(super) feature: Feature,
    pub(super) kernels: usize,
    /// Of every leaf its form and the kernel that it belongs to.
    pub(super) forms: Vec<(usize, usize)>,
    /// Of every leaf its factor and two numbers.
    pub(super) numbers: Vec<f64>,
    /// The largest slope, where it has a bound.
    pub(super) steepness: Option<f64>,
}

impl Leaves {
    /// Of kernels that are sums of functions of one number; `None` of others.
    pub(crate) fn new(kernels: &program::Program) -> Option<Self> {
        let [feature] = kernels.features[..] else {
            return None;
        };
        let fits = kernels.leaves.len() <= LEAVES && !kernels.leaves.iter().any(|l| l.learned);
        if !fits || feature == Feature::Cosine {
            return None;
        }
        let (mut forms, mut numbers) = (Vec::new(), Vec::new());
        for (q, terms) in kernels.kernels.iter().enumerate() {
            for term in terms {
                let [leaf] = term.leaves[..] else {
                    return None;
                };
                let (form, a, b) = form(kernels.leaves[leaf].shape);
                forms.push((form, q));
                numbers.extend([term.factor, a, b]);
            }
        }
        Some(Self {
            feature,
            kernels: kernels.kernels.len(),
            forms,
            numbers,
            steepness: kernels.steepness(0),
        })
    }

    /// The squared length of points above which squared distances are not those from inner products.
    pub(super) fn limit(&self, dtype: DType) -> f64 {
        let epsilon = match dtype {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        let limit = EXPONENT_ERROR / (4.0 * epsilon * self.steepness.unwrap_or(1.0));
        limit.min(LARGEST)
    }

    pub(super) fn measure(&self) -> usize {
        match self.feature {
            Feature::Squared => SQUARED,
            Feature::SquaredExact => DIFFERENCES,
            Feature::CityBlock => 2,
            _ => DOT,
        }
    }

    /// The program of sums over tables of one width, in parts or as they are.
    pub(crate) fn sums(
        &self,
        measure: usize,
        (dtype, width): (DType, usize),
        in_parts: bool,
    ) -> Result<Program> {
        let program = Program::new("mmd", include_str!("sums.cu"), dtype)?;
        let program = self.specialised(program, measure);
        Ok(match in_parts {
            true => parts::with_parts(program, width).constant("IN_PARTS", 1),
            // The pooled points have memory of their own.
            false => pairs::with_pairs(program, width.is_multiple_of(4)).constant("IN_PARTS", 0),
        })
    }

    /// The program of gradients.
    pub(crate) fn pull(&self, measure: usize, (dtype, width): (DType, usize)) -> Result<Program> {
        let program = Program::new("mmd_pull", include_str!("pull.cu"), dtype)?;
        let program = self.specialised(program, measure);
        Ok(pairs::with_pairs(program, width.is_multiple_of(4)))
    }

    fn specialised(&self, program: Program, measure: usize) -> Program {
        let packed = |bits: usize, number: fn(&(usize, usize)) -> usize| {
            let each = self.forms.iter().map(number).enumerate();
            each.fold(0, |all, (l, n)| all | n << (bits * l))
        };
        program
            .after(include_str!("kernel.cu"))
            .constant("MEASURE", measure)
            .constant("KERNELS", self.kernels)
            .constant("LEAVES", self.forms.len())
            .constant("FORMS", packed(6, |(form, _)| *form))
            .constant("OWNERS", packed(4, |(_, owner)| *owner))
    }
}

/// The number of a form in kernel.cu, and what it takes.
fn form(shape: Shape) -> (usize, f64, f64) {
    match shape {
        Shape::Exponential { rate } | Shape::NormalExponential { rate } => {
            (0, -rate * std::f64::consts::LOG2_E, 0.0)
        }
        Shape::Root { rate } => (1, rate, 0.0),
        Shape::ThreeHalves { rate } => (2, rate, 0.0),
        Shape::FiveHalves { rate } => (3, rate, 0.0),
        Shape::InverseRoot { rate } => (4, rate, 0.0),
        Shape::InversePower { alpha, rate } => (5, rate, alpha),
        Shape::Distance => (6, 0.0, 0.0),
        Shape::Identity => (17, 1.0, 0.0),
        Shape::Polynomial {
            degree,
            slope,
            offset,
        } => (16 + degree as usize, slope, offset),
    }
}
