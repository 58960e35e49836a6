//! The project's own chores: `cargo xtask test` and `cargo xtask lint`.

mod adapter;
mod command;
mod install;
mod lint;
mod msrv;
mod test;
mod validation;

use std::{env, process};

const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test  Run the tests of every feature set, and the suite once more under the
        validation layer of Khronos; installs that layer, and a software Vulkan
        driver where there is no GPU (Debian and Ubuntu)
  lint  Check format, lints, documentation and the stated Rust version";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["test"] => test::run_all(),
        ["lint"] => lint::run_all(),
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
