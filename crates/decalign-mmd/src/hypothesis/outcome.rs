//! Settings of resampling, early stopping, and the outcome of a test.

use std::ops::Range;

use decalign_core::{Error, Result};

/// The number of draws of a test, its level and its seed.
///
/// ```
/// use decalign_mmd::Resampling;
/// let often = Resampling::seeded(7).draws(1999).level(0.01);
/// assert_ne!(often, Resampling::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    pub(crate) draws: usize,
    pub(crate) level: f64,
    pub(crate) seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Resampling {
    /// 999 draws at level 0.05.
    pub fn seeded(seed: u64) -> Self {
        Self {
            draws: 999,
            level: 0.05,
            seed,
        }
    }

    /// The number of random draws, at least 1. The test is exact if `level * (1 + draws)` is a whole number, else
    /// slightly conservative.
    #[must_use]
    pub fn draws(self, draws: usize) -> Self {
        Self { draws, ..self }
    }

    /// The probability of rejecting a true null hypothesis, between 0 and 1.
    #[must_use]
    pub fn level(self, level: f64) -> Self {
        Self { level, ..self }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.draws == 0 {
            return Err(Error::value("number of draws", 0, "must be at least 1"));
        }
        match self.level > 0.0 && self.level < 1.0 {
            true => Ok(()),
            false => {
                let remedy = "must lie between 0 and 1, both excluded";
                Err(Error::value("level", self.level, remedy))
            }
        }
    }
}

/// When a test stops drawing. It stops at the h-th draw that reaches the observed statistic; if that is draw
/// number l, the p-value is h / l, which is valid for every h.
///
/// Source: Besag and Clifford, Sequential Monte Carlo p-values, Biometrika 1991.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopping {
    /// All draws are made.
    #[default]
    Never,
    /// When no further draw can change that the test does not reject, `h = ceil(level (1 + draws))`: the
    /// decision is that of all draws.
    WhenCertain,
    /// With h as given, at least 1.
    After(usize),
}

impl Stopping {
    fn exceedances(self, settings: &Resampling) -> Result<Option<usize>> {
        match self {
            Self::Never => Ok(None),
            Self::WhenCertain => Ok(Some(least_above(settings))),
            Self::After(0) => Err(Error::value(
                "number of draws to stop after",
                0,
                "must be at least 1",
            )),
            Self::After(most) => Ok(Some(most)),
        }
    }
}

/// The least h with `(1 + h) / (1 + draws)` above the level.
fn least_above(settings: &Resampling) -> usize {
    let most = settings.level * (1 + settings.draws) as f64;
    ((most - ROUNDING).ceil() as usize).max(1)
}

/// A bound of the rounding error of a level times a count.
const ROUNDING: f64 = 1e-9;

/// The outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The statistic of the samples.
    pub statistic: f64,
    /// `(1 + #{drawn >= statistic}) / (1 + draws)`, never 0 as the statistic itself counts; h / l where drawing
    /// stopped early, see [`Stopping`]. Values equal up to rounding count as reached.
    pub p_value: f64,
    /// The number of draws.
    pub draws: usize,
    /// The `1 - level` quantile of the draws and the statistic: without ties a test rejects when the statistic is
    /// above it.
    pub null_quantile: f64,
    /// Whether the p-value is at most the level.
    pub rejected: bool,
    /// The level.
    pub level: f64,
}

/// Statistics of some draws, and a bound of their rounding errors.
pub(crate) struct Batch {
    pub(crate) values: Vec<f64>,
    pub(crate) tolerance: f64,
}

/// Draws in batches of at most `limit` until it may stop; number 0 is the observed statistic.
pub(crate) fn run(
    settings: &Resampling,
    stopping: Stopping,
    limit: usize,
    mut draw: impl FnMut(Range<usize>) -> Result<Batch>,
) -> Result<Outcome> {
    settings.check()?;
    let most = stopping.exceedances(settings)?;
    let mut size = if most.is_some() { limit.min(64) } else { limit };
    let mut values: Vec<f64> = Vec::new();
    let mut reached = 0;
    while values.len() <= settings.draws {
        let start = values.len();
        let batch = draw(start..(start + size).min(settings.draws + 1))?;
        for value in batch.values {
            values.push(value);
            reached += usize::from(values.len() > 1 && value >= values[0] - batch.tolerance);
            if Some(reached) == most {
                let p = reached as f64 / (values.len() - 1) as f64;
                return Ok(finish(values, p, settings.level));
            }
        }
        size = (2 * size).min(limit);
    }
    let p = (1 + reached) as f64 / values.len() as f64;
    Ok(finish(values, p, settings.level))
}

/// The outcome, given the observed statistic followed by the draws.
pub(crate) fn finish(values: Vec<f64>, p_value: f64, level: f64) -> Outcome {
    Outcome {
        statistic: values[0],
        p_value,
        draws: values.len() - 1,
        rejected: p_value <= level + 1e-12,
        null_quantile: quantile(values, 1.0 - level),
        level,
    }
}

/// The least value that at least a share `at` of all values do not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    let place = (at * values.len() as f64 - ROUNDING).ceil() as usize;
    let place = place.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}
