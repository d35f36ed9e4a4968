//! `decalign ablate`.

use decalign::config::{Component, Config};
use decalign::metrics::{Bootstrap, Paired};
use decalign_report::{Difference, ExperimentKind, SettingResult};
use serde_json::{Map, json};

use crate::args::Ablate;
use crate::experiment::ExperimentSession;
use crate::job_runner::JobResult;
use crate::output::CliResult;

/// The name, the table of the paper, and the components that are left out.
const VARIANTS: [(&str, &str, &[Component]); 10] = {
    use Component as C;
    [
        ("full", "full", &[]),
        ("no homogeneous", "table 3", &[C::Homogeneous]),
        ("no heterogeneous", "table 3", &[C::Heterogeneous]),
        ("no decoupling", "table 3", &[C::Decoupling]),
        (
            "neither alignment",
            "table 3",
            &[C::Homogeneous, C::Heterogeneous],
        ),
        (
            "none of the three",
            "table 3",
            &[C::Homogeneous, C::Heterogeneous, C::Decoupling],
        ),
        ("no MMD", "table 4", &[C::Mmd]),
        ("no moments", "table 4", &[C::Moments]),
        ("no contrastive", "table 4", &[C::Contrastive]),
        ("no prototype OT", "table 4", &[C::PrototypeOt]),
    ]
};

/// The weight of the contrastive loss where a preset has none, so that it can be left out: that of the preset mosi.
const CONTRASTIVE: f64 = 0.003;

pub(crate) fn run(arguments: Ablate) -> CliResult {
    let mut session = ExperimentSession::open(
        &arguments.settings,
        &arguments.experiment,
        ExperimentKind::Ablation,
        Some(&[1, 2, 3]),
    )?;
    let given = arguments
        .settings
        .set
        .iter()
        .any(|s| s.trim_start().starts_with("ct_weight"));
    if session.config.ct_weight == 0.0 && !given && arguments.settings.config.is_none() {
        session.config.ct_weight = CONTRASTIVE;
        eprintln!(
            "ct_weight is 0 here; the whole model gets {CONTRASTIVE} (--set ct_weight=0 leaves it)"
        );
    }
    let variants = variants(&session.config);
    let settings: Vec<(String, Config)> = variants
        .iter()
        .map(|(name, _, config)| (name.clone(), config.clone()))
        .collect();
    let results = session.train(&ExperimentSession::jobs(&settings))?;
    let predictions = |runs: &[JobResult]| {
        runs.iter()
            .map(|r| r.predictions.clone())
            .collect::<Vec<_>>()
    };
    let full = predictions(&results[0]);
    let compare = |runs: &[JobResult]| -> Vec<Difference> {
        let other = predictions(runs);
        let pair = Paired::new(&full, &other, &session.labels).same_seeds(true);
        let compared = Bootstrap::default().compare(session.benchmark, &pair);
        let each = compared.iter().map(|(name, d)| Difference::new(name, d));
        each.collect()
    };
    let row = |(i, ((name, group, config), runs)): (usize, (&Variant, &Vec<JobResult>))| {
        let settings = Map::from_iter([("without".to_owned(), json!(config.without))]);
        let seeds = runs.iter().map(|r| r.seed.clone()).collect();
        let mut row = SettingResult::new(name, *group, settings, seeds);
        if i > 0 {
            row.differences = compare(runs);
        }
        row
    };
    let rows = variants.iter().zip(&results).enumerate().map(row).collect();
    session.finish(&session.experiment(Vec::new(), rows))
}

/// A name, a group, and the configuration.
type Variant = (String, &'static str, Config);

/// The distinct variants: a component that the configuration leaves out already makes no new variant.
fn variants(config: &Config) -> Vec<Variant> {
    let mut all: Vec<Variant> = Vec::new();
    for (name, group, without) in VARIANTS {
        let mut config = config.clone();
        let unused = |c: &Component, config: &Config| match c {
            Component::Contrastive => config.ct_weight == 0.0,
            Component::Homogeneous | Component::Moments | Component::Mmd => config.beta == 0.0,
            Component::Heterogeneous | Component::PrototypeOt => config.alpha == 0.0,
            _ => false,
        };
        let used = |c: &&Component| !config.without.contains(c) && !unused(c, &config);
        let left_out: Vec<Component> = without.iter().filter(used).copied().collect();
        config.without.extend(left_out);
        if all.iter().any(|(_, _, other)| *other == config) {
            eprintln!("{name}: equal to another row under these settings; left out");
            continue;
        }
        all.push((name.to_owned(), group, config));
    }
    all
}
