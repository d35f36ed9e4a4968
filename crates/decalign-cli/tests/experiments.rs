//! Ablations, sweeps, baselines and reports from outside.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const QUICK: &str = "--modalities fou,mor --epochs 1 --set nlevels=1 --set batch_size=200 --set dst_feature_dim_nheads=8,2";

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn run(folder: &Path, line: &str) -> Ended {
    let program = env!("CARGO_BIN_EXE_decalign");
    let mut command = Command::new(program);
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    Ended {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn works(folder: &Path, line: &str) -> Ended {
    let ended = run(folder, line);
    assert_eq!(ended.code, 0, "{line}: {}", ended.err);
    ended
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn an_ablation_ends_with_table_and_figures_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = format!("ablate {QUICK} --seeds 1 2");
    let first = works(folder, &line);
    for row in [
        "full",
        "no homogeneous",
        "none of the three",
        "no MMD",
        "no prototype OT",
        "Acc against full",
    ] {
        assert!(first.out.contains(row), "{}", first.out);
    }
    assert!(
        first.err.contains("[ 20/20]") && !first.err.contains("kept"),
        "{}",
        first.err
    );
    let root = "runs/mfeat-ablation";
    let table = read(folder, &format!("{root}/table.csv"));
    assert_eq!(table.lines().count(), 11);
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let mut unique = header.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), header.len(), "{header:?}");
    for figure in ["differences", "classes", "bubbles"] {
        assert!(read(folder, &format!("{root}/figures/{figure}.svg")).contains("class=\"mark\""));
    }
    let experiment: Value =
        serde_json::from_str(&read(folder, &format!("{root}/experiment.json"))).unwrap();
    let rows = experiment["rows"].as_array().unwrap();
    assert_eq!(rows[6]["settings"]["without"], serde_json::json!(["mmd"]));
    let inside = rows[6]["runs"][1]["folder"].as_str().unwrap();
    let config: Value =
        serde_json::from_str(&read(folder, &format!("{root}/{inside}/config.json"))).unwrap();
    assert_eq!(
        (&config["without"][0], &config["seed"]),
        (&"mmd".into(), &2.into())
    );

    // One run is lost, and a stopped one has no metrics: both are trained again, to the same table.
    std::fs::remove_file(folder.join(format!("{root}/{inside}/metrics.json"))).unwrap();
    let again = works(folder, &format!("{line} --threads 1"));
    assert_eq!(again.err.matches("kept").count(), 19, "{}", again.err);
    assert_eq!(again.out, first.out);
    assert_eq!(read(folder, &format!("{root}/table.csv")), table);

    // Another seed is another run; the old ones stay.
    let more = works(folder, &format!("ablate {QUICK} --seeds 1 2 3"));
    assert_eq!(more.err.matches("kept").count(), 20, "{}", more.err);
    // Other settings in the same folder are not taken for these.
    let other = works(
        folder,
        &format!("ablate {QUICK} --set clip=0.5 --seeds 1 --json"),
    );
    assert_eq!(other.err.matches("kept").count(), 0, "{}", other.err);
    assert!(serde_json::from_str::<Value>(&other.out).unwrap()["rows"].is_array());

    let ended = works(
        folder,
        &format!("report {root} --out all.html --figures drawn"),
    );
    assert!(ended.out.contains("3 figures in all.html"), "{}", ended.out);
    let page = read(folder, "all.html");
    assert!(page.contains("Ablation, mfeat") && page.ends_with("</html>\n"));
    assert!(read(folder, "drawn/differences.csv").lines().count() == 10);
}

#[test]
fn a_sweep_maps_two_keys_and_draws_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let grid = works(
        folder,
        &format!("sweep {QUICK} --grid alpha=0,.1 --grid num_prototypes=2,3,4"),
    );
    assert!(
        grid.out.contains("alpha=0.1 num_prototypes=4")
            && grid.out.contains("* best on the validation part"),
        "{}",
        grid.out
    );
    let map = read(folder, "runs/mfeat-sweep/figures/map-test.svg");
    assert_eq!(map.matches("class=\"mark\"").count(), 6);
    // A larger grid keeps what is there.
    let more = works(
        folder,
        &format!("sweep {QUICK} --grid alpha=0,.1,.2 --grid num_prototypes=2,3,4"),
    );
    assert_eq!(more.err.matches("kept").count(), 6, "{}", more.err);
    let drawn = works(
        folder,
        &format!("sweep {QUICK} --random lr=log:1e-4..1e-2 --trials 3 --run-dir drawn --json"),
    );
    let drawn: Value = serde_json::from_str(&drawn.out).unwrap();
    let rates: Vec<f64> = drawn["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["settings"]["learning_rate"].as_f64().unwrap())
        .collect();
    assert!(
        rates.len() == 3 && rates.iter().all(|r| (1e-4..=1e-2).contains(r)),
        "{rates:?}"
    );
    assert!(folder.join("drawn/figures/key-learning-rate.svg").exists());
}

#[test]
fn baselines_stand_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ended = works(folder, &format!("baselines {QUICK} --seeds 1 2"));
    for row in [
        "majority class",
        "ridge on fou",
        "early fusion, MLP",
        "late fusion",
        "TFN",
        "LMF",
        "MulT",
        "MISA",
        "DecAlign",
    ] {
        assert!(ended.out.contains(row), "{}", ended.out);
    }
    let figure = read(folder, "runs/mfeat-baselines/figures/bubbles.svg");
    assert_eq!(figure.matches("class=\"mark\"").count(), 9);
    works(folder, "report runs/mfeat-baselines");
    assert!(read(folder, "report.html").contains("MISA"));
}

#[test]
fn bad_input_is_one_line_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (line, expected) in [
        ("sweep --grid alpha", "expected key=values"),
        ("sweep --grid alfa=1,2", "did you mean alpha"),
        ("sweep --grid nlevels=0,1", "nlevels: is 0"),
        ("sweep --grid alpha=1,1", "given twice"),
        ("sweep --grid alpha=1,1.0,1", "given twice"),
        ("sweep --grid alpha=1,,2", "empty"),
        ("sweep --grid alpha=1 --grid alpha=2", "swept twice"),
        ("sweep --grid seed=1,2", "--seeds"),
        ("sweep --random alpha=1..0 --trials 2", "not below"),
        ("sweep --random alpha=2..1 --trials 1", "not below"),
        ("sweep --random alpha=log:0..1 --trials 1", "positive"),
        ("sweep --random alpha=int:0.5..1 --trials 1", "not whole"),
        (
            "sweep --random alpha=cube:0..1 --trials 1",
            "not a known range",
        ),
        ("sweep --random alpha=a..b --trials 1", "not numbers"),
        ("ablate --seeds 1 1", "--seeds: 1 is given twice"),
        ("ablate --set without=ot", "without"),
        (
            "baselines --dataset nowhere.safetensors",
            "nowhere.safetensors",
        ),
        ("report nowhere", "nowhere"),
        ("report .", "expected best.safetensors"),
    ] {
        let ended = run(folder, line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.err);
        let errors: Vec<&str> = ended
            .err
            .lines()
            .filter(|l| l.starts_with("decalign: "))
            .collect();
        assert!(
            errors.len() == 1 && errors[0].contains(expected),
            "{line}: {}",
            ended.err
        );
        assert!(
            !folder.join("runs").exists() && !folder.join("report.html").exists(),
            "{line}"
        );
    }
}
