//! The sweep: which faults there are, what became of each, and the count of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::child::{Exit, Program, Run, Starter};
use crate::function::Function;
use crate::job::OPENING;
use crate::report::{Call, End};
use crate::rule::{Act, LOST, Lasting, Rule};

/// What a call may take, in seconds: the deadline that the programs set, and a second.
pub const LONGEST: f64 = 3.0;
/// What it may take to open an engine, for which the library has a deadline of its own.
pub const LONGEST_OPENING: f64 = 31.0;

/// The codes that calls fail with: out of host memory, out of device memory, device lost, unknown.
const CODES: [i32; 4] = [-1, -2, LOST, -13];

/// What is done to a program: faults of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One call fails, once or from then on.
    Single,
    /// A signal never comes.
    Never,
    /// Two of these at random.
    Double,
    /// The adapter lies, always in the same way.
    Broken,
    /// The adapter lies once.
    Slip,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Single, Kind::Never, Kind::Double, Kind::Broken, Kind::Slip];

    /// How it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Single => "a call fails",
            Kind::Never => "a signal never comes",
            Kind::Double => "two faults",
            Kind::Broken => "the adapter always lies",
            Kind::Slip => "the adapter lies once",
        }
    }
}

/// The faults of a kind, for a program that calls each function so often without any.
pub fn faults(
    kind: Kind,
    counts: &BTreeMap<Function, usize>,
    doubles: usize,
    seed: u64,
) -> Vec<Vec<Rule>> {
    let alone = |rules: Vec<Rule>| rules.into_iter().map(|rule| vec![rule]).collect();
    match kind {
        Kind::Single => alone(singles(counts)),
        Kind::Never => alone(nevers(counts)),
        Kind::Double => pairs(counts, doubles, seed),
        Kind::Broken => BROKEN.iter().map(|text| vec![known(text)]).collect(),
        Kind::Slip => alone(slips(counts)),
    }
}

/// Each call of each function that can fail, with each code.
fn singles(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (function, call) in calls(counts).filter(|(function, _)| function.can_fail()) {
        for act in CODES.map(Act::Code) {
            for lasting in [Lasting::Once, Lasting::Sticky] {
                rules.push(Rule { function, call, act, lasting });
            }
        }
        if function.tells_of_loss() {
            let act = Act::Code(LOST);
            rules.push(Rule { function, call, act, lasting: Lasting::Device });
        }
    }
    rules
}

/// Each call that waits, and each submission.
fn nevers(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (function, call) in calls(counts) {
        let lastings: &[Lasting] = match function {
            _ if function.submits() => &[Lasting::Device],
            _ if function.waits() || function.idles() => &[Lasting::Once, Lasting::Sticky],
            _ => &[],
        };
        let rule = |&lasting| Rule { function, call, act: Act::Never, lasting };
        rules.extend(lastings.iter().map(rule));
    }
    rules
}

/// Random pairs. What is done about the first makes more calls than there are without.
fn pairs(counts: &BTreeMap<Function, usize>, doubles: usize, seed: u64) -> Vec<Vec<Rule>> {
    let more: BTreeMap<_, _> =
        counts.iter().map(|(&function, count)| (function, 2 * count)).collect();
    let (first, second) =
        ([singles(counts), nevers(counts)].concat(), [singles(&more), nevers(&more)].concat());
    let mut random = Random(seed);
    let mut pair = || vec![*random.of(&first), *random.of(&second)];
    (0..doubles).map(|_| pair()).collect()
}

/// Adapters that are broken for good.
const BROKEN: [&str; 17] = [
    "CmdDispatch:1:skip:sticky",
    "CmdDispatch:1:half:sticky",
    "CmdDispatch:1:tail:sticky",
    "CmdCopyBuffer:1:skip:sticky",
    "CmdCopyBuffer:1:zeros:sticky",
    "CmdCopyBuffer:1:nan:sticky",
    "CmdCopyBuffer:1:shift:sticky",
    "CmdCopyBuffer:1:swap:sticky",
    "CmdCopyBuffer:1:byte:sticky",
    "CmdFillBuffer:1:skip:sticky",
    "CmdPipelineBarrier:1:skip:sticky",
    "QueueSubmit:1:empty:sticky",
    "CreateShaderModule:1:minus:sticky",
    "CreateShaderModule:1:flip:sticky",
    // Those that are right at first.
    "CmdDispatch:2:skip:sticky",
    "CmdDispatch:3:half:sticky",
    "QueueSubmit:2:empty:sticky",
];

/// Work that is dropped, once. Of a number that is changed on its way no adapter can be convicted.
fn slips(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let kinds = [
        (Function::CmdDispatch, "skip"),
        (Function::CmdDispatch, "half"),
        (Function::CmdDispatch, "tail"),
        (Function::CmdCopyBuffer, "skip"),
        (Function::CmdFillBuffer, "skip"),
        (Function::CmdPipelineBarrier, "skip"),
        (Function::QueueSubmit, "empty"),
    ];
    let of = |(function, lie): (Function, &str)| {
        let calls = 1..=counts.get(&function).copied().unwrap_or_default();
        calls.map(|call| known(&format!("{}:{call}:{lie}", function.name()))).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of).collect()
}

fn known(text: &str) -> Rule {
    text.parse().expect("the rules here are well formed")
}

fn calls(counts: &BTreeMap<Function, usize>) -> impl Iterator<Item = (Function, usize)> {
    counts.iter().flat_map(|(&function, &count)| (1..=count).map(move |call| (function, call)))
}

/// Of a list so many, spread evenly.
pub fn sample<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let most = most.min(all.len());
    (0..most).map(|index| all[index * all.len() / most].clone()).collect()
}

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
        let line = match table.entry((run.kind, run.program)) {
            Entry::Occupied(line) => line.into_mut(),
            Entry::Vacant(place) => place.insert(Line::default()),
        };
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

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        &all[((mixed ^ mixed >> 31) % all.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn every_call_is_tried_and_pairs_are_the_same_for_a_seed() {
        let counts = BTreeMap::from([(Function::CreateBuffer, 2), (Function::QueueSubmit, 1)]);
        // Four codes, once and from then on; and a device that is lost.
        assert_eq!(faults(Kind::Single, &counts, 0, 0).len(), 3 * 8 + 1);
        assert_eq!(faults(Kind::Never, &counts, 0, 0), [[known("QueueSubmit:1:never:device")]]);
        assert_eq!(faults(Kind::Double, &counts, 50, 7), faults(Kind::Double, &counts, 50, 7));
        assert_ne!(faults(Kind::Double, &counts, 50, 7), faults(Kind::Double, &counts, 50, 8));
        assert_eq!(faults(Kind::Broken, &counts, 0, 0).len(), BROKEN.len());
    }

    #[test]
    fn samples_are_spread_evenly() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(sample(&all, 3), [0, 3, 6]);
        assert_eq!(sample(&all, 20), all);
        assert_eq!(sample(&all, 0), [0; 0]);
    }
}
