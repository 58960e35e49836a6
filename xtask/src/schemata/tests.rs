//! The tests of the library: which come by which mutant, and what they say of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FOLDER, cargo, on_all_processors};
use crate::command::Failure;
use crate::mutants::failed;

/// What comes to no end is stopped after this, and this many times what the tests take.
const PATIENCE: Duration = Duration::from_secs(20);
const TIMES: u32 = 10;
/// In KiB. What takes more comes to no end either.
const MEMORY: u64 = 10_000_000;
/// A run has tests of so many seconds in it at most, and then of more: most mutants are seen soon.
const RUNS: [f64; 5] = [0.15, 0.6, 2.5, 8.0, f64::INFINITY];

/// What the tests say of a mutant.
pub(super) enum Fate {
    Caught(String),
    Missed,
    NoEnd(String),
}

impl Fate {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Fate::Caught(_) => "caught",
            Fate::Missed => "missed",
            Fate::NoEnd(_) => "no end",
        }
    }

    pub(super) fn by(&self) -> &str {
        match self {
            Fate::Caught(by) | Fate::NoEnd(by) => by,
            Fate::Missed => "",
        }
    }
}

struct Test {
    program: PathBuf,
    name: String,
    seconds: f64,
}

pub(super) struct Tests {
    tree: PathBuf,
    tests: Vec<Test>,
    /// By mutant, the tests that come by it, the quickest first.
    reached_by: Vec<Vec<usize>>,
}

#[derive(PartialEq)]
enum Ran {
    Passed,
    Failed,
    Endless,
}

/// Has cargo do something; what it says.
pub(super) fn compile(tree: &Path, what: &str) -> Result<Vec<Value>, Failure> {
    let output = cargo(tree)?
        .args(what.split_whitespace())
        .args(["--locked", "--quiet", "--message-format", "json"])
        .stderr(Stdio::null())
        .output()
        .map_err(|error| failed("cargo", error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

impl Tests {
    /// Builds them; all have to pass as long as no mutant is active.
    pub(super) fn build(tree: &Path, what: &str) -> Result<Tests, Failure> {
        let messages = compile(tree, &format!("test --no-run {what}"))?;
        let is_test = |message: &&Value| message["profile"]["test"] == true;
        let programs = messages.iter().filter(is_test);
        let programs: Vec<PathBuf> =
            programs.filter_map(|message| message["executable"].as_str().map(Into::into)).collect();
        let mut tests = Vec::new();
        for program in programs {
            let listed = Command::new(&program)
                .args(["--list", "--format", "terse"])
                .output()
                .map_err(|error| failed("a test", error))?;
            let listed = String::from_utf8_lossy(&listed.stdout);
            for name in listed.lines().filter_map(|line| line.strip_suffix(": test")) {
                let (program, name) = (program.clone(), name.to_owned());
                tests.push(Test { program, name, seconds: 0.0 });
            }
        }
        match tests.is_empty() {
            true => Err(Failure::new("there are no tests: do they compile?")),
            false => Ok(Tests { tree: tree.into(), tests, reached_by: Vec::new() }),
        }
    }

    /// Runs each alone, and notes what it comes by and how long it takes.
    pub(super) fn find_reached(&mut self, mutants: usize) -> Result<(), Failure> {
        let folder = Path::new(FOLDER).canonicalize().map_err(|error| failed(FOLDER, error))?;
        let found = Mutex::new(Vec::new());
        on_all_processors(&(0..self.tests.len()).collect::<Vec<_>>(), |&at| {
            let Test { program, name, .. } = &self.tests[at];
            let path = folder.join(format!("reached-{at}"));
            let alone = |variable: &str, value: &str| {
                let start = Instant::now();
                match self.run(program, &[name], (variable, value), Duration::from_secs(600))? {
                    Ran::Passed => Ok(start.elapsed().as_secs_f64()),
                    _ => Err(Failure::new(format!("{name}: fails without a mutant"))),
                }
            };
            alone("KULLBACK_REACHED", &path.to_string_lossy())?;
            let seconds = alone("KULLBACK_MUTANT", "0")?;
            let reached = fs::read_to_string(&path).unwrap_or_default();
            _ = fs::remove_file(&path);
            let reached = reached.lines().filter_map(|line| line.parse().ok()).collect();
            found.lock().unwrap_or_else(|poison| poison.into_inner()).push((seconds, at, reached));
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(|poison| poison.into_inner());
        found.sort_by(|(a, ..), (b, ..)| f64::total_cmp(a, b));
        self.reached_by = vec![Vec::new(); mutants];
        for (seconds, at, reached) in found {
            let reached: Vec<usize> = reached;
            self.tests[at].seconds = seconds;
            reached.into_iter().for_each(|id| self.reached_by[id - 1].push(at));
        }
        let all: f64 = self.tests.iter().map(|test| test.seconds).sum();
        println!("{} tests pass without a mutant, in {all:.0} s", self.tests.len());
        Ok(())
    }

    pub(super) fn judge(&self, mutant: usize) -> Result<Fate, Failure> {
        let active = (mutant + 1).to_string();
        let mut rest = &self.reached_by[mutant][..];
        for most in RUNS {
            let mut seconds = 0.0;
            let fit = rest.iter().take_while(|test| {
                seconds += self.tests[**test].seconds;
                seconds <= most
            });
            let now;
            (now, rest) = rest.split_at(fit.count());
            for (program, names) in self.by_program(now) {
                let limit = PATIENCE + Duration::from_secs_f64(seconds.min(600.0)) * TIMES;
                let first = || names[0].to_owned();
                match self.run(program, &names, ("KULLBACK_MUTANT", &active), limit)? {
                    Ran::Passed => {}
                    Ran::Failed => return Ok(Fate::Caught(first())),
                    Ran::Endless => return Ok(Fate::NoEnd(first())),
                }
            }
        }
        Ok(Fate::Missed)
    }

    fn by_program(&self, tests: &[usize]) -> Vec<(&Path, Vec<&str>)> {
        let mut runs: Vec<(&Path, Vec<&str>)> = Vec::new();
        for Test { program, name, .. } in tests.iter().map(|test| &self.tests[*test]) {
            match runs.iter_mut().find(|(there, _)| there == program) {
                Some((_, names)) => names.push(name),
                None => runs.push((program, vec![name])),
            }
        }
        runs
    }

    /// Runs those tests with an environment variable.
    fn run(
        &self,
        program: &Path,
        names: &[&str],
        variable: (&str, &str),
        limit: Duration,
    ) -> Result<Ran, Failure> {
        let fail = |error| failed(&program.display().to_string(), error);
        let script = format!("ulimit -v {MEMORY}; exec \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(program)
            .args(["--exact", "--test-threads", "1"])
            .args(names)
            .env(variable.0, variable.1)
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.tree)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail)?;
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = child.try_wait().map_err(fail)? {
                return Ok(if status.success() { Ran::Passed } else { Ran::Failed });
            }
            thread::sleep(Duration::from_millis(5));
        }
        child.kill().and_then(|()| child.wait()).map_err(fail)?;
        Ok(Ran::Endless)
    }
}
