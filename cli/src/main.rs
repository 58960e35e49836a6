//! The command `kullback`: divergences between the rows of two files.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::Failure;

mod args;
mod devices;
mod failure;
mod files;
mod memory;
mod results;
mod rows;
mod statistics;
mod summary;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter("KULLBACK_LOG")).init();
    let done = match Cli::parse().command {
        Command::Rows(options) => rows::run(&options),
        Command::Devices(options) => devices::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Prints to stdout. A reader that went away ends the command quietly.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::other(format!("cannot write to stdout: {error}")),
    })
}
