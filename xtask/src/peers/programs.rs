//! Programs to compare, made ready once under the target folder.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{call, cargo, described, root};

/// A program that prints measurements, one a line.
pub(crate) struct Program {
    /// What its measurements are known by.
    pub(crate) name: &'static str,
    path: PathBuf,
    arguments: Vec<OsString>,
    /// What it prints, as measurements.
    read: fn(&str) -> Result<Vec<String>, String>,
}

/// Libraries behind NumPy read their number of threads from these.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

impl Program {
    /// The lines it prints.
    pub(crate) fn run(&self) -> Result<Vec<String>, String> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(THREADS.map(|name| (name, "1")));
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| described(&self.path, &error))?;
        match output.status.success() {
            true => (self.read)(&String::from_utf8_lossy(&output.stdout)),
            false => Err(format!("{}: {}", self.name, output.status)),
        }
    }
}

/// Ours: a program of the package `decalign-benches`.
pub(crate) fn ours(binary: &str) -> Result<Program, String> {
    let path = built("decalign-benches", binary)?;
    Ok(Program {
        name: "decalign",
        path,
        arguments: Vec::new(),
        read: lines,
    })
}

/// Ours: `decalign bench` of a preset, on two threads and the step on one.
pub(crate) fn bench(preset: &str) -> Result<Program, String> {
    let path = built("decalign-cli", "decalign")?;
    let arguments = [
        "bench",
        preset,
        "--seconds",
        "4",
        "--threads",
        "2",
        "--json",
    ];
    Ok(Program {
        name: "decalign",
        path,
        arguments: arguments.map(OsString::from).to_vec(),
        read: report,
    })
}

fn built(package: &str, binary: &str) -> Result<PathBuf, String> {
    let arguments = ["build", "--release", "--package", package, "--bin", binary];
    cargo(&arguments, &[])?;
    Ok(executable(&target()?.join("release"), binary))
}

/// One measurement a line.
fn lines(text: &str) -> Result<Vec<String>, String> {
    Ok(text.lines().map(str::to_owned).collect())
}

/// Of the JSON that `decalign bench` prints.
fn report(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("decalign bench printed what is no report: {text}");
    let report: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let preset = report["preset"].as_str().ok_or_else(wrong)?;
    let phases = report["phases"].as_array().ok_or_else(wrong)?;
    let phases = phases.iter().flat_map(|p| [&p["forward"], &p["backward"]]);
    let alone: f64 = phases.filter_map(Value::as_f64).sum();
    let number = |key: &str| report[key].as_f64().ok_or_else(wrong);
    let optimiser = number("optimiser")?;
    let mut measures = vec![
        ("step", number("step")? / 1e3),
        ("step, 1 thread", (alone + optimiser) / 1e3),
        ("evaluation", number("evaluation")? / 1e3),
    ];
    measures.extend(
        report["peak_memory_mb"]
            .as_f64()
            .map(|mb| ("memory", mb * 1e6)),
    );
    let line = |(name, value): (&str, f64)| {
        json!({"name": format!("{preset} {name}"), "value": value}).to_string()
    };
    Ok(measures.into_iter().map(line).collect())
}

/// The layers of `xtask/peers/layers.py`: a preset or `attention`.
pub(crate) fn torch(what: &str) -> Result<Program, String> {
    let requirements = include_str!("../../peers/requirements-torch.txt");
    let script = root().join("xtask/peers/layers.py");
    Ok(Program {
        name: "torch",
        path: environment("venv-torch", "requirements-torch.txt", requirements)?,
        arguments: vec![script.into(), what.into()],
        read: lines,
    })
}

/// A script of `xtask/peers`, run in a virtual environment with `xtask/peers/requirements.txt`.
pub(crate) fn python(name: &'static str, script: &str) -> Result<Program, String> {
    Ok(Program {
        name,
        path: environment(
            "venv",
            "requirements.txt",
            include_str!("../../peers/requirements.txt"),
        )?,
        arguments: vec![root().join("xtask/peers").join(script).into()],
        read: lines,
    })
}

/// A crate that must not enter this workspace's lock file: the manifest and program of
/// `xtask/peers/NAME`, built in a project of its own.
pub(crate) fn scratch(
    name: &'static str,
    manifest: &str,
    program: &str,
) -> Result<Program, String> {
    let project = peers()?.join(name);
    write(&project.join("Cargo.toml"), manifest)?;
    write(&project.join("src/main.rs"), program)?;
    let manifest = project.join("Cargo.toml").display().to_string();
    let built = project.join("target");
    let folder = built.display().to_string();
    cargo(
        &[
            "build",
            "--release",
            "--manifest-path",
            &manifest,
            "--target-dir",
            &folder,
        ],
        &[],
    )?;
    Ok(Program {
        name,
        path: executable(&built.join("release"), &format!("peers-{name}")),
        arguments: Vec::new(),
        read: lines,
    })
}

/// The Python of a virtual environment, which is made where it is absent or its requirements, a file of
/// `xtask/peers`, have changed.
fn environment(name: &str, file: &str, wanted: &str) -> Result<PathBuf, String> {
    let folder = peers()?.join(name);
    let python = match cfg!(windows) {
        true => folder.join("Scripts").join("python.exe"),
        false => folder.join("bin").join("python"),
    };
    let installed = folder.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    call(
        &mut make,
        "python3 -m venv",
        "install Python 3.11 or later with its venv module",
    )?;
    let list = root().join("xtask/peers").join(file);
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ]);
    let line = format!("pip install -r xtask/peers/{file}");
    call(
        install.arg(list),
        &line,
        "the virtual environment is broken",
    )
    .map_err(|error| format!("{error} (it needs PyPI, or an index that pip is set to)"))?;
    write(&installed, wanted)?;
    Ok(python)
}

/// Where cargo builds this workspace.
fn target() -> Result<PathBuf, String> {
    let folder =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(&folder).map_err(|error| described(&folder, &error))
}

fn peers() -> Result<PathBuf, String> {
    Ok(target()?.join("peers"))
}

fn executable(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// Writes a file unless it is there already, so that nothing is built anew.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| described(folder, &error))?;
    fs::write(path, text).map_err(|error| described(path, &error))
}

/// Texts to encode, which peers/encode.py writes, and the encoder.
fn texts(python: &Path) -> Result<[PathBuf; 2], String> {
    crate::minilm::install(&root())?;
    let texts = peers()?.join("texts.jsonl");
    let mut write = Command::new(python);
    write.arg(root().join("xtask/peers/encode.py"));
    write.arg("texts").arg(&texts);
    call(
        &mut write,
        "encode.py texts",
        "the virtual environment is broken",
    )?;
    Ok([root().join("target/minilm"), texts])
}

/// Ours: `decalign encode` on two threads.
pub(crate) fn encoding() -> Result<Program, String> {
    let path = built("decalign-cli", "decalign")?;
    let [encoder, texts] = texts(&environment_of_transformers()?)?;
    let out = peers()?.join("encoded.safetensors");
    let mut arguments: Vec<OsString> = vec!["encode".into(), texts.into(), "--encoder".into()];
    arguments.extend([encoder.into(), "--out".into(), out.into()]);
    arguments.extend(["--threads", "2", "--json"].map(OsString::from));
    Ok(Program {
        name: "decalign",
        path,
        arguments,
        read: |text| {
            let wrong = || format!("decalign encode printed what is no report: {text}");
            let report: Value = serde_json::from_str(text).map_err(|_| wrong())?;
            let seconds = report["seconds"].as_f64().ok_or_else(wrong)?;
            Ok(vec![
                json!({"name": "encode", "value": seconds}).to_string(),
            ])
        },
    })
}

/// `transformers` on the same texts.
pub(crate) fn transformers() -> Result<Program, String> {
    let path = environment_of_transformers()?;
    let [encoder, texts] = texts(&path)?;
    let script = root().join("xtask/peers/encode.py");
    Ok(Program {
        name: "transformers",
        path,
        arguments: vec![
            script.into(),
            "measure".into(),
            encoder.into(),
            texts.into(),
        ],
        read: lines,
    })
}

fn environment_of_transformers() -> Result<PathBuf, String> {
    let requirements = include_str!("../../peers/requirements-transformers.txt");
    environment(
        "venv-transformers",
        "requirements-transformers.txt",
        requirements,
    )
}
