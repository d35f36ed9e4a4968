//! The processes that run programs.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::{env, fs, io};

use crate::device::program::{Language, Program};
use crate::device::runtime::cache;

/// A program that waits for launches. It ends when its standard input does, with this process.
pub(super) struct Server {
    running: Mutex<Option<Running>>,
    executable: PathBuf,
}

struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

type Built = Arc<OnceLock<Result<Arc<Server>, String>>>;

static SERVERS: LazyLock<Mutex<HashMap<String, Built>>> = LazyLock::new(Mutex::default);

/// Optimised lightly, as it is compiled more often than run; undefined behaviour ends the process.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O1",
    "-w",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fsanitize=undefined",
    "-fsanitize-undefined-trap-on-error",
];

/// The system's C++ compiler.
pub(super) fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

impl Server {
    /// The server of a program, compiled when it is first asked for.
    pub(super) fn of(program: &Program) -> Result<Arc<Self>, String> {
        let text = program.text(Language::Emulator);
        let key = cache::key(&[&text, &compiler(), &FLAGS.join(" ")]);
        let slot = {
            let mut all = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(key.clone()).or_default().clone()
        };
        let build = || {
            program.functions().map_err(|e| e.to_string())?;
            let executable = cache::folder().join(format!("{}-{key}", program.title()));
            if !executable.exists() {
                build(&executable, &text)
                    .map_err(|e| format!("{} does not compile: {e}", program.title()))?;
            }
            Ok(Arc::new(Self {
                running: Mutex::default(),
                executable,
            }))
        };
        slot.get_or_init(build).clone()
    }

    /// Sends a launch and waits for what it wrote, `expected` bytes.
    pub(super) fn ask(&self, request: &[u8], expected: usize) -> Result<Vec<u8>, String> {
        let mut slot = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            let start = Running::start(&self.executable);
            *slot = Some(start.map_err(|e| format!("{}: {e}", self.executable.display()))?);
        }
        let Some(running) = slot.as_mut() else {
            return Err("the emulator did not start".to_owned());
        };
        match running.ask(request, expected) {
            Ok(reply) => reply,
            Err(_) => {
                // It died; the next launch gets a new one.
                let status = slot.take().map(|mut running| running.child.wait());
                Err(match status {
                    Some(Ok(status)) => format!("undefined behaviour ended the kernel: {status}"),
                    _ => "the kernel's process is lost".to_owned(),
                })
            }
        }
    }
}

impl Running {
    fn start(executable: &Path) -> io::Result<Self> {
        let mut child = Command::new(executable)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        match (input, output) {
            (Some(input), Some(output)) => Ok(Self {
                child,
                input,
                output: BufReader::new(output),
            }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    /// What the kernel wrote, or what it did wrong; an error of the pipe is the outer one.
    fn ask(&mut self, request: &[u8], expected: usize) -> io::Result<Result<Vec<u8>, String>> {
        self.input.write_all(request)?;
        self.input.flush()?;
        let mut length = [0; 4];
        self.output.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        let mut reply = vec![0; if length > 0 { length } else { expected }];
        self.output.read_exact(&mut reply)?;
        Ok(match length {
            0 => Ok(reply),
            _ => Err(String::from_utf8_lossy(&reply).into_owned()),
        })
    }
}

fn build(executable: &Path, text: &str) -> io::Result<()> {
    cache::make(executable, |beside| {
        let source = beside.with_extension("cpp");
        fs::write(&source, text)?;
        let output = Command::new(compiler())
            .args(FLAGS)
            .arg("-o")
            .arg(beside)
            .arg(&source)
            .output()?;
        if output.status.success() {
            return fs::remove_file(&source);
        }
        // The source stays, for whoever looks into the error.
        let errors = String::from_utf8_lossy(&output.stderr);
        let first: Vec<&str> = errors.lines().take(12).collect();
        Err(io::Error::other(first.join("\n")))
    })
}
