//! A program that computes with the layer underneath, in a process of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::function::Function;
use crate::layer;
use crate::report::Call;
use crate::rule::Rule;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// wgpu as its documentation shows it.
    Naive,
    /// The library's GPU backend.
    Gpu,
    /// The same, with the CPU to fall back on.
    Fallback,
    /// Whichever backend the library takes: where the GPU is a program, the CPU.
    Auto,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 4] = [Program::Naive, Program::Gpu, Program::Fallback, Program::Auto];
    /// Those that are swept.
    pub const SWEPT: [Program; 3] = [Program::Naive, Program::Gpu, Program::Fallback];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Program::Naive => "naive",
            Program::Gpu => "gpu",
            Program::Fallback => "fallback",
            Program::Auto => "auto",
        }
    }

    /// How it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Program::Naive => "naive wgpu",
            Program::Gpu => "kullback",
            Program::Fallback => "kullback with fallback",
            Program::Auto => "kullback, auto",
        }
    }

    /// How long it may take before it is killed. The library may take half a minute to see that a
    /// device does not open, and more on a busy machine; wgpu by itself is known to wait for ever.
    fn patience(self) -> Duration {
        Duration::from_secs(if self == Program::Naive { 10 } else { 120 })
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Program> {
        Program::ALL.into_iter().find(|program| program.name() == name)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Status(ExitStatus),
    /// It had to be killed.
    Killed,
}

/// What became of a process.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it reported of its calls, the one it hung or died in left out.
    pub calls: Vec<Call>,
    /// How it ended.
    pub exit: Exit,
    /// Between the last line of the report and the end of the process.
    pub exit_seconds: f64,
    /// How often it called each function.
    pub counts: BTreeMap<Function, usize>,
    /// The faults that came to pass.
    pub struck: Vec<String>,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Where the system keeps layers of other makers.
const SYSTEM_LAYERS: &str =
    "/usr/share/vulkan/explicit_layer.d:/usr/local/share/vulkan/explicit_layer.d";

/// Starts programs with the layer underneath.
#[derive(Debug)]
pub struct Starter {
    program: PathBuf,
    scratch: TempDir,
    started: AtomicUsize,
}

impl Starter {
    /// Finds the layer beside the program, where cargo puts it, and writes its manifest.
    ///
    /// # Errors
    /// The layer is not there, or the manifest cannot be written.
    pub fn new(program: &Path) -> Result<Starter, String> {
        let library = layer_beside(program)?;
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let manifest = layer::manifest(&library.to_string_lossy());
        fs::write(scratch.path().join("layer.json"), manifest).map_err(|e| e.to_string())?;
        Ok(Starter { program: program.into(), scratch, started: AtomicUsize::new(0) })
    }

    /// Lets a program compute under some faults.
    ///
    /// # Errors
    /// The process cannot be started or does not report in the agreed form.
    pub fn run(&self, program: Program, rules: &[Rule]) -> Result<Run, String> {
        self.run_with(program, rules, &[])
    }

    /// The same with more environment variables.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_with(
        &self,
        program: Program,
        rules: &[Rule],
        variables: &[(&str, &str)],
    ) -> Result<Run, String> {
        let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let file = |what| self.scratch.path().join(format!("{number}.{what}"));
        let (trace, stderr) = (file("trace"), file("stderr"));
        let errors = File::create(&stderr).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.program);
        command
            .args(["compute", program.name()])
            .env("VK_LAYER_PATH", format!("{}:{SYSTEM_LAYERS}", self.scratch.path().display()))
            .env("VK_INSTANCE_LAYERS", layer::NAME)
            .env(layer::RULES, rules.join(","))
            .env(layer::TRACE, &trace)
            // Of a layer of Mesa that has something to say where there is no desktop.
            .env("NODEVICE_SELECT", "1")
            .env("RUST_BACKTRACE", "0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let child = command.spawn();
        let child = child.map_err(|e| format!("{} cannot be run: {e}", self.program.display()))?;
        let (calls, exit, exit_seconds) = watch(child, program.patience())?;
        let stderr = read_and_remove(&stderr);
        // A program that never came to Vulkan leaves none.
        let trace = read_and_remove(&trace);
        let (struck, called): (Vec<_>, Vec<_>) =
            trace.lines().partition(|line| line.starts_with("! "));
        let mut counts = BTreeMap::new();
        for function in called.iter().filter_map(|name| Function::by_name(name)) {
            *counts.entry(function).or_default() += 1;
        }
        let struck = struck.iter().map(|line| line[2..].to_owned()).collect();
        Ok(Run { calls, exit, exit_seconds, counts, struck, stderr })
    }
}

fn layer_beside(program: &Path) -> Result<PathBuf, String> {
    let name =
        format!("{}kullback_faults{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folder = program.parent().ok_or("the program has no folder")?;
    // Where cargo test leaves it is where every build does.
    let places = [folder.join("deps").join(&name), folder.join(&name)];
    let found = places.iter().find(|place| place.is_file());
    found.cloned().ok_or_else(|| {
        format!("the layer {} is not there: cargo builds it with the program", places[0].display())
    })
}

fn read_and_remove(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    // What cannot be removed now goes with the folder.
    let _ = fs::remove_file(file);
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads the report while it comes, and waits for the end or makes one.
fn watch(mut child: Child, patience: Duration) -> Result<(Vec<Call>, Exit, f64), String> {
    let lines = lines(&mut child)?;
    let end = Instant::now() + patience;
    let (mut calls, mut last) = (Vec::new(), Instant::now());
    let closed = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let call = serde_json::from_str(&line);
                calls.push(call.map_err(|error| format!("it reported {line}: {error}"))?);
                last = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    let ended = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if !closed || Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let exit = match ended {
        Some(status) => Exit::Status(status),
        None => {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            Exit::Killed
        }
    };
    Ok((calls, exit, last.elapsed().as_secs_f64()))
}

fn lines(child: &mut Child) -> Result<Receiver<String>, String> {
    let output = child.stdout.take().ok_or("its output is no pipe")?;
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    Ok(lines)
}
