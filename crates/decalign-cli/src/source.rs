//! Data, devices and samples by their names on the command line.

use std::path::Path;

use candle_core::Device;
use decalign::config::Config;
use decalign::core::device::DeviceSpec;
use decalign::{Checkpoint, Dataset, Predictor};
use decalign_data::{PAPER_COUNT, Part};

use crate::args::{Machine, ModelAndData, Samples};
use crate::output::{CliResult, Failure};

/// The name of the embedded data.
pub(crate) const EMBEDDED: &str = "mfeat";

/// Fails when an output is one of the input files.
pub(crate) fn check_output(output: &Path, inputs: &[&Path]) -> CliResult {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    match place(output).is_some_and(|o| inputs.iter().any(|i| place(i).as_ref() == Some(&o))) {
        true => {
            let message = format!("{}: the output would replace an input", output.display());
            Err(Failure::bad_input(message))
        }
        false => Ok(()),
    }
}

/// The data set in a file, or the embedded one by its name where no such file exists.
pub(crate) fn dataset(path: &Path) -> CliResult<Dataset> {
    match path == Path::new(EMBEDDED) && !path.exists() {
        true => Ok(Dataset::mfeat()?),
        false => Ok(Dataset::open(path)?),
    }
}

/// The data set with the modalities of a configuration only. A run does not depend on the others.
pub(crate) fn used_modalities(data: &Dataset, config: &Config) -> CliResult<Dataset> {
    let Some(names) = &config.modalities else {
        return Ok(data.clone());
    };
    // With a text encoder, text may exist as tokens only.
    let exists = |name: &&String| data.modalities().iter().any(|m| m.name() == *name);
    let names: Vec<&String> = names.iter().filter(exists).collect();
    Ok(data.select(&names)?)
}

/// Warns of a split that gives optimistic figures.
pub(crate) fn warn_of_split(name: Option<&str>) {
    if name == Some(PAPER_COUNT) {
        eprintln!(
            "warning: {PAPER_COUNT} chooses the best epoch by the test part; figures come out better than they are"
        );
    }
}

/// Sets the number of threads and finds the device.
pub(crate) fn machine(machine: &Machine) -> CliResult<Device> {
    threads(machine.threads)?;
    device(&machine.device)
}

/// Sets the number of threads.
pub(crate) fn threads(threads: Option<usize>) -> CliResult {
    if let Some(threads) = threads {
        if !(1..=1024).contains(&threads) {
            let message = format!("--threads {threads}: expected 1 to 1024");
            return Err(Failure::bad_input(message));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
        pool.map_err(|error| Failure::bad_input(format!("--threads {threads}: {error}")))?;
    }
    Ok(())
}

fn device(name: &str) -> CliResult<Device> {
    let place = name.parse::<DeviceSpec>();
    let place = place.map_err(|_| {
        let message = format!("--device {name}: expected cpu, cuda, cuda:N, metal or auto");
        Failure::bad_input(message)
    })?;
    let device = place
        .open()
        .map_err(|error| Failure::bad_input(format!("--{error}")))?;
    if place == DeviceSpec::Auto {
        eprintln!("device: {:?}", device.location());
    }
    Ok(device)
}

/// A model and data for it, ready.
pub(crate) fn model_and_data(input: &ModelAndData) -> CliResult<(Predictor, Dataset)> {
    let device = machine(&input.machine)?;
    let checkpoint = Checkpoint::open(&input.checkpoint)?;
    let predictor = Predictor::new(checkpoint, &device)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", input.checkpoint.display())))?;
    Ok((predictor, dataset(&input.data)?))
}

/// The rows of some samples. `asked` is a split by name; without, that of training.
pub(crate) fn rows(
    data: &Dataset,
    asked: Option<&str>,
    predictor: &Predictor,
    samples: Samples,
) -> CliResult<Vec<usize>> {
    if let Some(name) = asked {
        // Asked for, it must be there, needed or not.
        data.check_split(name)?;
    }
    let split = asked.or(predictor.checkpoint().config.split.as_deref());
    let part = match samples {
        Samples::All => return Ok((0..data.len()).collect()),
        Samples::Train => Part::Train,
        Samples::Valid => Part::Valid,
        Samples::Test => Part::Test,
    };
    Ok(data.part(split, part)?)
}
