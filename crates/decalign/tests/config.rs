//! Reading, writing and setting of configurations.
#![allow(clippy::unwrap_used)]

use decalign::config::{Config, Goal, PRESETS, Semantics};

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
