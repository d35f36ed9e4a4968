//! The settings of a sweep: combinations of values, and draws.

use decalign::core::random::Stream;
use serde_json::Value;

use crate::output::{CliResult, Failure};

/// Values of keys, in the order of the command line.
pub(super) type Setting = Vec<(String, Value)>;

/// The space of settings.
#[derive(Debug)]
pub(super) struct Space {
    grid: Vec<(String, Vec<Value>)>,
    random: Vec<(String, Range)>,
    trials: usize,
}

/// The distribution of a key.
#[derive(Debug)]
enum Range {
    /// Uniform.
    Linear(f64, f64),
    /// Uniform in the logarithm.
    Log(f64, f64),
    /// Uniform over integers, both ends included.
    Whole(i64, i64),
    OneOf(Vec<Value>),
}

/// The random stream of the draws.
const DRAWS: u64 = 0x5357_4550;

impl Space {
    pub(super) fn new(grid: &[String], random: &[String], trials: usize) -> CliResult<Self> {
        let grid = grid.iter().map(|text| {
            let (key, values) = split("--grid", text)?;
            Ok((key, list(text, values)?))
        });
        let random = random.iter().map(|text| {
            let (key, range) = split("--random", text)?;
            Ok((key, Range::parse(text, range)?))
        });
        let space = Self {
            grid: grid.collect::<CliResult<_>>()?,
            random: random.collect::<CliResult<_>>()?,
            trials,
        };
        let keys = space.keys();
        if let Some(i) = (1..keys.len()).find(|i| keys[..*i].contains(&keys[*i])) {
            return Err(Failure::bad_input(format!("{} is swept twice", keys[i])));
        }
        if keys.iter().any(|k| k == "seed") {
            return Err(Failure::bad_input("seed is not swept; use --seeds"));
        }
        if trials == 0 {
            return Err(Failure::bad_input("--trials 0: expected at least 1"));
        }
        Ok(space)
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let grid = self.grid.iter().map(|(key, _)| key);
        grid.chain(self.random.iter().map(|(key, _)| key))
            .cloned()
            .collect()
    }

    /// The number of settings, saturated at the largest integer.
    pub(super) fn len(&self) -> usize {
        let trials = if self.random.is_empty() {
            1
        } else {
            self.trials
        };
        let values = self.grid.iter().map(|(_, values)| values.len());
        values.fold(trials, usize::saturating_mul)
    }

    /// Every combination of the grid, each with every draw.
    pub(super) fn settings(&self, seed: u64) -> Vec<Setting> {
        let mut all: Vec<Setting> = vec![Vec::new()];
        for (key, values) in &self.grid {
            let with = |setting: &Setting| {
                let setting = setting.clone();
                values.iter().map(move |value| {
                    let mut setting = setting.clone();
                    setting.push((key.clone(), value.clone()));
                    setting
                })
            };
            all = all.iter().flat_map(with).collect();
        }
        if self.random.is_empty() {
            return all;
        }
        let draw = |trial: usize| -> Setting {
            let stream = Stream::new(seed, DRAWS).child(trial as u64);
            let each = self.random.iter().enumerate();
            each.map(|(i, (key, range))| {
                (
                    key.clone(),
                    range.draw(stream.child(i as u64).uniform(1, 0.0, 1.0)[0]),
                )
            })
            .collect()
        };
        let draws: Vec<Setting> = (0..self.trials).map(draw).collect();
        let both = |setting: &Setting| {
            let setting = setting.clone();
            draws
                .iter()
                .map(move |draw| [setting.clone(), draw.clone()].concat())
        };
        all.iter().flat_map(both).collect()
    }
}

impl Range {
    fn parse(whole: &str, text: &str) -> CliResult<Self> {
        let (kind, ends) = match text.split_once(':') {
            Some((kind, ends)) => (kind, ends),
            None => ("", text),
        };
        let bad = |what: &str| {
            Err(Failure::bad_input(format!(
                "--random {whole}: {what}; expected a..b, log:a..b, int:a..b or values a,b,..."
            )))
        };
        let Some((low, high)) = ends.split_once("..") else {
            return match kind {
                "" => Ok(Self::OneOf(list(whole, text)?)),
                _ => bad("no range"),
            };
        };
        let (Ok(low), Ok(high)) = (low.trim().parse::<f64>(), high.trim().parse::<f64>()) else {
            return bad("the ends are not numbers");
        };
        if !(low < high && low.is_finite() && high.is_finite()) {
            return bad("the first end is not below the second");
        }
        match kind {
            "" => Ok(Self::Linear(low, high)),
            "log" if low > 0.0 => Ok(Self::Log(low, high)),
            "log" => bad("a logarithm needs positive ends"),
            "int"
                if low.fract() == 0.0
                    && high.fract() == 0.0
                    && low.abs().max(high.abs()) < 1e15 =>
            {
                Ok(Self::Whole(low as i64, high as i64))
            }
            "int" => bad("the ends are not whole"),
            _ => bad("not a known range"),
        }
    }

    /// The value at a fraction in [0, 1) of the range.
    fn draw(&self, share: f64) -> Value {
        // Four digits tell settings apart, and names stay short.
        let rounded = |v: f64| format!("{v:.3e}").parse::<f64>().unwrap_or(v);
        match self {
            Self::Linear(a, b) => rounded(a + (b - a) * share).into(),
            Self::Log(a, b) => rounded((a.ln() + (b.ln() - a.ln()) * share).exp()).into(),
            Self::Whole(a, b) => (a + ((b - a + 1) as f64 * share) as i64).into(),
            Self::OneOf(values) => {
                values[((values.len() as f64 * share) as usize).min(values.len() - 1)].clone()
            }
        }
    }
}

fn split<'a>(flag: &str, text: &'a str) -> CliResult<(String, &'a str)> {
    match text.split_once('=') {
        Some((key, values)) if !key.trim().is_empty() => {
            // The usual abbreviation.
            let key = if key.trim() == "lr" {
                "learning_rate"
            } else {
                key.trim()
            };
            Ok((key.to_owned(), values.trim()))
        }
        _ => Err(Failure::bad_input(format!(
            "{flag} {text}: expected key=values"
        ))),
    }
}

/// Values separated by commas: numbers, JSON, or text.
fn list(whole: &str, text: &str) -> CliResult<Vec<Value>> {
    let value = |text: &str| {
        let text = text.trim();
        // JSON has no .05.
        let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
        let exact = serde_json::from_str(text).ok();
        exact
            .or(number.map(Value::from))
            .unwrap_or_else(|| Value::from(text))
    };
    let values: Vec<Value> = text.split(',').map(value).collect();
    let repeated = (1..values.len()).find(|i| values[..*i].contains(&values[*i]));
    match (repeated, values.iter().any(|v| v == "")) {
        (_, true) => Err(Failure::bad_input(format!("{whole}: a value is empty"))),
        (Some(i), _) => Err(Failure::bad_input(format!(
            "{whole}: {} is given twice",
            values[i]
        ))),
        _ => Ok(values),
    }
}

/// A value as text for names and `--set`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn grids_combine_and_draws_repeat() {
        let space = Space::new(
            &strings(&["alpha=.01,0.05", "semantics=native,reference"]),
            &strings(&[
                "lr=log:1e-4..1e-2",
                "nlevels=int:1..3",
                "clip=0.5..1",
                "ct_weight=0,.1",
            ]),
            5,
        )
        .unwrap();
        let settings = space.settings(3);
        assert_eq!((space.len(), settings.len()), (20, 20));
        assert_eq!(settings, space.settings(3));
        assert_ne!(settings, space.settings(4));
        for setting in &settings {
            let number = |i: usize| setting[i].1.as_f64().unwrap();
            assert_eq!(setting[2].0, "learning_rate");
            assert!((1e-4..=1e-2).contains(&number(2)) && (0.5..=1.0).contains(&number(4)));
            assert!((1..=3).contains(&setting[3].1.as_i64().unwrap()));
        }
        assert_eq!(text(&settings[0][0].1), "0.01");
        assert_eq!(text(&settings[0][1].1), "native");
        let levels: Vec<&Value> = settings.iter().take(5).map(|s| &s[3].1).collect();
        assert!(levels.iter().any(|v| *v != levels[0]));
    }
}
