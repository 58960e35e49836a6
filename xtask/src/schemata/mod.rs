//! `cargo xtask schemata`: all mutants of cargo-mutants' list in one program, one active at a time.
//!
//! A build for each takes days; here each costs some runs of tests. The program is a mutant schema
//! (Untch, Offutt and Harrold, "Mutation analysis using mutant schemata", 1993): what a mutant
//! changes stands beside it, and an environment variable says which of both is executed. Which
//! tests come by which mutant is found first, and for a mutant those alone are run.

mod place;
mod tests;
mod viable;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::command::{Failure, capture};
use crate::mutants::failed;
use place::{Mutant, Placed};
use tests::{Fate, Tests};

/// Where the copy is, what is built of it, and what came of the mutants.
const FOLDER: &str = "target/schemata";

/// The mutants of the library, by the settings in `.cargo/mutants.toml`.
const LIST: &str = "cargo mutants --list --json";
/// Where the crate begins, which gets what chooses the mutant.
const ROOT: &str = "src/lib.rs";
/// The tests that have to see them.
const TESTS: &str = "--package kullback --no-default-features --lib --test suite";

/// Tries those mutants whose names contain `part`, but for those that an earlier run has told of.
pub(crate) fn run_all(part: &str) -> Result<(), Failure> {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).map_err(|error| failed(FOLDER, error))?;
    let mutants = place::read(&capture(LIST)?)?;
    let placed = viable::find(folder, &mutants)?;

    let mut tests = Tests::build(&folder.join("tree"), TESTS)?;
    tests.find_reached(mutants.len())?;
    let path = folder.join("outcomes.jsonl");
    let told = told(&path);
    let to_run = mutants.iter().zip(&placed).enumerate().filter(|(_, (mutant, placed))| {
        **placed == Placed::Viable
            && mutant.name.contains(part)
            && !told.contains_key(&hash(&mutant.diff))
    });
    let to_run: Vec<_> = to_run.map(|(at, _)| at).collect();
    run_each(&tests, &mutants, &to_run, &path)?;
    print_table(&mutants, &placed, &self::told(&path));
    Ok(())
}

/// The fates of mutants that an earlier run has told of, by the hash of what they change.
fn told(path: &Path) -> BTreeMap<u64, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = |line: Value| Some((line["diff"].as_u64()?, line["fate"].as_str()?.to_owned()));
    lines.filter_map(told).collect()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Runs the tests for mutants, and tells of each as soon as it can.
fn run_each(
    tests: &Tests,
    mutants: &[Mutant],
    to_run: &[usize],
    path: &Path,
) -> Result<(), Failure> {
    let fail = |error| failed(&path.display().to_string(), error);
    let file = File::options().create(true).append(true).open(path).map_err(fail)?;
    let file = Mutex::new(file);
    on_all_processors(to_run, |&at| {
        let fate = tests.judge(at)?;
        let Mutant { name, diff, .. } = &mutants[at];
        let (diff, word, by) = (hash(diff), fate.word(), fate.by());
        let line = json!({ "name": name, "diff": diff, "fate": word, "by": by });
        if !matches!(fate, Fate::Caught(_)) {
            println!("{word}: {name} {by}");
        }
        let mut file = file.lock().unwrap_or_else(|poison| poison.into_inner());
        writeln!(file, "{line}").map_err(fail)
    })
}

fn on_all_processors<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut mine = std::iter::from_fn(|| items.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.try_for_each(&work)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        running.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new("a worker panicked")),
        })
    })
}

/// By file: how many there are, are viable, were caught, missed, came to no end, were not run.
fn print_table(mutants: &[Mutant], placed: &[Placed], told: &BTreeMap<u64, String>) {
    let mut table: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    for (mutant, placed) in mutants.iter().zip(placed) {
        let column = match told.get(&hash(&mutant.diff)).map(String::as_str) {
            Some("caught") => 2,
            Some("missed") => 3,
            Some("no end") => 4,
            _ => 5,
        };
        for file in [mutant.file.as_str(), "all of these"] {
            let line = table.entry(file).or_default();
            line[0] += 1;
            if *placed != Placed::NoCompile {
                line[1] += 1;
                line[column] += 1;
            }
        }
        if *placed == Placed::Nowhere {
            println!("has no place: {}", mutant.name);
        }
    }
    println!("| file | mutants | viable | caught | missed | no end | not run |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (file, counts) in table {
        let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
        println!("| {file} | {} |", counts.join(" | "));
    }
}

fn cargo(tree: &Path) -> Result<Command, Failure> {
    let target = Path::new(FOLDER).join("built");
    fs::create_dir_all(&target).map_err(|error| failed(FOLDER, error))?;
    let target = target.canonicalize().map_err(|error| failed(FOLDER, error))?;
    let mut command = Command::new("cargo");
    command.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "--cap-lints=warn").current_dir(tree);
    Ok(command)
}
