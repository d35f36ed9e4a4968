//! Reading and writing configurations, with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use super::Config;
use crate::{Error, Result};

/// Keys of the release's files that its model never reads, or that concern how it finds its data.
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
    /// Reads a configuration file: JSON, the release's or this project's.
    ///
    /// A file that does not say `semantics` is the release's, hence `reference`.
    ///
    /// # Errors
    /// When the file cannot be read, a key is not known (the nearest known one is named), or a
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
        // The release does not standardise unless told to; `Config::default` does.
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
    /// When there is no `=`, the key is not known, or the value is not what it takes.
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
        // What a value means depends on the key: 1 may be a number, a name, or a list of one.
        match self.assign(key, json) {
            Err(error) => self.assign(key, list()).or_else(|of_list| {
                // Where a list is what the key takes, the item that is wrong is worth telling.
                let wants_list = error.to_string().contains("expected a sequence");
                let told = if wants_list { of_list } else { error };
                self.assign(key, text).map_err(|_| told)
            }),
            done => done,
        }
    }

    /// Sets one key, or leaves everything as it is.
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

    fn to_value(&self) -> Result<Value> {
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

/// Types in words.
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

/// What to say of a key that is not known.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Goal, PRESETS, Semantics};

    #[test]
    fn presets_read_and_write_back() {
        for name in PRESETS {
            let config = Config::preset(name).unwrap();
            let mut back = Config::from_json(&config.to_json().unwrap()).unwrap();
            assert_eq!(back, config, "{name}");
            back.set("semantics=native").unwrap();
            assert_eq!(back.semantics, Semantics::Native);
        }
    }

    #[test]
    fn values_are_json_text_or_lists() {
        let mut config = Config::default();
        for set in [
            "modalities=fou,kar",
            "selection_mode=max",
            "bert_learning_rate=1e-5",
            "split=1",
            "active_modalities=fou",
            "dst_feature_dim_nheads=32,8",
        ] {
            config.set(set).unwrap();
        }
        assert_eq!(config.modalities.as_deref().unwrap(), ["fou", "kar"]);
        assert_eq!(config.active_modalities.as_deref().unwrap(), ["fou"]);
        assert_eq!(config.selection_mode, Some(Goal::Max));
        assert_eq!(config.split.as_deref(), Some("1"));
        assert_eq!(config.dst_feature_dim_nheads, (32, 8));
        config.set("bert_learning_rate=null").unwrap();
        assert_eq!(config.bert_learning_rate, None);
    }

    #[test]
    fn errors_name_the_key() {
        let mut config = Config::default();
        let before = config.clone();
        let mut message = |text: &str| config.set(text).unwrap_err().to_string();
        assert!(message("lamda_ot=1").contains("lamda_ot: not known; did you mean lambda_ot?"));
        assert!(message("batch_size=-1").contains("configuration key batch_size: invalid value"));
        assert!(message("alpha=high").contains("configuration key alpha: "));
        assert!(message("alpha").contains("expected key=value"));
        assert_eq!(config, before);
        let error = Config::from_json("{\"nlevel\": 3}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean nlevels"), "{error}");
        assert!(Config::from_json("[1]").is_err() && Config::from_json("{").is_err());
    }
}
