//! `kullback rows`.

use std::time::Instant;

use kullback::stream::Stream;
use kullback::{Batch, Element, Error, OnInvalid, Side};
use ndarray::ArrayView2;

use crate::args::{Invalid, Rows, Shared};
use crate::failure::Failure;
use crate::files;
use crate::files::npy::Written;
use crate::files::whole::Unfinished;
use crate::gradients::Gradients;
use crate::input::{self, Compute, Input};
use crate::memory;
use crate::results::Results;
use crate::summary::Summary;

/// One part in this many of the memory is for values whose statistics are to be taken.
const VALUES_SHARE: usize = 8;

/// Runs the command.
pub fn run(options: &Rows, unfinished: &Unfinished) -> Result<(), Failure> {
    input::compute(&options.shared, &options.outputs(), &Job { options, unfinished })
}

/// What is to be computed, apart from the rows.
struct Job<'a> {
    options: &'a Rows,
    unfinished: &'a Unfinished,
}

impl Compute for Job<'_> {
    fn compute<T: Element<Value: Written>>(&self, input: Input<T>) -> Result<(), Failure> {
        let Input { p, q, bytes, tolerance, .. } = input;
        let cross_check = self.options.cross_check;
        let (options, unfinished) = (&self.options.shared, self.unfinished);
        let memory = options.memory_limit.unwrap_or_else(memory::default_limit);
        let for_values = memory / VALUES_SHARE;
        let shapes = [p.shape(), q.shape()];
        let stream = Stream::new(p, q).map_err(|error| explain(options, error))?;
        let mut stream = stream.with_memory(memory - for_values).with_cross_check(cross_check);
        if let Some(wanted) = self.options.gradient {
            stream = stream.with_gradient(wanted);
        }
        let (rows, bins) = stream.shape();
        let engine = input::engine(options)?;
        let mut results = Results::new(options, unfinished, rows, bytes, for_values)?;
        let mut gradients = Gradients::new(self.options, unfinished, shapes, rows)?;

        let start = Instant::now();
        let check = stream
            .rows(
                &engine,
                options.divergence,
                |p, q| batch(options, p, q, tolerance),
                |part| {
                    gradients.take(part.gradient).map_err(Stop::Failure)?;
                    results.take(part.rows, part.outcome).map_err(Stop::Failure)
                },
            )
            .map_err(|stop| match stop {
                Stop::Library(error) => explain(options, error),
                Stop::File(error) => Failure::input(error),
                Stop::Failure(failure) => failure,
            })?;
        let seconds = start.elapsed().as_secs_f64();
        // The values come last, so that they are never there without the others.
        gradients.finish()?;
        let finished = results.finish()?;
        let (counts, Some(statistics)) = finished else { return Ok(()) };
        let gradient_output =
            |side| self.options.gradient_output(side).map(|path| path.display().to_string());
        let summary = Summary {
            rows,
            bins,
            dtype: T::NAME,
            p_input: options.p_kind().name(),
            q_input: options.q_kind().name(),
            temperature: options.temperature,
            divergence: options.divergence.to_string(),
            unit: options.divergence.per_unit(1.0).map(|_| options.base.unit()),
            mass: options.mass.name(),
            counts,
            statistics,
            cross_checked_rows: check.compared,
            seconds,
            bytes_per_second: bytes as f64 / seconds,
            output: options.output.as_ref().map(|path| path.display().to_string()),
            p_gradient: gradient_output(Side::P),
            q_gradient: gradient_output(Side::Q),
        };
        if options.json {
            return crate::print_json(&summary);
        }
        crate::print(&summary.to_string())
    }
}

/// What ends the stream early.
enum Stop {
    Library(Error),
    File(files::Error),
    Failure(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Library(error)
    }
}

impl From<files::Error> for Stop {
    fn from(error: files::Error) -> Stop {
        Stop::File(error)
    }
}

fn batch<'a, T: Element>(
    options: &Shared,
    p: ArrayView2<'a, T>,
    q: ArrayView2<'a, T>,
    tolerance: Option<f64>,
) -> Result<Batch<'a, T>, Error> {
    let on_invalid = match options.invalid {
        Invalid::Error => OnInvalid::Error,
        Invalid::Nan => OnInvalid::Nan,
    };
    let batch = Batch::of(options.p_kind(), p, options.q_kind(), q)?
        .with_temperature(options.temperature)?
        .with_mass(options.mass)
        .with_on_invalid(on_invalid);
    match options.mass_tolerance.or(tolerance) {
        Some(tolerance) => batch.with_mass_tolerance(tolerance),
        None => Ok(batch),
    }
}

/// Puts the names of the files to an error.
fn explain(options: &Shared, error: Error) -> Failure {
    let Error::Memory { needed, .. } = error else { return input::explain(options, error) };
    // The least of which a share, rounded down, leaves so much.
    let needed = needed.saturating_add(needed.saturating_sub(1) / (VALUES_SHARE - 1));
    let shown = memory::shown(needed);
    Failure::input(format!(
        "{} and {}: their rows are so long that --memory-limit {needed} ({shown}) is the least that \
         takes one",
        options.p.display(),
        options.q.display()
    ))
}
