//! The command of the fault-injection kit.

mod naive;
mod options;
mod page;
mod sweep;
mod victim;

use std::env::args;
use std::process::exit;

use kullback_faults::child::Program;
use options::Options;

const USAGE: &str = "\
Usage: faults compute NAME              what the sweep runs under faults: naive, gpu, fallback or auto
       faults sweep [OPTIONS]            every fault on every call that it makes

Options of the sweep:
  --sample N   Only N faults of each kind, spread evenly
  --nevers N   Only N of those in which a signal never comes, which take longest
  --doubles N  Pairs of faults, at random [1000]
  --seed N     Which pairs [1]
  --jobs N     Programs at a time [2]
  --only NAME  Only naive, gpu or fallback
  --save       Write docs/reliability.md";

fn main() {
    let arguments: Vec<String> = args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["compute", name] => match Program::by_name(name) {
            Some(Program::Naive) => Ok(naive::run()),
            Some(program) => Ok(victim::run(program)),
            None => Err(format!("no program '{name}'\n{USAGE}")),
        },
        ["sweep", ref options @ ..] => match Options::read(options) {
            Ok(options) => sweep::run(&options).map(|held| {
                if !held {
                    exit(1);
                }
            }),
            Err(message) => Err(format!("{message}\n{USAGE}")),
        },
        ["-h" | "--help"] => Ok(println!("{USAGE}")),
        _ => Err(USAGE.to_owned()),
    };
    if let Err(message) = outcome {
        eprintln!("{message}");
        exit(2);
    }
}
