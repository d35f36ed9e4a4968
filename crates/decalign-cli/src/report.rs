//! `decalign report`.

use std::path::{Path, PathBuf};

use decalign::Dataset;
use decalign::config::Config;
use decalign_data::write_atomic;
use decalign_report::run_folder::{RunRecord, write_json};
use decalign_report::{Report, ReportInput};

use crate::args;
use crate::experiment::write_figures;
use crate::output::{CliResult, print};
use crate::source;

pub(crate) fn run(arguments: args::Report) -> CliResult {
    let open = |folder: &PathBuf| -> CliResult<ReportInput> {
        Ok(ReportInput::open(folder, |config| {
            dataset(&arguments, folder, config)
        })?)
    };
    let found: Vec<ReportInput> = arguments.runs.iter().map(open).collect::<CliResult<_>>()?;
    let name = |folder: &PathBuf| {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        name.unwrap_or_else(|| folder.display().to_string())
    };
    let names: Vec<String> = arguments.runs.iter().map(name).collect();
    let report = Report::new(format!("Report on {}", names.join(", ")), found)?;
    write_atomic(&arguments.out, report.html().as_bytes())?;
    let mut message = format!(
        "{} figures in {}\n",
        report.figures().count(),
        arguments.out.display()
    );
    if let Some(folder) = &arguments.figures {
        let figures: Vec<_> = report.figures().cloned().collect();
        write_figures(folder, &figures)?;
        #[cfg(feature = "png")]
        if arguments.png {
            for figure in &figures {
                let file = folder.join(format!("{}.png", figure.name));
                write_atomic(&file, &figure.png()?)?;
            }
        }
        write_json(&folder.join("report.json"), &report.json())?;
        message += &format!("SVG, CSV and JSON of each in {}\n", folder.display());
    }
    print(&message)
}

/// The data of a run: the given file, the one that `run.json` names, or the embedded data set.
fn dataset(
    arguments: &args::Report,
    folder: &Path,
    config: &Config,
) -> decalign_report::Result<Dataset> {
    let open = |path: &Path| -> decalign_report::Result<Dataset> { Ok(Dataset::open(path)?) };
    if let Some(path) = &arguments.dataset {
        return match path == Path::new(source::EMBEDDED) && !path.exists() {
            true => Ok(Dataset::mfeat()?),
            false => open(path),
        };
    }
    let recorded = RunRecord::open(folder).ok();
    if let Some(path) = recorded.and_then(|record| record.data.path) {
        return open(&path);
    }
    match config.dataset_name == source::EMBEDDED {
        true => Ok(Dataset::mfeat()?),
        false => Err(decalign_report::Error::missing_data(
            folder,
            &config.dataset_name,
        )),
    }
}
