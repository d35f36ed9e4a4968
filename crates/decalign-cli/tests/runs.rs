//! What a run leaves in its folder, and how runs compare.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const QUICK: &str = "train --modalities fou,mor --epochs 2 --set nlevels=1 --set batch_size=100";

fn run(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decalign"));
    command
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn done(folder: &Path, line: &str) -> String {
    let output = run(folder, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

#[test]
fn a_folder_holds_all_that_a_run_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &format!("{QUICK} --tensorboard --threads 2"));
    let place = folder.join("runs/mfeat");
    let mut names: Vec<String> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let events = names
        .iter()
        .position(|name| name.starts_with("events.out.tfevents."))
        .unwrap();
    let events = names.remove(events);
    let want = [
        ".lock",
        "best.safetensors",
        "config.json",
        "epochs.csv",
        "history.json",
        "metrics.json",
        "predictions-test.csv",
        "predictions-valid.csv",
        "run.json",
    ];
    assert_eq!(names, want);

    let record = read(&place.join("run.json"));
    assert_eq!(record["status"], "done");
    assert_eq!(record["seed"], 1);
    assert_eq!(record["benchmark"], "classification");
    assert_eq!(record["data"]["train"], 1200);
    assert_eq!(record["data"]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(record["machine"]["threads"], 2);
    assert_eq!(record["machine"]["device"], "cpu");
    // The program holds the version as a constant: the lock file must agree.
    let candle = record["program"]["candle"].as_str().unwrap();
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
    if let Ok(lock) = lock {
        let entry = format!("name = \"candle-core\"\nversion = \"{candle}\"");
        assert!(lock.contains(&entry), "{candle}");
    }
    assert!(
        record["program"]["rustc"]
            .as_str()
            .unwrap()
            .starts_with("rustc ")
    );
    assert_eq!(record["sessions"].as_array().unwrap().len(), 1);
    for phase in [
        "loading",
        "preparing",
        "training",
        "validation",
        "saving",
        "test",
    ] {
        assert!(
            record["seconds"][phase].as_f64().unwrap() > 0.0,
            "{phase}: {record}"
        );
    }
    assert_eq!(record["command"][0], "train");

    // The table of epochs and its twin say the same.
    let mut table = csv::Reader::from_path(place.join("epochs.csv")).unwrap();
    let header = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let history = read(&place.join("history.json"));
    for (row, epoch) in rows.iter().zip(history["epochs"].as_array().unwrap()) {
        for (name, value) in header.iter().zip(row) {
            let twin = match name.split_once('_') {
                Some(("train", loss)) => &epoch["losses"][loss],
                Some(("valid", metric)) if metric != "loss" => &epoch["valid"][metric],
                _ => &epoch[name],
            };
            match name {
                "best" => assert_eq!(twin.as_bool().unwrap(), value == "1"),
                "seconds" => {
                    assert!((twin.as_f64().unwrap() - value.parse::<f64>().unwrap()).abs() < 1e-3)
                }
                _ => assert_eq!(
                    twin.as_f64().unwrap(),
                    value.parse::<f64>().unwrap(),
                    "{name}"
                ),
            }
        }
    }
    assert_eq!(rows.len(), 2);

    let scalars = scalars(&place.join(events));
    for (row, epoch) in rows.iter().zip(1..) {
        for (name, value) in header
            .iter()
            .zip(row)
            .filter(|(name, _)| *name != "epoch" && *name != "best")
        {
            let tag = name
                .replacen("train_", "train/", 1)
                .replacen("valid_", "valid/", 1);
            let there = scalars[&(epoch, tag)];
            let value = value.parse::<f64>().unwrap();
            assert!(
                (f64::from(there) - value).abs()
                    <= 1e-3 * value.abs().max(1e-3) + if name == "seconds" { 1e-3 } else { 0.0 },
                "{name}"
            );
        }
    }

    // Predictions give the figures again.
    let metrics = read(&place.join("metrics.json"));
    let mut table = csv::Reader::from_path(place.join("predictions-test.csv")).unwrap();
    let header: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header[..4], ["row", "id", "label", "prediction"]);
    assert_eq!(
        header[4..],
        (0..10).map(|c| format!("score_{c}")).collect::<Vec<_>>()
    );
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let hits = rows.iter().filter(|row| row[2] == row[3]).count() as f64 / rows.len() as f64;
    assert_eq!(metrics["test"]["Acc"].as_f64().unwrap(), hits);
    let interval = &metrics["intervals"]["test"]["Acc"];
    let ends = [interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap()];
    // Binomial: about two deviations either way.
    let deviation = (hits * (1.0 - hits) / rows.len() as f64).sqrt();
    assert!(
        (ends[0] - (hits - 1.96 * deviation)).abs() < 0.5 * deviation,
        "{ends:?}"
    );
    assert!(
        (ends[1] - (hits + 1.96 * deviation)).abs() < 0.5 * deviation,
        "{ends:?}"
    );

    let shown: Value = serde_json::from_str(&done(
        folder,
        "evaluate runs/mfeat/best.safetensors mfeat --json",
    ))
    .unwrap();
    assert_eq!(shown["intervals"]["figures"], metrics["intervals"]["test"]);
    let shown = done(folder, "evaluate runs/mfeat/best.safetensors mfeat");
    assert!(shown.contains("95 % from"), "{shown}");
}

/// The scalars of an event file by step and tag; every checksum is checked.
fn scalars(path: &Path) -> BTreeMap<(u64, String), f32> {
    let bytes = std::fs::read(path).unwrap();
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
    };
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut all, mut first) = (0, BTreeMap::new(), true);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(u32_at(at + 8), masked(&bytes[at..at + 8]));
        let event = &bytes[at + 12..at + 12 + length];
        assert_eq!(u32_at(at + 12 + length), masked(event));
        at += 16 + length;
        let fields = fields(event);
        assert!(
            fields.iter().any(|(number, _)| *number == 1),
            "no wall time"
        );
        if std::mem::take(&mut first) {
            assert!(
                fields
                    .iter()
                    .any(|(n, content)| (*n, &content[..]) == (3, b"brain.Event:2"))
            );
        }
        let step = fields
            .iter()
            .find(|(n, _)| *n == 2)
            .map_or(0, |(_, v)| u64::from_le_bytes(v[..].try_into().unwrap()));
        for (_, summary) in fields.iter().filter(|(n, _)| *n == 5) {
            for (_, value) in self::fields(summary) {
                let parts = self::fields(&value);
                let part = |number: u8| &parts.iter().find(|(n, _)| *n == number).unwrap().1;
                let tag = String::from_utf8(part(1).clone()).unwrap();
                let number = f32::from_le_bytes(part(2)[..].try_into().unwrap());
                assert!(all.insert((step, tag), number).is_none());
            }
        }
    }
    all
}

/// Number and content of every field of a protocol buffer; integers as eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let take = match key & 7 {
            0 => {
                all.push(((key >> 3) as u8, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        all.push(((key >> 3) as u8, bytes[..take].to_vec()));
        bytes = &bytes[take..];
    }
    all
}

#[test]
fn runs_are_compared_sample_by_sample() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &format!("{QUICK} --run-dir short"));
    done(
        folder,
        &format!("{QUICK} --run-dir long --epochs 6").replace("--epochs 2", ""),
    );
    done(folder, &format!("{QUICK} --run-dir seeds --seeds 1 2"));
    let compare = |line: &str| -> Value { serde_json::from_str(&done(folder, line)).unwrap() };
    let there = compare("compare short long --json");
    let metric = &there["metrics"]["Acc"];
    let accuracy = |name: &str| {
        read(&folder.join(name).join("metrics.json"))["test"]["Acc"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(metric["first"].as_f64().unwrap(), accuracy("short"));
    assert_eq!(metric["second"].as_f64().unwrap(), accuracy("long"));
    // Four epochs more make more of a difference than chance.
    assert!(
        metric["low"].as_f64().unwrap() > 0.0 && metric["p_value"].as_f64().unwrap() < 0.01,
        "{metric}"
    );
    assert_eq!(there["samples"], 500);
    assert_eq!(there["method"], "bca");
    assert_eq!(compare("compare short long --json"), there);
    let same = compare("compare long long --json");
    assert_eq!(same["metrics"]["Acc"]["difference"], 0.0);
    assert_eq!(same["metrics"]["Acc"]["p_value"], 1.0);
    let seeds = compare("compare seeds long --json");
    assert_eq!(seeds["method"], "percentile");
    assert_eq!(seeds["first"]["seeds"], json!([1, 2]));
    let table = done(folder, "compare short seeds");
    assert!(
        table.contains("second: seeds, 2 seeds") && table.contains("difference"),
        "{table}"
    );

    let fails = |line: &str, expected: &str| {
        let output = run(folder, line);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {err}");
        assert!(
            err.lines().count() == 1 && err.contains(expected),
            "{line}: {err}"
        );
    };
    fails("compare short none", "none/run.json: not there");
    fails(
        "compare short long --replicates 1",
        "--replicates 1: expected 100",
    );
    let predictions = folder.join("long/predictions-test.csv");
    let kept = text(&predictions);
    let (first, rest) = kept.split_at(kept.trim_end().rfind('\n').unwrap() + 1);
    std::fs::write(&predictions, first).unwrap();
    fails("compare short long", "their test samples or labels differ");
    std::fs::write(
        &predictions,
        format!("{first}{}", rest.replacen(',', ",x,", 1)),
    )
    .unwrap();
    fails("compare short long", "long/predictions-test.csv: ");
    std::fs::write(&predictions, kept.replace("score_3", "score")).unwrap();
    fails("compare short long", "no column score_3");
    let record = folder.join("long/run.json");
    std::fs::write(&record, text(&record).replace("\"done\"", "\"stopped\"")).unwrap();
    fails(
        "compare short long",
        "long/run.json: the run is not done; finish it with: decalign train --resume long",
    );
    std::fs::write(&record, "{}").unwrap();
    fails("compare short long", "long/run.json: missing field");
}

/// Scores, texts and identifiers.
#[test]
fn scores_with_texts_are_kept_with_them() {
    use decalign::data::{Labels, Modality, Part};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let numbers = decalign::core::random::Stream::new(1, 0).normal(90 * 4);
    let view = |shift: usize| {
        let values: Vec<f32> = (0..90 * 4)
            .map(|i| numbers[(i + shift) % numbers.len()] as f32)
            .collect();
        candle_core::Tensor::from_vec(values, (90, 4), &candle_core::Device::Cpu).unwrap()
    };
    let data = decalign::Dataset::new(
        "own",
        vec![
            Modality::new("a", &view(0), None).unwrap(),
            Modality::new("b", &view(1), None).unwrap(),
        ],
    )
    .unwrap()
    .with_labels(Labels::Scores(
        (0..90).map(|i| numbers[4 * i] as f32).collect(),
    ))
    .unwrap()
    .with_split(
        "",
        (0..90)
            .map(|i| Some([Part::Train, Part::Valid, Part::Test][i % 3]))
            .collect(),
    )
    .unwrap()
    .with_ids((0..90).map(|i| format!("video-{i}")).collect())
    .unwrap()
    .with_texts(
        (0..90)
            .map(|i| format!("he said \"{i}\",\nthen left"))
            .collect(),
    )
    .unwrap();
    data.save(folder.join("own.safetensors")).unwrap();
    done(
        folder,
        "train --dataset own.safetensors --epochs 2 --set nlevels=1 --run-dir one",
    );
    let mut table = csv::Reader::from_path(folder.join("one/predictions-test.csv")).unwrap();
    assert_eq!(
        table.headers().unwrap(),
        vec!["row", "id", "label", "prediction", "text"]
    );
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 30);
    assert_eq!(&rows[1][1], "video-5");
    assert_eq!(&rows[1][4], "he said \"5\",\nthen left");
    let error = rows.iter().map(|row| {
        let number = |i: usize| f64::from(row[i].parse::<f32>().unwrap());
        (number(2) - number(3)).abs()
    });
    let error = error.sum::<f64>() / 30.0;
    let metrics = read(&folder.join("one/metrics.json"));
    assert!((metrics["test"]["MAE"].as_f64().unwrap() - error).abs() < 1e-12);
    assert_eq!(
        read(&folder.join("one/run.json"))["benchmark"],
        "regression"
    );
    done(folder, "compare one one");
}
