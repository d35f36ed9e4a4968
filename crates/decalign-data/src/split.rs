//! Which samples train, which validate, which test.

use std::fmt;

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
    /// 0, 1 or 2, as files store it.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Train => 0,
            Self::Valid => 1,
            Self::Test => 2,
        }
    }

    /// The part of a code; `None` inside for -1, which leaves a sample out.
    pub(crate) fn from_code(code: i64) -> Option<Option<Self>> {
        match code {
            -1 => Some(None),
            0 => Some(Some(Self::Train)),
            1 => Some(Some(Self::Valid)),
            2 => Some(Some(Self::Test)),
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
