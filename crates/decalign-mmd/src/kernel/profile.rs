//! Kernels as functions of one number u, a distance or an inner product, and the loops over them.

use std::marker::PhantomData;

use decalign_core::Real;
use decalign_core::pairs::{CHUNK, STRIP};
use decalign_core::simd::{self, Isa, LANES};

/// Numbers of the pairs of a strip of rows and a chunk of columns.
pub(crate) type Buffer<T> = [T; STRIP * CHUNK];

/// A buffer of zeros.
pub(crate) fn buffer<T: Real>() -> Box<Buffer<T>> {
    Box::new([T::zero(); STRIP * CHUNK])
}

/// Numbers that a profile takes, on the CPU and on devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parameters<T = f64> {
    pub(super) a: T,
    pub(super) b: T,
    pub(super) degree: u32,
}

impl Parameters {
    /// These numbers rounded to T.
    pub(super) fn round<T: Real>(self) -> Parameters<T> {
        Parameters {
            a: T::of(self.a),
            b: T::of(self.b),
            degree: self.degree,
        }
    }
}

/// `k(u)` of a distance u, which may be infinite but is never NaN as points are finite, or of an inner product.
pub(crate) trait ProfileFunction {
    /// `u -> (k, dk/du)`; a loop that leaves the slope unused does not compute it.
    fn at<T: Real, I: Isa>(isa: I, p: Parameters<T>, u: T) -> (T, T);

    /// The largest `|dk/du|`, which says how exact small distances have to be; `None` without a bound.
    fn max_slope(p: Parameters) -> Option<f64>;

    /// Bodies of the device functions `k(u)` and `dk/du`, given `u`, `a`, `b` and `degree`.
    const VALUE: &'static str;
    const SLOPE: &'static str;
}

/// A profile with its parameters.
pub(super) struct Function<F, T>(pub(super) Parameters<T>, pub(super) PhantomData<F>);

impl<F: ProfileFunction, T: Real> Function<F, T> {
    #[inline(always)]
    fn at<I: Isa>(&self, isa: I, u: T) -> (T, T) {
        F::at(isa, self.0, u)
    }
}

/// Device functions that the texts of profiles may call.
const DEVICE_HELPERS: &str = "
// exp(-t) for t >= 0.
DEVICE REAL decay(REAL t) { return exp2_normal(-LOG2E * t); }

// a sqrt u, at most 4096: a product with its exponential stays finite; NaN stays NaN.
DEVICE REAL scaled_root(REAL a, REAL u) {
  const REAL t = a * sqrt(u);
  return t > (REAL)4096 ? (REAL)4096 : t;
}
";

/// The device functions `value_of` and `slope_of`; a profile's number is its place in the list.
pub(super) fn device_text(profiles: &[(&str, &str)]) -> String {
    let mut text = DEVICE_HELPERS.to_owned();
    for (name, slope) in [("value_of", false), ("slope_of", true)] {
        text += &format!("DEVICE REAL {name}(uint form, uint degree, REAL u, REAL a, REAL b) {{\n");
        for (i, bodies) in profiles.iter().enumerate() {
            let body = if slope { bodies.1 } else { bodies.0 };
            text += &format!("  if (form == {i}u) {{ {body} }}\n");
        }
        text += "  return 0;\n}\n";
    }
    text
}

/// A loop over a function; it is compiled for every function and instruction set.
pub(super) trait Visit<T: Real> {
    type Output;
    fn with<F: ProfileFunction>(self, f: Function<F, T>) -> Self::Output;
}

/// Writes values, and slopes where there is room for them, of the first `rows` rows and `blocks` blocks of
/// [`LANES`] columns.
pub(super) struct Map<'a, T> {
    pub(super) u: &'a Buffer<T>,
    pub(super) rows: usize,
    pub(super) blocks: usize,
    pub(super) values: &'a mut Buffer<T>,
    pub(super) slopes: Option<&'a mut Buffer<T>>,
}

impl<T: Real> Visit<T> for Map<'_, T> {
    type Output = ();
    fn with<F: ProfileFunction>(self, f: Function<F, T>) {
        simd::dispatch(MapBy(self, f));
    }
}

struct MapBy<'a, T, F>(Map<'a, T>, Function<F, T>);

impl<T: Real, F: ProfileFunction> simd::Kernel for MapBy<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Map {
            u,
            rows,
            blocks,
            values,
            slopes,
        } = self.0;
        let rows = u
            .as_chunks::<CHUNK>()
            .0
            .iter()
            .zip(values.as_chunks_mut::<CHUNK>().0)
            .take(rows);
        match slopes {
            None => {
                for (u, values) in rows {
                    let outs = values.as_chunks_mut::<LANES>().0;
                    for (u, out) in u.as_chunks::<LANES>().0.iter().zip(outs).take(blocks) {
                        let mut k = *u;
                        for k in &mut k {
                            *k = self.1.at(isa, *k).0;
                        }
                        *out = k;
                    }
                }
            }
            Some(slopes) => {
                for ((u, values), slopes) in rows.zip(slopes.as_chunks_mut::<CHUNK>().0) {
                    let outs = values.as_chunks_mut::<LANES>().0.iter_mut();
                    let outs = outs.zip(slopes.as_chunks_mut::<LANES>().0);
                    for (u, (value, slope)) in
                        u.as_chunks::<LANES>().0.iter().zip(outs).take(blocks)
                    {
                        let mut both = (*u, *u);
                        for (i, u) in u.iter().enumerate() {
                            (both.0[i], both.1[i]) = self.1.at(isa, *u);
                        }
                        (*value, *slope) = both;
                    }
                }
            }
        }
    }
}

/// `sum_rj a_r b_j k(u_rj)`: lanes add up a row, then rows with their weights, so the order of additions is fixed.
pub(super) struct Total<'a, T> {
    pub(super) u: &'a Buffer<T>,
    pub(super) a: &'a [T],
    pub(super) b: &'a [T],
}

impl<T: Real> Visit<T> for Total<'_, T> {
    type Output = T;
    fn with<F: ProfileFunction>(self, f: Function<F, T>) -> T {
        simd::dispatch(TotalBy(self, f))
    }
}

struct TotalBy<'a, T, F>(Total<'a, T>, Function<F, T>);

impl<T: Real, F: ProfileFunction> simd::Kernel for TotalBy<'_, T, F> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let Total { u, a, b } = self.0;
        let mut total = [T::zero(); LANES];
        for (u, a) in u.as_chunks::<CHUNK>().0.iter().zip(a) {
            let mut sums = [T::zero(); LANES];
            for (u, b) in u
                .as_chunks::<LANES>()
                .0
                .iter()
                .zip(b.as_chunks::<LANES>().0)
            {
                let mut k = *u;
                for k in &mut k {
                    *k = self.1.at(isa, *k).0;
                }
                for i in 0..LANES {
                    sums[i] = isa.mul_add(k[i], b[i], sums[i]);
                }
            }
            for i in 0..LANES {
                total[i] = isa.mul_add(*a, sums[i], total[i]);
            }
        }
        simd::total(total)
    }
}

/// `exp(-t)` for t >= 0.
#[inline(always)]
pub(super) fn decay<T: Real, I: Isa>(isa: I, t: T) -> T {
    simd::exp2_number_value(isa, T::of(-std::f64::consts::LOG2_E) * t)
}

/// `rate sqrt u`, at most 4096: a product with its exponential stays finite.
#[inline(always)]
pub(super) fn scaled_root<T: Real>(rate: T, u: T) -> T {
    let t = rate * u.sqrt();
    let most = T::of(4096.0);
    if t > most { most } else { t }
}
