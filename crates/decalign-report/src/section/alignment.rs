//! The gap between modalities, prototypes, and the transport between them.

use candle_core::{DType, Device, Tensor};
use decalign::model::DecAlign;

use crate::chart::{Cloud, Dot, Flow, flow, points};
use crate::embedding::{principal_components, t_sne};
use crate::error::Result;
use crate::figure::Figure;
use crate::run::Run;
use crate::table::{Table, cells};

/// The largest number of drawn test samples; each is a point a modality.
const DRAWN: usize = 200;

/// The largest number of test samples that mixtures are fitted to.
const FITTED: usize = 2000;

/// Common parts of the untrained and of the trained model, by PCA and by t-SNE.
pub(super) fn gap(run: &Run) -> Result<Vec<Figure>> {
    let checkpoint = &run.seeds[0].checkpoint;
    let config = checkpoint.config.resolve_alone()?;
    let fresh = DecAlign::new(
        &config.model,
        checkpoint.config.seed,
        DType::F32,
        &Device::Cpu,
    )?;
    let models = [
        ("before", fresh),
        ("after", checkpoint.model(&Device::Cpu)?),
    ];
    let mut figures = Vec::new();
    for (when, model) in &models {
        let (pooled, rows) = run.pooled(model, DRAWN)?;
        let common = numbers(&pooled.common)?;
        let names = model.active_modalities();
        let (all, width) = (common.concat(), common[0].len() / rows.len());
        let gap = relative_gap(&common, width);
        let (components, share) = principal_components(&all, width);
        let by_pca = format!(
            "Common parts of {} test samples {when} training. The centres of two modalities lie {gap:.2} times as far apart \
             as samples lie from their own centre. The axes carry {:.0} % and {:.0} % of the variance.",
            rows.len(),
            100.0 * share[0],
            100.0 * share[1]
        );
        let title = format!("modality gap {when} training, PCA");
        let name = format!("gap-{when}-pca");
        let cloud = Clouds { run, names, rows };
        figures.push(
            cloud
                .figure(&name, &title, COMPONENTS, &components)
                .caption(by_pca),
        );
        let title = format!("modality gap {when} training, t-SNE");
        let name = format!("gap-{when}-tsne");
        let caption = format!(
            "The same samples; distances between far groups mean nothing here (gap {gap:.2})."
        );
        let embedded = t_sne(&all, width);
        figures.push(
            cloud
                .figure(&name, &title, ["", ""], &embedded)
                .caption(caption),
        );
    }
    Ok(figures)
}

/// The axes of a projection to principal components.
const COMPONENTS: [&str; 2] = ["first component", "second component"];

/// The samples `rows` of a run, once in each of the named modalities.
struct Clouds<'a> {
    run: &'a Run,
    names: Vec<&'a str>,
    rows: Vec<usize>,
}

impl Clouds<'_> {
    /// Draws them at `places`, all samples of the first modality, then of the next.
    fn figure(&self, name: &str, title: &str, axes: [&str; 2], places: &[[f64; 2]]) -> Figure {
        let mut data = Table::new(["modality", "row", "x", "y"]);
        let mut clouds = Vec::new();
        for (name, places) in self.names.iter().zip(places.chunks(self.rows.len())) {
            for ([x, y], row) in places.iter().zip(&self.rows) {
                data.push(cells![*name, *row, *x, *y]);
            }
            clouds.push(Cloud {
                name: (*name).to_owned(),
                dots: places.iter().map(|place| Dot::new(*place, 2.5)).collect(),
            });
        }
        let drawing = points(&format!("{title}, {}", self.run.name), axes, &clouds);
        self.run.figure(name, title, drawing, data)
    }
}

/// Mean over pairs of the distance of centres, divided by the root mean square distance of samples
/// to their own centre.
fn relative_gap(modalities: &[Vec<f64>], width: usize) -> f64 {
    let samples = |x: &[f64]| x.len() / width.max(1);
    let centre = |x: &[f64]| -> Vec<f64> {
        let n = samples(x) as f64;
        (0..width)
            .map(|j| x.iter().skip(j).step_by(width).sum::<f64>() / n)
            .collect()
    };
    let centres: Vec<Vec<f64>> = modalities.iter().map(|x| centre(x)).collect();
    let squares: f64 = modalities
        .iter()
        .zip(&centres)
        .map(|(x, c)| {
            x.iter()
                .enumerate()
                .map(|(i, v)| (v - c[i % width]).powi(2))
                .sum::<f64>()
        })
        .sum();
    let n: usize = modalities.iter().map(|x| samples(x)).sum();
    let spread = (squares / n.max(1) as f64).sqrt();
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, a) in centres.iter().enumerate() {
        for b in &centres[i + 1..] {
            sum += a
                .iter()
                .zip(b)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>()
                .sqrt();
            pairs += 1.0;
        }
    }
    sum / f64::max(pairs, 1.0) / spread.max(f64::MIN_POSITIVE)
}

/// Prototypes in the plane of their first principal components, and the transport plan between them.
pub(super) fn prototypes(run: &Run) -> Result<Vec<Figure>> {
    let model = run.seeds[0].checkpoint.model(&Device::Cpu)?;
    let (pooled, rows) = run.pooled(&model, FITTED)?;
    if pooled.unique.len() < 2 || rows.len() < model.config().prototypes {
        return Ok(Vec::new());
    }
    let found = model.prototypes(&pooled.unique)?;
    let names: Vec<String> = (model.active_modalities().into_iter())
        .map(str::to_owned)
        .collect();
    let means: Vec<Tensor> = found.fits.iter().map(|f| f.means.clone()).collect();
    let masses: Vec<Tensor> = found
        .fits
        .iter()
        .map(|f| f.prototype_mass())
        .collect::<decalign::core::Result<_>>()
        .map_err(decalign::Error::from)?;
    let (means, masses) = (numbers(&means)?, numbers(&masses)?);
    let count = masses[0].len();
    let (places, share) = principal_components(&means.concat(), means[0].len() / count);
    let mut data = Table::new(["modality", "prototype", "mass", "x", "y"]);
    let mut clouds = Vec::new();
    for (m, name) in names.iter().enumerate() {
        let mut dots = Vec::new();
        for k in 0..count {
            let ([x, y], mass) = (places[m * count + k], masses[m][k]);
            data.push(cells![name, k + 1, mass, x, y]);
            let dot = Dot::new([x, y], 3.0 + 22.0 * mass.sqrt());
            dots.push(dot.name((k + 1).to_string()));
        }
        clouds.push(Cloud {
            name: name.clone(),
            dots,
        });
    }
    let heading = format!("prototypes of {}", run.name);
    let drawing = points(&heading, COMPONENTS, &clouds);
    let caption = format!(
        "Means of the mixtures of the unique parts of {} test samples; areas are masses. The axes carry {:.0} % and {:.0} % of the variance.",
        rows.len(),
        100.0 * share[0],
        100.0 * share[1]
    );
    let places = run.figure("prototypes", "prototypes", drawing, data);
    let places = places.caption(caption);
    Ok(vec![places, plan(run, names, masses, &found.plan)?])
}

fn plan(
    run: &Run,
    names: Vec<String>,
    masses: Vec<Vec<f64>>,
    solution: &decalign::ot::MultiMarginalSolution,
) -> Result<Figure> {
    let pairs = (0..names.len() - 1).map(|m| solution.pair_marginal(m, m + 1));
    let pairs: Vec<Tensor> = pairs
        .collect::<decalign::core::Result<_>>()
        .map_err(decalign::Error::from)?;
    let plans = numbers(&pairs)?;
    let mut data = Table::new(["from", "prototype", "to", "prototype there", "mass"]);
    for (m, plan) in plans.iter().enumerate() {
        let to = masses[m + 1].len();
        for (i, mass) in plan.iter().enumerate() {
            let (a, b) = (i / to + 1, i % to + 1);
            data.push(cells![&names[m], a, &names[m + 1], b, *mass]);
        }
    }
    let drawing = flow(
        &format!("transport plan of {}", run.name),
        &Flow {
            columns: names,
            masses,
            plans,
        },
    );
    let caption = format!(
        "Mass of prototypes, and the transport plan over all modalities at once, seen between neighbours. Marginal error {:.1e}{}.",
        solution.marginal_error(),
        if solution.converged() {
            ""
        } else {
            ", not converged"
        }
    );
    let figure = run.figure("plan", "transport between prototypes", drawing, data);
    Ok(figure.caption(caption))
}

/// The elements of tensors in C order.
fn numbers(tensors: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let each = tensors
        .iter()
        .map(|x| Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?));
    each.collect()
}
