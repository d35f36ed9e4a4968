//! Programs to compare, built or installed once under the target folder.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::process::{call, cargo, io_error, root, target};

/// A program that prints measurements, one a line.
pub(super) struct Program {
    /// The prefix of its measurements.
    pub(super) name: &'static str,
    path: PathBuf,
    arguments: Vec<OsString>,
    /// Turns its output into measurements.
    read: fn(&str) -> Result<Vec<String>, String>,
}

/// Libraries behind NumPy read their number of threads from these.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

impl Program {
    fn new(name: &'static str, path: PathBuf, arguments: Vec<OsString>) -> Self {
        let read = |text: &str| Ok(text.lines().map(str::to_owned).collect());
        Self {
            name,
            path,
            arguments,
            read,
        }
    }

    /// Runs it and reads its measurements.
    pub(super) fn run(&self) -> Result<Vec<String>, String> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(THREADS.map(|name| (name, "1")));
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| io_error(&self.path, &error))?;
        match output.status.success() {
            true => (self.read)(&String::from_utf8_lossy(&output.stdout)),
            false => Err(format!("{}: {}", self.name, output.status)),
        }
    }
}

/// Ours: a program of the package `decalign-benches`.
pub(super) fn ours(binary: &str) -> Result<Program, String> {
    let path = build("decalign-benches", binary)?;
    Ok(Program::new("decalign", path, Vec::new()))
}

/// Ours: `decalign bench` of a preset, on two threads and the step on one.
pub(super) fn bench(preset: &str) -> Result<Program, String> {
    let path = build("decalign-cli", "decalign")?;
    let arguments = [
        "bench",
        preset,
        "--seconds",
        "4",
        "--threads",
        "2",
        "--json",
    ];
    let mut program = Program::new("decalign", path, arguments.map(OsString::from).to_vec());
    program.read = read_bench;
    Ok(program)
}

/// Ours: `decalign encode` on two threads.
pub(super) fn encode() -> Result<Program, String> {
    let path = build("decalign-cli", "decalign")?;
    let [encoder, texts] = texts(&python_with_transformers()?)?;
    let out = folder()?.join("encoded.safetensors");
    let mut arguments: Vec<OsString> = vec!["encode".into(), texts.into(), "--encoder".into()];
    arguments.extend([encoder.into(), "--out".into(), out.into()]);
    arguments.extend(["--threads", "2", "--json"].map(OsString::from));
    let mut program = Program::new("decalign", path, arguments);
    program.read = |text| {
        let wrong =
            || format!("decalign encode printed {text}; expected a JSON object with seconds");
        let report: Value = serde_json::from_str(text).map_err(|_| wrong())?;
        let seconds = report["seconds"].as_f64().ok_or_else(wrong)?;
        Ok(vec![
            json!({"name": "encode", "value": seconds}).to_string(),
        ])
    };
    Ok(program)
}

fn build(package: &str, binary: &str) -> Result<PathBuf, String> {
    let arguments = ["build", "--release", "--package", package, "--bin", binary];
    cargo(&arguments, &[])?;
    Ok(executable(&target()?.join("release"), binary))
}

/// Measurements from the JSON of `decalign bench`.
fn read_bench(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("decalign bench printed {text}; expected its JSON report");
    let report: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let preset = report["preset"].as_str().ok_or_else(wrong)?;
    let phases = report["phases"].as_array().ok_or_else(wrong)?;
    let phases = phases.iter().flat_map(|p| [&p["forward"], &p["backward"]]);
    let one_thread: f64 = phases.filter_map(Value::as_f64).sum();
    let number = |key: &str| report[key].as_f64().ok_or_else(wrong);
    let optimiser = number("optimiser")?;
    let mut values = vec![
        ("step", number("step")? / 1e3),
        ("step, 1 thread", (one_thread + optimiser) / 1e3),
        ("evaluation", number("evaluation")? / 1e3),
    ];
    let memory = report["peak_memory_mb"].as_f64();
    values.extend(memory.map(|mb| ("memory", mb * 1e6)));
    let line = |(name, value): (&str, f64)| {
        json!({"name": format!("{preset} {name}"), "value": value}).to_string()
    };
    Ok(values.into_iter().map(line).collect())
}

/// The layers of `xtask/peers/layers.py`: a preset or `attention`.
pub(super) fn torch(subject: &str) -> Result<Program, String> {
    let python = environment("venv-torch", "requirements-torch.txt")?;
    let arguments = vec![scripts().join("layers.py").into(), subject.into()];
    Ok(Program::new("torch", python, arguments))
}

/// A script of `xtask/peers`, run in a virtual environment with `xtask/peers/requirements.txt`.
pub(super) fn python(name: &'static str, script: &str) -> Result<Program, String> {
    let python = environment("venv", "requirements.txt")?;
    Ok(Program::new(
        name,
        python,
        vec![scripts().join(script).into()],
    ))
}

/// `transformers` on the texts of [`encode`].
pub(super) fn transformers() -> Result<Program, String> {
    let python = python_with_transformers()?;
    let [encoder, texts] = texts(&python)?;
    let script = scripts().join("encode.py").into();
    let arguments = vec![script, "measure".into(), encoder.into(), texts.into()];
    Ok(Program::new("transformers", python, arguments))
}

/// The crate `wass`, which must not enter this workspace's lock file: `xtask/peers/wass` is built as a separate project.
pub(super) fn wass() -> Result<Program, String> {
    let project = folder()?.join("wass");
    write(
        &project.join("Cargo.toml"),
        include_str!("../../peers/wass/manifest.toml"),
    )?;
    write(
        &project.join("src/main.rs"),
        include_str!("../../peers/wass/main.rs"),
    )?;
    let manifest = project.join("Cargo.toml").display().to_string();
    let built = project.join("target");
    let target = built.display().to_string();
    let paths = ["--manifest-path", &manifest, "--target-dir", &target];
    cargo(&[&["build", "--release"][..], &paths].concat(), &[])?;
    let path = executable(&built.join("release"), "peers-wass");
    Ok(Program::new("wass", path, Vec::new()))
}

/// The Python of a virtual environment, which is made again when its requirements, a file of `xtask/peers`, change.
fn environment(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let environment = folder()?.join(name);
    let python = match cfg!(windows) {
        true => environment.join("Scripts").join("python.exe"),
        false => environment.join("bin").join("python"),
    };
    let list = scripts().join(requirements);
    let wanted = fs::read_to_string(&list).map_err(|error| io_error(&list, &error))?;
    let installed = environment.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&environment);
    let remedy = "install Python 3.11 or later with its venv module";
    call(&mut make, "python3 -m venv", remedy)?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet"]);
    install
        .args(["--disable-pip-version-check", "-r"])
        .arg(list);
    let line = format!("pip install -r xtask/peers/{requirements}");
    call(&mut install, &line, "delete the virtual environment")
        .map_err(|error| format!("{error} (it needs PyPI, or an index that pip is set to)"))?;
    write(&installed, &wanted)?;
    Ok(python)
}

fn python_with_transformers() -> Result<PathBuf, String> {
    environment("venv-transformers", "requirements-transformers.txt")
}

/// The encoder, and texts to encode, which `xtask/peers/encode.py` writes.
fn texts(python: &Path) -> Result<[PathBuf; 2], String> {
    crate::minilm::install(&root())?;
    let texts = folder()?.join("texts.jsonl");
    let mut write = Command::new(python);
    write
        .arg(scripts().join("encode.py"))
        .arg("texts")
        .arg(&texts);
    call(
        &mut write,
        "encode.py texts",
        "delete the virtual environment",
    )?;
    Ok([root().join("target/minilm"), texts])
}

/// The Python scripts and requirements.
fn scripts() -> PathBuf {
    root().join("xtask/peers")
}

/// The folder of everything installed here.
fn folder() -> Result<PathBuf, String> {
    Ok(target()?.join("peers"))
}

fn executable(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// Writes a file unless it has this content already, so that nothing is built again.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| io_error(folder, &error))?;
    fs::write(path, text).map_err(|error| io_error(path, &error))
}
