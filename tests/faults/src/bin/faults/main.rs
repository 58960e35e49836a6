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
        ["compute", name] => compute(name),
        ["sweep", ref options @ ..] => Options::read(options).map(|options| sweep(&options)),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err("no such command".into()),
    };
    if let Err(message) = outcome {
        eprintln!("{message}\n{USAGE}");
        exit(2);
    }
}

fn compute(name: &str) -> Result<(), String> {
    match Program::by_name(name).ok_or_else(|| format!("no program '{name}'"))? {
        Program::Naive => naive::run(),
        program => victim::run(program),
    }
    Ok(())
}

fn sweep(options: &Options) {
    match sweep::run(options) {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(message) => {
            eprintln!("{message}");
            exit(1);
        }
    }
}
