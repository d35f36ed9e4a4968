//! What ablations, sweeps and baselines have in common.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::Device;
use decalign::Dataset;
use decalign::config::{Config, Goal};
use decalign::metrics::Metrics;
use decalign::train::DecAlignTrainer;
use decalign_data::{Error, write_atomic};
use decalign_report::{Experiment, Figure, Kind, Row, figures_of};

use crate::args;
use crate::jobs::{Finished, Job, Workshop, root};
use crate::output::{Done, print, print_json, to_json};
use crate::run::folder::RunFolder;
use crate::{settings, source};

/// An experiment about to run.
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) data: Dataset,
    pub(crate) device: Device,
    pub(crate) seeds: Vec<u64>,
    pub(crate) folder: PathBuf,
    pub(crate) threads: Option<usize>,
    json: bool,
    /// Holds the folder once it is there, so that no other process runs in it.
    held: OnceLock<RunFolder>,
}

impl Session {
    /// Checks everything that can be checked before a folder is made.
    pub(crate) fn open(
        given: &args::Settings,
        experiment: &args::Experiment,
        command: &str,
        default_seeds: Option<&[u64]>,
    ) -> Done<Self> {
        let device = source::machine(&experiment.machine)?;
        let config = settings::config(given)?;
        let data = settings::dataset(given)?;
        let seeds = default_seeds.unwrap_or(std::slice::from_ref(&config.seed));
        let seeds = settings::seeds(&experiment.seeds, seeds)?;
        DecAlignTrainer::new(&config, &data, &device)?;
        let name = format!("{}-{command}", config.dataset_name);
        Ok(Self {
            folder: root(experiment.run_dir.as_deref(), &name),
            threads: experiment.machine.threads,
            json: experiment.json,
            held: OnceLock::new(),
            config,
            data,
            device,
            seeds,
        })
    }

    /// Makes the folder and holds it.
    pub(crate) fn begin(&self) -> Done {
        let made = std::fs::create_dir_all(&self.folder);
        made.map_err(|error| Error::io(&self.folder, error))?;
        if self.held.get().is_none() {
            // Nobody else has set it: a session is in one thread's hands.
            let _ = self.held.set(RunFolder::open(&self.folder)?);
        }
        Ok(())
    }

    /// Trains every setting with every seed.
    pub(crate) fn train(&self, settings: &[(String, Config)]) -> Done<Vec<Vec<Finished>>> {
        // A setting that cannot run is told before the first one does.
        for (_, config) in settings {
            DecAlignTrainer::new(config, &self.data, &self.device)?;
        }
        self.begin()?;
        let jobs: Vec<Job> = settings
            .iter()
            .flat_map(|(name, config)| {
                self.seeds.iter().map(move |seed| Job {
                    name: name.clone(),
                    config: Config {
                        seed: *seed,
                        ..config.clone()
                    },
                })
            })
            .collect();
        let workshop = Workshop {
            root: &self.folder,
            data: &self.data,
            device: &self.device,
            threads: self.threads,
        };
        let finished = workshop.run(&jobs)?;
        Ok(finished
            .chunks(self.seeds.len())
            .map(<[Finished]>::to_vec)
            .collect())
    }

    /// An experiment of some rows.
    pub(crate) fn experiment(&self, kind: Kind, keys: Vec<String>, rows: Vec<Row>) -> Experiment {
        // The release calls the validation loss by the data set's name.
        let named = self.config.selection_metric.as_deref();
        let is_loss =
            |name: &&str| *name == "loss" || name.eq_ignore_ascii_case(&self.config.dataset_name);
        let selection = named.filter(|name| !is_loss(name)).unwrap_or("loss");
        let goal = self
            .config
            .selection_mode
            .unwrap_or_else(|| Metrics::goal(selection));
        let classes = self.data.labels().map(|l| l.names().to_vec());
        Experiment {
            kind,
            dataset: self.config.dataset_name.clone(),
            classes: classes.unwrap_or_default(),
            keys,
            selection: selection.to_owned(),
            smaller_is_better: goal == Goal::Min,
            rows,
        }
    }

    /// Writes tables and figures to the folder and shows the table.
    pub(crate) fn finish(&self, experiment: &Experiment) -> Done {
        let (table, figures) = (experiment.text(), figures_of(experiment));
        let write = |name: &str, text: &str| write_atomic(&self.folder.join(name), text.as_bytes());
        write("experiment.json", &(to_json(experiment)? + "\n"))?;
        write("table.csv", &experiment.table().csv())?;
        write("table.txt", &table)?;
        write_figures(&self.folder.join("figures"), &figures)?;
        match self.json {
            true => print_json(experiment),
            false => print(&format!(
                "\n{table}\nruns, table and figures in {}\n",
                self.folder.display()
            )),
        }
    }
}

/// SVG, CSV and JSON of figures.
pub(crate) fn write_figures(folder: &Path, figures: &[Figure]) -> Done {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    for figure in figures {
        let path = |ending: &str| folder.join(format!("{}.{ending}", figure.name));
        write_atomic(&path("svg"), figure.svg().as_bytes())?;
        write_atomic(&path("csv"), figure.data.csv().as_bytes())?;
        let json = to_json(&figure.data.json())? + "\n";
        write_atomic(&path("json"), json.as_bytes())?;
    }
    Ok(())
}
