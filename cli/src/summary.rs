//! What is printed about the results.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::files::printable;
use crate::results::Counts;
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
    pub divergence: String,
    /// None for measures without a logarithm.
    pub unit: Option<&'static str>,
    pub mass: &'static str,
    #[serde(flatten)]
    pub counts: Counts,
    #[serde(flatten)]
    pub statistics: Statistics,
    pub cross_checked_rows: usize,
    pub seconds: f64,
    pub bytes_per_second: f64,
    /// As far as it is Unicode.
    pub output: Option<String>,
    pub p_gradient: Option<String>,
    pub q_gradient: Option<String>,
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
        let Counts { infinite_rows, invalid_rows, .. } = self.counts;
        let backend = match &self.counts.adapter {
            Some(adapter) => format!("{} ({adapter})", self.counts.backend),
            None => self.counts.backend.to_owned(),
        };
        let input =
            format_args!("{} × {} bins, {}", grouped(self.rows), grouped(self.bins), self.dtype);
        line(f, "rows", &input)?;
        if [self.p_input, self.q_input] != ["probs"; 2] {
            line(f, "input", &self.input())?;
        }
        let unit = self.unit.map_or(String::new(), |unit| format!(" in {unit}"));
        let divergence = format_args!("{}{unit}, mass policy {}", self.divergence, self.mass);
        line(f, "divergence", &divergence)?;
        line(f, "backend", &backend)?;
        let error = standard_error.map_or(String::new(), |error| format!(" ± {error:.2e}"));
        let others = infinite_rows + invalid_rows;
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
        line(f, "infinite", &format_args!("{} rows", grouped(infinite_rows)))?;
        line(f, "invalid", &format_args!("{} rows", grouped(invalid_rows)))?;
        self.counts.fmt(f)?;
        if self.cross_checked_rows > 0 {
            let rows = grouped(self.cross_checked_rows);
            line(f, "cross-check", &format_args!("{rows} rows agree with the f64 reference"))?;
        }
        let speed = self.bytes_per_second / 1e9;
        line(f, "time", &format_args!("{} at {speed:.2} GB/s", duration(self.seconds)))?;
        for path in [&self.output, &self.p_gradient, &self.q_gradient].into_iter().flatten() {
            line(f, "written", &printable(path))?;
        }
        Ok(())
    }
}

/// What does not happen every time.
impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count, what) in [
            ("closer look", self.closer_looks, "rows, computed once more in f64"),
            ("faults", self.device_faults, "of GPU devices, survived"),
            ("fallback", self.fallback_rows, "rows, computed on the CPU instead"),
        ] {
            if count > 0 {
                line(f, name, &format_args!("{} {what}", grouped(count)))?;
            }
        }
        match &self.fallback_reason {
            Some(reason) => line(f, "because", &printable(reason)),
            None => Ok(()),
        }
    }
}

pub fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &dyn Display) -> fmt::Result {
    writeln!(f, "{name:<12}{value}")
}

pub fn shown(value: Option<f64>) -> String {
    match value {
        None => "none".into(),
        Some(value) if value == 0.0 || (1e-4..1e6).contains(&value.abs()) => format!("{value:.6}"),
        Some(value) => format!("{value:.6e}"),
    }
}

pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A count with a comma after every three digits.
pub fn grouped(count: usize) -> String {
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
