//! `decalign convert` and `decalign inspect` from outside.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use decalign_data::{Dataset, Part};
use serde_json::Value;

struct Program(tempfile::TempDir);

impl Program {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exit status, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_decalign"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn succeeds(&self, arguments: &[&str]) -> (String, String) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        (out, err)
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let (code, _, err) = self.run(arguments);
        assert_eq!((code, err.lines().count()), (2, 1), "{arguments:?}: {err}");
        err
    }
}

fn fixture() -> String {
    let file = "../decalign-data/tests/fixtures/pickle/unaligned-protocol4.pkl";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_pickle_becomes_a_container_and_a_pickle_again() {
    let program = Program::new();
    let (out, err) = program.succeeds(&["convert", &fixture(), "a.safetensors"]);
    assert!(
        out.is_empty() && err.contains("a.safetensors: 13 samples, audio 5x2, vision 4x3"),
        "{err}"
    );
    program.succeeds(&["convert", "a.safetensors", "b.npz"]);
    program.succeeds(&["convert", "b.npz", "c.pkl"]);
    let (first, last) = (
        Dataset::open(fixture()).unwrap(),
        Dataset::open(program.path("c.pkl")).unwrap(),
    );
    for (a, b) in first.modalities().iter().zip(last.modalities()) {
        let numbers = |m: &decalign_data::Modality| -> Vec<u32> {
            let flat = m
                .features()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            flat.iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(numbers(a), numbers(b));
        assert_eq!(a.lengths(), b.lengths());
    }
    assert_eq!((first.ids(), first.labels()), (last.ids(), last.labels()));
    let whole = std::fs::metadata(program.path("a.safetensors"))
        .unwrap()
        .len();
    program.succeeds(&[
        "convert",
        "a.safetensors",
        "half",
        "--to",
        "safetensors",
        "--precision",
        "f16",
        "--replace-non-finite",
    ]);
    assert!(std::fs::metadata(program.path("half")).unwrap().len() < whole);
    // Nothing but what was asked for is left.
    assert_eq!(std::fs::read_dir(program.path("")).unwrap().count(), 4);
}

#[test]
fn splits_are_made_on_the_way() {
    let program = Program::new();
    let made = [
        "convert",
        "mfeat",
        "m.safetensors",
        "--modalities",
        "mor,fou",
        "--fractions",
        "0.6,0.2,0.2",
        "--stratified",
        "--name",
        "mine",
        "--folds",
        "4",
    ];
    program.succeeds(&made);
    let data = Dataset::open(program.path("m.safetensors")).unwrap();
    let names: Vec<&str> = data.split_names().collect();
    assert_eq!(names.len(), 6);
    assert!(names.contains(&"split_mine") && names.contains(&"split_minefold3"));
    assert_eq!(data.part(Some("mine"), Part::Test).unwrap().len(), 400);
    program.succeeds(&[
        "convert",
        "m.safetensors",
        "only.safetensors",
        "--split",
        "mine",
    ]);
    let only = Dataset::open(program.path("only.safetensors")).unwrap();
    assert!(only.split_names().eq(["split"]));
    // The file trains, and the protocol that looks at the test part says so.
    let quick = [
        "train",
        "--dataset",
        "only.safetensors",
        "--split",
        "paper_count",
        "--epochs",
        "1",
        "--set",
        "nlevels=1",
        "--set",
        "batch_size=200",
    ];
    let (_, err) = program.succeeds(&quick);
    assert!(err.contains("warning: paper_count"), "{err}");
}

#[test]
fn an_inspection_is_a_text_or_json() {
    let program = Program::new();
    let (out, _) = program.succeeds(&["inspect", &fixture()]);
    for expected in [
        "13 samples",
        "SHA-256",
        "audio",
        "scores",
        "error    audio: 3 numbers are NaN or infinite",
        "-> take them as 0",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let (out, _) = program.succeeds(&["inspect", &fixture(), "--json"]);
    let seen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(seen["data"]["samples"], 13);
    assert_eq!(seen["data"]["splits"][0]["train"], 6);
    assert_eq!(seen["data"]["findings"][0]["severity"], "error");
    assert_eq!(seen["file"]["sha256"].as_str().unwrap().len(), 64);
    let (out, _) = program.succeeds(&["inspect", "mfeat"]);
    assert!(
        out.contains("2000 samples") && out.contains("classes: 0 200, 1 200"),
        "{out}"
    );
}

#[test]
fn bad_input_is_one_line() {
    let program = Program::new();
    let error = program.fails(&["convert", "mfeat", "out.what"]);
    assert!(error.contains("out.what: which format?"), "{error}");
    let error = program.fails(&["convert", "absent.pkl", "out.npz"]);
    assert!(error.contains("absent.pkl"), "{error}");
    let error = program.fails(&["convert", "mfeat", "out.npz", "--fractions", "0.5,0.5"]);
    assert!(
        error.contains("--fractions: expected three numbers, got 2"),
        "{error}"
    );
    let error = program.fails(&["convert", "mfeat", "out.npz", "--modalities", "none"]);
    assert!(error.contains("none: no such modality"), "{error}");
    let error = program.fails(&["convert", "mfeat", "no/such/folder/out.npz"]);
    assert!(error.contains("no/such/folder/out.npz"), "{error}");
    std::fs::write(program.path("bad.pkl"), b"cos\nsystem\n(S'true'\ntR.").unwrap();
    let error = program.fails(&["inspect", "bad.pkl"]);
    assert!(
        error.contains("bad.pkl: not a pickle of data: byte 0: asks for \"os.system\""),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(program.path("")).unwrap().count(), 1);
}
