//! How well two parts are separated.

mod report;
mod ridge;

use candle_core::Tensor;
use decalign_core::{Error, Result};

pub use report::{Leakage, Prediction, Report};

use crate::encoder::{Decoupled, check_count, check_names};
use crate::measure::traits::Requirements;
use crate::measure::{BandwidthRule, CONSTANT, Centring, Gram, cosine_squared};
use crate::objective::{Batch, TimeAxis};
use crate::table::Table;

/// The largest number of samples of the independence criterion, which holds the square of it.
const MAX_SAMPLES: usize = 2048;

/// Measures how well unique and common parts are separated: a table of R^2, cosine and HSIC.
///
/// R^2 is that of ridge regression with an intercept on standardised columns, every sample predicted by the fit to
/// all others. The hat matrix H gives it in closed form:
///
/// ```text
/// R^2 = 1 - sum e_i^2 / sum e0_i^2,   e_i = (y_i - y^_i) / (1 - H_ii),   e0_i likewise of the mean alone
/// ```
///
/// over all columns of the target that vary, with equal weights. More columns than samples do not increase it, and it is
/// below 0 where prediction is worse than the mean. The penalty is the best of a grid of multiples of n, by the same
/// errors; R^2 of independent parts is therefore near 0, above or below. Ridge regression detects linear dependence, the
/// HSIC column any dependence.
///
/// No gradients, no random numbers: the same parts give the same bits.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{Decoupled, Diagnostics};
/// let noise = decalign_core::random::Stream::new(1, 0);
/// let unique = noise.normal_tensor((60, 3))?;
/// let common = noise.child(1).normal_tensor((60, 3))?;
/// let clean = Decoupled { unique: unique.clone(), common: common.clone() };
/// let mixed = Decoupled { unique: (&unique + &common)?, common };
/// let report = Diagnostics::new().report(&["clean", "mixed"], &[clean, mixed])?;
/// println!("{report}");
/// let r2 = |i: usize| report.modalities[i].common_from_unique.r2.unwrap_or(0.0);
/// assert!(r2(0) < 0.1 && r2(1) > 0.3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Hoerl and Kennard (1970); leaving one out: Allen's PRESS (1974).
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostics {
    penalties: Vec<f64>,
    time_axis: TimeAxis,
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self::new()
    }
}

impl Diagnostics {
    /// Penalties 1e-4, 1e-3, ..., 1e2 times n, of means over time.
    pub fn new() -> Self {
        Self {
            penalties: (-4..=2).map(|k| 10f64.powi(k)).collect(),
            time_axis: TimeAxis::Mean,
        }
    }

    /// With other penalties, each to be multiplied by n.
    ///
    /// # Errors
    /// When there is none, or one is not positive and finite.
    pub fn penalties(self, penalties: &[f64]) -> Result<Self> {
        if penalties.is_empty() {
            return Err(Error::value("penalties", "empty", "give one at least"));
        }
        if let Some(bad) = penalties.iter().find(|p| !(**p > 0.0 && p.is_finite())) {
            return Err(Error::value("penalty", bad, "must be positive and finite"));
        }
        Ok(Self {
            penalties: penalties.to_vec(),
            ..self
        })
    }

    /// How parts with a time axis become rows. [`TimeAxis::Steps`] overestimates R^2: the neighbours of the step left out
    /// belong to the same sample.
    #[must_use]
    pub fn time_axis(self, time_axis: TimeAxis) -> Self {
        Self { time_axis, ..self }
    }

    /// The table of all modalities. HSIC uses at most 2048 samples, evenly spaced.
    ///
    /// # Shapes
    /// Parts (n, d) or (n, t, d), n >= 4; best those of a whole validation split.
    ///
    /// # Errors
    /// When names and parts are not as many, a name is repeated, parts do not fit (see [`Batch::new`]), or there
    /// are fewer than 4 rows.
    pub fn report(&self, names: &[impl AsRef<str>], parts: &[Decoupled]) -> Result<Report> {
        check_names("diagnostics", names, 1)?;
        check_count("parts", parts.len(), names.len())?;
        Batch::new(parts)?;
        let mut modalities = Vec::with_capacity(parts.len());
        let mut samples = 0;
        for (name, part) in names.iter().zip(parts) {
            let (unique, common) = (
                self.time_axis.apply(&part.unique)?,
                self.time_axis.apply(&part.common)?,
            );
            samples = unique.dims()[0];
            modalities.push(Leakage {
                name: name.as_ref().to_owned(),
                common_from_unique: self.predict(&unique, &common)?,
                unique_from_common: self.predict(&common, &unique)?,
                cosine_squared: scalar(&cosine_squared(&unique, &common)?)?,
                hsic: independence(&unique, &common)?,
            });
        }
        Ok(Report {
            modalities,
            samples,
        })
    }

    /// How well a ridge regression on `x` predicts `y` on held-out samples.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (n, e), n >= 4. Time and memory grow with the smaller of n and d, cubed and squared.
    ///
    /// # Errors
    /// When shapes or dtypes differ, there are too few rows, or an entry is not finite.
    pub fn predict(&self, x: &Tensor, y: &Tensor) -> Result<Prediction> {
        let (x, y) = read(x, y)?;
        Ok(ridge::leave_one_out(x, y, &self.penalties))
    }
}

fn read(x: &Tensor, y: &Tensor) -> Result<(Table, Table)> {
    Requirements::rows(4).paired().read(x, y)
}

fn scalar(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(candle_core::DType::F64)?.to_scalar()?)
}

/// `HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))` of unbiased estimates; `None` where a part is constant.
fn independence(x: &Tensor, y: &Tensor) -> Result<Option<f64>> {
    let (x, y) = read(x, y)?;
    let (x, y) = (spaced(x), spaced(y));
    let (x, y) = (
        Gram::new(x, BandwidthRule::Median),
        Gram::new(y, BandwidthRule::Median),
    );
    let (a, b) = (x.centred(Centring::Unbiased), y.centred(Centring::Unbiased));
    let scale = Centring::Unbiased.scale(x.n());
    let dot = |k: &[f64], c: &[f64]| scale * decalign_core::simd::dot(k, c);
    let (across, own) = (dot(&x.kernel, &b), [dot(&x.kernel, &a), dot(&y.kernel, &b)]);
    let varies = own.iter().all(|v| *v > CONSTANT);
    Ok(varies.then(|| across / (own[0] * own[1]).sqrt()))
}

/// At most [`MAX_SAMPLES`] rows, evenly spaced.
fn spaced(x: Table) -> Table {
    let n = x.n();
    if n <= MAX_SAMPLES {
        return x;
    }
    let rows = (0..MAX_SAMPLES).map(|i| i * n / MAX_SAMPLES);
    let data = rows.flat_map(|i| x.data[i * x.width..(i + 1) * x.width].to_vec());
    Table {
        data: data.collect(),
        width: x.width,
    }
}
