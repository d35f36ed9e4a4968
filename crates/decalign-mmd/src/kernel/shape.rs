//! Kernels as functions of one number: a distance or an inner product.

use decalign_core::Real;
use decalign_core::pairs::{CHUNK, STRIP};
use decalign_core::simd::{self, Isa, LANES};

/// Numbers of the pairs of a strip of rows and a chunk of columns.
pub(crate) type Buffer<T> = [T; STRIP * CHUNK];

/// A buffer of zeros.
pub(crate) fn buffer<T: Real>() -> Box<Buffer<T>> {
    Box::new([T::zero(); STRIP * CHUNK])
}

/// `k` as a function of u: of a distance, which may be infinite but is never NaN as points are
/// finite, or of an inner product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// `exp(-rate u)`.
    Exponential { rate: f64 },
    /// The same where it is always a normal number.
    NormalExponential { rate: f64 },
    /// `exp(-rate sqrt u)`.
    Root { rate: f64 },
    /// `(1 + t) exp(-t)`, `t = rate sqrt u`.
    ThreeHalves { rate: f64 },
    /// `(1 + t + t^2 / 3) exp(-t)`, `t = rate sqrt u`.
    FiveHalves { rate: f64 },
    /// `(1 + rate u)^(-1/2)`.
    InverseRoot { rate: f64 },
    /// `(1 + rate u)^-alpha`.
    InversePower { alpha: f64, rate: f64 },
    /// `-sqrt u`.
    Distance,
    /// `u`.
    Identity,
    /// `(slope u + offset)^degree`.
    Polynomial {
        degree: u32,
        slope: f64,
        offset: f64,
    },
}

impl Shape {
    /// The largest `|dk/du|`, which says how exact small distances have to be; `None` where it has
    /// no bound.
    pub(crate) fn steepness(self) -> Option<f64> {
        match self {
            Self::Exponential { rate } | Self::NormalExponential { rate } => Some(rate),
            Self::ThreeHalves { rate } => Some(rate * rate / 2.0),
            Self::FiveHalves { rate } => Some(rate * rate / 6.0),
            Self::InverseRoot { rate } => Some(rate / 2.0),
            Self::InversePower { alpha, rate } => Some(alpha * rate),
            Self::Root { .. } | Self::Distance => None,
            Self::Identity | Self::Polynomial { .. } => Some(0.0),
        }
    }

    /// The shape where u is at most `bound`.
    pub(crate) fn below<T: Real>(self, bound: f64) -> Self {
        // Exponents of normal numbers, with room for rounding.
        let least = if size_of::<T>() == 4 { 120.0 } else { 1000.0 };
        match self {
            Self::Exponential { rate } if bound * rate * std::f64::consts::LOG2_E < least => {
                Self::NormalExponential { rate }
            }
            other => other,
        }
    }

    /// Values, and slopes where they are asked for, of the first rows and columns of a buffer.
    pub(crate) fn map<T: Real>(
        self,
        u: &Buffer<T>,
        (rows, columns): (usize, usize),
        values: &mut Buffer<T>,
        slopes: Option<&mut Buffer<T>>,
    ) {
        let blocks = columns.div_ceil(LANES);
        self.visit(Map {
            u,
            rows,
            blocks,
            values,
            slopes,
        });
    }

    /// `sum_rj a_r b_j k(u_rj)`; `b` weighs nothing behind the last column.
    pub(crate) fn total<T: Real>(self, u: &Buffer<T>, a: &[T], b: &[T]) -> f64 {
        self.visit(Total { u, a, b }).as_f64()
    }

    fn visit<T: Real, V: Visit<T>>(self, visit: V) -> V::Output {
        let of = T::of;
        match self {
            Self::Exponential { rate } => visit.with(Exponential::new(rate)),
            Self::NormalExponential { rate } => visit.with(Normal(Exponential::new(rate))),
            Self::Root { rate } => visit.with(Root(of(rate))),
            Self::ThreeHalves { rate } => visit.with(ThreeHalves(of(rate))),
            Self::FiveHalves { rate } => visit.with(FiveHalves(of(rate))),
            Self::InverseRoot { rate } => visit.with(InverseRoot(of(rate))),
            Self::InversePower { alpha, rate } => visit.with(InversePower(of(alpha), of(rate))),
            Self::Distance => visit.with(Distance),
            Self::Identity => visit.with(Identity),
            Self::Polynomial {
                degree,
                slope,
                offset,
            } => visit.with(Polynomial(degree, of(slope), of(offset))),
        }
    }
}

/// A loop over a function.
trait Visit<T: Real> {
    type Output;
    fn with<F: Function<T>>(self, f: F) -> Self::Output;
}

/// `u -> (k, dk/du)`; a loop that leaves the slope unused does not compute it.
trait Function<T: Real>: Copy {
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T);
}

struct Map<'a, T> {
    u: &'a Buffer<T>,
    rows: usize,
    blocks: usize,
    values: &'a mut Buffer<T>,
    slopes: Option<&'a mut Buffer<T>>,
}

impl<T: Real> Visit<T> for Map<'_, T> {
    type Output = ();
    fn with<F: Function<T>>(self, f: F) {
        simd::dispatch(MapBy(self, f));
    }
}

struct MapBy<'a, T, F>(Map<'a, T>, F);

impl<T: Real, F: Function<T>> simd::Kernel for MapBy<'_, T, F> {
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

struct Total<'a, T> {
    u: &'a Buffer<T>,
    a: &'a [T],
    b: &'a [T],
}

impl<T: Real> Visit<T> for Total<'_, T> {
    type Output = T;
    fn with<F: Function<T>>(self, f: F) -> T {
        simd::dispatch(TotalBy(self, f))
    }
}

struct TotalBy<'a, T, F>(Total<'a, T>, F);

impl<T: Real, F: Function<T>> simd::Kernel for TotalBy<'_, T, F> {
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

#[derive(Clone, Copy)]
struct Exponential<T> {
    rate: T,
    slope: T,
}

impl<T: Real> Exponential<T> {
    fn new(rate: f64) -> Self {
        Self {
            rate: T::of(-rate * std::f64::consts::LOG2_E),
            slope: T::of(-rate),
        }
    }
}

#[derive(Clone, Copy)]
struct Normal<F>(F);

impl<T: Real> Function<T> for Normal<Exponential<T>> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let k = simd::exp2_normal_value(isa, self.0.rate * u);
        (k, self.0.slope * k)
    }
}

impl<T: Real> Function<T> for Exponential<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let k = simd::exp2_number_value(isa, self.rate * u);
        (k, self.slope * k)
    }
}

/// `exp(-t)` for t >= 0.
#[inline(always)]
fn decay<T: Real, I: Isa>(isa: I, t: T) -> T {
    simd::exp2_number_value(isa, T::of(-std::f64::consts::LOG2_E) * t)
}

/// `rate sqrt u`, finite so that what multiplies its exponential is.
#[inline(always)]
fn scaled_root<T: Real>(rate: T, u: T) -> T {
    let t = rate * u.sqrt();
    let most = T::of(4096.0);
    if t > most { most } else { t }
}

#[derive(Clone, Copy)]
struct Root<T>(T);

impl<T: Real> Function<T> for Root<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let root = u.sqrt();
        let k = decay(isa, self.0 * root);
        let slope = T::of(-0.5) * self.0 * k / root;
        // At 0 it falls as fast in every direction: there is no slope.
        (k, if u > T::zero() { slope } else { T::zero() })
    }
}

#[derive(Clone, Copy)]
struct ThreeHalves<T>(T);

impl<T: Real> Function<T> for ThreeHalves<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let t = scaled_root(self.0, u);
        let e = decay(isa, t);
        (isa.mul_add(t, e, e), T::of(-0.5) * self.0 * self.0 * e)
    }
}

#[derive(Clone, Copy)]
struct FiveHalves<T>(T);

impl<T: Real> Function<T> for FiveHalves<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let t = scaled_root(self.0, u);
        let e = decay(isa, t);
        let linear = isa.mul_add(t, e, e);
        let value = isa.mul_add(T::of(1.0 / 3.0) * t * t, e, linear);
        (value, T::of(-1.0 / 6.0) * self.0 * self.0 * linear)
    }
}

#[derive(Clone, Copy)]
struct InverseRoot<T>(T);

impl<T: Real> Function<T> for InverseRoot<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let k = isa.mul_add(self.0, u, T::one()).sqrt().recip();
        (k, T::of(-0.5) * self.0 * k * k * k)
    }
}

#[derive(Clone, Copy)]
struct InversePower<T>(T, T);

impl<T: Real> Function<T> for InversePower<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let base = isa.mul_add(self.1, u, T::one());
        let k = simd::exp_value(isa, -self.0 * simd::ln_value(isa, base));
        (k, -self.0 * self.1 * k / base)
    }
}

#[derive(Clone, Copy)]
struct Distance;

impl<T: Real> Function<T> for Distance {
    #[inline(always)]
    fn at<I: Isa>(self, _: I, u: T) -> (T, T) {
        let root = u.sqrt();
        let slope = T::of(-0.5) / root;
        (-root, if u > T::zero() { slope } else { T::zero() })
    }
}

#[derive(Clone, Copy)]
struct Identity;

impl<T: Real> Function<T> for Identity {
    #[inline(always)]
    fn at<I: Isa>(self, _: I, u: T) -> (T, T) {
        (u, T::one())
    }
}

#[derive(Clone, Copy)]
struct Polynomial<T>(u32, T, T);

impl<T: Real> Function<T> for Polynomial<T> {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, u: T) -> (T, T) {
        let base = isa.mul_add(self.1, u, self.2);
        let mut power = T::one();
        for _ in 1..self.0 {
            power *= base;
        }
        (power * base, T::of(f64::from(self.0)) * self.1 * power)
    }
}
