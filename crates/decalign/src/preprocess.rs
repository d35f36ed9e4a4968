//! Preprocessing of a data set by a configuration: modalities, non-finite values, standardisation.

use std::borrow::Cow;

use decalign_data::{Dataset, Standardizer};

use crate::Result;
use crate::config::Config;

/// The modalities of the configuration, without NaN and infinities; with a text encoder in the model, text as the data's
/// tokens, where it has some.
pub(crate) fn select(data: &Dataset, config: &Config) -> Result<Dataset> {
    let mut data = data.clone();
    if config.use_bert && data.tokens().is_some() {
        data = data.with_token_modality()?;
    }
    if let Some(names) = &config.modalities {
        data = data.select(names)?;
    }
    match config.replace_non_finite {
        true => Ok(data.replace_non_finite()?),
        false => {
            data.check_finite()?;
            Ok(data)
        }
    }
}

/// The standardisation that a configuration asks for, fitted to the samples `rows`.
pub(crate) fn standardizer(
    data: &Dataset,
    rows: &[usize],
    config: &Config,
) -> Result<Option<Standardizer>> {
    if !config.need_feature_standardized {
        return Ok(None);
    }
    let listed = &config.feature_standardize_modalities;
    let wanted = |name: &str| {
        let listed = listed.as_ref();
        config.has_features(name) && listed.is_none_or(|list| list.iter().any(|l| l == name))
    };
    let percentiles = config.feature_clip_percentiles.unwrap_or((0.0, 100.0));
    Ok(Some(Standardizer::fit(data, rows, percentiles, wanted)?))
}

/// Standardises, where there is something to standardise by.
pub(crate) fn standardize<'a>(
    data: &'a Dataset,
    standardizer: Option<&Standardizer>,
) -> Result<Cow<'a, Dataset>> {
    Ok(match standardizer {
        Some(standardizer) => Cow::Owned(standardizer.apply(data)?),
        None => Cow::Borrowed(data),
    })
}

/// The labels of some samples as numbers.
pub(crate) fn labels(data: &Dataset, rows: &[usize]) -> Vec<f32> {
    let labels = data.labels();
    labels.map_or_else(Vec::new, |labels| labels.numbers(rows))
}
