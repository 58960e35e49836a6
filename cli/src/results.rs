//! What is done with the results as they come.

use std::ops::Range;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use kullback::{Element, Outcome};
use serde::Serialize;

use crate::args::{Base, Shared};
use crate::failure::Failure;
use crate::files::npy::{Writer, Written};
use crate::files::whole::Unfinished;
use crate::statistics::{Statistics, Values};

/// Takes the results of one part after another: into the file, the statistics and the counts.
pub struct Results<V> {
    /// What brings nats to the unit that is asked for.
    per_unit: f64,
    rows: usize,
    /// Of the input.
    bytes: u64,
    file: Option<Writer<V>>,
    /// Unless nothing is to be said about them.
    values: Option<Values<V>>,
    counts: Counts,
    progress: ProgressBar,
}

/// What is counted on the way.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub backend: &'static str,
    pub adapter: Option<String>,
    pub infinite_rows: usize,
    pub invalid_rows: usize,
    pub closer_looks: usize,
    /// Faults of GPU devices that were survived.
    pub device_faults: usize,
    /// Rows that the CPU computed in the place of a GPU, and why.
    pub fallback_rows: usize,
    pub fallback_reason: Option<String>,
}

impl<V: Written + Element> Results<V> {
    /// Makes ready for so many rows, read from so many bytes, with this much memory for values.
    pub fn new(
        options: &Shared,
        unfinished: &Unfinished,
        rows: usize,
        bytes: u64,
        memory: usize,
    ) -> Result<Self, Failure> {
        let file = options.output.as_ref().map(|path| Writer::create(path, &[rows], unfinished));
        let values = (!options.quiet).then(|| Values::new(rows, memory));
        Ok(Results {
            per_unit: per_unit(options)?,
            rows,
            bytes,
            file: file.transpose().map_err(Failure::other)?,
            values: values.transpose().map_err(spool)?,
            counts: Counts::default(),
            progress: progress_bar(options, bytes),
        })
    }

    /// Takes the next rows.
    pub fn take(&mut self, rows: Range<usize>, mut outcome: Outcome<V>) -> Result<(), Failure> {
        if self.per_unit != 1.0 {
            outcome.values.mapv_inplace(|value| V::from_f64(value.to_f64() * self.per_unit));
        }
        // An outcome's arrays are contiguous.
        let values = outcome.values.as_slice().unwrap_or_default();
        if let Some(file) = &mut self.file {
            file.write(values).map_err(Failure::other)?;
        }
        if let Some(kept) = &mut self.values {
            kept.extend(values).map_err(spool)?;
        }
        self.counts.add(&outcome);
        let done = u128::from(self.bytes) * rows.end as u128 / self.rows.max(1) as u128;
        self.progress.set_position(done as u64);
        Ok(())
    }

    /// The statistics of all values, unless they are not wanted; puts the file in its place.
    pub fn finish(self) -> Result<(Counts, Option<Statistics>), Failure> {
        self.progress.finish_and_clear();
        let statistics = self.values.map(Values::statistics).transpose().map_err(spool)?;
        if let Some(file) = self.file {
            file.finish().map_err(Failure::other)?;
        }
        Ok((self.counts, statistics))
    }
}

/// What brings the results to the unit that is asked for.
pub fn per_unit(options: &Shared) -> Result<f64, Failure> {
    if options.base == Base::E {
        return Ok(1.0);
    }
    options.divergence.per_unit(options.base.nats()).ok_or_else(|| {
        let (divergence, unit) = (options.divergence, options.base.unit());
        Failure::input(format!("{divergence} has no logarithm that could be in {unit} (--base)"))
    })
}

impl Counts {
    fn add<V>(&mut self, outcome: &Outcome<V>) {
        self.backend = match self.backend {
            "" => outcome.backend,
            same if same == outcome.backend => same,
            _ => "mixed",
        };
        if self.adapter.is_none() {
            self.adapter.clone_from(&outcome.adapter);
        }
        self.infinite_rows += outcome.infinite_rows();
        self.invalid_rows += outcome.invalid_rows();
        self.closer_looks += outcome.closer_looks;
        self.device_faults += outcome.recovery.faults;
        self.fallback_rows += outcome.recovery.cpu_rows;
        if self.fallback_reason.is_none() {
            self.fallback_reason.clone_from(&outcome.recovery.reason);
        }
    }
}

/// The failure to keep values for the statistics.
fn spool(error: std::io::Error) -> Failure {
    let folder = std::env::temp_dir();
    Failure::other(format!("{}: cannot keep a temporary file: {error}", folder.display()))
}

/// A bar on stderr, if that is a terminal. It is gone in the end, whatever the end.
fn progress_bar(options: &Shared, bytes: u64) -> ProgressBar {
    if options.quiet {
        return ProgressBar::hidden();
    }
    let style =
        "{bar:40} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_finish(ProgressFinish::AndClear)
}
