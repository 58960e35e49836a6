//! How a run ended.

use crate::child::{Exit, Program, Run};
use crate::job::OPENING;
use crate::report::{Call, End};

/// What a call may take, in seconds: the deadline that the programs set, and a second.
pub const LONGEST: f64 = 3.0;
/// What it may take to open an engine, for which the library has a deadline of its own.
pub const LONGEST_OPENING: f64 = 21.0;

/// What became of a program, the worst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every row right.
    Right,
    /// A call ended with an error that says why, and the rows of the others are right.
    Error,
    /// A call, or the end of the process, took longer than it may.
    Long,
    /// A row was not computed, where a program has the CPU to fall back on; or left out silently.
    Lost,
    /// A row has another value than the right one.
    Wrong,
    /// A panic reached the caller.
    Panic,
    /// It had to be killed.
    Hang,
    /// The process ended by a signal, or without a report.
    Crash,
}

impl Verdict {
    /// All of them, the worst first.
    pub const ALL: [Verdict; 8] = [
        Verdict::Crash,
        Verdict::Hang,
        Verdict::Panic,
        Verdict::Wrong,
        Verdict::Lost,
        Verdict::Long,
        Verdict::Error,
        Verdict::Right,
    ];

    /// How it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Verdict::Crash => "crashes",
            Verdict::Hang => "hangs",
            Verdict::Panic => "panics",
            Verdict::Wrong => "wrong rows",
            Verdict::Lost => "lost rows",
            Verdict::Long => "too long",
            Verdict::Error => "errors",
            Verdict::Right => "all right",
        }
    }

    /// Whether a program may end like that.
    pub fn is_good(self) -> bool {
        matches!(self, Verdict::Error | Verdict::Right)
    }
}

/// What became of a program, and the one sentence that says most.
pub fn judge(program: Program, run: &Run) -> (Verdict, String) {
    let last = || {
        let after = run.calls.last().map_or("the start", |call| call.name.as_str());
        let lines = run.stderr.lines().filter(|line| !line.trim().is_empty());
        format!("after {after}: {}", lines.collect::<Vec<_>>().join(" / "))
    };
    let calls = run.calls.iter().map(|call| judge_call(program, call));
    let exit = match run.exit {
        Exit::Killed => (Verdict::Hang, last()),
        Exit::Status(status) if !status.success() => {
            (Verdict::Crash, format!("{status} {}", last()))
        }
        Exit::Status(_) if run.calls.is_empty() => (Verdict::Crash, "it said nothing".into()),
        Exit::Status(_) if run.exit_seconds > LONGEST => {
            (Verdict::Long, format!("the process took {:.1} s to end", run.exit_seconds))
        }
        Exit::Status(_) => (Verdict::Right, String::new()),
    };
    // The first of the worst.
    calls.chain([exit]).reduce(|a, b| if b.0 > a.0 { b } else { a }).expect("there is the exit")
}

fn judge_call(program: Program, call: &Call) -> (Verdict, String) {
    let name = &call.name;
    let limit = if name == OPENING { LONGEST_OPENING } else { LONGEST };
    let (verdict, what) = match &call.end {
        End::Panic(message) => (Verdict::Panic, message.clone()),
        End::Rows { wrong: 1.., example, .. } => {
            (Verdict::Wrong, example.clone().unwrap_or_default())
        }
        End::Rows { lost: lost @ 1.., .. } => (Verdict::Lost, format!("{lost} rows")),
        End::Error(message) if matches!(program, Program::Fallback | Program::Auto) => {
            (Verdict::Lost, message.clone())
        }
        _ if call.seconds > limit => (Verdict::Long, format!("{:.1} s", call.seconds)),
        End::Error(message) => (Verdict::Error, message.clone()),
        End::Rows { .. } => return (Verdict::Right, String::new()),
    };
    (verdict, format!("{name}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::job::NO_ROWS;
    use crate::report::Recovery;

    fn run_of(ends: Vec<End>) -> Run {
        let call =
            |end| Call { name: "it".into(), end, seconds: 0.1, recovery: Recovery::default() };
        Run {
            calls: ends.into_iter().map(call).collect(),
            exit: Exit::Status(std::process::ExitStatus::default()),
            exit_seconds: 0.0,
            counts: BTreeMap::new(),
            struck: Vec::new(),
            stderr: String::new(),
        }
    }

    fn verdict(program: Program, ends: Vec<End>) -> Verdict {
        judge(program, &run_of(ends)).0
    }

    #[test]
    fn the_worst_call_decides() {
        let error = || End::Error("lost".into());
        let rows = |wrong, lost| End::Rows { wrong, lost, example: None };
        assert_eq!(verdict(Program::Gpu, vec![NO_ROWS]), Verdict::Right);
        assert_eq!(verdict(Program::Gpu, vec![NO_ROWS, error()]), Verdict::Error);
        assert_eq!(verdict(Program::Fallback, vec![NO_ROWS, error()]), Verdict::Lost);
        assert_eq!(verdict(Program::Gpu, vec![rows(0, 1), error()]), Verdict::Lost);
        assert_eq!(verdict(Program::Gpu, vec![rows(1, 0), error()]), Verdict::Wrong);
        assert_eq!(
            verdict(Program::Gpu, vec![rows(1, 0), End::Panic("no".into())]),
            Verdict::Panic
        );
        assert_eq!(verdict(Program::Gpu, vec![]), Verdict::Crash);
    }

    #[test]
    fn time_and_the_way_out_are_judged_as_well() {
        let mut slow = run_of(vec![NO_ROWS]);
        slow.calls[0].seconds = LONGEST + 0.1;
        assert_eq!(judge(Program::Gpu, &slow).0, Verdict::Long);
        let mut slow = run_of(vec![NO_ROWS]);
        slow.exit_seconds = LONGEST + 0.1;
        assert_eq!(judge(Program::Gpu, &slow).0, Verdict::Long);
        slow.exit = Exit::Killed;
        assert_eq!(judge(Program::Gpu, &slow).0, Verdict::Hang);
    }
}
