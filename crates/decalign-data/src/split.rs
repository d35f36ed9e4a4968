//! Splits: which samples train, which validate, which test.

use std::fmt;

use crate::{Dataset, Result};

/// The evaluation protocol of this name in the public PyTorch code: the test part of the default split also validates.
///
/// The best epoch is then chosen by the samples that results are reported on, so figures are optimistic. Use it only
/// to compare with figures that were made this way.
pub const PAPER_COUNT: &str = "paper_count";

/// The part of a split that a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Parameters are fitted to it.
    Train,
    /// Epochs and settings are chosen by it.
    Valid,
    /// Results are reported on it.
    Test,
}

impl Part {
    /// The three parts, in the order of their codes.
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// 0, 1 or 2, as files store it.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    /// The part of a code; `Some(None)` for -1, which leaves a sample out.
    pub(crate) fn from_code(code: i64) -> Option<Option<Self>> {
        match code {
            -1 => Some(None),
            0..=2 => Some(Some(Self::ALL[code as usize])),
            _ => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// A named assignment of every sample to a part, or to none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// `split`, or `split_` and a name.
    pub(crate) field: String,
    pub(crate) parts: Vec<Option<Part>>,
}

impl Split {
    /// The samples of a part, in order.
    pub(crate) fn rows(&self, part: Part) -> Vec<usize> {
        let rows = (0..self.parts.len()).filter(|i| self.parts[*i] == Some(part));
        rows.collect()
    }
}

impl Dataset {
    /// The data set with a split of the given name added; the empty name is the default split.
    ///
    /// # Errors
    /// When the number of parts is not N or a split of this name exists.
    pub fn with_split(mut self, name: &str, parts: Vec<Option<Part>>) -> Result<Self> {
        let field = match name {
            "" => "split".to_owned(),
            name => format!("split_{name}"),
        };
        self.check_count(&field, parts.len())?;
        if self.splits().iter().any(|split| split.field == field) {
            return Err(self.error(&field, "two splits have this name"));
        }
        self.splits_mut().push(Split { field, parts });
        Ok(self)
    }

    /// The names of the splits; the default one is `split`, any other `split_` and a name.
    pub fn split_names(&self) -> impl Iterator<Item = &str> {
        self.splits().iter().map(|split| split.field.as_str())
    }

    /// The samples of a part of a split, in order.
    ///
    /// `split` is a split's name with or without `split_`; `None` takes the default one, or the only one. With
    /// [`PAPER_COUNT`] the default split is used and its test part also serves as the validation part.
    ///
    /// # Errors
    /// When the split does not exist or the part is empty.
    pub fn part(&self, split: Option<&str>, part: Part) -> Result<Vec<usize>> {
        let (split, part) = match (split, self.is_paper_count(split)) {
            (_, true) if part == Part::Valid => (self.find_split(None)?, Part::Test),
            (_, true) => (self.find_split(None)?, part),
            (split, false) => (self.find_split(split)?, part),
        };
        let rows = split.rows(part);
        match rows.is_empty() {
            true => {
                let message = format!("no sample is in part {part} ({})", part.code());
                Err(self.error(&split.field, message))
            }
            false => Ok(rows),
        }
    }

    /// Checks that a split of this name exists, given with or without `split_`.
    ///
    /// # Errors
    /// When it does not; the message lists the existing ones.
    pub fn check_split(&self, name: &str) -> Result<()> {
        let name = (!self.is_paper_count(Some(name))).then_some(name);
        self.find_split(name).map(|_| ())
    }

    /// The data set with only this split, which becomes the default one.
    ///
    /// # Errors
    /// When the split does not exist; the message lists the existing ones.
    pub fn with_only_split(mut self, name: &str) -> Result<Self> {
        let parts = self.find_split(Some(name))?.parts.clone();
        let field = "split".to_owned();
        *self.splits_mut() = vec![Split { field, parts }];
        Ok(self)
    }

    /// True when a name means the protocol, and no split of the data has this name.
    fn is_paper_count(&self, name: Option<&str>) -> bool {
        let field = format!("split_{PAPER_COUNT}");
        name == Some(PAPER_COUNT) && self.splits().iter().all(|split| split.field != field)
    }

    fn find_split(&self, name: Option<&str>) -> Result<&Split> {
        let existing = || self.split_names().collect::<Vec<_>>().join(", ");
        let Some(first) = self.splits().first() else {
            let message =
                "the data has none; expected integers 0 (train), 1 (valid), 2 (test), -1 (none)";
            return Err(self.error("split", message));
        };
        let field = match name {
            None if self.splits().len() == 1 => return Ok(first),
            None | Some("" | "split") => "split".to_owned(),
            Some(name) => format!("split_{}", name.strip_prefix("split_").unwrap_or(name)),
        };
        let found = self.splits().iter().find(|split| split.field == field);
        found.ok_or_else(|| match name {
            None => self.error("split", format!("which one? There are {}", existing())),
            Some(_) => self.error(&field, format!("no such split; there are {}", existing())),
        })
    }
}
