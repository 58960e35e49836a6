//! `kullback rows`.

use std::path::Path;
use std::time::Instant;

use half::{bf16, f16};
use kullback::stream::Stream;
use kullback::{Batch, Element, Engine, Error, OnInvalid, Side};
use ndarray::ArrayView2;

use crate::args::{Backend, Fallback, Invalid, Rows};
use crate::failure::Failure;
use crate::files::npy::Written;
use crate::files::source::Source;
use crate::files::whole::Unfinished;
use crate::files::{self, Dtype, regular};
use crate::gradients::Gradients;
use crate::memory;
use crate::results::Results;
use crate::summary::Summary;

/// One part in this many of the memory is for values whose statistics are to be taken.
const VALUES_SHARE: usize = 8;

/// Runs the command.
pub fn run(options: &Rows, unfinished: &Unfinished) -> Result<(), Failure> {
    if options.fallback.is_some() && options.backend != Backend::Gpu {
        return Err(Failure::input("--fallback needs --backend gpu: auto has one of its own"));
    }
    let p = Source::open(&options.p).map_err(Failure::input)?;
    let q = Source::open(&options.q).map_err(Failure::input)?;
    refuse_input_as_output(options, [&p, &q])?;
    let dtypes = [p.dtype(), q.dtype()];
    let [p, q] = [p, q].map(Source::into_matrix);
    let bytes = [&p, &q].map(|matrix| matrix.layout().bytes() as u64).iter().sum();
    let mut job = Job { options, unfinished, bytes, tolerance: None };
    match dtypes {
        [Dtype::F16, Dtype::F16] => job.compute::<f16>(p.rows(), q.rows()),
        [Dtype::BF16, Dtype::BF16] => job.compute::<bf16>(p.rows(), q.rows()),
        // Of two types the arithmetic is that of the wider, and the tolerance that of the narrower.
        dtypes => {
            let narrow = dtypes.iter().any(|dtype| [Dtype::F16, Dtype::BF16].contains(dtype));
            job.tolerance = narrow.then_some(f16::MASS_TOLERANCE);
            if dtypes.contains(&Dtype::F64) {
                job.compute::<f64>(p.widened(), q.widened())
            } else {
                job.compute::<f32>(p.widened(), q.widened())
            }
        }
    }
}

fn refuse_input_as_output(options: &Rows, inputs: [&Source; 2]) -> Result<(), Failure> {
    let gradients = [Side::P, Side::Q].map(|side| options.gradient_output(side));
    let outputs = options.output.iter().chain(gradients.iter().flatten());
    for (input, output) in outputs.flat_map(|output| inputs.map(|input| (input, output))) {
        let same = regular::same_file(input.path(), output);
        let output = output.display();
        if same.map_err(|error| Failure::other(format!("{output}: cannot write: {error}")))? {
            return Err(Failure::input(format!("{output}: the output would replace an input")));
        }
    }
    Ok(())
}

/// What is to be computed, apart from the rows.
struct Job<'a> {
    options: &'a Rows,
    unfinished: &'a Unfinished,
    /// Of the input.
    bytes: u64,
    /// Of the mass, unless another is given.
    tolerance: Option<f64>,
}

impl Job<'_> {
    fn compute<T: Element<Value: Written>>(
        &self,
        p: files::rows::Rows<T>,
        q: files::rows::Rows<T>,
    ) -> Result<(), Failure> {
        let Job { options, unfinished, bytes, tolerance } = *self;
        let memory = options.memory_limit.unwrap_or_else(memory::default_limit);
        let for_values = memory / VALUES_SHARE;
        let shapes = [p.shape(), q.shape()];
        let stream = Stream::new(p, q).map_err(|error| explain(options, error))?;
        let mut stream =
            stream.with_memory(memory - for_values).with_cross_check(options.cross_check);
        if let Some(wanted) = options.gradient {
            stream = stream.with_gradient(wanted);
        }
        let (rows, bins) = stream.shape();
        let engine = engine(options)?;
        let mut results = Results::new(options, unfinished, rows, bytes, for_values)?;
        let mut gradients = Gradients::new(options, unfinished, shapes, rows)?;

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
            |side| options.gradient_output(side).map(|path| path.display().to_string());
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
            let json = serde_json::to_string_pretty(&summary).map_err(Failure::other)?;
            return crate::print(&(json + "\n"));
        }
        crate::print(&summary.to_string())
    }
}

/// The engine that is asked for.
fn engine(options: &Rows) -> Result<Engine, Failure> {
    match (options.backend, options.fallback) {
        (Backend::Auto, _) => Ok(Engine::auto()),
        (Backend::Cpu, _) => Ok(Engine::cpu()),
        (Backend::Gpu, None) => Engine::gpu().map_err(|error| explain(options, error)),
        (Backend::Gpu, Some(Fallback::Cpu)) => Ok(Engine::gpu_or_cpu()),
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
    options: &Rows,
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
        Error::Setting { .. } | Error::Policy { .. } => Failure::input(error),
        Error::Memory { needed, .. } => {
            let needed = needed.saturating_add(needed / (VALUES_SHARE - 1) + 1);
            let shown = memory::shown(needed);
            Failure::input(format!(
                "{} and {}: their rows are so long that --memory-limit {needed} ({shown}) is the \
                 least that takes one",
                file(&options.p),
                file(&options.q)
            ))
        }
        Error::Unsupported { .. } => Failure::input(format!("{error} (--backend cpu)")),
        _ => Failure::other(error),
    }
}
