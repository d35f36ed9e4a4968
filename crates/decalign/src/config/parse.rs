//! Reading and writing configurations, with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use super::Config;
use crate::{Error, Result};

/// Keys of upstream files that its model never reads, or that say where its data lies.
const WITHOUT_EFFECT: &[&str] = &[
    "alpha1",
    "alpha2",
    "featurePath",
    "feature_A",
    "feature_T",
    "feature_V",
    "iemocap_protocol",
    "language",
    "loss_contract",
    "model_name",
    "need_data_aligned",
    "patience",
    "seq_lens",
    "train_samples",
    "transformers",
    "when",
];

impl Config {
    /// Reads a configuration file: JSON, upstream's or this project's.
    ///
    /// A file without `semantics` is an upstream file and means `reference`.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown (the message names the nearest known key), or a
    /// value is not what the key takes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
        Self::from_json(&text).map_err(|error| Error::file(path, error))
    }

    /// Reads the text of a configuration file, see [`Config::open`].
    ///
    /// # Errors
    /// As [`Config::open`].
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("not JSON: {error}")))?;
        let Value::Object(mut keys) = value else {
            return Err(Error::invalid("expected a JSON object of keys and values"));
        };
        keys.entry("semantics").or_insert("reference".into());
        // Upstream does not standardise by default; `Config::default` does.
        keys.entry("need_feature_standardized")
            .or_insert(false.into());
        let mut config = Self::default();
        for (key, value) in keys {
            config.assign(&key, value)?;
        }
        Ok(config)
    }

    /// Sets one key from `key=value`; the value is JSON, or text where that is what the key takes,
    /// or a list separated by commas.
    ///
    /// # Errors
    /// When there is no `=`, the key is unknown, or the value is not what it takes.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Error::invalid(format!(
                "expected key=value, got {assignment}"
            )));
        };
        let (key, value) = (key.trim(), value.trim());
        let json = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let list = || {
            let item =
                |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            Value::Array(value.split(',').map(|text| item(text.trim())).collect())
        };
        let text = Value::from(value);
        // The key decides the meaning of a value: 1 may be a number, a name, or a list of one.
        match self.assign(key, json) {
            Err(error) => self.assign(key, list()).or_else(|of_list| {
                // If the key takes a list, report the wrong item.
                let wants_list = error.to_string().contains("expected a sequence");
                let told = if wants_list { of_list } else { error };
                self.assign(key, text).map_err(|_| told)
            }),
            done => done,
        }
    }

    /// Sets one key; an error changes nothing.
    fn assign(&mut self, key: &str, value: Value) -> Result<()> {
        if WITHOUT_EFFECT.contains(&key) {
            return Ok(());
        }
        let Value::Object(mut keys) = self.to_value()? else {
            return Err(Error::invalid("a configuration is an object"));
        };
        if !keys.contains_key(key) {
            return Err(Error::config(key, unknown(key, &keys)));
        }
        keys.insert(key.to_owned(), value);
        *self = serde_json::from_value(Value::Object(keys))
            .map_err(|error| Error::config(key, plain(&error.to_string())))?;
        Ok(())
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::invalid(error.to_string()))
    }

    /// The configuration as JSON, every key written out.
    ///
    /// # Errors
    /// Never for a configuration that was read.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::invalid(error.to_string()))
    }
}

/// Replaces Rust's type names by words.
fn plain(message: &str) -> String {
    let words = [
        ("usize", "a whole number"),
        ("u64", "a whole number"),
        ("f64", "a number"),
    ];
    words.iter().fold(message.to_owned(), |text, (name, word)| {
        text.replace(name, word)
    })
}

/// The message about an unknown key.
fn unknown(key: &str, known: &Map<String, Value>) -> String {
    let nearest = known
        .keys()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness > 0.7 => format!("not known; did you mean {name}?"),
        _ => "not known".to_owned(),
    }
}
