//! The command `kullback`: divergences between the rows of two files.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use env_logger::Env;
use serde::Serialize;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::files::printable;
use crate::files::whole::Unfinished;

mod args;
mod devices;
mod failure;
mod files;
mod gradients;
mod input;
mod matrix;
mod memory;
mod results;
mod rows;
mod signals;
mod statistics;
mod summary;

fn main() -> ExitCode {
    // Unless asked for: what goes wrong below is told once, by the command.
    let log = Env::new().filter_or("KULLBACK_LOG", "off");
    env_logger::Builder::from_env(log).init();
    let unfinished = Unfinished::default();
    match signals::listen(&unfinished).and_then(|()| run(&unfinished)) {
        Ok(status) => status,
        Err(failure) => failure.report(),
    }
}

fn run(unfinished: &Unfinished) -> Result<ExitCode, Failure> {
    match Cli::try_parse() {
        Ok(Cli { command: Command::Rows(options) }) => rows::run(&options, unfinished)?,
        Ok(Cli { command: Command::Matrix(options) }) => matrix::run(&options, unfinished)?,
        Ok(Cli { command: Command::Devices(options) }) => devices::run(&options)?,
        Err(usage) if usage.use_stderr() => {
            // Said of arguments that are safe on a terminal. Where it cannot be written to, the exit status
            // has to do.
            let arguments = std::env::args_os().map(|one| printable(&one.to_string_lossy()));
            let _ = Cli::try_parse_from(arguments).err().unwrap_or(usage).print();
            return Ok(ExitCode::from(2));
        }
        Err(help) => help.print().and_then(|()| io::stdout().flush()).map_err(not_printed)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to stdout.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(not_printed)
}

/// Prints one object as JSON, and escapes the control characters too that JSON lets pass.
fn print_json(object: &impl Serialize) -> Result<(), Failure> {
    let mut text = String::new();
    for char in serde_json::to_string_pretty(object).map_err(Failure::other)?.chars() {
        match char {
            '\n' => text.push(char),
            _ if char.is_control() => text += &format!("\\u{:04x}", u32::from(char)),
            _ => text.push(char),
        }
    }
    print(&(text + "\n"))
}

/// A reader that went away ends the command quietly.
fn not_printed(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::other(format!("cannot write to stdout: {error}")),
    }
}
