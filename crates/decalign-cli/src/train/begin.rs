//! What a new run is asked to do.

use std::path::Path;

use decalign::config::Config;

use crate::args::Train;
use crate::output::{Done, Failure};
use crate::source;

/// Preset, file or defaults, then what the command line changes.
pub(super) fn config(arguments: &Train) -> Done<Config> {
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
            let default = Config::default();
            Config {
                dataset_name: dataset_name.unwrap_or(default.dataset_name.clone()),
                ..default
            }
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

/// One run a seed.
pub(super) fn seeds(arguments: &Train, config: &Config) -> Done<Vec<u64>> {
    let seeds = match arguments.seeds.as_slice() {
        [] => vec![config.seed],
        seeds => seeds.to_vec(),
    };
    match (1..seeds.len()).find(|i| seeds[..*i].contains(&seeds[*i])) {
        Some(i) => Err(Failure::bad_input(format!(
            "--seeds: {} is given twice",
            seeds[i]
        ))),
        None => Ok(seeds),
    }
}
