//! docs/reliability.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use kullback_faults::child::Program;
use kullback_faults::sweep::{self, Judged};
use kullback_faults::verdict::Verdict;

use crate::options::Options;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reliability.md");

const HEAD: &str = "\
# Reliability

What happens when the driver fails, hangs or lies. A Vulkan layer of this repository
([tests/faults](../tests/faults)) stands between a program and the driver, and does as it is told: it
fails a certain call of a certain function, loses or hangs the device, or drops and changes work while
it reports success. A sweep lets each fault strike a process of its own that opens a device, computes
short rows, a row so long that it is split, logits, probabilities against logits, and more rows than
one submission takes, compares every value with a plain f64 sum, and lets the device go.

Three programs are swept. *Naive wgpu* is wgpu as its documentation shows it: handlers write errors
and the loss of the device to stderr, whatever returns a `Result` is looked at, and what was mapped is
read. *kullback* is `Engine::gpu()`, for which an error that says why is a good end. *kullback with
fallback* is `Engine::gpu_or_cpu()`, for which only the right value of every row is, with the rows
that the CPU computed counted and a reason given.

";

const TERMS: &str = "
A run counts once, under the first of these that applies. *Crashes*: the process ended by a signal.
*Hangs*: it had to be killed, after 120 s, naive wgpu after 10 s. *Panics*: one reached the caller.
*Wrong rows*: a value that is not the right one. *Lost rows*: a result left out, or, with fallback, any
error. *Too long*: a call of more than 3 s, where the deadline is set to 2 s; opening, which has a
deadline of its own, more than 21 s; or as long to end the process. *Errors* end a call and say why.
Runs whose fault was never reached are left out.

- *A call fails*: the n-th call of a function returns that memory of the host (−1) or the device (−2) is
  exhausted, that the device is lost (−4), or an unknown error (−13): that once, or from then on; or
  the device is gone from then on while a new one works.
- *A signal never comes*: a wait or a question for a signal is answered as if the work were not done,
  once or from then on; or the device takes no more work and never says so; or a call for memory (an
  allocation, a buffer, a mapping) never returns.
- *Two faults*: any two of these, of random calls.
- *The adapter always lies*: dispatches are dropped, halved or cut short; copies are dropped, zeroed,
  shifted, mixed up or changed in a byte; submissions are emptied; shaders are miscompiled.
- *The adapter lies once*: one dispatch, copy, fill, barrier or submission is dropped, or one shader
  miscompiled. (No program can tell a number that changed on its way, once, from another number.)
";

/// Writes the page.
pub fn save(options: &Options, runs: &[Judged], seconds: f64, load: &str) -> Result<(), String> {
    let mut page = HEAD.to_owned();
    page += &format!(
        "Written by `{}` on {}, in {:.0} minutes: {} runs on {}, with a load average of {} before \
         it.\n\n",
        command(options),
        output("date", &["--utc", "+%Y-%m-%d"]),
        seconds / 60.0,
        runs.len(),
        machine(),
        load,
    );
    page += &sweep::markdown(&sweep::table(runs));
    page += TERMS;
    page += &panics(runs);
    let bad: Vec<String> =
        ours(runs).filter(|run| !run.verdict.is_good()).map(Judged::line).collect();
    if !bad.is_empty() {
        page += "\n## What did not hold\n\n";
        page.extend(bad.iter().map(|line| format!("- {}\n", line.replace('\n', " "))));
    }
    fs::write(Path::new(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))
}

fn ours(runs: &[Judged]) -> impl Iterator<Item = &Judged> {
    runs.iter().filter(|run| run.struck && run.program != Program::Naive)
}

/// The command that does the same again.
fn command(options: &Options) -> String {
    let mut command = String::from("cargo run -p kullback-faults -- sweep --save");
    if options.sample < usize::MAX {
        command += &format!(" --sample {}", options.sample);
    }
    if options.nevers < usize::MAX {
        command += &format!(" --nevers {}", options.nevers);
    }
    command + &format!(" --doubles {} --seed {}", options.doubles, options.seed)
}

/// Where naive use panics, by the message.
fn panics(runs: &[Judged]) -> String {
    let mut sites = BTreeMap::<&str, usize>::new();
    let panicked = |run: &&Judged| run.program == Program::Naive && run.verdict == Verdict::Panic;
    for run in runs.iter().filter(panicked) {
        let message = run.why.split_once(": ").map_or(run.why.as_str(), |(_, message)| message);
        *sites.entry(message.lines().next().unwrap_or_default()).or_default() += 1;
    }
    if sites.is_empty() {
        return String::new();
    }
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let lines =
        sites.iter().take(8).map(|(message, count)| format!("- {count} × `` {message} ``\n"));
    format!("\nThe panics of naive use, all inside wgpu:\n\n{}", lines.collect::<String>())
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let adapters = kullback::adapters();
    let adapter = adapters.first().map(|a| format!("{}, {}", a.name(), a.driver()));
    let adapter = adapter.unwrap_or_else(|| "no adapter".into());
    let rustc = output("rustc", &["--version"]);
    format!("{model}, {threads} threads; {adapter}; wgpu 30; {rustc}")
}

/// How busy the machine is.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| format!("{program} unknown"))
}
