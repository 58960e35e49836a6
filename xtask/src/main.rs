//! The project's own chores, which [`USAGE`] lists.

mod adapter;
mod command;
mod install;
mod lint;
mod msrv;
mod mutants;
mod schemata;
mod test;
mod validation;

use std::{env, process};

const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test  Run the tests of every feature set, and a part of the suite once more
        under the validation layer of Khronos; installs that layer, and a software
        Vulkan driver where there is no GPU (Debian and Ubuntu)
  lint  Check format, lints, documentation and the stated Rust version
  validation
        Run the whole suite under the validation layer
  mutants [PART]
        Check that the tests see faults in the shaders: those of the list in
        xtask/mutants.txt, or those whose file or text contains PART
  schemata [PART]
        Check that the tests of the library see the mutants of cargo-mutants' list,
        or those whose name contains PART, all of them built into one program";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["test"] => test::run_all(),
        ["lint"] => lint::run_all(),
        ["validation"] => validation::run_all(),
        ["mutants"] => mutants::run_all(""),
        ["mutants", part] => mutants::run_all(part),
        ["schemata"] => schemata::run_all(""),
        ["schemata", part] => schemata::run_all(part),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            process::exit(2);
        }
    };
    if let Err(failure) = outcome {
        eprintln!("xtask: {failure}");
        process::exit(failure.status);
    }
}
