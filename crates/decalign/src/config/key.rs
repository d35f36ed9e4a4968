//! The parts of a key's declaration: meaning, values and range.

use serde_json::Value;

/// A key of a configuration file, as documentation lists it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// The meaning, in one or two sentences.
    pub meaning: String,
    /// The values that the key takes, in Markdown.
    pub values: String,
    /// The default as JSON; `null` for an absent value.
    pub default: Value,
}

/// A key as `keys.rs` declares it.
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) values: fn() -> String,
    pub(super) range: Range,
}

/// The numbers that a key takes, each of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Range {
    /// No limits beyond the type.
    Any,
    /// 1 and more.
    Count,
    /// `0 <= p < 1`.
    Probability,
    /// `x > 0`, finite.
    Positive,
    /// `0 < x <= 1`.
    Factor,
    /// `x >= 0`, finite.
    NotNegative,
}

impl Range {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Count => "at least 1",
            Self::Probability => "at least 0, below 1",
            Self::Positive => "above 0",
            Self::Factor => "above 0, at most 1",
            Self::NotNegative => "at least 0",
        }
    }

    /// Fails when a number is out of the range; the message says what it must be.
    pub(crate) fn check(self, x: f64) -> std::result::Result<(), String> {
        let (holds, must) = match self {
            Self::Any => (true, ""),
            Self::Count => (x >= 1.0, "at least 1"),
            Self::Probability => ((0.0..1.0).contains(&x), "a probability below 1"),
            Self::Positive => (x > 0.0 && x.is_finite(), "positive"),
            Self::Factor if x > 1.0 => (false, "at most 1"),
            Self::Factor => (x > 0.0, "positive"),
            Self::NotNegative => (x >= 0.0 && x.is_finite(), "0 or positive"),
        };
        match holds {
            true => Ok(()),
            false => Err(format!("is {x}, must be {must}")),
        }
    }

    /// Checks the numbers of a value; an absent value has none.
    pub(super) fn check_value(self, value: &Value) -> std::result::Result<(), String> {
        match value {
            Value::Array(all) => all.iter().try_for_each(|value| self.check_value(value)),
            value => value.as_f64().map_or(Ok(()), |x| self.check(x)),
        }
    }
}

/// The type of a key: how its values read in documentation.
pub(super) trait KeyType {
    /// The values in Markdown.
    fn values() -> String;
}

macro_rules! words {
    ($($type:ty: $words:literal;)+) => {
        $(impl KeyType for $type {
            fn values() -> String {
                $words.to_owned()
            }
        })+
    };
}

words! {
    bool: "`true`, `false`";
    usize: "whole number";
    u64: "whole number";
    f64: "number";
    String: "text";
    (usize, usize): "two whole numbers";
    (f64, f64): "two numbers";
    decalign_text::BertConfig: "object of sizes";
}

impl<T: KeyType> KeyType for Option<T> {
    fn values() -> String {
        T::values()
    }
}

impl<T: KeyType> KeyType for Vec<T> {
    fn values() -> String {
        format!("list of {}", T::values())
    }
}
