//! The sweep as a command.

use std::collections::BTreeMap;
use std::env::current_exe;
use std::time::Instant;

use kullback_faults::child::{Program, Starter};
use kullback_faults::faults::{self, Kind};
use kullback_faults::function::Function;
use kullback_faults::sweep::{self, Judged};
use kullback_faults::verdict::{self, Verdict};

use crate::options::Options;
use crate::page;

/// Runs it, and says whether the library came through.
pub fn run(options: &Options) -> Result<bool, String> {
    let (started, load) = (Instant::now(), page::load());
    let program = current_exe().map_err(|error| error.to_string())?;
    let starter = Starter::new(&program)?;
    let mut todo = Vec::new();
    for &program in &options.programs {
        let counts = counts(&starter, program)?;
        for kind in Kind::ALL {
            let all = faults::all(kind, &counts, options.doubles, options.seed);
            let most = match kind {
                Kind::Never => options.sample.min(options.nevers),
                // Of those the first hundred tell as much as the rest about wgpu by itself.
                Kind::Double if program == Program::Naive => options.doubles.min(100),
                Kind::Double => options.doubles,
                _ => options.sample,
            };
            let some = faults::sample(&all, most);
            todo.extend(some.into_iter().map(|rules| (program, kind, rules)));
        }
    }
    println!("{} runs", todo.len());
    let runs = sweep::run(&starter, &todo, options.jobs, |run: &Judged| {
        if !run.verdict.is_good() && run.program != Program::Naive {
            println!("{}", run.line());
        }
    })?;
    let table = sweep::table(&runs);
    println!("\n{}", sweep::markdown(&table));
    println!("{:.0} s", started.elapsed().as_secs_f64());
    if options.save {
        page::save(options, &runs, started.elapsed().as_secs_f64(), &load)?;
    }
    Ok(runs.iter().all(|run| run.program == Program::Naive || run.verdict.is_good()))
}

/// How often a program calls each function when nothing fails.
fn counts(starter: &Starter, program: Program) -> Result<BTreeMap<Function, usize>, String> {
    let run = starter.run(program, &[])?;
    match verdict::judge(program, &run) {
        (Verdict::Right, _) => Ok(run.counts),
        (verdict, why) => {
            Err(format!("{} without faults: {}: {why}", program.name(), verdict.title()))
        }
    }
}
