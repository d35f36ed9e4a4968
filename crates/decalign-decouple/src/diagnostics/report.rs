//! The results of diagnostics, as numbers and as a table.

use std::fmt;

/// How well one part is predicted from the other.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// R^2 on held-out samples: at most 1, below 0 where the mean predicts better; `None` where the target is
    /// constant.
    pub r2: Option<f64>,
    /// The penalty of that fit.
    pub penalty: f64,
}

/// The dependence between the two parts of one modality.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Leakage {
    /// The modality's name.
    pub name: String,
    /// How well the unique part predicts the common part.
    pub common_from_unique: Prediction,
    /// How well the common part predicts the unique part.
    pub unique_from_common: Prediction,
    /// The mean squared cosine, which DecAlign's loss minimises.
    pub cosine_squared: f64,
    /// Unbiased HSIC over the root of its values for either part alone: about 0 when independent, 1 at equality;
    /// `None` where a part is constant.
    pub hsic: Option<f64>,
}

impl Leakage {
    fn numbers(&self) -> [Option<f64>; 4] {
        [
            self.common_from_unique.r2,
            self.unique_from_common.r2,
            Some(self.cosine_squared),
            self.hsic,
        ]
    }
}

/// One row a modality; it prints as a table.
///
/// ```text
/// modality  R^2 common from unique  R^2 unique from common   cos^2    HSIC
/// text                      -0.012                   0.003  0.0141  0.0027
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The modalities, in the order given.
    pub modalities: Vec<Leakage>,
    /// The number of rows.
    pub samples: usize,
}

const COLUMNS: [&str; 4] = [
    "R^2 common from unique",
    "R^2 unique from common",
    "cos^2",
    "HSIC",
];

impl Report {
    /// Means over the modalities of the four columns (`None` where no modality has the number): R^2 of common
    /// from unique, of unique from common, squared cosine, HSIC.
    pub fn means(&self) -> [Option<f64>; 4] {
        let mut means = [None; 4];
        for (i, mean) in means.iter_mut().enumerate() {
            let all = self.modalities.iter().filter_map(|m| m.numbers()[i]);
            let (count, sum) = all.fold((0, 0.0), |(n, s), v| (n + 1, s + v));
            *mean = (count > 0).then(|| sum / f64::from(count));
        }
        means
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.modalities.iter().map(|m| m.name.chars().count());
        let first = names.chain([8]).max().unwrap_or(8);
        let widths = COLUMNS.map(|c| c.len().max(7));
        write!(f, "{:<first$}", "modality")?;
        for (column, width) in COLUMNS.iter().zip(widths) {
            write!(f, "  {column:>width$}")?;
        }
        let mut row = |name: &str, numbers: [Option<f64>; 4]| {
            write!(f, "\n{name:<first$}")?;
            for (number, width) in numbers.iter().zip(widths) {
                match number {
                    Some(number) => write!(f, "  {number:>width$.4}")?,
                    None => write!(f, "  {:>width$}", "-")?,
                }
            }
            Ok(())
        };
        for modality in &self.modalities {
            row(&modality.name, modality.numbers())?;
        }
        if self.modalities.len() > 1 {
            row("mean", self.means())?;
        }
        Ok(())
    }
}
