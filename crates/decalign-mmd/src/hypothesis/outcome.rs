//! How many draws, when to stop, and what came out.

use std::ops::Range;

use decalign_core::{Error, Result};

/// How often a test resamples, at which level it decides, and the seed.
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

    /// The number of random draws, at least 1. With `level * (1 + draws)` a whole number the level is
    /// not only kept but used up.
    #[must_use]
    pub fn draws(self, draws: usize) -> Self {
        Self { draws, ..self }
    }

    /// The probability of rejecting what is true, between 0 and 1.
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

/// When a test stops drawing: at the h-th draw that reaches the observed statistic, drawn as number l,
/// with p-value h / l, which is valid for every h.
///
/// Source: Besag and Clifford, Sequential Monte Carlo p-values, Biometrika 1991.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// The least h with `(1 + h) / (1 + draws)` above the level, whole numbers aside.
fn least_above(settings: &Resampling) -> usize {
    let most = settings.level * (1 + settings.draws) as f64;
    ((most - ROUNDING).ceil() as usize).max(1)
}

/// What a product of a level and a count may be off by.
const ROUNDING: f64 = 1e-9;

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Of the samples as they are.
    pub statistic: f64,
    /// `(1 + #{drawn >= statistic}) / (1 + draws)`, the statistic itself counted, so never 0; h / l where
    /// drawing stopped early, see [`Stopping`]. Equal up to rounding counts as reached.
    pub p_value: f64,
    /// How many draws were made.
    pub draws: usize,
    /// The `1 - level` quantile of what was drawn and the statistic: without ties a test rejects when
    /// the statistic is above.
    pub null_quantile: f64,
    /// Whether the p-value is at most the level.
    pub rejected: bool,
    /// The level.
    pub level: f64,
}

/// Statistics of some draws, and what rounding may change of them.
pub(crate) struct Batch {
    pub(crate) values: Vec<f64>,
    pub(crate) tolerance: f64,
}

/// Draws in batches of at most `limit`, number 0 being the observed statistic, until it may stop.
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

/// `values`: the observed statistic, then what was drawn.
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

/// The least value that at least a share `at` of all do not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    let place = (at * values.len() as f64 - ROUNDING).ceil() as usize;
    let place = place.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: Vec<f64>, stopping: Stopping, limit: usize) -> Outcome {
        let settings = Resampling::seeded(0).draws(values.len() - 1).level(0.1);
        let draw = |range: Range<usize>| {
            Ok(Batch {
                values: values[range].to_vec(),
                tolerance: 1e-9,
            })
        };
        run(&settings, stopping, limit, draw).expect("settings are valid")
    }

    #[test]
    fn stopping_when_certain_never_changes_the_decision() {
        // Every number of draws that reach the statistic, first or last, levels whole and not.
        for draws in [1, 5, 19, 20, 23, 99] {
            for reached in 0..=draws {
                for late in [false, true] {
                    let value = |i: usize| match late {
                        false => i < reached,
                        true => i >= draws - reached,
                    };
                    let drawn = (0..draws).map(|i| if value(i) { 1.0 } else { -1.0 });
                    let values: Vec<f64> = std::iter::once(0.0).chain(drawn).collect();
                    let all = of(values.clone(), Stopping::Never, 7);
                    let some = of(values, Stopping::WhenCertain, 7);
                    assert_eq!(all.rejected, some.rejected, "{draws} {reached}");
                    assert_eq!(all.p_value, (1 + reached) as f64 / (1 + draws) as f64);
                    assert!(some.draws <= draws);
                    assert!(some.rejected == (some.p_value <= 0.1), "{some:?}");
                }
            }
        }
    }

    #[test]
    fn stopping_after_h_gives_h_of_l() {
        let values = vec![0.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0];
        let some = of(values, Stopping::After(2), 3);
        assert_eq!((some.draws, some.p_value), (4, 0.5));
    }

    #[test]
    fn ties_count_as_reached() {
        let all = of(vec![0.3; 20], Stopping::Never, 64);
        assert_eq!((all.p_value, all.null_quantile), (1.0, 0.3));
    }

    #[test]
    fn quantiles_are_order_statistics() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(quantile(values.clone(), 0.95), 19.0);
        assert_eq!(quantile(values.clone(), 0.9500001), 20.0);
        assert_eq!(quantile(values, 0.0), 1.0);
    }
}
