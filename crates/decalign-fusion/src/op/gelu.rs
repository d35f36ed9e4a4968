//! The Gaussian error linear unit.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Elements, Real, Result, with_real};

use crate::reference;

/// `x Phi(x)`, Phi being the distribution function of the standard normal distribution (Hendrycks and
/// Gimpel, 2016): the activation of BERT, by the error function and not its approximation by tanh.
///
/// # Shapes
/// Any; the result has the shape of `x`.
///
/// # Errors
/// When `x` is neither f32 nor f64.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f64, 0.0, 1.0], &Device::Cpu)?;
/// let y = decalign_fusion::gelu(&x)?.to_vec1::<f64>()?;
/// assert!((y[0] + 0.158_655_253_931_457).abs() < 1e-14 && y[1] == 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return reference::gelu(x);
    }
    with_real!("x", x, T => fused::<T>(x))
}

fn fused<T: Real>(x: &Tensor) -> Result<Tensor> {
    let mut y = Elements::<T>::new(x)?.to_vec();
    simd::dispatch(Forward(&mut y));
    record_one("gelu", &[x], Output::new(y, x.dims()), |b| {
        let gradient = b.gradient(0)?;
        let mut dx = Elements::<T>::new(&gradient)?.to_vec();
        simd::dispatch(Backward(&mut dx, &Elements::<T>::new(&b.inputs[0])?));
        let (dims, device) = (b.inputs[0].dims(), b.inputs[0].device());
        Ok(vec![Some(Tensor::from_vec(dx, dims, device)?)])
    })
}

/// Chebyshev coefficients of `exp(z^2) erfc(z) / t` in `2 t - 1`, where `t = 2 / (2 + z)` runs over (0, 1] as z
/// runs over the positive numbers: computed with 40 digits at 200 nodes.
const SERIES: [f64; 26] = [
    0.577_033_738_616_469_7,
    0.355_436_921_270_498_5,
    0.065_095_158_828_786_53,
    0.003_671_142_395_836_639,
    -0.001_112_844_743_352_632_5,
    -0.000_160_758_299_153_780_8,
    3.278_031_574_173_137e-5,
    5.442_441_645_505_016e-6,
    -1.515_466_555_317_148_2e-6,
    -1.429_760_818_116_986_5e-7,
    8.234_608_827_419_493e-8,
    -1.296_284_685_230_656_3e-9,
    -4.154_721_631_015_198e-9,
    6.347_058_278_362_811e-10,
    1.432_082_271_225_622_4e-10,
    -6.160_390_105_204_586e-11,
    2.061_213_855_472_169_6e-12,
    3.571_493_148_847_704_4e-12,
    -8.586_422_843_251_796e-13,
    -6.145_600_213_790_631e-14,
    7.418_725_748_596_672e-14,
    -1.289_504_275_503_232_6e-14,
    -2.358_726_385_710_632_4e-15,
    1.572_934_938_168_391_1e-15,
    -2.278_296_623_954_646_5e-16,
    -6.312_330_450_756_43e-17,
];

/// `Phi(x)` and `exp(-x^2 / 2)`; the smaller tail has full relative precision.
#[inline(always)]
fn normal<T: Real, I: Isa>(isa: I, x: T) -> (T, T) {
    let terms = if size_of::<T>() == 4 {
        11
    } else {
        SERIES.len()
    };
    let z = x.abs() * T::of(std::f64::consts::FRAC_1_SQRT_2);
    let t = T::of(2.0) / (T::of(2.0) + z);
    let y = isa.mul_add(t, T::of(2.0), -T::one());
    // Clenshaw's recurrence.
    let twice = y + y;
    let (mut next, mut after) = (T::zero(), T::zero());
    for c in SERIES[1..terms].iter().rev() {
        let here = isa.mul_add(twice, next, T::of(*c) - after);
        (after, next) = (next, here);
    }
    let sum = isa.mul_add(y, next, T::of(SERIES[0]) - after);
    let density = simd::exp_normal_value(isa, x * x * T::of(-0.5));
    let tail = T::of(0.5) * t * sum * density;
    let below = x < T::zero();
    (if below { tail } else { T::one() - tail }, density)
}

/// Elements handled together: two of the widest vectors, so that latencies overlap.
const BLOCK: usize = 32;

struct Forward<'a, T>(&'a mut [T]);

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for block in self.0.chunks_mut(BLOCK) {
            for x in block {
                *x *= normal(isa, *x).0;
            }
        }
    }
}

/// `g (Phi(x) + x phi(x))`.
struct Backward<'a, T>(&'a mut [T], &'a [T]);

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let scale = T::of(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
        for (g, x) in self.0.chunks_mut(BLOCK).zip(self.1.chunks(BLOCK)) {
            for (g, x) in g.iter_mut().zip(x) {
                let (below, density) = normal(isa, *x);
                *g *= isa.mul_add(*x * scale, density, below);
            }
        }
    }
}
