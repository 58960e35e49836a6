//! The README's section on speed, between two comments.

use std::error::Error;
use std::fs;
use std::path::Path;

use contest::{Kind, Line, Results, grouped};

const BEGIN: &str = "<!-- written by benches/peers -->\n";
const END: &str = "<!-- as far as here -->\n";

/// Of which cases it tells.
const CASES: [&str; 7] = [
    "probs-2",
    "probs-16",
    "probs-64",
    "probs-1024",
    "probs-1048576",
    "logits-1024",
    "logits-128256",
];

pub fn save(results: &Results, root: &Path) -> Result<(), Box<dyn Error>> {
    let path = root.join("README.md");
    let readme = fs::read_to_string(&path)?;
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or("README.md has no place for the speeds")?;
    Ok(fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", section(results)))?)
}

fn section(results: &Results) -> String {
    let cases = results.cases().into_iter().filter(|case| CASES.contains(&case.name.as_str()));
    let columns: Vec<_> = cases
        .map(|case| match case.kind {
            Kind::Probs => (grouped(case.bins), case),
            Kind::Logits => (format!("{} logits", grouped(case.bins)), case),
        })
        .collect();
    let row = |tool| results.line(tool, "row-64").and_then(Line::time).unwrap_or("–".into());
    let machine = &results.machine;
    format!(
        "Billions of bytes of input per second by the number of bins, f32 in memory, on {cpu},
{threads} threads, {date}; the GPU backends on a software adapter of the same processor. One row of 64
bins takes {ours} on the CPU backend, {numpy} in NumPy and {compiled} with torch.compile.

{table}",
        cpu = machine.cpu,
        threads = machine.threads,
        date = machine.date,
        ours = row("cpu"),
        numpy = row("numpy"),
        compiled = row("torch-compile"),
        table = results.table("GB/s", &columns, Line::speed),
    )
}
