//! The same data through several tools in turn, and one table of their speeds and their memory.
//!
//! A [`Program`] is a list of [`Entrant`]s: tools of its own, and tools in a Python script. Each runs
//! as a process that loads a [`Case`] and waits. First each computes it once, and the values are held
//! against the truth; then all are timed, one call each in turn.

mod case;
mod machine;
mod memory;
mod process;
mod report;
mod turns;
mod worker;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

pub use case::{Case, Kind};
pub use machine::Machine;
pub use memory::{read, read_part};
pub use report::{Results, grouped};
pub use turns::{Entrant, Line, Role};
pub use worker::{Tool, Values};

use turns::Turns;

/// The conversation of `worker.rs` in Python, for the scripts of the programs.
const PYTHON_WORKER: &str = include_str!("../worker.py");

/// What a binary brings with it. All of it is in the binary, which can be copied to other machines.
pub struct Program {
    /// Its folder in `benches`.
    pub name: &'static str,
    /// In the order of the table. The first is the limit that the others are compared with.
    pub entrants: &'static [Entrant],
    /// Its own tools.
    pub open: Open,
    /// Its other tools: a Python script that calls `worker.serve`.
    pub script: &'static str,
    /// Bins of one side of a case.
    pub bins: usize,
    /// What becomes of the results in the root of a checkout, besides the page and its JSON.
    pub save: Save,
}

/// Makes a tool of its name, the case, P and Q, or says why it cannot take part.
pub type Open = fn(&str, &Case, [Vec<f32>; 2]) -> Result<Tool, String>;

/// Writes what is made of the results into a checkout.
pub type Save = fn(&Results, &Path) -> Result<(), Box<dyn Error>>;

/// With `--quick` a side has as many bins.
const QUICK_BINS: usize = 1 << 21;

const HELP: &str = "\
options:
  --python PROGRAM  with the libraries that are compared; python3 unless given
  --tools A,B,…     only these
  --cases A,B,…     only these
  --rounds N        timings of a tool in a case, 9 unless given; slow tools have fewer
  --quick           small batches, which fit in caches, and 3 rounds: a trial, not a comparison
  --folder FOLDER   where the batches lie while they are computed, 256 MiB and more
  --save ROOT       write ROOT/benches/results, and what is made of them in the documentation";

struct Arguments {
    python: String,
    entrants: Vec<&'static Entrant>,
    cases: Vec<Case>,
    rounds: usize,
    folder: PathBuf,
    save: Option<PathBuf>,
}

impl Arguments {
    fn read(program: &Program) -> Result<Arguments, Box<dyn Error>> {
        let (mut tools, mut cases, mut rounds, mut save) = (None, None, None, None);
        let (mut python, mut quick) = ("python3".to_owned(), false);
        let mut folder = std::env::temp_dir().join("kullback-contest");
        let mut arguments = std::env::args().skip(1);
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{option} takes a value"));
            match option.as_str() {
                "--python" => python = value()?,
                "--tools" => tools = Some(value()?),
                "--cases" => cases = Some(value()?),
                "--rounds" => rounds = Some(value()?.parse()?),
                "--folder" => folder = value()?.into(),
                "--quick" => quick = true,
                "--save" => save = Some(value()?.into()),
                _ => return Err(HELP.into()),
            }
        }
        let bins = if quick { QUICK_BINS } else { program.bins };
        let rounds = rounds.unwrap_or(if quick { 3 } else { 9 });
        let entrants = chosen(program.entrants.iter().collect(), tools, |tool| tool.name)?;
        let cases = chosen(Case::all(bins), cases, |case| &case.name)?;
        Ok(Arguments { python, entrants, cases, rounds, folder, save })
    }
}

/// Those of all that a list of names has, or all.
fn chosen<T>(
    all: Vec<T>,
    names: Option<String>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>, String> {
    let Some(names) = names else { return Ok(all) };
    let names: Vec<&str> = names.split(',').collect();
    let known: Vec<&str> = all.iter().map(&name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("there is no {unknown}, but {}", known.join(", ")));
    }
    Ok(all.into_iter().filter(|item| names.contains(&name(item))).collect())
}

/// The `main` of a binary: the driver, and with `worker TOOL FOLDER` one of its tools.
pub fn run(program: &Program) -> Result<(), Box<dyn Error>> {
    if let [_, command, tool, folder] = &std::env::args().collect::<Vec<_>>()[..]
        && command == "worker"
    {
        return worker::serve(program.open, tool, Path::new(folder));
    }
    let arguments = Arguments::read(program)?;
    let turns = Turns {
        python: &arguments.python,
        threads: machine::threads(),
        folder: &arguments.folder,
        rounds: arguments.rounds,
    };
    fs::create_dir_all(turns.folder)?;
    fs::write(turns.folder.join("worker.py"), PYTHON_WORKER)?;
    fs::write(turns.folder.join(turns::SCRIPT), program.script)?;
    let mut results =
        Results { program: program.name, machine: Machine::here(), lines: Vec::new() };
    println!("{}", report::heading());
    for case in &arguments.cases {
        let lines = turns.take(case, &arguments.entrants)?;
        lines.iter().for_each(|line| println!("{line}"));
        results.lines.extend(lines);
    }
    if let Some(root) = &arguments.save {
        report::save(&results, root)?;
        (program.save)(&results, root)?;
    }
    Ok(())
}

/// The version of a crate that this was built with.
pub fn version(name: &str) -> &'static str {
    let heading = format!("name = \"{name}\"\n");
    let mut entries = include_str!("../../peers/Cargo.lock").split("[[package]]\n");
    let entry = entries.find_map(|entry| entry.strip_prefix(&heading));
    entry.and_then(|entry| entry.split('"').nth(1)).unwrap_or("of an unknown version")
}
