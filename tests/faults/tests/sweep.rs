//! A sample of the sweep, small enough for every change. The whole of it is
//! `cargo run -p kullback-faults -- sweep`.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::path::Path;

use kullback_faults::child::{Program, Run, Starter};
use kullback_faults::faults::{self, Kind};
use kullback_faults::function::Function;
use kullback_faults::report::End;
use kullback_faults::rule::Rule;
use kullback_faults::sweep::{self, Judged};
use kullback_faults::verdict::{self, Verdict};

/// What cargo built for this test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_faults");
/// As many as the smallest machines have processors.
const JOBS: usize = 2;

fn starter() -> Starter {
    Starter::new(Path::new(PROGRAM)).unwrap()
}

fn rules(text: &str) -> Vec<Rule> {
    kullback_faults::rule::rules(text).unwrap()
}

fn run(program: Program, faults: &str) -> Run {
    starter().run(program, &rules(faults)).unwrap()
}

fn verdict(program: Program, faults: &str) -> Verdict {
    verdict::judge(program, &run(program, faults)).0
}

/// Whether every row was right. How long that took is for the sweep on a machine that does nothing
/// else; what takes too long by far is killed, and no good end.
fn is_right(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Right | Verdict::Long)
}

/// Whether a program came through.
fn came_through(run: &Judged) -> bool {
    run.verdict.is_good() || is_right(run.verdict)
}

/// A sample of faults of a kind, of which none may be the end of the library.
fn survives(kind: Kind, most: usize) {
    let starter = starter();
    let mut todo = Vec::new();
    for program in [Program::Gpu, Program::Fallback] {
        let counts = starter.run(program, &[]).unwrap().counts;
        let all = faults::all(kind, &counts, most, 20_261_125);
        let some = faults::sample(&all, most);
        todo.extend(some.into_iter().map(|rules| (program, kind, rules)));
    }
    let runs = sweep::run(&starter, &todo, JOBS, |_| {}).unwrap();
    assert!(runs.iter().filter(|run| run.struck).count() * 2 > runs.len(), "few faults struck");
    let bad = runs.iter().filter(|run| !came_through(run)).map(Judged::line);
    let bad: Vec<String> = bad.collect();
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), runs.len(), bad.join("\n"));
}

#[test]
fn without_faults_every_row_is_right_and_the_layer_changes_nothing() {
    for program in Program::SWEPT {
        // The layer is there, and a rule that is never met is as good as none.
        for faults in ["", "CreateDevice:1000:-4,QueueSubmit:1000:never:device"] {
            let run = run(program, faults);
            let (verdict, what) = verdict::judge(program, &run);
            assert!(is_right(verdict), "{program:?}: {verdict:?}, {what}");
            assert!(run.calls.iter().all(|call| matches!(call.end, End::Rows { .. })), "{run:?}");
            assert!(run.struck.is_empty());
            assert!(run.counts[&Function::QueueSubmit] >= 2, "{:?}", run.counts);
        }
    }
}

#[test]
fn the_kit_sees_what_befalls_a_program_that_is_not_careful() {
    let verdict = |faults| verdict(Program::Naive, faults);
    assert_eq!(verdict("CreateInstance:1:-1"), Verdict::Error);
    assert_eq!(verdict("CmdDispatch:1:skip:sticky"), Verdict::Wrong);
    assert_eq!(verdict("CmdCopyBuffer:1:byte:sticky"), Verdict::Wrong);
    assert_eq!(verdict("WaitSemaphores:1:-4:sticky"), Verdict::Panic);
    assert_eq!(verdict("QueueSubmit:1:never:device"), Verdict::Hang);
}

#[test]
fn a_fault_that_strikes_is_reported() {
    let run = run(Program::Naive, "CreateBuffer:2:-2");
    assert_eq!(run.struck, ["CreateBuffer:2:-2"]);
    assert_eq!(run.counts[&Function::CreateDevice], 1);
}

#[test]
fn calls_that_fail_are_survived() {
    survives(Kind::Single, 24);
}

#[test]
fn pairs_of_faults_are_survived() {
    survives(Kind::Double, 12);
}

#[test]
fn adapters_that_lie_are_refused() {
    survives(Kind::Broken, usize::MAX);
}

#[test]
fn work_that_is_dropped_once_is_noticed() {
    survives(Kind::Slip, 10);
}

/// Also those that are compiled when the first batch wants them.
#[test]
fn a_miscompiled_kernel_computes_nothing() {
    let starter = starter();
    let compiled = starter.run(Program::Gpu, &[]).unwrap().counts[&Function::CreateShaderModule];
    let todo: Vec<_> = (1..=compiled)
        .map(|call| (Program::Gpu, Kind::Slip, rules(&format!("CreateShaderModule:{call}:flip"))))
        .collect();
    for run in sweep::run(&starter, &todo, JOBS, |_| {}).unwrap() {
        assert!(run.struck, "{}", run.line());
        assert!(came_through(&run), "{}", run.line());
    }
}

/// The last calls of each kind, which come once the device is open, and under the deadline that the
/// programs set. A driver that stops to answer in the midst of opening, where many waits follow each
/// other: all of them together have one deadline. And one that never returns with memory.
#[test]
fn a_signal_that_never_comes_holds_nobody_up() {
    let starter = starter();
    let counts: BTreeMap<_, _> = starter.run(Program::Gpu, &[]).unwrap().counts;
    let last = |function: Function| counts[&function];
    // How often it is asked whether something is done depends on how long that takes: the last time need not
    // come again.
    let late = |function: Function| last(function) * 3 / 4;
    let faults = [
        format!("WaitSemaphores:{}:never", late(Function::WaitSemaphores)),
        format!("WaitSemaphores:{}:never:sticky", last(Function::WaitSemaphores) / 3),
        format!(
            "GetSemaphoreCounterValue:{}:never:sticky",
            late(Function::GetSemaphoreCounterValue)
        ),
        format!("QueueSubmit:{}:never:device", last(Function::QueueSubmit) - 1),
        // For the second slot of a call that has one.
        format!("AllocateMemory:{}:never", last(Function::AllocateMemory)),
    ];
    let mut todo = Vec::new();
    for faults in &faults {
        for program in [Program::Gpu, Program::Fallback] {
            todo.push((program, Kind::Never, rules(faults)));
        }
    }
    for run in sweep::run(&starter, &todo, JOBS, |_| {}).unwrap() {
        assert!(run.struck, "{}", run.line());
        assert!(came_through(&run), "{}", run.line());
    }
}
