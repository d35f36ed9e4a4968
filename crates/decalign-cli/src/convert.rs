//! `decalign convert`.

use std::path::Path;
use std::time::Instant;

use decalign::Dataset;
use decalign_data::{OutputFormat, Precision, SplitOptions};

use crate::args::{Convert, FileFormat, Width};
use crate::output::{CliResult, Failure, progress_bar};
use crate::source;

pub(crate) fn run(arguments: Convert) -> CliResult {
    let target = match (arguments.to, OutputFormat::of(&arguments.output)) {
        (Some(FileFormat::Safetensors), _) => OutputFormat::Container,
        (Some(FileFormat::Npz), _) => OutputFormat::Npz,
        (Some(FileFormat::Pickle), _) => OutputFormat::Pickle,
        (None, Some(target)) => target,
        (None, None) => {
            let message = format!(
                "{}: which format? Name it .safetensors, .npz or .pkl, or give --to",
                arguments.output.display()
            );
            return Err(Failure::bad_input(message));
        }
    };
    let start = Instant::now();
    let data = prepare(source::dataset(&arguments.input)?, &arguments)?;
    let precision = match arguments.precision {
        Width::F32 => Precision::F32,
        Width::F16 => Precision::F16,
    };
    let bar = progress_bar("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}", 0);
    let mut bytes = 0;
    let written = data.write(&arguments.output, target, precision, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        bytes = total;
    });
    bar.finish_and_clear();
    written?;
    report(&data, &arguments.output, bytes, start);
    Ok(())
}

/// The preparation that the options ask for.
fn prepare(mut data: Dataset, arguments: &Convert) -> CliResult<Dataset> {
    if !arguments.modalities.is_empty() {
        data = data.select(&arguments.modalities)?;
    }
    if arguments.zero_tails {
        data = data.with_zero_tails()?;
    }
    if arguments.replace_non_finite {
        data = data.replace_non_finite()?;
    }
    if let Some(name) = &arguments.split {
        data = data.with_only_split(name)?;
    }
    let options = SplitOptions::new(arguments.seed)
        .grouped(arguments.grouped)
        .stratified(arguments.stratified);
    if let Some(shares) = &arguments.fractions {
        let [train, valid, test] = shares[..] else {
            let message = format!("--fractions: expected three numbers, got {}", shares.len());
            return Err(Failure::bad_input(message));
        };
        data = data.with_fractions(&arguments.name, [train, valid, test], options)?;
    }
    if let Some(folds) = arguments.folds {
        data = data.with_folds(&format!("{}fold", arguments.name), folds, options)?;
    }
    Ok(data)
}

fn report(data: &Dataset, path: &Path, bytes: u64, start: Instant) {
    let size = bytes as f64 / 1e6;
    let seconds = start.elapsed().as_secs_f64();
    let names: Vec<String> = data
        .modalities()
        .iter()
        .map(|m| format!("{} {}x{}", m.name(), m.steps(), m.width()))
        .collect();
    eprintln!(
        "{}: {} samples, {}; {size:.1} MB of features in {seconds:.2} s, {:.0} MB/s",
        path.display(),
        data.len(),
        names.join(", "),
        size / seconds.max(1e-9)
    );
}
