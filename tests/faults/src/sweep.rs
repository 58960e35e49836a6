//! Runs under faults, some at a time, and the table of how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::child::{Program, Run, Starter};
use crate::faults::Kind;
use crate::job::OPENING;
use crate::rule::Rule;
use crate::verdict::{Verdict, judge};

/// A run with some faults, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The program.
    pub program: Program,
    /// The kind of the faults.
    pub kind: Kind,
    /// The faults.
    pub rules: Vec<Rule>,
    /// Whether any came to pass.
    pub struck: bool,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// How long it took to open the engine.
    pub opening: f64,
    /// The longest of all other calls and of the end of the process.
    pub longest: f64,
}

impl Judged {
    fn new(program: Program, kind: Kind, rules: &[Rule], run: &Run) -> Judged {
        let (verdict, why) = judge(program, run);
        let longest = |opening: bool| {
            let calls = run.calls.iter().filter(|call| (call.name == OPENING) == opening);
            calls.map(|call| call.seconds).fold(0.0, f64::max)
        };
        Judged {
            program,
            kind,
            rules: rules.to_vec(),
            struck: !run.struck.is_empty(),
            verdict,
            why,
            opening: longest(true),
            longest: longest(false).max(run.exit_seconds),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(Rule::to_string).collect();
        let (program, verdict) = (self.program.name(), self.verdict.title());
        format!("{program} {}: {verdict}: {}", rules.join(","), self.why)
    }
}

/// Runs programs under faults, some at a time, and hands each to `each` when it is judged.
///
/// # Errors
/// A program cannot be started or does not report in the agreed form.
pub fn run(
    starter: &Starter,
    todo: &[(Program, Kind, Vec<Rule>)],
    jobs: usize,
    each: impl Fn(&Judged) + Sync,
) -> Result<Vec<Judged>, String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((program, kind, rules)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judged = starter.run(*program, rules);
            let judged = judged.map(|run| Judged::new(*program, *kind, rules, &run));
            if let Ok(judged) = &judged {
                each(judged);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push(judged);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
}

/// One line of the table: how many runs ended how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Runs in which a fault came to pass.
    pub runs: usize,
    /// How many ended how.
    pub ends: BTreeMap<Verdict, usize>,
    /// The longest opening.
    pub opening: f64,
    /// The longest of all other calls and of the ends of processes.
    pub longest: f64,
}

/// The table: a line for each kind of faults and program. Runs that no fault came to are left out.
pub fn table(runs: &[Judged]) -> BTreeMap<(Kind, Program), Line> {
    let mut table = BTreeMap::<_, Line>::new();
    for run in runs.iter().filter(|run| run.struck) {
        let line = table.entry((run.kind, run.program)).or_default();
        line.runs += 1;
        *line.ends.entry(run.verdict).or_default() += 1;
        line.opening = line.opening.max(run.opening);
        line.longest = line.longest.max(run.longest);
    }
    table
}

/// The table in Markdown.
pub fn markdown(table: &BTreeMap<(Kind, Program), Line>) -> String {
    let titles = Verdict::ALL.map(Verdict::title).join(" | ");
    let rules = " ---: |".repeat(Verdict::ALL.len() + 3);
    let mut text = format!(
        "| faults | program | runs | {titles} | opening | longest call |\n| --- | --- |{rules}\n"
    );
    for ((kind, program), line) in table {
        let ends = Verdict::ALL.map(|verdict| line.ends.get(&verdict).copied().unwrap_or_default());
        let ends = ends.map(|count| count.to_string()).join(" | ");
        let (kind, program) = (kind.title(), program.title());
        let seconds = format!("{:.1} s | {:.1} s", line.opening, line.longest);
        text += &format!("| {kind} | {program} | {} | {ends} | {seconds} |\n", line.runs);
    }
    text
}
