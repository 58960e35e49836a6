//! All tools on one case: answers first, then the clock, one tool at a time in turn, so that
//! whatever the machine does besides hits all alike.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::case::{Case, Kind};
use crate::process::Process;

/// The program's Python script in the folder of the run.
pub(crate) const SCRIPT: &str = "tools.py";

/// Until the threads of the tool before have gone to sleep.
const PAUSE: Duration = Duration::from_millis(20);

/// A tool whose timings took as many seconds has enough of them, if there are three.
const ENOUGH: f64 = 2.0;

/// A tool that takes part.
pub struct Entrant {
    /// As the option `--tools` has it.
    pub name: &'static str,
    /// In tables and plots.
    pub title: &'static str,
    /// What is asked of it.
    pub role: Role,
    /// Whether it is in the Python script of the program, or in the binary itself.
    pub in_python: bool,
}

/// What is asked of a tool besides speed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Moves the data and computes nothing.
    Limit,
    /// This library: what it promises, and what f64 itself loses of the truth. Less ends the run.
    Ours,
    /// To have computed the same thing. It need not be accurate: `docs/accuracy.md` is about that.
    Peer,
}

impl Role {
    /// Whether a value is near enough to the true one to be timed.
    fn accepts(self, kind: Kind, value: f64, truth: f64) -> bool {
        let allowed = match (self, kind) {
            (Role::Limit, _) => f64::INFINITY,
            (Role::Ours, Kind::Probs) => 5e-7 * truth + 1e-15,
            (Role::Ours, Kind::Logits) => 2e-6 * truth + 1e-13,
            (Role::Peer, _) => 1e-2 * truth + 1e-5,
        };
        (value - truth).abs() <= allowed
    }
}

/// What a tool did in a case.
#[derive(Serialize)]
pub struct Line {
    #[serde(skip)]
    role: Role,
    /// Which case.
    pub case: Case,
    /// Which tool.
    pub tool: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is exactly.
    pub about: String,
    /// The fastest way to write it.
    pub form: String,
    /// Why there are no timings.
    pub absent: Option<String>,
    /// The largest difference from the truth, relative to the truth or to 0.01.
    pub worst_error: f64,
    /// Of each call, in the order of the rounds.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median_seconds: f64,
    /// Billions of bytes of input in a second of the median.
    pub gb_per_s: f64,
    /// The same as a share of the limit's.
    pub share: Option<f64>,
    /// The peak, without what was there with the case loaded and nothing computed.
    pub memory: Option<u64>,
}

/// How cases are held.
pub(crate) struct Turns<'a> {
    /// The interpreter.
    pub python: &'a str,
    /// As many as each tool may use.
    pub threads: usize,
    /// For the numbers and the values.
    pub folder: &'a Path,
    /// Timings of each tool.
    pub rounds: usize,
}

impl Turns<'_> {
    /// An error is a wrong answer of this library's.
    pub fn take(&self, case: &Case, entrants: &[&'static Entrant]) -> Result<Vec<Line>, String> {
        let text = |error: std::io::Error| error.to_string();
        let [p, q] = case.draw();
        let truth = case.truth(&p, &q);
        case.write(self.folder, [&p, &q]).map_err(text)?;
        drop((p, q));

        let start = |entrant| Contestant::start(self, case, entrant);
        let mut contestants: Vec<Contestant> = entrants.iter().copied().map(start).collect();
        contestants.iter_mut().for_each(Contestant::meet);
        for contestant in &mut contestants {
            contestant.check(self.folder, &truth)?;
        }
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        for _ in 0..self.rounds {
            order.iter().for_each(|&at| contestants[at].time());
            order.rotate_left(1);
        }
        let mut lines: Vec<Line> = contestants.into_iter().map(Contestant::line).collect();
        let limit = lines.iter().zip(entrants).find(|(_, entrant)| entrant.role == Role::Limit);
        let limit = limit.map(|(line, _)| line.gb_per_s).filter(|_| !case.is_one_row());
        for line in &mut lines {
            line.share = limit.map(|limit| line.gb_per_s / limit);
        }
        Ok(lines)
    }

    fn command(&self, entrant: &Entrant) -> Result<Command, String> {
        let mut command = if entrant.in_python {
            let mut python = Command::new(self.python);
            python.arg(self.folder.join(SCRIPT));
            python
        } else {
            let mut own = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
            own.arg("worker");
            own
        };
        command.arg(entrant.name).arg(self.folder);
        Ok(command)
    }
}

/// A tool in a case: its process as long as it takes part, and what is known of it.
struct Contestant {
    entrant: &'static Entrant,
    process: Option<Process>,
    loaded: Option<u64>,
    line: Line,
}

impl Contestant {
    fn start(turns: &Turns<'_>, case: &Case, entrant: &'static Entrant) -> Contestant {
        let log = turns.folder.join(format!("{}.log", entrant.name));
        let command = turns.command(entrant);
        let process = command.and_then(|mut it| Process::start(&mut it, turns.threads, log));
        let line = Line {
            role: entrant.role,
            case: case.clone(),
            tool: entrant.name,
            title: entrant.title,
            about: String::new(),
            form: String::new(),
            absent: process.as_ref().err().cloned(),
            worst_error: 0.0,
            seconds: Vec::new(),
            median_seconds: f64::NAN,
            gb_per_s: f64::NAN,
            share: None,
            memory: None,
        };
        Contestant { entrant, process: process.ok(), loaded: None, line }
    }

    fn ask(&mut self, what: Option<&str>) -> Option<serde_json::Value> {
        let process = self.process.as_mut()?;
        let answer = match what {
            Some(what) => process.ask(what),
            None => process.answer(),
        };
        let answer = answer.and_then(|answer| match answer["absent"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(answer),
        });
        answer.map_err(|reason| self.leave(reason)).ok()
    }

    fn leave(&mut self, reason: String) {
        self.line.absent = Some(reason);
        self.process = None;
    }

    /// Waits until the case is loaded.
    fn meet(&mut self) {
        if let Some(answer) = self.ask(None) {
            self.line.about = answer["about"].as_str().unwrap_or_default().to_owned();
        }
        if let Some(process) = &self.process
            && process.forget_peak()
        {
            self.loaded = process.resident();
        }
    }

    /// Holds its values against the truth, before anything is timed.
    fn check(&mut self, folder: &Path, truth: &[f64]) -> Result<(), String> {
        let Some(answer) = self.ask(Some("check")) else { return Ok(()) };
        self.line.form = answer["form"].as_str().unwrap_or_default().to_owned();
        if self.entrant.role == Role::Limit {
            return Ok(());
        }
        let file = folder.join(format!("{}.bin", self.entrant.name));
        let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let values: Vec<f64> = bytemuck::pod_collect_to_vec(&bytes);
        std::fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        match self.wrong(&values, truth) {
            None => Ok(()),
            Some(wrong) if self.entrant.role == Role::Ours => {
                Err(format!("{} in {}: {wrong}", self.entrant.title, self.line.case.name))
            }
            Some(wrong) => {
                self.leave(wrong);
                Ok(())
            }
        }
    }

    fn wrong(&mut self, values: &[f64], truth: &[f64]) -> Option<String> {
        if values.len() != truth.len() {
            return Some(format!("{} values for {} rows", values.len(), truth.len()));
        }
        let (kind, role) = (self.line.case.kind, self.entrant.role);
        let mut pairs = values.iter().zip(truth);
        for (value, truth) in pairs.clone() {
            let error = (value - truth).abs() / truth.max(0.01);
            self.line.worst_error = self.line.worst_error.max(error);
        }
        let row = pairs.position(|(&value, &truth)| !role.accepts(kind, value, truth))?;
        Some(format!("wrong: {:e} in row {row} for {:e}", values[row], truth[row]))
    }

    fn time(&mut self) {
        let spent: f64 = self.line.seconds.iter().sum();
        if self.process.is_none() || (self.line.seconds.len() >= 3 && spent > ENOUGH) {
            return;
        }
        std::thread::sleep(PAUSE);
        let seconds = self.ask(Some("time")).and_then(|answer| answer["seconds"].as_f64());
        self.line.seconds.extend(seconds);
    }

    fn line(mut self) -> Line {
        if let (Some(process), Some(loaded)) = (&self.process, self.loaded) {
            self.line.memory = process.peak().map(|peak| peak.saturating_sub(loaded));
        }
        if let Some(seconds) = median(&self.line.seconds) {
            self.line.median_seconds = seconds;
            self.line.gb_per_s = self.line.case.bytes() as f64 / seconds / 1e9;
        }
        self.line
    }
}

impl Line {
    pub(crate) fn is_ours(&self) -> bool {
        self.role == Role::Ours
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_no_answer() {
        assert!(!Role::Ours.accepts(Kind::Probs, f64::NAN, 0.5));
        assert!(!Role::Peer.accepts(Kind::Logits, f64::INFINITY, 0.5));
    }

    #[test]
    fn more_is_asked_of_this_library() {
        assert!(Role::Ours.accepts(Kind::Probs, 0.5 * (1.0 + 4e-7), 0.5));
        assert!(!Role::Ours.accepts(Kind::Probs, 0.5 * (1.0 + 6e-7), 0.5));
        assert!(Role::Peer.accepts(Kind::Probs, 0.5 * (1.0 + 6e-7), 0.5));
        assert!(!Role::Peer.accepts(Kind::Probs, 0.5 * 1.02, 0.5));
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
