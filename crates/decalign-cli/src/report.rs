//! `decalign report`.

use std::path::{Path, PathBuf};

use decalign::Dataset;
use decalign::config::Config;
use decalign_data::write_atomic;
use decalign_report::{Found, Report};
use serde_json::Value;

use crate::args;
use crate::experiment::write_figures;
use crate::output::{Done, Failure, print, to_json};
use crate::source;

impl From<decalign_report::Error> for Failure {
    fn from(error: decalign_report::Error) -> Self {
        Self::bad_input(error.to_string())
    }
}

pub(crate) fn run(arguments: args::Report) -> Done {
    let open = |folder: &PathBuf| -> Done<Found> {
        Ok(Found::open(folder, |config| {
            dataset(&arguments, folder, config)
        })?)
    };
    let found: Vec<Found> = arguments.runs.iter().map(open).collect::<Done<_>>()?;
    let name = |folder: &PathBuf| {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        name.unwrap_or_else(|| folder.display().to_string())
    };
    let names: Vec<String> = arguments.runs.iter().map(name).collect();
    let report = Report::new(format!("Report on {}", names.join(", ")), found)?;
    write_atomic(&arguments.out, report.html().as_bytes())?;
    let mut said = format!(
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
        write_atomic(
            &folder.join("report.json"),
            (to_json(&report.json())? + "\n").as_bytes(),
        )?;
        said += &format!("SVG, CSV and JSON of each in {}\n", folder.display());
    }
    print(&said)
}

/// The data of a run: what is given, what the run says it was trained on, or the embedded one by
/// its name.
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
    if let Some(path) = recorded(folder) {
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

/// The file that a run was trained on, by its `run.json` or that of its first seed.
fn recorded(folder: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(folder.join("run.json")).ok()?;
    let run: Value = serde_json::from_str(&text).ok()?;
    Some(PathBuf::from(run["data"]["path"].as_str()?))
}
