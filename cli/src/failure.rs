//! What ends the command early, and with which exit status.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::files::printable;

/// A message for stderr, and whose fault it is.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage or bad input.
    Input(String),
    /// Anything else.
    Other(String),
    /// Nobody reads our output any more; there is nothing to say, and nobody to say it to.
    ClosedPipe,
}

impl Failure {
    /// Bad usage or bad input.
    pub fn input(message: impl Display) -> Failure {
        Failure::Input(message.to_string())
    }

    /// Anything else.
    pub fn other(message: impl Display) -> Failure {
        Failure::Other(message.to_string())
    }

    /// Says it on stderr.
    pub fn report(self) -> ExitCode {
        let (message, status) = match self {
            Failure::Input(message) => (message, 2),
            Failure::Other(message) => (message, 1),
            Failure::ClosedPipe => return ExitCode::SUCCESS,
        };
        say("", &printable(&message));
        ExitCode::from(status)
    }
}

/// Says something on stderr. Where that cannot be written to, the exit status has to do.
pub fn say(before: &str, message: &str) {
    let _ = writeln!(io::stderr(), "{before}kullback: {message}");
}
