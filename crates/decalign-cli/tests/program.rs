//! The program from outside: files, exit codes, and what it says.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Program {
    folder: tempfile::TempDir,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Program {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, line: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decalign"));
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(line.split_whitespace())
            .current_dir(self.path(""))
            .output()
            .unwrap();
        Ended {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The single line of an error.
    fn fails(&self, line: &str) -> String {
        let ended = self.run(line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{line}: {}", ended.err);
        assert!(ended.err.starts_with("decalign: "), "{}", ended.err);
        ended.err
    }
}

const QUICK: &str = "train --modalities fou,mor --epochs 2 --set nlevels=1 --set batch_size=100";

#[test]
fn a_run_leaves_its_files_and_a_model_that_predicts() {
    let program = Program::new();
    let ended = program.run(QUICK);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for row in [
        "majority class",
        "ridge on fou",
        "DecAlign",
        "results in runs/mfeat",
    ] {
        assert!(ended.out.contains(row), "{}", ended.out);
    }
    assert_eq!(
        ended.err.lines().filter(|l| l.starts_with("epoch")).count(),
        2,
        "{}",
        ended.err
    );
    let config: Value = serde_json::from_str(&program.read("runs/mfeat/config.json")).unwrap();
    assert_eq!(config["num_epochs"], 2);
    assert_eq!(config["feature_dims"], serde_json::json!([76, 6]));
    let epochs = program.read("runs/mfeat/epochs.csv");
    assert_eq!(epochs.lines().count(), 3);
    for column in [
        "epoch",
        "train_task",
        "train_heterogeneous",
        "train_contrastive",
        "valid_loss",
    ] {
        assert!(epochs.lines().next().unwrap().contains(column), "{epochs}");
    }
    let metrics: Value = serde_json::from_str(&program.read("runs/mfeat/metrics.json")).unwrap();
    let accuracy = metrics["test"]["Acc"].as_f64().unwrap();

    let ended = program.run("evaluate runs/mfeat/best.safetensors mfeat --json");
    let evaluated: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(evaluated["Acc"].as_f64().unwrap(), accuracy);

    let ended = program.run("predict runs/mfeat/best.safetensors mfeat");
    assert_eq!(ended.out.lines().count(), 2001);
    assert!(
        ended.out.starts_with("row,class,p_0,p_1"),
        "{}",
        &ended.out[..60]
    );
    let ended = program
        .run("predict runs/mfeat/best.safetensors mfeat --part test --format jsonl -o p.jsonl");
    assert!(ended.code == 0 && ended.out.is_empty());
    let rows = program.read("p.jsonl");
    assert_eq!(rows.lines().count(), 500);
    let row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let total: f64 = row["probabilities"]
        .as_object()
        .unwrap()
        .values()
        .map(|p| p.as_f64().unwrap())
        .sum();
    assert!((total - 1.0).abs() < 1e-5);

    // Inputs are not overwritten, and what is asked for must be there.
    let error =
        program.fails("predict runs/mfeat/best.safetensors mfeat -o runs/mfeat/best.safetensors");
    assert!(
        error.contains("the output would replace an input"),
        "{error}"
    );
    let error = program.fails("predict runs/mfeat/best.safetensors mfeat --split night");
    assert!(error.contains("split_night: no such split"), "{error}");

    // The same again goes elsewhere and gives the same bytes; a taken folder is left alone.
    assert_eq!(program.run(&format!("{QUICK} --threads 1")).code, 0);
    let bytes = |name: &str| std::fs::read(program.path(name)).unwrap();
    assert!(bytes("runs/mfeat/best.safetensors") == bytes("runs/mfeat-2/best.safetensors"));
    assert!(
        program
            .fails(&format!("{QUICK} --run-dir runs/mfeat"))
            .contains("runs/mfeat: not empty")
    );
}

#[test]
fn several_seeds_give_mean_and_deviation() {
    let program = Program::new();
    let ended = program.run(&format!("{QUICK} --seeds 3 4 --run-dir two --json"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let summary: Value = serde_json::from_str(&ended.out).unwrap();
    let accuracies: Vec<f64> = ["two/seed-3", "two/seed-4"]
        .map(|folder| {
            let text = program.read(&format!("{folder}/metrics.json"));
            serde_json::from_str::<Value>(&text).unwrap()["test"]["Acc"]
                .as_f64()
                .unwrap()
        })
        .to_vec();
    let (mean, half) = (
        (accuracies[0] + accuracies[1]) / 2.0,
        (accuracies[0] - accuracies[1]) / 2.0,
    );
    let close = |value: &Value, want: f64| (value.as_f64().unwrap() - want).abs() < 1e-12;
    assert!(close(&summary["test"]["Acc"]["mean"], mean));
    assert!(close(
        &summary["test"]["Acc"]["deviation"],
        half.abs() * 2f64.sqrt()
    ));
    assert_eq!(
        summary,
        serde_json::from_str::<Value>(&program.read("two/metrics.json")).unwrap()
    );
}

#[test]
fn a_step_is_timed_by_phases() {
    let program = Program::new();
    let ended = program.run("bench iemocap --seconds 0.01 --threads 2 --batch-size 8 --json");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap();
    assert_eq!((number("batch_size"), number("threads")), (8.0, 2.0));
    assert!(number("gflop") > 0.01 && number("step") > number("optimiser"));
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let all = "decoupling fusion homogeneous mixtures objective projection transport";
    assert!(
        all.split(' ').all(|name| names.contains(&name)),
        "{names:?}"
    );
    // Operations of these phases have gradients of their own.
    let backward = |name: &str| {
        let phase = phases.iter().find(|p| p["name"] == name).unwrap();
        phase["backward"].as_f64().unwrap()
    };
    assert!(backward("fusion") > 0.0 && backward("mixtures") > 0.0);
    for (line, named) in [
        ("bench nope", "no preset is named nope"),
        ("bench --seconds 0", "--seconds 0"),
        ("bench --batch-size 1000000000", "lower --batch-size"),
        ("bench --batch-size 1", "batch_size"),
        ("bench --set use_bert=true", "use_bert"),
    ] {
        let message = program.fails(line);
        assert!(message.contains(named), "{line}: {message}");
    }
}

#[test]
fn bad_input_is_one_line_and_status_2() {
    let program = Program::new();
    std::fs::write(program.path("text.safetensors"), "not tensors").unwrap();
    std::fs::write(program.path("bad.json"), "{\"num_epoch\": 3}").unwrap();
    let cases = [
        ("train --dataset none.safetensors", "none.safetensors: "),
        (
            "train --dataset text.safetensors",
            "text.safetensors: not a safetensors file",
        ),
        ("train --config none.json", "none.json: "),
        (
            "train --config bad.json",
            "num_epoch: not known; did you mean num_epochs?",
        ),
        (
            "train --preset mosy",
            "no preset is named mosy; there are mosi, mosei",
        ),
        (
            "train --set nlevel=2",
            "nlevel: not known; did you mean nlevels?",
        ),
        ("train --set alpha=large", "configuration key alpha: "),
        (
            "train --modalities fou,car",
            "mfeat: car: no such modality; there are fac, fou, kar",
        ),
        ("train --split night", "mfeat: split_night: no such split"),
        ("train --batch-size 1", "batch_size: is 1"),
        (
            "train --batch-size 4",
            "num_prototypes: is 6, more than the 4 samples of a batch",
        ),
        ("train --seeds 1 1", "--seeds: 1 is given twice"),
        ("train --device tpu", "--device tpu: expected cpu, cuda"),
        #[cfg(not(feature = "cuda"))]
        (
            "train --device cuda:0",
            "--device cuda:0: this program was built without CUDA; rebuild with --features cuda",
        ),
        #[cfg(not(feature = "metal"))]
        (
            "train --device metal",
            "--device metal: this program was built without Metal; rebuild with --features metal",
        ),
        ("train --threads 0", "--threads 0"),
        ("evaluate none.safetensors mfeat", "none.safetensors: "),
        (
            "evaluate text.safetensors mfeat",
            "text.safetensors: not a safetensors file",
        ),
        (
            "predict text.safetensors mfeat",
            "text.safetensors: not a safetensors file",
        ),
        (
            "train --set use_bert=true",
            "use_bert: there is no text among",
        ),
        (
            "train --threads 100000",
            "--threads 100000: expected 1 to 1024",
        ),
        (
            "config --set nlevels=0",
            "nlevels: is 0, must be at least 1",
        ),
        ("verify none", "config.json"),
    ];
    let printed: Value = serde_json::from_str(&program.run("config --preset sims").out).unwrap();
    assert_eq!(
        printed["dst_feature_dim_nheads"],
        serde_json::json!([32, 8])
    );
    for (line, expected) in cases {
        let error = program.fails(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    // Nothing was begun.
    assert!(!program.path("runs").exists());
}

#[test]
fn divergence_is_status_1_and_names_the_step() {
    let program = Program::new();
    let ended = program.run(&format!("{QUICK} --learning-rate 1e9 --set clip=1e9"));
    let last = ended.err.lines().last().unwrap();
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(last.contains("of epoch 1; lower learning_rate"), "{last}");
}

#[test]
fn verify_tells_by_status_and_in_json() {
    let program = Program::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decalign/tests/fixtures");
    let folder = fixtures.join("mosi-small").display().to_string();
    let ended = program.run(&format!("verify {folder}"));
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(
        ended.out.lines().last().unwrap().starts_with("holds: "),
        "{}",
        ended.out
    );
    let ended = program.run(&format!("verify {folder} --dtype f32 --json"));
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(report["holds"].as_bool().unwrap() && report["dtype"] == "f32");
    let ended = program.run(&format!("verify {folder} --tolerance 1e-17"));
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .out
            .lines()
            .last()
            .unwrap()
            .starts_with("DOES NOT HOLD: "),
        "{}",
        ended.out
    );
    // The recorded rounding of key biases is further from 0 than the tolerance.
    let ended = program.run(&format!("verify {folder} --strict"));
    assert!(
        ended.code == 1 && ended.out.contains("in_proj_bias  FAILS"),
        "{}",
        ended.out
    );
    assert_eq!(
        program
            .run(&format!("verify {folder} --weights {folder}/weights.pth"))
            .code,
        0
    );
}
