//! The data, configuration and seeds of a command, from its arguments.

use std::path::Path;

use decalign::config::Config;

use crate::args::Settings;
use crate::output::{CliResult, Failure};
use crate::source;

/// The path of the data set; by default the name of the embedded one.
pub(crate) fn source(arguments: &Settings) -> &Path {
    let named = arguments.dataset.as_deref();
    named.unwrap_or(Path::new(source::EMBEDDED))
}

/// The seeds given, or the default ones.
pub(crate) fn seeds(given: &[u64], default: &[u64]) -> CliResult<Vec<u64>> {
    let seeds = if given.is_empty() { default } else { given };
    match (1..seeds.len()).find(|i| seeds[..*i].contains(&seeds[*i])) {
        Some(i) => Err(Failure::bad_input(format!(
            "--seeds: {} is given twice",
            seeds[i]
        ))),
        None => Ok(seeds.to_vec()),
    }
}

/// The configuration: preset, file or defaults, changed by the command line.
pub(crate) fn config(arguments: &Settings) -> CliResult<Config> {
    let embedded = arguments
        .dataset
        .as_deref()
        .is_none_or(|p| p == Path::new(source::EMBEDDED));
    let mut config = match (&arguments.config, &arguments.preset) {
        (Some(path), _) => Config::open(path)?,
        (None, Some(name)) => Config::preset(name)?,
        (None, None) if embedded => Config::preset(source::EMBEDDED)?,
        (None, None) => {
            // A file named after a benchmark gets its figures.
            let stem = arguments.dataset.as_deref().and_then(Path::file_stem);
            let dataset_name = stem.map(|s| s.to_string_lossy().into_owned());
            let mut config = Config::default();
            config.dataset_name = dataset_name.unwrap_or(config.dataset_name);
            config
        }
    };
    for assignment in &arguments.set {
        config.set(assignment)?;
    }
    if !arguments.modalities.is_empty() {
        config.modalities = Some(arguments.modalities.clone());
    }
    config.split = arguments.split.clone().or(config.split);
    config.num_epochs = arguments.epochs.unwrap_or(config.num_epochs);
    config.batch_size = arguments.batch_size.unwrap_or(config.batch_size);
    config.learning_rate = arguments.learning_rate.unwrap_or(config.learning_rate);
    Ok(config)
}
