//! `kullback rows`.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use kullback::{Batch, Element, Engine, Error, InvalidRow, OnInvalid, Outcome, Side};
use ndarray::Array2;

use crate::args::{Backend, Invalid, Rows};
use crate::failure::Failure;
use crate::files::npy::{self, Written};
use crate::files::source::Source;
use crate::files::{Dtype, Item, regular};
use crate::summary::{Statistics, Summary};

/// Bytes of input between two steps of the progress bar.
const STEP: usize = 64 << 20;

/// Runs the command.
pub fn run(options: &Rows) -> Result<(), Failure> {
    let mut p = Source::open(&options.p).map_err(Failure::input)?;
    let mut q = Source::open(&options.q).map_err(Failure::input)?;
    refuse_input_as_output(options, [&p, &q])?;
    match [p.dtype(), q.dtype()] {
        [Dtype::F16, Dtype::F16] => compute::<f16>(options, read(&mut p)?, read(&mut q)?, None),
        [Dtype::BF16, Dtype::BF16] => compute::<bf16>(options, read(&mut p)?, read(&mut q)?, None),
        // Of two types the arithmetic is that of the wider, and the tolerance that of the narrower.
        dtypes => {
            let narrow = dtypes.iter().any(|dtype| [Dtype::F16, Dtype::BF16].contains(dtype));
            let tolerance = narrow.then_some(f16::MASS_TOLERANCE);
            if dtypes.contains(&Dtype::F64) {
                compute::<f64>(options, read_as(&mut p)?, read_as(&mut q)?, tolerance)
            } else {
                compute::<f32>(options, read_as(&mut p)?, read_as(&mut q)?, tolerance)
            }
        }
    }
}

fn refuse_input_as_output(options: &Rows, inputs: [&Source; 2]) -> Result<(), Failure> {
    let Some(output) = &options.output else { return Ok(()) };
    for input in inputs {
        let same = regular::same_file(input.path(), output);
        if same.map_err(|error| Failure::input(format!("{input}: {error}")))? {
            let output = output.display();
            return Err(Failure::input(format!("{output}: the output would replace an input")));
        }
    }
    Ok(())
}

fn read<T: Item>(file: &mut Source) -> Result<Array2<T>, Failure> {
    file.read().map_err(Failure::input)
}

/// Reads a file of any type that can be `T` without a loss.
fn read_as<T>(file: &mut Source) -> Result<Array2<T>, Failure>
where
    T: Item + From<f16> + From<bf16> + From<f32>,
{
    match file.dtype() {
        Dtype::F16 => Ok(read::<f16>(file)?.mapv(T::from)),
        Dtype::BF16 => Ok(read::<bf16>(file)?.mapv(T::from)),
        Dtype::F32 if T::DTYPE == Dtype::F64 => Ok(read::<f32>(file)?.mapv(T::from)),
        Dtype::F32 | Dtype::F64 => read(file),
    }
}

fn compute<T: Element<Value: Written>>(
    options: &Rows,
    p: Array2<T>,
    q: Array2<T>,
    tolerance: Option<f64>,
) -> Result<(), Failure> {
    let batch = batch(options, &p, &q, tolerance).map_err(|error| explain(options, error))?;
    let engine = match options.backend {
        Backend::Auto => Engine::auto(),
        Backend::Cpu => Engine::cpu(),
        Backend::Gpu => Engine::gpu().map_err(|error| explain(options, error))?,
    };
    let start = Instant::now();
    let mut outcome =
        in_steps(options, &engine, &batch).map_err(|error| explain(options, error))?;
    let seconds = start.elapsed().as_secs_f64();
    let check = engine.cross_check(options.divergence, &batch, &outcome, options.cross_check);
    let check = check.map_err(|error| explain(options, error))?;

    if options.base.nats() != 1.0 {
        let nats = options.base.nats();
        outcome.values.mapv_inplace(|value| Element::from_f64(value.to_f64() / nats));
    }
    if let Some(output) = &options.output {
        npy::write(output, outcome.values.view()).map_err(Failure::other)?;
    }
    if options.quiet {
        return Ok(());
    }
    let bytes = (p.len() + q.len()) * size_of::<T>();
    let summary = Summary {
        rows: batch.rows(),
        bins: batch.bins(),
        dtype: T::NAME,
        p_input: batch.kind(Side::P).name(),
        q_input: batch.kind(Side::Q).name(),
        temperature: batch.temperature(),
        divergence: options.divergence.name(),
        unit: options.base.unit(),
        mass: options.mass.name(),
        backend: outcome.backend,
        statistics: Statistics::of(outcome.values.iter().map(|value| value.to_f64())),
        infinite_rows: outcome.infinite_rows(),
        invalid_rows: outcome.invalid_rows(),
        closer_looks: outcome.closer_looks,
        cross_checked_rows: check.compared,
        seconds,
        bytes_per_second: bytes as f64 / seconds,
        output: options.output.clone(),
        adapter: outcome.adapter,
    };
    if options.json {
        let json = serde_json::to_string_pretty(&summary).map_err(Failure::other)?;
        return crate::print(&(json + "\n"));
    }
    crate::print(&summary.to_string())
}

fn batch<'a, T: Element>(
    options: &Rows,
    p: &'a Array2<T>,
    q: &'a Array2<T>,
    tolerance: Option<f64>,
) -> Result<Batch<'a, T>, Error> {
    let on_invalid = match options.invalid {
        Invalid::Error => OnInvalid::Error,
        Invalid::Nan => OnInvalid::Nan,
    };
    let p_kind = options.p_input.unwrap_or(options.input);
    let q_kind = options.q_input.unwrap_or(options.input);
    let batch = Batch::of(p_kind, p, q_kind, q)?
        .with_temperature(options.temperature)?
        .with_mass(options.mass)
        .with_on_invalid(on_invalid);
    match options.mass_tolerance.or(tolerance) {
        Some(tolerance) => batch.with_mass_tolerance(tolerance),
        None => Ok(batch),
    }
}

/// Computes the batch part by part, so that there is progress to show.
fn in_steps<T: Element>(
    options: &Rows,
    engine: &Engine,
    batch: &Batch<'_, T>,
) -> Result<Outcome<T::Value>, Error> {
    let progress = if options.quiet { ProgressBar::hidden() } else { progress_bar(batch.rows()) };
    let rows_per_step = (STEP / (batch.bins() * size_of::<T>()).max(1)).max(1);
    let part = |rows: Range<usize>| {
        let first = rows.start;
        let outcome = engine.rows(options.divergence, &batch.slice(rows));
        outcome.map_err(|error| in_whole_batch(error, batch, first))
    };
    let mut outcome = part(0..rows_per_step.min(batch.rows()))?;
    while outcome.values.len() < batch.rows() {
        let done = outcome.values.len();
        progress.set_position(done as u64);
        outcome.append(part(done..(done + rows_per_step).min(batch.rows()))?);
    }
    progress.finish_and_clear();
    Ok(outcome)
}

/// A bar on stderr, if that is a terminal.
fn progress_bar(rows: usize) -> ProgressBar {
    let style = "{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(rows as u64).with_style(style)
}

/// Turns the row of an error in a part of a batch into the row of the whole.
fn in_whole_batch<T: Element>(error: Error, batch: &Batch<'_, T>, first: usize) -> Error {
    match error {
        Error::Invalid(at) if batch.side_rows(at.side) > 1 => {
            Error::Invalid(InvalidRow { row: at.row + first, ..at })
        }
        other => other,
    }
}

/// Puts the names of the files to an error.
fn explain(options: &Rows, error: Error) -> Failure {
    let file = |path: &Path| path.display().to_string();
    match error {
        Error::Invalid(at) => {
            let path = if at.side == Side::P { &options.p } else { &options.q };
            Failure::input(format!("{}: {}", file(path), at.without_side()))
        }
        Error::Shape { .. } | Error::NoBins => {
            Failure::input(format!("{} and {}: {error}", file(&options.p), file(&options.q)))
        }
        Error::Setting { .. } => Failure::input(error),
        Error::Unsupported { .. } => Failure::input(format!("{error} (--backend cpu)")),
        _ => Failure::other(error),
    }
}
