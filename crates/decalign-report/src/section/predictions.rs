//! Predictions: confusion, calibration, classes, the hardest samples.

use decalign::metrics::{Benchmark, largest_score};

use super::common::{RADAR, class_radar};
use crate::chart::{Cloud, Dot, Heat, Series, heat, lines, points};
use crate::figure::Figure;
use crate::run::{Run, Seed};
use crate::samples::class_accuracy;
use crate::statistics::{Bin, reliability};
use crate::table::{Cell, Table, cells};

/// The confusion matrix of classes or of rounded scores; predicted against true scores.
pub(super) fn confusion(run: &Run) -> Vec<Figure> {
    let scores = run
        .seeds
        .iter()
        .flat_map(|s| s.scores.chunks_exact(run.width()));
    let truth = run.labels.iter().cycle();
    match (run.classes.is_empty(), run.benchmark) {
        (false, _) => {
            let pairs = scores
                .zip(truth)
                .map(|(s, y)| (*y as usize, largest_score(s)));
            vec![matrix(run, &run.classes, pairs)]
        }
        (true, Benchmark::Mosi) => {
            let names: Vec<String> = (-3..=3).map(|c: i32| c.to_string()).collect();
            let class = |v: f32| (v.clamp(-3.0, 3.0).round_ties_even() + 3.0) as usize;
            let pairs = scores.zip(truth).map(|(s, y)| (class(*y), class(s[0])));
            vec![matrix(run, &names, pairs), scatter(run)]
        }
        _ => vec![scatter(run)],
    }
}

fn matrix(run: &Run, names: &[String], pairs: impl Iterator<Item = (usize, usize)>) -> Figure {
    let n = names.len();
    let mut counts = vec![0usize; n * n];
    for (y, p) in pairs.filter(|(y, p)| *y < n && *p < n) {
        counts[y * n + p] += 1;
    }
    let mut data = Table::new(["label", "prediction", "count"]);
    for (i, count) in counts.iter().enumerate() {
        data.push(cells![&names[i / n], &names[i % n], *count]);
    }
    let title = "confusion matrix";
    let drawing = heat(
        &format!("{title} of {}", run.name),
        &Heat {
            rows: names.to_vec(),
            columns: names.to_vec(),
            values: counts.iter().map(|c| Some(*c as f64)).collect(),
            names: ["label".to_owned(), "prediction".to_owned()],
            by_row: true,
        },
    );
    let caption = format!(
        "Samples of the test part, {} summed; shades are shares of a label.",
        seeds(run)
    );
    run.figure("confusion", title, drawing, data)
        .caption(caption)
}

fn scatter(run: &Run) -> Figure {
    let mut data = Table::new(["label", "prediction"]);
    let mut dots = Vec::new();
    for (y, p) in run.labels.iter().zip(&run.seeds[0].scores) {
        let (x, y) = (f64::from(*y), f64::from(*p));
        data.push(cells![x, y]);
        dots.push(Dot::new([x, y], 2.5));
    }
    let title = "predictions against labels";
    let cloud = Cloud {
        name: "test samples".to_owned(),
        dots,
    };
    let drawing = points(
        &format!("{title} of {}", run.name),
        ["label", "prediction"],
        &[cloud],
    );
    let caption = format!("Test part, seed {}.", run.seeds[0].checkpoint.config.seed);
    run.figure("scatter", title, drawing, data).caption(caption)
}

fn seeds(run: &Run) -> String {
    match run.seeds.len() {
        1 => "one seed".to_owned(),
        n => format!("{n} seeds"),
    }
}

/// Confidence against accuracy; for scores, mean predictions against mean labels.
pub(super) fn calibration(run: &Run) -> Option<Figure> {
    if run.classes.is_empty() {
        return Some(score_calibration(run));
    }
    let (mut confidence, mut right) = (Vec::new(), Vec::new());
    for seed in &run.seeds {
        for (scores, y) in seed.scores.chunks_exact(run.width()).zip(&run.labels) {
            let p = probabilities(scores);
            let best = largest_score(scores);
            confidence.push(p[best]);
            right.push(best == *y as usize);
        }
    }
    let (bins, error) = reliability(&confidence, &right);
    let mut data = Table::new(["confidence", "right", "samples"]);
    let mut row = |b: &Bin| data.push(cells![b.predicted, b.observed, b.count]);
    bins.iter().for_each(&mut row);
    let point = |b: &Bin| (b.predicted, b.observed);
    let series = Series {
        name: run.name.clone(),
        points: bins.iter().map(point).collect(),
    };
    let title = format!("calibration of {}", run.name);
    let drawing = lines(
        &title,
        ["confidence", "share that is right"],
        &[series],
        true,
    );
    let caption = format!(
        "Ten bins of confidence on the test part, {}. On the dashed line confidence is right. Expected calibration error {error:.4}.",
        seeds(run)
    );
    let figure = run.figure("calibration", "calibration", drawing, data);
    Some(figure.caption(caption))
}

/// Means of ten groups of samples with rising predictions.
fn score_calibration(run: &Run) -> Figure {
    let scores = run.seeds.iter().flat_map(|s| s.scores.iter());
    let mut pairs: Vec<(f64, f64)> = scores
        .zip(run.labels.iter().cycle())
        .map(|(p, y)| (f64::from(*p), f64::from(*y)))
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups: Vec<(f64, f64)> = pairs
        .chunks(pairs.len().div_ceil(10).max(1))
        .map(|g| {
            let n = g.len() as f64;
            (
                g.iter().map(|p| p.0).sum::<f64>() / n,
                g.iter().map(|p| p.1).sum::<f64>() / n,
            )
        })
        .collect();
    let mut data = Table::new(["mean prediction", "mean label"]);
    for (p, y) in &groups {
        data.push(cells![*p, *y]);
    }
    let equal = groups.iter().map(|g| (g.0, g.0)).collect();
    let series = [
        Series {
            name: run.name.clone(),
            points: groups,
        },
        Series {
            name: "where both are equal".to_owned(),
            points: equal,
        },
    ];
    let title = format!("calibration of {}", run.name);
    let drawing = lines(&title, ["mean prediction", "mean label"], &series, false);
    let groups = "Ten groups of test samples with rising predictions";
    let figure = run.figure("calibration", "calibration", drawing, data);
    figure.caption(format!("{groups}, {}.", seeds(run)))
}

fn probabilities(scores: &[f32]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = scores.iter().map(|s| f64::from(s - top).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// Accuracy by class of all runs, in one radar.
pub(super) fn classes(runs: &[Run]) -> Option<Figure> {
    let mut known = runs.iter().map(|r| &r.classes);
    let names = known.find(|classes| RADAR.contains(&classes.len()))?;
    let same = runs.iter().filter(|r| r.classes == *names);
    let series = same.take(6).map(|run| {
        let accuracy = |s: &Seed| class_accuracy(&run.data, &run.rows, &s.scores);
        let each: Vec<Vec<f64>> = run.seeds.iter().map(accuracy).collect();
        let mean = |c: usize| each.iter().map(|a| a[c]).sum::<f64>() / each.len() as f64;
        Series {
            name: run.name.clone(),
            points: (0..names.len()).map(|c| (c as f64, mean(c))).collect(),
        }
    });
    class_radar("classes-runs", names, &series.collect::<Vec<_>>())
}

/// The number of samples in the table of the hardest.
const HARDEST: usize = 20;

/// The samples of the largest loss, with their text where the data has it.
pub(super) fn hardest(run: &Run) -> Table {
    let n = run.seeds.len() as f64;
    let loss = |i: usize| -> f64 {
        let one = |scores: &[f32]| match run.classes.is_empty() {
            true => f64::from((scores[i] - run.labels[i]).abs()),
            false => {
                let p = probabilities(&scores[i * run.width()..][..run.width()]);
                -p[run.labels[i] as usize].max(f64::MIN_POSITIVE).ln()
            }
        };
        run.seeds.iter().map(|s| one(&s.scores)).sum::<f64>() / n
    };
    let mut order: Vec<(usize, f64)> = (0..run.labels.len()).map(|i| (i, loss(i))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut columns = vec!["row", "label", "prediction", "loss"];
    let (ids, texts) = (run.data.ids(), run.data.texts());
    columns.extend(ids.map(|_| "id"));
    columns.extend(texts.map(|_| "text"));
    let mut table = Table::new(columns);
    for (i, loss) in order.into_iter().take(HARDEST) {
        let row = run.rows[i];
        let scores = &run.seeds[0].scores[i * run.width()..][..run.width()];
        let (label, prediction): (Cell, Cell) = match run.classes.is_empty() {
            true => (f64::from(run.labels[i]).into(), f64::from(scores[0]).into()),
            false => {
                let name = |c: usize| run.classes.get(c).cloned().unwrap_or_else(|| c.to_string());
                (
                    name(run.labels[i] as usize).into(),
                    name(largest_score(scores)).into(),
                )
            }
        };
        let mut cells = vec![row.into(), label, prediction, loss.into()];
        cells.extend(ids.map(|ids| Cell::from(ids[row].as_str())));
        cells.extend(texts.map(|texts| Cell::from(texts[row].as_str())));
        table.push(cells);
    }
    table
}
