//! `docs/accuracy.md`.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::rows::{BINS, DECADES, ROWS};
use crate::{Table, Tool, cell_id, name};

const DASH: &str = "–";

/// The relative error; infinite where the value is no number.
pub fn error(value: f64, exact: f64) -> f64 {
    let error = (value / exact - 1.0).abs();
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The relative errors of some rows in rising order.
pub fn errors(values: &[f64], exact: &[f64]) -> Vec<f64> {
    let mut errors: Vec<f64> = values.iter().zip(exact).map(|(&v, &e)| error(v, e)).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// The page, with the promises that were found broken.
pub fn markdown(tables: &[Table], tools: &[Tool], broken: &[String]) -> String {
    let mut page = introduction(tools, broken);
    for table in tables {
        let heading = format!("{}, {}", name(table.kinds, " ‖ "), table.element);
        write!(page, "\n## {heading}\n\n{}", body(table, tools)).expect("a string takes all");
    }
    page
}

fn introduction(tools: &[Tool], broken: &[String]) -> String {
    let verdict = match broken {
        [] => "Every value of this library here keeps the promise.".into(),
        broken => format!("**Broken here:** {}.", broken.join("; ")),
    };
    let mut versions = String::new();
    for tool in tools {
        writeln!(versions, "| {} | {} |", tool.name, tool.about).expect("a string takes all");
    }
    format!(
        "# Accuracy

Written by `cargo run --release --example accuracy` on {date}.
How to install the other tools stands in [benches/peers](../benches/peers/README.md).

![The worst relative error of each tool by divergence, for f32 probabilities and logits](accuracy.svg)

Each row of a table stands for {ROWS} pairs of distributions over {BINS} bins whose divergence D(P‖Q)
lies within half a decade of the power of ten at its left. P is a softmax of gaussian logits
(σ = 2), and the same in every decade. The logarithms of Q are those of P, changed by gaussian
noise of the size that makes the divergence. Both are rounded to the type, and the divergence *of what
is stored* is worked out with {digits} digits, by arithmetic that is first checked against the
golden values of the tests.

A cell is the **worst (median) relative error** of the values, each computed in the type of the rows
unless said otherwise. All tools are asked for the divergence of the rows divided by their sums: this
library, whose backends are the first two columns, under the mass policy `normalize`; the others divide
probabilities by their sums and put all else through `log_softmax`. No divergence is negative, and
none here is 0: cells say how many values are. {DASH} stands where a tool does not take the type, and
for decades in which the rounding of the type leaves no rows.

The promise is 5e-7 for probabilities in f32, f16 and bf16 from 1e-13 on, 2e-6 where a side is
logarithms, from 1e-10 on, and 1e-14 for probabilities in f64. For logarithms in f64 there is none:
near equality the rounding of ln p shows where one side is probabilities.
{verdict}

| column | what it is |
| --- | --- |
{versions}",
        date = date(),
        digits = crate::exact::DIGITS,
    )
}

fn body(table: &Table, tools: &[Tool]) -> String {
    let id = table.id();
    // An upcast says nothing new of types that need none.
    let tools: Vec<&Tool> =
        tools.iter().filter(|tool| !tool.only_16_bit || table.element.ends_with("16")).collect();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    let mut body =
        format!("| KL | {} |\n|{}\n", names.join(" | "), " --- |".repeat(tools.len() + 1));
    for decade in DECADES.rev() {
        let cell = |tool: &&Tool| match (&tool.values, table.cells.get(&decade)) {
            (_, None) => DASH.into(),
            (None, _) => "not run".into(),
            (Some(values), Some(exact)) => {
                let values = values.get(&cell_id(&id, decade));
                values.map_or(DASH.into(), |values| summary(values, exact))
            }
        };
        let cells: Vec<String> = tools.iter().map(cell).collect();
        writeln!(body, "| 1e{decade} | {} |", cells.join(" | ")).expect("a string takes all");
    }
    body
}

/// The worst and the median relative error, and what no rounding excuses.
fn summary(values: &[f64], exact: &[f64]) -> String {
    let errors = errors(values, exact);
    let mut summary =
        format!("{} ({})", size(errors[errors.len() - 1]), size(errors[errors.len() / 2]));
    let mut remark = |what: &str, is: fn(&f64) -> bool| {
        let count = values.iter().filter(|value| is(value)).count();
        if count > 0 {
            write!(summary, ", {what} in {count} of {}", values.len()).expect("a string takes all");
        }
    };
    remark("negative", |value| *value < 0.0);
    remark("0", |value| *value == 0.0);
    remark("not finite", |value| !value.is_finite());
    summary
}

/// From 100 % on there is nothing right in a value, and it does not matter how much is wrong.
fn size(error: f64) -> String {
    match error {
        0.0 => "0".into(),
        1.0.. => "≥ 100 %".into(),
        error => format!("{error:.1e}"),
    }
}

/// The day in UTC, by the calendar's 400-year cycle counted from a 1 March (Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let days = now.as_secs() / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = 400 * cycle + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
