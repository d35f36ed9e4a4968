//! Runs that are interrupted, with real processes: killed, stopped, damaged, without room.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use decalign::core::random::Stream;
use serde_json::Value;

/// A run of a few seconds: `train` with these, a state after every step.
const RUN: &str = "train --modalities fou,mor --epochs 3 --set nlevels=1 --set batch_size=100 --threads 1 --save-every 0";

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decalign"));
    command.args(line.split_whitespace()).current_dir(folder);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Status and the last line of the errors.
fn ended(output: &Output) -> (Option<i32>, String) {
    let err = String::from_utf8_lossy(&output.stderr);
    (
        output.status.code(),
        err.lines().last().unwrap_or_default().to_owned(),
    )
}

fn run(folder: &Path, line: &str) -> (Option<i32>, String) {
    ended(&command(folder, line).output().unwrap())
}

/// What a run leaves, without what time has to do with.
#[derive(PartialEq)]
struct Left {
    best: Vec<u8>,
    predictions: Vec<u8>,
    epochs: Vec<String>,
    test: Value,
}

fn left(run: &Path) -> Left {
    let text = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let json = |name: &str| serde_json::from_str::<Value>(&text(name)).unwrap();
    assert_eq!(json("run.json")["status"], "done");
    let without_seconds = |line: &str| line.rsplit_once(',').unwrap().0.to_owned();
    assert!(!run.join("state.safetensors").exists());
    Left {
        best: std::fs::read(run.join("best.safetensors")).unwrap(),
        predictions: std::fs::read(run.join("predictions-test.csv")).unwrap(),
        epochs: text("epochs.csv").lines().map(without_seconds).collect(),
        test: json("metrics.json")["test"].clone(),
    }
}

/// Waits until a file is there.
fn wait_for(path: &Path, child: &mut Child) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            path.display()
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Begins a run and waits until it can be resumed.
fn begin(folder: &Path, name: &str) -> (Child, PathBuf) {
    begin_as(folder, name, RUN)
}

fn begin_as(folder: &Path, name: &str, line: &str) -> (Child, PathBuf) {
    let path = folder.join(name);
    let line = format!("{line} --run-dir {name}");
    let mut child = command(folder, &line).spawn().unwrap();
    wait_for(&path.join("run.json"), &mut child);
    (child, path)
}

/// The uninterrupted run and how long it takes.
fn whole(folder: &Path) -> (Left, Duration) {
    let (mut child, path) = begin(folder, "whole");
    let begun = Instant::now();
    assert!(child.wait().unwrap().success());
    (left(&path), begun.elapsed())
}

#[test]
fn killed_at_twenty_moments_every_run_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, time) = whole(folder);
    let mut resumed = 0;
    for (i, share) in Stream::new(11, 0).uniform(20, 0.0, 1.0).iter().enumerate() {
        let (mut child, path) = begin(folder, &format!("killed-{i}"));
        std::thread::sleep(time.mul_f64(*share));
        // SIGKILL: nothing of the process gets to finish anything.
        child.kill().unwrap();
        resumed += usize::from(!child.wait().unwrap().success());
        let (code, line) = run(
            folder,
            &format!("train --resume killed-{i} --threads 1 --save-every 0"),
        );
        assert_eq!(code, Some(0), "{i}, at {share:.3}: {line}");
        assert!(left(&path) == want, "{i}, at {share:.3}");
    }
    assert!(
        resumed >= 15,
        "only {resumed} of 20 were killed before they were done"
    );
}

#[test]
fn killed_again_and_again_with_other_threads_a_run_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, _) = whole(folder);
    let (mut child, path) = begin(folder, "often");
    let mut kills = 0;
    loop {
        kill_after_saves(&mut child, &path.join("state.safetensors"), 4);
        if child.wait().unwrap().success() {
            break;
        }
        kills += 1;
        let threads = 1 + kills % 3;
        let line = format!("train --resume often --threads {threads} --save-every 0");
        child = command(folder, &line).spawn().unwrap();
    }
    assert!(left(&path) == want);
    assert!((3..=11).contains(&kills), "{kills}");
}

/// Kills a run once its state was saved so many times, if it does not end before.
fn kill_after_saves(child: &mut Child, state: &Path, saves: usize) {
    let saved = || {
        std::fs::metadata(state)
            .and_then(|state| state.modified())
            .ok()
    };
    let (mut last, mut seen) = (saved(), 0);
    while seen < saves && child.try_wait().unwrap().is_none() {
        let now = saved();
        seen += usize::from(now.is_some() && now != last);
        last = now.or(last);
        std::thread::sleep(Duration::from_micros(200));
    }
    let _ = child.kill();
}

#[test]
fn a_damaged_state_is_told_and_the_one_before_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, _) = whole(folder);
    let (mut child, path) = begin(folder, "damaged");
    wait_for(&path.join("state-previous.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let newest = path.join("state.safetensors");
    if !newest.exists() {
        // Killed between two files.
        std::fs::copy(path.join("state-previous.safetensors"), &newest).unwrap();
    }
    let kept: Vec<(String, Vec<u8>)> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != ".lock")
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    let bytes = std::fs::read(&newest).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    for (case, content) in [
        ("flipped", &flipped[..]),
        ("cut", &bytes[..middle]),
        ("empty", b""),
    ] {
        let again = folder.join(case);
        std::fs::create_dir(&again).unwrap();
        for (name, content) in &kept {
            std::fs::write(again.join(name), content).unwrap();
        }
        std::fs::write(again.join("state.safetensors"), content).unwrap();
        let output = command(folder, &format!("train --resume {case}"))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {err}");
        let told = "moved to state-damaged.safetensors, resuming from state-previous.safetensors";
        assert!(
            err.contains("state.safetensors: ") && err.contains(told),
            "{case}: {err}"
        );
        assert!(left(&again) == want, "{case}");
    }
    // Without one before it there is nothing to go on from, and nothing is touched.
    let alone = folder.join("alone");
    std::fs::create_dir(&alone).unwrap();
    for name in ["run.json", "config.json"] {
        std::fs::copy(path.join(name), alone.join(name)).unwrap();
    }
    std::fs::write(alone.join("state.safetensors"), &flipped).unwrap();
    let (code, line) = run(folder, "train --resume alone");
    assert_eq!(code, Some(2));
    assert!(
        line.contains("damaged: its content is not what its checksum says"),
        "{line}"
    );
    assert!(
        line.contains("remove state*.safetensors to start again"),
        "{line}"
    );
    assert!(std::fs::read(alone.join("state.safetensors")).unwrap() == flipped);
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, _) = whole(folder);
    for (signal, name) in [("INT", "int"), ("TERM", "term")] {
        let (mut child, path) = begin(folder, name);
        wait_for(&path.join("state.safetensors"), &mut child);
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let (code, line) = ended(&child.wait_with_output().unwrap());
        assert_eq!(code, Some(130), "{line}");
        let how = format!("go on with: decalign train --resume {name}");
        assert!(
            line.contains("stopped after step") && line.ends_with(&how),
            "{line}"
        );
        let record = std::fs::read_to_string(path.join("run.json")).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&record).unwrap()["status"],
            "stopped"
        );
        assert_eq!(run(folder, &format!("train --resume {name}")).0, Some(0));
        assert!(left(&path) == want, "{name}");
        // Once it is done, to resume it shows its figures again.
        assert_eq!(run(folder, &format!("train --resume {name}")).0, Some(0));
    }
}

#[test]
fn one_folder_has_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Long enough to be there while others try.
    let line = RUN.replace("--epochs 3", "--epochs 30");
    let (mut child, _) = begin_as(folder, "one", &line);
    let id = child.id();
    for line in ["train --resume one", "train --run-dir one"] {
        let (code, message) = run(folder, line);
        assert_eq!(code, Some(2), "{message}");
        let held = format!("one: process {id} is training here");
        assert!(message.contains(&held), "{message}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock of a process that is gone holds nobody.
    let (code, message) = run(folder, "train --run-dir one");
    assert_eq!(code, Some(2));
    assert!(
        message.contains("one: not empty") && message.contains("--resume"),
        "{message}"
    );
    assert_eq!(run(folder, "train --resume one").0, Some(0));
}

#[test]
fn what_cannot_be_resumed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut child, path) = begin(folder, "one");
    wait_for(&path.join("state.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    for (line, expected) in [
        ("train --resume none", "none: no such folder"),
        (
            "train --resume empty",
            "run.json: not there: no run was begun",
        ),
        ("train --resume one --seeds 3", "cannot be used with"),
        ("train --resume one --save-every -1", "--save-every"),
        (
            "train --resume one --jobs 0",
            "--jobs 0: expected 1 or more",
        ),
        (
            "train --resume one --memory 1",
            "--memory: nothing to limit",
        ),
        (
            "train --resume one --jobs 2 --memory -1",
            "--memory -1: expected GiB",
        ),
    ] {
        let output = command(folder, line).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {err}");
        assert!(err.contains(expected), "{line}: {err}");
    }
    // Another configuration, other data.
    let config = path.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"alpha\": 0.05", "\"alpha\": 0.5")).unwrap();
    let (code, line) = run(folder, "train --resume one");
    assert_eq!(code, Some(2));
    assert!(
        line.contains("configuration, data or model have changed"),
        "{line}"
    );
    std::fs::write(&config, text).unwrap();
    let same = decalign::Dataset::mfeat().unwrap();
    let same = same.select(&["fou", "mor"]).unwrap();
    same.save(folder.join("same.safetensors")).unwrap();
    let mor = (same.modalities()[1].features() * 2.0).unwrap();
    let mor = decalign_data::Modality::new("mor", &mor, None).unwrap();
    let other = same.select(&["fou"]).unwrap().with_modality(mor).unwrap();
    other.save(folder.join("other.safetensors")).unwrap();
    let (code, line) = run(folder, "train --resume one --dataset other.safetensors");
    assert_eq!(code, Some(2));
    assert!(
        line.contains("not the data that one was begun with"),
        "{line}"
    );
    // What the run does not use does not count.
    let line = "train --resume one --dataset same.safetensors";
    assert_eq!(run(folder, line).0, Some(0));
}

/// A file system that ends before the run does: a limit on the size of files, which needs no rights.
#[cfg(target_os = "linux")]
#[test]
fn without_room_the_error_is_clear_and_what_there_is_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, _) = whole(folder);
    // Blocks of 1024 bytes: room for the model, none for the state.
    let room = std::fs::metadata(folder.join("whole/best.safetensors"))
        .unwrap()
        .len()
        * 2
        / 1024;
    let line = format!(
        "trap '' XFSZ; ulimit -f {room}; exec {} {RUN} --run-dir full",
        env!("CARGO_BIN_EXE_decalign")
    );
    let output = Command::new("bash")
        .args(["-c", &line])
        .current_dir(folder)
        .output()
        .unwrap();
    let (code, message) = ended(&output);
    assert_eq!(code, Some(2), "{message}");
    assert!(
        message.contains("full/state.safetensors: File too large"),
        "{message}"
    );
    assert!(
        message.contains("go on with: decalign train --resume full"),
        "{message}"
    );
    assert_eq!(run(folder, "train --resume full").0, Some(0));
    assert!(left(&folder.join("full")) == want);
}

/// A small file system in memory, where this process may mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_read_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (want, _) = whole(folder);
    let disk = folder.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let options = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let done = Command::new("mount").args(options).arg(&disk).output();
        done.is_ok_and(|output| output.status.success())
    };
    let unmount = || {
        Command::new("umount")
            .arg(&disk)
            .status()
            .is_ok_and(|s| s.success())
    };
    if !mount("size=16m") {
        eprintln!("skipped: this process may not mount a file system");
        return;
    }
    let size = std::fs::metadata(folder.join("whole/best.safetensors"))
        .unwrap()
        .len();
    // Room for the model and one state, not for two.
    let filler = (16u64 << 20).saturating_sub(5 * size);
    std::fs::write(disk.join("filler"), vec![0; filler as usize]).unwrap();
    let full = run(folder, &format!("{RUN} --run-dir disk/full"));
    std::fs::remove_file(disk.join("filler")).unwrap();
    let resumed = run(folder, "train --resume disk/full");
    let bytes = std::fs::read(disk.join("full/best.safetensors"));
    assert!(unmount());
    assert_eq!(full.0, Some(2), "{}", full.1);
    assert!(full.1.contains("No space left on device"), "{}", full.1);
    assert!(full.1.contains("--resume disk/full"), "{}", full.1);
    assert_eq!(resumed.0, Some(0), "{}", resumed.1);
    assert!(bytes.unwrap() == want.best);
    assert!(mount("ro"));
    let (code, line) = run(folder, &format!("{RUN} --run-dir disk/closed"));
    assert!(unmount());
    assert_eq!(code, Some(2));
    assert!(
        line.contains("disk/closed: Read-only file system"),
        "{line}"
    );
}

#[test]
fn seeds_side_by_side_give_the_same_bytes_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = RUN.replace("--threads 1", "--threads 2") + " --seeds 1 2 3";
    assert_eq!(
        run(folder, &format!("{line} --run-dir one-by-one")).0,
        Some(0)
    );
    for (name, more) in [("two", "--jobs 2"), ("small", "--jobs 3 --memory 0.000001")] {
        let output = command(folder, &format!("{line} --run-dir {name} {more}"))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        if name == "small" {
            assert!(
                err.contains("more than --memory allows; they run one by one"),
                "{err}"
            );
        }
    }
    let mut child = command(folder, &format!("{line} --run-dir killed --jobs 2"))
        .spawn()
        .unwrap();
    wait_for(&folder.join("killed/seed-2/state.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, message) = run(folder, "train --resume killed --jobs 3");
    assert_eq!(code, Some(0), "{message}");
    for seed in 1..=3 {
        let want = left(&folder.join(format!("one-by-one/seed-{seed}")));
        for name in ["two", "small", "killed"] {
            assert!(
                left(&folder.join(format!("{name}/seed-{seed}"))) == want,
                "{name} {seed}"
            );
        }
    }
    let metrics = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name).join("metrics.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["test"].clone()
    };
    assert_eq!(metrics("one-by-one"), metrics("killed"));
}

/// The folder of the only run of an experiment, once its state is saved or it is done.
fn only_run(root: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(root).ok()?;
    let run = |entry: std::fs::DirEntry| entry.path().join("seed-1");
    let mut runs = entries.flatten().map(run).filter(|run| run.is_dir());
    runs.next()
}

#[test]
fn a_killed_experiment_resumes_inside_the_run_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = "sweep --modalities fou,mor --epochs 12 --set nlevels=1 --set batch_size=40 --threads 1 \
        --grid alpha=.1 --seeds 1";
    let whole = format!("{line} --run-dir whole");
    assert_eq!(run(folder, &whole).0, Some(0));
    let want = left(&only_run(&folder.join("whole")).unwrap());

    let killed = format!("{line} --run-dir killed");
    let mut child = command(folder, &killed).spawn().unwrap();
    let begun = Instant::now();
    let is_saved = || {
        only_run(&folder.join("killed")).is_some_and(|run| run.join("state.safetensors").exists())
    };
    while !is_saved() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    let interrupted = !child.wait().unwrap().success();
    let path = only_run(&folder.join("killed")).unwrap();
    let record = |path: &Path| -> Value {
        let text = std::fs::read_to_string(path.join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    if interrupted {
        assert_eq!(record(&path)["status"], "running");
        // The folder of an experiment is not that of a run.
        let (code, line) = run(folder, "train --resume killed");
        assert!(code == Some(2) && line.contains("decalign sweep"), "{line}");
    }
    assert_eq!(run(folder, &killed).0, Some(0));
    assert!(left(&path) == want);
    let run_record = record(&path);
    if interrupted {
        let sessions = run_record["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        assert!(sessions[1]["epoch"].as_u64().unwrap() > 1, "{sessions:?}");
    }
    let root = record(&folder.join("killed"));
    assert_eq!(
        (&root["experiment"], &root["status"]),
        (&"sweep".into(), &"done".into())
    );
    // Found again by its configuration.
    assert_eq!(run(folder, &killed).0, Some(0));
    assert_eq!(record(&path)["sessions"], run_record["sessions"]);

    // The run inside an experiment is read like any other.
    let (inside, other) = (path.display(), only_run(&folder.join("whole")).unwrap());
    assert_eq!(run(folder, &format!("report {inside} killed")).0, Some(0));
    assert_eq!(
        run(folder, &format!("compare {inside} {}", other.display())).0,
        Some(0)
    );
}
