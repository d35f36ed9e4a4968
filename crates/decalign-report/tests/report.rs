//! A report from real runs: every figure shows data, and the page needs nothing else.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use decalign::Dataset;
use decalign::config::Config;
use decalign::train::{DecAlignTrainer, EpochReport, Silent};
use decalign_data::{Labels, Part};
use decalign_report::{Figure, Report, ReportInput, figures_of};

/// Leaves what `decalign train` leaves.
fn train(folder: &Path, data: &Dataset, sets: &[&str]) {
    let mut config = Config::default();
    let base = [
        "nlevels=1",
        "num_epochs=2",
        "batch_size=100",
        "dst_feature_dim_nheads=16,2",
    ];
    base.iter()
        .chain(sets)
        .for_each(|set| config.set(set).unwrap());
    std::fs::create_dir_all(folder).unwrap();
    let trainer = DecAlignTrainer::new(&config, data, &Device::Cpu).unwrap();
    let file = folder.join("best.safetensors");
    let outcome = trainer.run(Some(&file), &mut Silent).unwrap();
    let header = outcome.epochs.first().map(EpochReport::header);
    let rows = outcome.epochs.iter().map(EpochReport::row);
    let lines: Vec<String> = header
        .into_iter()
        .chain(rows)
        .map(|r| r.join(","))
        .collect();
    std::fs::write(folder.join("epochs.csv"), lines.join("\n") + "\n").unwrap();
}

/// The digits as scores, with words that could break a page.
fn scored() -> Dataset {
    let digits = Dataset::mfeat().unwrap().select(&["fou", "mor"]).unwrap();
    let Some(Labels::Classes { values, .. }) = digits.labels().cloned() else {
        panic!("digits have classes")
    };
    let scores = values.iter().map(|v| (*v as f32 - 4.5) / 1.5).collect();
    let texts = (0..digits.len())
        .map(|i| format!("<script>alert({i})</script> & \"x\""))
        .collect();
    digits
        .with_labels(Labels::Scores(scores))
        .unwrap()
        .with_texts(texts)
        .unwrap()
}

fn open(folder: &Path, data: &Dataset) -> ReportInput {
    ReportInput::open(folder, |_| Ok(data.clone())).unwrap()
}

/// Marks of data in a figure, after its SVG has been parsed.
fn marks(figure: &Figure) -> usize {
    let svg = figure.svg();
    let tree = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{}: {e}", figure.name));
    let numbers = [
        "x", "y", "cx", "cy", "r", "width", "height", "x1", "x2", "y1", "y2",
    ];
    for node in tree.descendants() {
        for attribute in node.attributes().filter(|a| numbers.contains(&a.name())) {
            let value: f64 = attribute.value().parse().unwrap();
            assert!(value.is_finite(), "{}: {attribute:?}", figure.name);
        }
        assert!(
            !node.attributes().any(|a| a.value().contains("NaN")),
            "{}",
            figure.name
        );
    }
    tree.descendants()
        .filter(|n| n.attribute("class") == Some("mark"))
        .count()
}

fn check(report: &Report, expected: &[&str]) {
    let names: Vec<&str> = report.figures().map(|f| f.name.as_str()).collect();
    for name in expected {
        assert!(
            names.iter().any(|n| n.starts_with(name)),
            "{name} is not in {names:?}"
        );
    }
    for figure in report.figures() {
        assert!(marks(figure) > 0, "{} shows no data", figure.name);
        assert!(!figure.data.rows.is_empty(), "{}", figure.name);
    }
    #[cfg(feature = "png")]
    for figure in report.figures().take(2) {
        assert!(
            figure.png().unwrap().starts_with(b"\x89PNG"),
            "{}",
            figure.name
        );
    }
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    let page = report.html();
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for sign in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!outside.contains(sign), "{sign}");
    }
    opens_in_a_browser(&page, names.len());
}

/// Chromium without a window, where there is one.
fn opens_in_a_browser(page: &str, figures: usize) {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let there = |name: &&&str| {
        Command::new(name)
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let Some(browser) = browsers.iter().find(there) else {
        eprintln!("skipped: no Chromium here, the page was not opened");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    // A probe says what a reader would see; the page itself has no script that runs.
    let probe = "<script>onerror=e=>document.title='failed '+e;onload=()=>{const d=JSON.parse(document.getElementById('data').textContent);\
        document.title='figures '+[...document.querySelectorAll('figure svg')].filter(s=>s.querySelector('.mark')&&s.getBoundingClientRect().height>50).length\
        +' sections '+d.sections.length+' wide '+(document.documentElement.scrollWidth>innerWidth)}</script></body>";
    std::fs::write(&file, page.replace("</body>", probe)).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=600,900",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let title = dom
        .split("<title>")
        .nth(1)
        .and_then(|t| t.split("</title>").next())
        .unwrap_or_default();
    assert!(title.starts_with(&format!("figures {figures} ")), "{title}");
    assert!(title.ends_with("wide false"), "{title}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("CONSOLE"), "{said}");
}

#[test]
fn a_report_of_classes_has_every_figure() {
    let folder = tempfile::tempdir().unwrap();
    let digits = Dataset::mfeat().unwrap().select(&["fou", "mor"]).unwrap();
    let place = |name: &str| folder.path().join(name);
    train(&place("two/seed-1"), &digits, &["seed=1"]);
    train(&place("two/seed-2"), &digits, &["seed=2"]);
    train(&place("other"), &digits, &["without=mmd"]);
    let found = vec![open(&place("two"), &digits), open(&place("other"), &digits)];
    let report = Report::new("digits", found).unwrap();
    let expected = [
        "bubbles",
        "classes",
        "metrics-two",
        "losses-two",
        "components-two",
        "confusion-two",
        "calibration-two",
        "gap-before-pca",
        "gap-after-pca",
        "gap-before-tsne",
        "gap-after-tsne",
        "prototypes-two",
        "plan-two",
        "losses-other",
    ];
    check(&report, &expected);
    // Counts of the confusion matrix are those of both seeds.
    let confusion = report
        .figures()
        .find(|f| f.name == "confusion-two")
        .unwrap();
    let rows = confusion.data.json();
    let total: f64 = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["count"].as_f64().unwrap())
        .sum();
    let test = digits.part(None, Part::Test).unwrap().len();
    assert_eq!(total, 2.0 * test as f64);
    // The plan's mass is 1 between every pair of neighbours.
    let plan = report
        .figures()
        .find(|f| f.name == "plan-two")
        .unwrap()
        .data
        .json();
    let mass: f64 = plan
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["mass"].as_f64().unwrap())
        .sum();
    assert!((mass - 1.0).abs() < 1e-3, "{mass}");
    // The same again is the same page.
    let again = vec![open(&place("two"), &digits), open(&place("other"), &digits)];
    assert_eq!(Report::new("digits", again).unwrap().html(), report.html());
}

#[test]
fn a_report_of_scores_shows_texts_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let data = scored();
    let run = folder.path().join("run <b>");
    train(&run, &data, &["dataset_name=mosi"]);
    let report = Report::new("scores </script><b>", vec![open(&run, &data)]).unwrap();
    check(
        &report,
        &[
            "scatter",
            "confusion",
            "calibration",
            "losses",
            "gap-after-pca",
            "plan",
        ],
    );
    let page = report.html();
    assert!(
        !page.contains("<script>alert") && !page.contains("<b>\""),
        "text became markup"
    );
    assert!(page.contains("&lt;script&gt;alert("));
}

#[test]
fn experiments_are_read_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let single = |seed: u64, acc: f64| {
        format!(
            "{{\"seed\":{seed},\"valid\":{{\"loss\":{}}},\"test\":{{\"Acc\":{acc},\"F1_score\":{acc}}},\"class_accuracy\":[{acc},1.0,0.5],\"parameters\":1000,\"seconds\":1.0,\"folder\":null}}",
            1.0 - acc
        )
    };
    let row = |a: f64, b: f64, acc: f64| {
        format!(
            "{{\"name\":\"alpha={a} beta={b}\",\"group\":\"sweep\",\"settings\":{{\"alpha\":{a},\"beta\":{b}}},\"runs\":[{}]}}",
            single(1, acc)
        )
    };
    let rows = [row(0.1, 1.0, 0.7), row(0.1, 2.0, 0.8), row(0.2, 1.0, 0.75)].join(",");
    let text = format!(
        "{{\"kind\":\"sweep\",\"dataset\":\"toy\",\"classes\":[\"a\",\"b\",\"c\"],\"keys\":[\"alpha\",\"beta\"],\"selection\":\"loss\",\"smaller_is_better\":true,\"rows\":[{rows}]}}"
    );
    std::fs::write(folder.path().join("experiment.json"), text).unwrap();
    let ReportInput::Experiment(sweep) = open(folder.path(), &scored()) else {
        panic!("an experiment was written")
    };
    assert_eq!(sweep.best(), Some(1));
    let figures = figures_of(&sweep);
    // Three of four cells have a number.
    assert_eq!(figures.iter().map(marks).collect::<Vec<_>>(), [3, 3]);
    assert!(
        sweep.text().contains("alpha=0.1 beta=2 *"),
        "{}",
        sweep.text()
    );
}

#[test]
fn what_is_no_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |path: PathBuf| {
        ReportInput::open(&path, |_| Ok(scored()))
            .unwrap_err()
            .to_string()
    };
    assert!(fails(folder.path().to_owned()).contains("expected best.safetensors"));
    assert!(fails(folder.path().join("nowhere")).contains("nowhere"));
    std::fs::write(folder.path().join("experiment.json"), "{\"kind\":").unwrap();
    assert!(fails(folder.path().to_owned()).contains("experiment.json"));
    std::fs::remove_file(folder.path().join("experiment.json")).unwrap();
    std::fs::write(folder.path().join("best.safetensors"), b"abc").unwrap();
    assert!(fails(folder.path().to_owned()).contains("best.safetensors"));
}
