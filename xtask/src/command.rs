//! Running other programs, each given as one line whose words are separated by spaces. What is in the folder
//! `built` is a program of ours, which is beside this one.

use std::env::{self, consts};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

/// Why a chore stopped, and the status to exit with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    pub(crate) status: i32,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), status: 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Announces a command and runs it, its output shown. Returns how long it took.
pub(crate) fn run(line: &str) -> Result<Duration, Failure> {
    println!("==> {line}");
    timed(line, &mut parse(line))
}

/// The same with an environment variable.
pub(crate) fn run_with(variable: &str, value: &str, line: &str) -> Result<Duration, Failure> {
    println!("==> {variable}=\"{value}\" {line}");
    timed(line, parse(line).env(variable, value))
}

/// What a command writes to its standard output; its standard error is shown.
pub(crate) fn capture(line: &str) -> Result<String, Failure> {
    let output = parse(line).stderr(Stdio::inherit()).output().map_err(|e| absent(line, &e))?;
    judge(line, output.status)?;
    String::from_utf8(output.stdout).map_err(|error| Failure::new(format!("{line}: {error}")))
}

/// Announces a command and runs it with environment variables; both its outputs are shown, and what
/// it writes to its standard error is returned. Says how long it took.
pub(crate) fn overhear(
    variables: &[(&str, &str)],
    line: &str,
) -> Result<(String, Duration), Failure> {
    let shown: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    println!("==> {} {line}", shown.join(" "));
    let start = Instant::now();
    let mut command = parse(line);
    command.envs(variables.iter().copied()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| absent(line, &error))?;
    let mut heard = String::new();
    for read in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        let read = read.map_err(|error| Failure::new(format!("{line}: {error}")))?;
        eprintln!("{read}");
        heard += &read;
        heard.push('\n');
    }
    judge(line, child.wait().map_err(|error| absent(line, &error))?)?;
    Ok((heard, start.elapsed()))
}

fn parse(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(built(program).unwrap_or_else(|| program.into()));
    command.args(words);
    command
}

fn built(program: &str) -> Option<PathBuf> {
    let name = program.strip_prefix("built/")?;
    let mine = env::current_exe().ok()?;
    Some(mine.parent()?.join(format!("{name}{}", consts::EXE_SUFFIX)))
}

fn timed(line: &str, command: &mut Command) -> Result<Duration, Failure> {
    let start = Instant::now();
    judge(line, command.status().map_err(|e| absent(line, &e))?)?;
    Ok(start.elapsed())
}

fn judge(line: &str, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    // A command that a signal ended has no status of its own.
    Err(Failure { message: format!("{line}: {status}"), status: status.code().unwrap_or(1) })
}

fn absent(line: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{line}: cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_a_failure() {
        let failure = capture("no-such-program --flag").unwrap_err();
        assert_eq!(failure.status, 1);
        assert!(failure.to_string().starts_with("no-such-program --flag: "), "{failure}");
    }

    #[test]
    fn programs_of_ours_are_beside_this_one() {
        let mine = env::current_exe().unwrap();
        let name = mine.file_stem().and_then(|name| name.to_str()).unwrap();
        assert_eq!(built(&format!("built/{name}")), Some(mine.clone()));
        assert_eq!(built("cargo"), None);
    }

    #[test]
    fn output_is_captured() {
        assert!(capture("cargo --version").unwrap().starts_with("cargo "));
    }

    #[test]
    #[cfg(unix)]
    fn what_goes_to_the_standard_error_is_heard() {
        let (heard, _) = overhear(&[("LC_ALL", "C")], "dd if=/dev/null of=/dev/null").unwrap();
        assert!(heard.starts_with("0+0 records in\n"), "{heard}");
        assert_eq!(overhear(&[], "cargo no-such-command").unwrap_err().status, 101);
    }

    #[test]
    #[cfg(unix)]
    fn the_exit_status_is_passed_on() {
        use std::os::unix::process::ExitStatusExt;
        assert!(judge("a b", ExitStatus::from_raw(0)).is_ok());
        let failure = judge("a b", ExitStatus::from_raw(101 << 8)).unwrap_err();
        assert_eq!((failure.status, failure.message.as_str()), (101, "a b: exit status: 101"));
        let killed = judge("a b", ExitStatus::from_raw(9)).unwrap_err();
        assert_eq!(killed.status, 1);
    }
}
