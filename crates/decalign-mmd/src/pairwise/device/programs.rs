//! Programs specialised to kernels.

use candle_core::DType;
use decalign_core::Result;
use decalign_core::device::{Program, bf16x3, pairs};

use super::super::plan::KernelPlan;
use crate::kernel::{Feature, Profile};

/// Specialised that the kernels count.
const LEAVES: usize = 8;
/// Minus this is a floor that changes no value.
pub(super) const LARGEST: f64 = 1e38;
/// Values of MEASURE in kernel.cu: squared distances from inner products, and from differences.
pub(super) const SQUARED: usize = 0;
pub(super) const DIFFERENCES: usize = 1;
/// Inner products.
pub(super) const DOT: usize = 3;
/// The largest accepted error of an exponent, as on the CPU.
const EXPONENT_ERROR: f64 = 1e-4;

/// Kernels as the constants and numbers of device programs.
#[derive(Clone, Debug)]
pub(crate) struct Specialised {
    pub(super) feature: Feature,
    pub(super) kernels: usize,
    /// The profile, the kernel and the degree of every leaf.
    pub(super) leaves: Vec<[usize; 3]>,
    /// The factor and the parameters a and b of every leaf.
    pub(super) numbers: Vec<f64>,
    /// The largest slope of a profile, if bounded.
    pub(super) max_slope: Option<f64>,
}

impl Specialised {
    /// For kernels that are sums of profiles of one feature, with fixed bandwidths; `None` for others.
    pub(crate) fn new(kernels: &KernelPlan) -> Option<Self> {
        let [feature] = kernels.features[..] else {
            return None;
        };
        let fits = kernels.leaves.len() <= LEAVES && !kernels.leaves.iter().any(|l| l.learned);
        if !fits || feature == Feature::Cosine {
            return None;
        }
        let (mut leaves, mut numbers) = (Vec::new(), Vec::new());
        for (q, terms) in kernels.kernels.iter().enumerate() {
            for term in terms {
                let [leaf] = term.leaves[..] else {
                    return None;
                };
                let (form, [a, b], degree) = kernels.leaves[leaf].profile.device();
                leaves.push([form, q, degree]);
                numbers.extend([term.factor, a, b]);
            }
        }
        Some(Self {
            feature,
            kernels: kernels.kernels.len(),
            leaves,
            numbers,
            max_slope: kernels.max_slope(0),
        })
    }

    /// The squared norm of points above which squared distances come from differences.
    pub(super) fn limit(&self, dtype: DType) -> f64 {
        let epsilon = match dtype {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        let limit = EXPONENT_ERROR / (4.0 * epsilon * self.max_slope.unwrap_or(1.0));
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

    /// The program of sums over tables of one width, in three bf16 parts or in the dtype itself.
    pub(crate) fn sums(
        &self,
        measure: usize,
        (dtype, width): (DType, usize),
        in_parts: bool,
    ) -> Result<Program> {
        let program = Program::new("mmd", include_str!("sums.cu"), dtype)?;
        let program = self.specialised(program, measure);
        Ok(match in_parts {
            true => bf16x3::with_bf16x3(program, width).constant("IN_PARTS", 1),
            // Concatenated points start at a multiple of 16 bytes, so rows of 4 n numbers can be read four at a time.
            false => pairs::with_pairs(program, width.is_multiple_of(4)).constant("IN_PARTS", 0),
        })
    }

    /// The program of gradients.
    pub(crate) fn backward(
        &self,
        measure: usize,
        (dtype, width): (DType, usize),
    ) -> Result<Program> {
        let program = Program::new("mmd_backward", include_str!("backward.cu"), dtype)?;
        let program = self.specialised(program, measure);
        Ok(pairs::with_pairs(program, width.is_multiple_of(4)))
    }

    fn specialised(&self, program: Program, measure: usize) -> Program {
        let packed = |bits: usize, part: usize| {
            let each = self.leaves.iter().map(|leaf| leaf[part]).enumerate();
            each.fold(0, |all, (l, n)| all | n << (bits * l))
        };
        program
            .after(include_str!("kernel.cu"))
            .after(Profile::device_text())
            .constant("MEASURE", measure)
            .constant("KERNELS", self.kernels)
            .constant("LEAVES", self.leaves.len())
            .constant("FORMS", packed(6, 0))
            .constant("OWNERS", packed(4, 1))
            .constant("DEGREES", packed(5, 2))
    }
}
