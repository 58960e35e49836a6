//! What is printed about the results.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::files::printable;
use crate::statistics::Statistics;

/// Everything the summary says. `None` where there is nothing to take a statistic of.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub rows: usize,
    pub bins: usize,
    pub dtype: &'static str,
    pub p_input: &'static str,
    pub q_input: &'static str,
    pub temperature: f64,
    pub divergence: &'static str,
    pub unit: &'static str,
    pub mass: &'static str,
    pub backend: &'static str,
    pub adapter: Option<String>,
    #[serde(flatten)]
    pub statistics: Statistics,
    pub infinite_rows: usize,
    pub invalid_rows: usize,
    pub closer_looks: usize,
    pub cross_checked_rows: usize,
    pub seconds: f64,
    pub bytes_per_second: f64,
    /// As far as it is Unicode.
    pub output: Option<String>,
}

impl Summary {
    /// What the two sides are.
    fn input(&self) -> String {
        let kinds = match self.p_input == self.q_input {
            true => self.p_input.to_owned(),
            false => format!("{} against {}", self.p_input, self.q_input),
        };
        match self.temperature {
            1.0 => kinds,
            temperature => format!("{kinds}, temperature {temperature}"),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { mean, standard_error, min, median, p90, p99, max } = &self.statistics;
        let backend = match &self.adapter {
            Some(adapter) => format!("{} ({adapter})", self.backend),
            None => self.backend.to_owned(),
        };
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn Display| {
            writeln!(f, "{name:<12}{value}")
        };
        let input =
            format_args!("{} × {} bins, {}", grouped(self.rows), grouped(self.bins), self.dtype);
        line(f, "rows", &input)?;
        if [self.p_input, self.q_input] != ["probs"; 2] {
            line(f, "input", &self.input())?;
        }
        line(
            f,
            "divergence",
            &format_args!("{} in {}, mass policy {}", self.divergence, self.unit, self.mass),
        )?;
        line(f, "backend", &backend)?;
        let error = standard_error.map_or(String::new(), |error| format!(" ± {error:.2e}"));
        let others = self.infinite_rows + self.invalid_rows;
        let over = match others {
            0 => String::new(),
            _ => format!(" over the {} finite rows", grouped(self.rows - others)),
        };
        line(f, "mean", &format_args!("{}{error}{over}", shown(*mean)))?;
        for (name, value) in
            [("min", min), ("median", median), ("p90", p90), ("p99", p99), ("max", max)]
        {
            line(f, name, &shown(*value))?;
        }
        line(f, "infinite", &format_args!("{} rows", grouped(self.infinite_rows)))?;
        line(f, "invalid", &format_args!("{} rows", grouped(self.invalid_rows)))?;
        if self.closer_looks > 0 {
            let rows = grouped(self.closer_looks);
            line(f, "closer look", &format_args!("{rows} rows, computed once more in f64"))?;
        }
        if self.cross_checked_rows > 0 {
            let rows = grouped(self.cross_checked_rows);
            line(f, "cross-check", &format_args!("{rows} rows agree with the f64 reference"))?;
        }
        let speed = self.bytes_per_second / 1e9;
        line(f, "time", &format_args!("{} at {speed:.2} GB/s", duration(self.seconds)))?;
        match &self.output {
            Some(path) => line(f, "written", &printable(path)),
            None => Ok(()),
        }
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "none".into(),
        Some(value) if value == 0.0 || (1e-4..1e6).contains(&value.abs()) => format!("{value:.6}"),
        Some(value) => format!("{value:.6e}"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A count with a comma after every three digits.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_797), "1,797");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(shown(Some(0.0)), "0.000000");
        assert_eq!(shown(Some(2.5e-13)), "2.500000e-13");
        assert_eq!(shown(Some(-0.25)), "-0.250000");
        assert_eq!(duration(0.0123), "12.3 ms");
    }
}
