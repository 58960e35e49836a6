//! The table as it is measured, and the page that is left of a run.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::case::{Case, Kind};
use crate::machine::Machine;
use crate::turns::Line;

const DASH: &str = "–";

/// What a run found.
#[derive(Serialize)]
pub struct Results {
    /// Of the binary that ran.
    pub program: &'static str,
    /// Where it was.
    pub machine: Machine,
    /// Case by case, and in each tool by tool.
    pub lines: Vec<Line>,
}

impl Results {
    /// What a tool did in a case, if both took part.
    pub fn line(&self, tool: &str, case: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.tool == tool && line.case.name == case)
    }

    /// Each case once, in the order of the run.
    pub fn cases(&self) -> Vec<&Case> {
        first_of_each(self.lines.iter().map(|line| &line.case), |case| &case.name)
    }

    /// A line of each tool.
    fn tools(&self) -> Vec<&Line> {
        first_of_each(self.lines.iter(), |line| line.tool)
    }

    /// A Markdown table of all tools that have a cell in one of the cases.
    pub fn table(
        &self,
        corner: &str,
        columns: &[(String, &Case)],
        cell: impl Fn(&Line) -> Option<String>,
    ) -> String {
        let heads = columns.iter().map(|(head, _)| head.clone());
        let heads: Vec<String> = [corner.to_owned()].into_iter().chain(heads).collect();
        let rows = self.tools().into_iter().filter_map(|tool| {
            let cell =
                |(_, case): &(String, &Case)| self.line(tool.tool, &case.name).and_then(&cell);
            let cells: Vec<Option<String>> = columns.iter().map(cell).collect();
            let name =
                if tool.is_ours() { format!("**{}**", tool.title) } else { tool.title.to_owned() };
            let text = |cell: Option<String>| cell.unwrap_or(DASH.into());
            let some = cells.iter().any(Option::is_some);
            some.then(|| [name].into_iter().chain(cells.into_iter().map(text)).collect())
        });
        table(&heads, rows)
    }
}

fn first_of_each<'a, T>(
    all: impl Iterator<Item = &'a T>,
    name: impl Fn(&'a T) -> &'a str,
) -> Vec<&'a T> {
    let mut first: Vec<&T> = Vec::new();
    for item in all {
        if first.iter().all(|known| name(known) != name(item)) {
            first.push(item);
        }
    }
    first
}

fn table(heads: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rule = " ---: |".repeat(heads.len() - 1);
    let mut table = format!("| {} |\n| --- |{rule}\n", heads.join(" | "));
    for cells in rows {
        writeln!(table, "| {} |", cells.join(" | ")).expect("a string takes all");
    }
    table
}

pub(crate) fn heading() -> String {
    let (gb, share) = ("GB/s", "share");
    format!("{:<14} {:<15} {gb:>7} {share:>6} {:>9} {:>9}", "case", "tool", "time", "memory")
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14} {:<15} ", self.case.name, self.title)?;
        if let Some(reason) = &self.absent {
            return write!(f, "{DASH:>7} {reason}");
        }
        let or_dash = |text: Option<String>| text.unwrap_or(DASH.into());
        let (speed, share, time) =
            (or_dash(self.speed()), or_dash(self.share_text()), or_dash(self.time()));
        write!(f, "{speed:>7} {share:>6} {time:>9} {:>9}", or_dash(self.memory_text()))
    }
}

/// The cells of tables; nothing where nothing was measured.
impl Line {
    /// Billions of bytes in a second.
    pub fn speed(&self) -> Option<String> {
        (self.is_timed() && !self.case.is_one_row()).then(|| digits(self.gb_per_s))
    }

    /// The time of one call.
    pub fn time(&self) -> Option<String> {
        self.is_timed().then(|| time(self.median_seconds))
    }

    fn share_text(&self) -> Option<String> {
        self.share.filter(|_| self.is_timed()).map(|share| format!("{share:.2}"))
    }

    fn memory_text(&self) -> Option<String> {
        self.memory.map(|bytes| format!("{} MiB", (bytes + (1 << 19)) >> 20))
    }

    /// Whether there is anything to show of it.
    pub fn is_timed(&self) -> bool {
        !self.seconds.is_empty()
    }
}

/// Three of them.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{} s", digits(seconds)),
        1e-3.. => format!("{} ms", digits(seconds * 1e3)),
        1e-6.. => format!("{} µs", digits(seconds * 1e6)),
        _ => format!("{} ns", digits(seconds * 1e9)),
    }
}

/// 65,536 rather than 65536.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `benches/results/DATE-PROGRAM-MACHINE.md` and `.json`.
pub(crate) fn save(results: &Results, root: &Path) -> io::Result<()> {
    let folder = root.join("benches").join("results");
    fs::create_dir_all(&folder)?;
    let (date, machine) = (&results.machine.date, results.machine.slug());
    let file = folder.join(format!("{date}-{}-{machine}", results.program)).display().to_string();
    fs::write(format!("{file}.md"), page(results))?;
    fs::write(format!("{file}.json"), serde_json::to_string_pretty(results)? + "\n")?;
    eprintln!("wrote {file}.md and .json");
    Ok(())
}

fn page(results: &Results) -> String {
    let machine = &results.machine;
    let of_kind = |kind| {
        let cases = results.cases().into_iter();
        let cases = cases.filter(|case| case.kind == kind && !case.is_one_row());
        cases.map(|case| (grouped(case.bins), case)).collect::<Vec<_>>()
    };
    let (probs, logits) = (of_kind(Kind::Probs), of_kind(Kind::Logits));
    let both = |cell: fn(&Line) -> Option<String>| {
        let probs = results.table("probabilities, bins", &probs, cell);
        format!("{probs}\n{}", results.table("logits, bins", &logits, cell))
    };
    let row: Vec<_> = results.cases().into_iter().filter(|case| case.is_one_row()).collect();
    let row: Vec<_> = row.into_iter().map(|case| (grouped(case.bins), case)).collect();
    let bytes = results.lines.iter().map(|line| line.case.bytes()).max().unwrap_or_default();
    format!(
        "# Speed on {cpu}, {date}

Written by `cargo run --release --manifest-path benches/{program}/Cargo.toml -- --save .`; what the
tools are asked stands in [benches/{program}](../{program}/README.md), every single timing in the
.json beside this.

| | |
| --- | --- |
| processor | {cpu}, {threads} threads, {vectors} |
| memory | {memory_gib} GiB |
| system | {system} |
| compiler | {rustc} |
| this library | {commit} |

P and Q are {mib} MiB each, in f32, and lie in memory: of each tool its own. Every answer was held
against the divergences in f64 before the clock was started. The tools took turns, one call each, and
a cell is the median of a tool's calls.

## Billions of bytes of input per second

{speed}
## The same as a share of the first line

{share}
## Time for one row

{latency}
## Peak memory beyond the input

{memory}
## The tools

{about}",
        program = results.program,
        cpu = machine.cpu,
        date = machine.date,
        threads = machine.threads,
        vectors = machine.vectors,
        memory_gib = machine.memory_gib,
        system = machine.system,
        rustc = machine.rustc,
        commit = machine.commit,
        mib = bytes >> 21,
        speed = both(Line::speed),
        share = both(Line::share_text),
        latency = results.table("bins", &row, Line::time),
        memory = both(Line::memory_text),
        about = about(results),
    )
}

/// What each tool is, how it was fastest, how far off it was, and where it could not take part.
fn about(results: &Results) -> String {
    let heads = ["tool", "what it is", "fastest form", "worst error"].map(String::from);
    let rows = results.tools().into_iter().map(|tool| {
        let of_tool = results.lines.iter().filter(|line| line.tool == tool.tool);
        let lines: Vec<&Line> = of_tool.collect();
        let present = lines.iter().find(|line| !line.about.is_empty());
        let mut what = present.map_or("not run".into(), |line| line.about.clone());
        for line in &lines {
            if let Some(reason) = &line.absent {
                write!(what, "; {}: {reason}", line.case.name).expect("a string takes all");
            }
        }
        let forms = lines.iter().map(|line| &line.form).filter(|form| !form.is_empty());
        let forms = first_of_each(forms, |form| form);
        let forms = forms.into_iter().map(|form| form.replace('|', "\\|"));
        let worst = lines.iter().map(|line| line.worst_error).fold(0.0, f64::max);
        let worst = if worst > 0.0 { format!("{worst:.0e}") } else { DASH.into() };
        vec![tool.title.to_owned(), what, forms.collect::<Vec<_>>().join(", "), worst]
    });
    let table = table(&heads, rows);
    format!(
        "{table}\nThe worst error is relative to the true divergence, or to 0.01 where that is smaller.\n"
    )
}
